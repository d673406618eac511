//! The comparison: doorkeeper beside the libraries and servers that a user would choose instead, measured in turns.

mod build;
mod charts;
mod measure;
mod options;
mod page;
mod peers;
mod process;
mod samples;
mod scale;
mod statistics;
mod suites;
mod tables;
mod weigh;

use options::Options;
use peers::Server;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The root of the project.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("two folders up").to_path_buf()
}

fn main() -> ExitCode {
    match options::parse(lexopt::Parser::from_env()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Option<Options>) -> Result<()> {
    let Some(options) = options else {
        print!("{}", options::HELP);
        return Ok(());
    };
    if options.scale {
        return scale::run(&options);
    }
    let folder = root().join("docs/performance");
    let file = folder.join("results.json");
    let stored =
        || -> Result<Value> { Ok(serde_json::from_str(&std::fs::read_to_string(&file)?)?) };
    let results = if options.again {
        stored()?
    } else if options.replace {
        // Read first, so that a fault in it is found before the measuring.
        let before = stored()?;
        page::replaced(before, measured(&options)?)?
    } else {
        measured(&options)?
    };
    let tables = tables::markdown(&results);
    if options.keep {
        print!("{tables}");
    } else {
        std::fs::create_dir_all(&folder)?;
        if !options.again {
            std::fs::write(&file, format!("{}\n", serde_json::to_string(&results)?))?;
        }
        let charts = charts::draw(&results, &folder)?;
        page::put(
            &root().join("docs/performance.md"),
            "measured",
            &(charts + &tables),
        )?;
    }
    if options.again {
        Ok(())
    } else {
        page::verdict(&results, std::env::var_os("CI").is_some())
    }
}

fn measured(options: &Options) -> Result<Value> {
    let load = build::load()?;
    let mut missing = Vec::new();
    let mut servers = Vec::new();
    for suite in suites::ALL
        .iter()
        .filter(|suite| options.wants_suite(suite))
    {
        match peers::ready(suite, options, &mut missing) {
            Ok(ready) => servers.extend(ready),
            Err(error) => {
                let named = format!("the suite {}", suite.name);
                eprintln!("MISSING: {named}: {error}");
                missing.push(
                    json!({ "server": named, "suite": suite.name, "why": error.to_string() }),
                );
            }
        }
    }
    not_tested(&missing)?;
    let samples = measure::all(options, &servers, &load)?;
    let echo = echo(&servers);
    let weights = match (options.weights && !echo.is_empty()).then(|| weigh::all(&echo)) {
        Some(Ok(weights)) => weights,
        // The samples took an hour to measure: they are kept.
        Some(Err(error)) => {
            eprintln!("MISSING: sizes and counts: {error}");
            json!(error.to_string())
        }
        None => Value::Null,
    };
    Ok(json!({
        "machine": measure::machine(),
        "seconds": options.seconds,
        "missing": missing,
        "samples": samples,
        "weights": weights,
    }))
}

/// Adds what is missing to the list that `./check` prints at its end.
fn not_tested(missing: &[Value]) -> Result<()> {
    if let Some(list) = std::env::var_os("DOORKEEPER_NOT_TESTED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list)?;
        list.write_all(lines(missing).as_bytes())?;
    }
    Ok(())
}

/// The reason and the server, a line each.
fn lines(missing: &[Value]) -> String {
    let line = |missing: &Value| {
        let [why, suite, server] = ["why", "suite", "server"].map(|key| {
            let word = missing[key].as_str().unwrap_or_default();
            word.replace(['\t', '\n'], " ")
        });
        format!("{why}\tbenches::{suite}::{server}\n")
    };
    missing.iter().map(line).collect()
}

fn echo(servers: &[Server]) -> Vec<&Server> {
    servers
        .iter()
        .filter(|server| server.peer.suite == "echo")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_listed_on_one_line() {
        let missing = json!({ "server": "haproxy", "suite": "relay", "why": "no\nprogram" });
        let wanted = "no program\tbenches::relay::haproxy\n";
        assert_eq!(lines(&[missing.clone(), missing]), wanted.repeat(2));
    }
}
