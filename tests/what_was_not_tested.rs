//! The last test binary of `cargo test`, which runs them in the order of their names. It tells in one
//! line what the others left out, and why.

mod common;

use common::{RECORD, have, record_file, temporary};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::{Command, Output};

/// `NOT TESTED: strace is missing: faults::a, faults::b; nmap is missing: …`, or nothing.
fn summary(record: &str) -> String {
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (reason, test) in record.lines().filter_map(|line| line.split_once('\t')) {
        tests.entry(reason).or_default().insert(test);
    }
    let reasons = tests.into_iter().map(|(reason, tests)| {
        let tests: Vec<&str> = tests.into_iter().collect();
        format!("{reason}: {}", tests.join(", "))
    });
    let reasons: Vec<String> = reasons.collect();
    match &reasons[..] {
        [] => String::new(),
        _ => format!("NOT TESTED: {}\n", reasons.join("; ")),
    }
}

#[test]
fn what_the_other_tests_left_out_is_told_in_one_line() {
    let record = std::fs::read_to_string(record_file()).unwrap_or_default();
    io::stderr().write_all(summary(&record).as_bytes()).unwrap();
    // `./check` names the file, and reads it after more tests have run.
    if std::env::var_os(RECORD).is_none() {
        let _ = std::fs::remove_file(record_file());
    }
    let record = "b is missing\tx::one\na is missing\tx::one\nb is missing\tx::two\n";
    assert_eq!(
        summary(&record.repeat(2)),
        "NOT TESTED: a is missing: x::one; b is missing: x::one, x::two\n"
    );
    assert_eq!(summary(""), "");
}

/// The harness must capture neither the line nor the record.
#[test]
fn a_test_that_is_left_out_is_told_although_it_passes() {
    const CHILD: &str = "DOORKEEPER_TEST_LEFT_OUT";
    if std::env::var_os(CHILD).is_some() {
        assert!(!have("no-such-program"));
        return;
    }
    let record = temporary("record");
    let own = std::env::current_exe().unwrap();
    let run = |test: &str, is_ci: bool| -> Output {
        let mut command = Command::new(&own);
        command.args([test, "--exact", "--test-threads=2"]);
        command.env(RECORD, &record).env(CHILD, "1");
        command.env_remove("CI").env_remove("RUST_TEST_NOCAPTURE");
        command.envs(is_ci.then_some(("CI", "true")));
        command.output().unwrap()
    };
    let reason = "no-such-program is missing";
    let test = "a_test_that_is_left_out_is_told_although_it_passes";
    let line = format!("NOT TESTED: {reason}: what_was_not_tested::{test}\n");

    let output = run(test, false);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
    let output = run("what_the_other_tests_left_out_is_told_in_one_line", false);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
    std::fs::remove_file(&record).unwrap();

    // In CI nothing may be missing.
    let output = run(test, true);
    assert!(!output.status.success());
    assert!(!record.exists());
}
