//! Servers in other languages pass and fail where the chapters say.

use check::checks::{Verdict, run_all};
use check::program::Subject;
use std::path::{Path, PathBuf};
use std::process::Command;

fn other(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../other")
        .join(file)
}

/// The chapters whose checks a program passes, and the sentences of the others.
fn passed(subject: &Subject) -> (Vec<u8>, Vec<String>) {
    let mut passed = Vec::new();
    let mut seen = Vec::new();
    for (chapter, verdict) in run_all(|_| subject.clone()) {
        match verdict {
            Verdict::Pass(_) => passed.push(chapter),
            Verdict::Fail(text) => seen.push(format!("{chapter:02}: {text}")),
            Verdict::Unchecked(text) => panic!("{text}"),
        }
    }
    (passed, seen)
}

#[test]
fn c_on_level_triggered_epoll() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo_epoll");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
    compiler.arg(&program).arg(other("echo_epoll.c"));
    assert!(compiler.status().expect("a C compiler").success());
    let (passed, seen) = passed(&Subject::quiet([program]));
    // It loses the bytes that the kernel does not take, spins without descriptors, and knows neither names nor deadlines.
    assert_eq!(passed, [5, 6, 7, 12, 13], "{seen:#?}");
    let starved = seen.iter().find(|text| text.starts_with("11")).unwrap();
    assert!(starved.contains("% of a processor"), "{starved}");
}

#[test]
fn python_on_asyncio() {
    let server = other("echo_asyncio.py").into_os_string();
    let (passed, seen) = passed(&Subject::quiet(["python3".into(), server]));
    assert_eq!(passed, [5, 6, 7, 8, 9, 10, 11, 12, 13, 15], "{seen:#?}");
}
