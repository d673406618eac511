//! Every observation of the chapters and of the pages, on this machine's kernel.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Output};
use std::thread;

fn kernel(words: &[&str]) -> Output {
    let mut kernel = Command::new(env!("CARGO_BIN_EXE_kernel"));
    kernel.args(words).output().unwrap()
}

#[test]
fn the_kernel_does_what_the_chapters_say() {
    let usage = kernel(&[]);
    assert_eq!(usage.status.code(), Some(2));
    let usage = String::from_utf8(usage.stderr).unwrap();
    let (_, names) = usage.trim().split_once("one of ").unwrap();
    let names: Vec<&str> = names.split(", ").collect();
    assert!(names.len() >= 25, "{names:?}");
    // They wait more than they work.
    thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                let output = kernel(&[name]);
                let said = String::from_utf8_lossy(&output.stdout);
                let error = String::from_utf8_lossy(&output.stderr);
                if output.status.code() == Some(3) {
                    return leave_out(name, error.trim());
                }
                assert!(output.status.success(), "{name}: {said}{error}");
                assert!(said.lines().count() > 1, "{name}: {said}");
            });
        }
    });
}

/// Says so loudly. `./check` prints a list of these at its end.
fn leave_out(name: &str, reason: &str) {
    eprintln!("kernel {name}: {reason}");
    if let Some(list) = std::env::var_os("DOORKEEPER_NOT_TESTED") {
        let list = OpenOptions::new().create(true).append(true).open(list);
        writeln!(list.unwrap(), "{reason}\tkernel {name}").unwrap();
    }
}
