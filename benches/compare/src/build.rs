//! Building, and where what was built is.

use crate::{Result, root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a server of `benches/peers`. Each is built by itself: cargo would give packages built together one set of features.
pub fn peer(package: &str, target: Option<&Path>) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root().join("benches"))
        .args(["build", "--release", "-p", package]);
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    executable(&mut command)
}

/// An example of the library, with the features that a program that embeds it has.
pub fn example(name: &str) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args([
        "build",
        "--release",
        "--no-default-features",
        "--example",
        name,
    ]);
    executable(&mut command)
}

/// The program that makes the load.
pub fn load() -> Result<PathBuf> {
    executable(Command::new("cargo").current_dir(root()).args([
        "build",
        "--release",
        "--bin",
        "doorkeeper",
    ]))
}

/// A server in C.
pub fn c(name: &str, libraries: &[&str]) -> Result<PathBuf> {
    let folder = root().join("benches/target/c");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join(name);
    let source = root().join(format!("benches/peers/c/{name}.c"));
    output(
        Command::new("cc")
            .args(["-O2", "-o"])
            .arg(&program)
            .arg(source)
            .args(libraries),
    )?;
    Ok(program)
}

/// Runs a cargo build, and asks cargo for the path of the program: CARGO_TARGET_DIR and cargo's configuration may move it.
fn executable(command: &mut Command) -> Result<PathBuf> {
    let messages =
        output(command.args(["--quiet", "--message-format", "json-render-diagnostics"]))?;
    last_executable(&messages).ok_or_else(|| "cargo names no program that it built".into())
}

fn last_executable(messages: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next()
}

/// The standard output; if the command fails, its first line of error.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find(|line| line.contains("error"))
        .unwrap_or("it does not build");
    Err(line.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_elsewhere_is_found_there() {
        let target = std::env::temp_dir().join(format!("compare-build-{}", std::process::id()));
        let mut command = Command::new("cargo");
        command
            .current_dir(root().join("benches"))
            .args(["build", "-p", "peer-empty"]);
        let program = executable(command.env("CARGO_TARGET_DIR", &target));
        let found = program
            .as_ref()
            .is_ok_and(|program| program.starts_with(&target) && program.exists());
        let _ = std::fs::remove_dir_all(&target);
        assert!(found, "{program:?}");
    }

    #[test]
    fn a_missing_example_is_named() {
        let error = example("no_such_example").unwrap_err().to_string();
        assert!(error.contains("no_such_example"), "{error}");
    }

    #[test]
    fn the_last_program_counts() {
        let messages = "{\"executable\":null}\n{\"executable\":\"/a/b\"}\n{\"executable\":\"/a/c\"}\n{\"success\":true}\n";
        assert_eq!(last_executable(messages), Some(PathBuf::from("/a/c")));
        assert_eq!(last_executable("warning: words\n"), None);
    }
}
