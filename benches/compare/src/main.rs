//! The comparison: the same echo on every library a user would pick, measured in turns, against plain epoll in C.

mod charts;
mod measure;
mod peers;
mod tables;
mod weigh;

use lexopt::{Arg, Parser, ValueExt};
use peers::Peer;
use serde_json::{Value, json};
use std::error::Error;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
Measure doorkeeper against everything a user would pick instead.

Usage: ./benches/run [OPTION]...

Options:
  --rounds N         how often each scenario is run on each server [7]
  --closer N         rounds more for the scenarios with a figure to reach, on
                     epoll, epoll-64, doorkeeper and tokio [14]
  --seconds N        how long each run is counted, at most 60 [1]
  --only NAME        one scenario alone; may be given several times
  --servers A,B      these servers alone; `epoll` is always among them
  --no-weights       leave out size, build time, instructions, system calls
  --again            measure nothing: write the tables and charts anew, from
                     docs/performance/results.json
  --keep             do not touch docs/performance.md; print the tables. What
                     measures but a part (--only, --servers, --no-weights) keeps
  -h, --help         this text

It needs taskset, valgrind and strace for what it counts, cc, and Debian's
libevent-dev and libuv1-dev for two of the servers. What is missing is said to be.
";

/// What was asked for.
pub struct Options {
    pub rounds: usize,
    pub closer: usize,
    pub seconds: u32,
    pub only: Vec<String>,
    pub servers: Vec<String>,
    weights: bool,
    again: bool,
    keep: bool,
}

fn options() -> Result<Option<Options>> {
    let mut options = Options {
        rounds: 7,
        closer: 14,
        seconds: 1,
        only: vec![],
        servers: vec![],
        weights: true,
        again: false,
        keep: false,
    };
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("rounds") => {
                options.rounds = number(&mut parser, "--rounds", 1..=1000)? as usize
            }
            Arg::Long("closer") => {
                options.closer = number(&mut parser, "--closer", 0..=1000)? as usize
            }
            Arg::Long("seconds") => options.seconds = number(&mut parser, "--seconds", 1..=60)?,
            Arg::Long("only") => {
                let name = parser.value()?.string()?;
                known("--only", &name, &measure::SCENARIOS.map(|(name, _)| name))?;
                options.only.push(name);
            }
            Arg::Long("servers") => {
                let names: Vec<String> = parser
                    .value()?
                    .string()?
                    .split(',')
                    .map(str::to_string)
                    .collect();
                let all: Vec<&str> = Peer::all().iter().map(|peer| peer.name).collect();
                names
                    .iter()
                    .try_for_each(|name| known("--servers", name, &all))?;
                options.servers = names;
            }
            Arg::Long("no-weights") => options.weights = false,
            Arg::Long("again") => options.again = true,
            Arg::Long("keep") => options.keep = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    // A part would take the place of the whole.
    let part = !options.weights || !options.only.is_empty() || !options.servers.is_empty();
    if options.again && part {
        return Err("--again is of all that was measured; --only, --servers and --no-weights are of what is to be".into());
    }
    options.keep |= part;
    Ok(Some(options))
}

fn number(parser: &mut Parser, option: &str, bounds: RangeInclusive<u32>) -> Result<u32> {
    let word = parser.value()?.string()?;
    let parsed = word.parse().ok().filter(|number| bounds.contains(number));
    parsed.ok_or_else(|| {
        format!(
            "{option} {word}: must be a whole number from {} to {}",
            bounds.start(),
            bounds.end()
        )
        .into()
    })
}

fn known(option: &str, name: &str, all: &[&str]) -> Result<()> {
    if all.contains(&name) {
        return Ok(());
    }
    Err(format!("{option} {name}: must be one of {}", all.join(", ")).into())
}

/// The root of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("two folders up")
        .to_path_buf()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(());
    };
    let folder = root().join("docs/performance");
    let file = folder.join("results.json");
    let results = if options.again {
        serde_json::from_str(&std::fs::read_to_string(&file)?)?
    } else {
        measured(&options)?
    };
    let tables = tables::markdown(&results);
    if options.keep {
        print!("{tables}");
        return Ok(());
    }
    std::fs::create_dir_all(&folder)?;
    if !options.again {
        std::fs::write(file, format!("{}\n", serde_json::to_string(&results)?))?;
    }
    charts::draw(&results, &folder)?;
    tables::put(&root().join("docs/performance.md"), &tables)
}

fn measured(options: &Options) -> Result<Value> {
    let load = peers::build_load()?;
    let mut missing = Vec::new();
    let mut found = Vec::new();
    for peer in Peer::all()
        .into_iter()
        .filter(|peer| peer.is_wanted(options))
    {
        match peer.build() {
            Ok(()) => found.push(peer),
            Err(error) if peer.name == peers::YARDSTICK => {
                return Err(
                    format!("{}, which all others are compared with: {error}", peer.name).into(),
                );
            }
            Err(error) => {
                eprintln!("MISSING: {}: {error}", peer.name);
                missing.push(json!({ "server": peer.name, "why": error.to_string() }));
            }
        }
    }
    let samples = measure::all(options, &found, &load)?;
    let weights = match options.weights.then(|| weigh::all(&found)) {
        Some(Ok(weights)) => weights,
        // What took half an hour to measure is not thrown away for it.
        Some(Err(error)) => {
            eprintln!("MISSING: what everything weighs: {error}");
            json!(error.to_string())
        }
        None => Value::Null,
    };
    Ok(json!({
        "machine": measure::machine(),
        "rounds": options.rounds,
        "closer": options.closer,
        "seconds": options.seconds,
        "missing": missing,
        "samples": samples,
        "weights": weights,
    }))
}
