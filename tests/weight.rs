//! What the library weighs: what it adds to a program, and how many instructions a message takes.

mod common;

use common::{client, echo, have};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the example `echo` as an embedder would, in a folder of its own, for another build may be under way.
fn build(folder: &str, flags: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "build",
        "--quiet",
        "--offline",
        "--release",
        "--no-default-features",
        "--example",
        "echo",
        "--target-dir",
    ]);
    let output = command
        .arg(&target)
        .env("RUSTFLAGS", flags)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("release/examples/echo")
}

/// How many instructions the program takes in user space, from its start to its end, for so many echoes of 64 bytes.
fn instructions(program: &Path, messages: u32) -> u64 {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("127.0.0.1:0");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .next()
        .unwrap()
        .unwrap();
    let mut stream = client(line.rsplit(' ').next().unwrap().parse().unwrap());
    for _ in 0..messages {
        assert_eq!(echo(&mut stream, &[b'x'; 64]).len(), 64);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child.wait().unwrap();
    let total = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .map(|(_, total)| total.trim());
    total
        .and_then(|total| total.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

/// What a message more takes.
fn a_message(program: &Path) -> f64 {
    (instructions(program, 3000) - instructions(program, 1000)) as f64 / 2000.0
}

/// How many bytes the library adds to a program: echo, over a program that does nothing, both as an embedder would ship them.
#[test]
fn the_library_adds_at_most_100_kilobytes() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, empty) = (folder.join("empty.rs"), folder.join("empty"));
    std::fs::write(&source, "fn main() {}\n").unwrap();
    let flags = [
        "-Copt-level=3",
        "-Clto",
        "-Ccodegen-units=1",
        "-Cstrip=symbols",
        "--edition=2024",
        "-o",
    ];
    assert!(
        Command::new("rustc")
            .args(flags)
            .arg(&empty)
            .arg(&source)
            .status()
            .unwrap()
            .success()
    );
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let added = size(&build("with-hook", "")) - size(&empty);
    println!("{added} bytes over an empty program");
    assert!(added <= 100_000, "{added} bytes over an empty program");
}

#[test]
fn a_message_takes_few_instructions_and_an_observer_that_is_not_there_next_to_none() {
    if !have("valgrind") {
        return;
    }
    let with = a_message(&build("with-hook", ""));
    let without = a_message(&build("without-hook", "--cfg doorkeeper_unobserved"));
    println!("{with:.0} instructions a message, {without:.0} without the hook");
    assert!(
        with < without * 1.05,
        "{with} instructions a message, {without} without the hook"
    );
    // Of one client, so each with a turn of the loop of its own. Compilers differ a little.
    assert!(with < 600.0, "{with} instructions a message");
}
