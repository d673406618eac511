//! Each step passes the checks of its own chapter and of all before, and fails all after: so each is shown to be needed.
//! `doorkeeper serve echo` passes them all, but for the one that needs orders no echo service takes.

use check::checks::{Verdict, run_all};
use check::program::Subject;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs every check, and panics with the whole table if a verdict is not as expected.
fn climb(name: &str, subject: impl Fn(u8) -> Subject + Sync, passes: impl Fn(u8) -> bool) {
    let mut table = format!("{name}:\n");
    let mut wrong = Vec::new();
    for (chapter, verdict) in run_all(subject) {
        let as_expected = match &verdict {
            Verdict::Pass(_) => passes(chapter),
            Verdict::Fail(_) => !passes(chapter),
            // Not a pass; on a machine where nothing may be missing, a failure.
            Verdict::Unchecked(_) => std::env::var_os("CI").is_none(),
        };
        if !as_expected {
            wrong.push(chapter);
        }
        table += &format!("  {chapter:02} {verdict}\n");
    }
    println!("{table}");
    assert!(wrong.is_empty(), "not as expected: {wrong:?}\n{table}");
}

/// Step n is the program of chapter n + 3.
fn step(number: u8, program: &str) {
    let subject = |_| Subject::quiet([program]);
    climb(&format!("s{number:02}"), subject, |chapter| {
        chapter <= number + 3
    });
}

macro_rules! steps {
    ($($number:literal $name:ident)*) => {
        $(#[test]
        fn $name() {
            step($number, env!(concat!("CARGO_BIN_EXE_", stringify!($name))));
        })*
    };
}

steps! {
    1 s01_blocking
    2 s02_poller
    3 s03_drain_accept
    4 s04_drain_peer
    5 s05_keep_output
    6 s06_bound_output
    7 s07_half_close
    8 s08_out_of_descriptors
    9 s09_small_answers
    10 s10_fair_turns
    11 s11_serials
    12 s12_deadlines
}

#[test]
fn doorkeeper_serve_echo() {
    let program = doorkeeper();
    let subject = |chapter| {
        let mut words = vec![program.clone().into_os_string()];
        words.extend(["serve", "echo=:0"].map(Into::into));
        if chapter == 15 {
            words.extend(["--idle-timeout", "500ms"].map(Into::into));
        }
        Subject::quiet(words)
    };
    climb("doorkeeper", subject, |chapter| chapter != 14);
}

/// Builds the program of the repository, where that has not been done.
fn doorkeeper() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--bin", "doorkeeper"]);
    assert!(cargo.current_dir(&root).status().unwrap().success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("debug/doorkeeper")
}

/// Blank lines and comments do not count.
#[test]
fn a_step_is_a_short_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
            let lines = text.lines().filter(is_code).count();
            assert!((15..=150).contains(&lines), "{}: {lines}", path.display());
        }
    }
}
