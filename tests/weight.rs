//! What the library weighs: the bytes that it adds to a program, and the instructions that a
//! message takes. Promise 28.

mod common;

use common::{client, echo, have};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the example `echo` as an embedder would. The target folder is its own, because another
/// build may be under way.
fn build(folder: &str, flags: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let args =
        "build --quiet --offline --release --no-default-features --example echo --target-dir";
    let mut command = Command::new(env!("CARGO"));
    command.args(args.split(' ')).arg(&target);
    run(command
        .env("RUSTFLAGS", flags)
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    target.join("release/examples/echo")
}

/// A program that does nothing, built with the settings of this crate's release profile.
fn build_empty() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, empty) = (folder.join("empty.rs"), folder.join("empty"));
    std::fs::write(&source, "fn main() {}\n").unwrap();
    let flags = "-Copt-level=3 -Clto -Ccodegen-units=1 -Cstrip=symbols --edition=2024 -o";
    run(rustc().args(flags.split(' ')).arg(&empty).arg(&source));
    empty
}

/// The compiler that cargo uses.
fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
}

/// Runs a command that must succeed. Returns its standard output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The instructions in user space of a program that echoes this many messages of 64 bytes, from its
/// start to its end.
fn instructions(program: &Path, messages: u32) -> u64 {
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening ").unwrap();
    let mut stream = client(address.parse().unwrap());
    for _ in 0..messages {
        assert_eq!(echo(&mut stream, &[b'x'; 64]).len(), 64);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let total = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, total)| total.trim().parse().ok());
    total.unwrap_or_else(|| panic!("{text}"))
}

/// The instructions that one message more takes.
fn instructions_a_message(program: &Path) -> f64 {
    (instructions(program, 3000) - instructions(program, 1000)) as f64 / 2000.0
}

/// The size of an echo server beyond that of a program that does nothing, both stripped release
/// builds.
#[test]
fn the_library_adds_at_most_110_kilobytes() {
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let added = size(&build("with-hook", "")) - size(&build_empty());
    let version = run(rustc().arg("--version"));
    println!("{added} bytes over an empty program with {version}");
    let most = if is_old(&version) { 119_500 } else { 110_000 };
    assert!(added <= most, "{added} bytes with {version}");
}

/// Compilers differ. The oldest one that is supported, 1.85, makes a tenth more than those of today
/// of the same code, in bytes and in instructions.
fn is_old(version: &str) -> bool {
    let minor = version.split('.').nth(1).unwrap();
    minor.parse::<u32>().unwrap() < 90
}

#[test]
fn a_message_takes_few_instructions_and_an_absent_observer_almost_none() {
    if !have("valgrind") {
        return;
    }
    let with = instructions_a_message(&build("with-hook", ""));
    let without = instructions_a_message(&build("without-hook", "--cfg doorkeeper_unobserved"));
    println!("{with:.0} instructions a message, {without:.0} without the hook");
    // With one client each message has a turn of the loop of its own.
    let (most, ratio) = match is_old(&run(rustc().arg("--version"))) {
        true => (584.0, 1.07),
        false => (545.0, 1.05),
    };
    assert!(
        with < without * ratio,
        "{with} instructions a message, {without} without the hook"
    );
    assert!(with < most, "{with} instructions a message");
}
