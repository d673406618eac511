//! Programs that a test needs and the machine may lack. A test that is left out must not look
//! passed.
//!
//! What is left out is told where it happens, on the standard error that the test harness does not
//! capture, and written down. `tests/what_was_not_tested.rs`, the last of `cargo test`, lists it in
//! one line; so does `./check`, at its end.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The variable that names the file to write to.
pub const RECORD: &str = "DOORKEEPER_NOT_TESTED";

/// True if an outside program is there. If not, the calling test is told as left out, or fails
/// where nothing may be missing: with the variable CI set.
pub fn have(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file());
    if !found {
        not_tested(&format!("{tool} is missing"));
    }
    found
}

fn not_tested(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{reason}, and CI is set: nothing may be missing here"
    );
    let record = format!("{reason}\t{}\n", current_test());
    // The harness captures what `eprintln!` writes, and not what is written to the descriptor.
    let told = format!("NOT TESTED: {}", record.replace('\t', ": "));
    io::stderr().write_all(told.as_bytes()).unwrap();
    // One write, so that the lines of several tests do not mix.
    let mut file = OpenOptions::new();
    let mut file = file.append(true).create(true).open(record_file()).unwrap();
    file.write_all(record.as_bytes()).unwrap();
}

/// `binary::test`, where the harness has given the test a thread with its name; `binary` otherwise.
fn current_test() -> String {
    let own = std::env::current_exe().unwrap();
    let binary = own.file_stem().unwrap().to_string_lossy();
    // Cargo appends a hash.
    let binary = binary.rsplit_once('-').map_or(&*binary, |(name, _)| name);
    match std::thread::current().name() {
        Some(test) if test != "main" => format!("{binary}::{test}"),
        _ => binary.to_string(),
    }
}

/// Where this run writes down what it leaves out. One `cargo test` is the parent of all its test
/// binaries.
pub fn record_file() -> PathBuf {
    let named = std::env::var_os(RECORD).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let run = std::os::unix::process::parent_id();
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("not-tested-{run}"))
    })
}
