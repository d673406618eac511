//! `doorkeeper room`: the accept queue of the built program, client by client.

use std::process::{Command, Output};

fn room(words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    program.arg("room").args(words).output().unwrap()
}

/// The lines of a run that succeeds, each with single spaces.
fn lines(words: &[&str]) -> Vec<String> {
    let output = room(words);
    let is_quiet = output.status.success() && output.stderr.is_empty();
    assert!(is_quiet, "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let single = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(single).collect()
}

/// Seconds from the connect to the connection, in a line like `4 after 1.0 s 0 of 2`.
fn waited(line: &str) -> f64 {
    line.split(' ').nth(2).unwrap().parse().unwrap()
}

/// Linux lets one more in than the backlog, and drops further SYNs without a word.
#[test]
#[cfg(target_os = "linux")]
fn a_queue_takes_one_more_than_its_backlog_and_the_rest_is_told_nothing() {
    let lines = lines(&["2", "5"]);
    let begin = [
        "backlog 2, clients 5: nobody accepts",
        "client connect then accept queue",
        "1 EINPROGRESS connected 1 of 2",
        "2 EINPROGRESS connected 2 of 2",
        "3 EINPROGRESS connected 3 of 2",
        "4 EINPROGRESS nothing 3 of 2",
        "5 EINPROGRESS nothing 3 of 2",
        "nothing: the SYN was dropped, and the kernel sends it again after 1 s",
        "the server accepts",
        "client connected accept queue",
        "1 after 0.0 s 2 of 2",
        "2 after 0.0 s 1 of 2",
        "3 after 0.0 s 0 of 2",
    ];
    assert_eq!(lines[..begin.len()], begin);
    // These two come with their next SYN, in either order.
    let mut last: Vec<&String> = lines[begin.len()..].iter().collect();
    last.sort();
    assert_eq!(last.len(), 2, "{lines:#?}");
    for (line, number) in last.into_iter().zip(["4 ", "5 "]) {
        assert!(line.starts_with(number) && waited(line) >= 0.9, "{line}");
    }
}

#[test]
fn without_a_full_queue_nobody_waits() {
    let lines = lines(&["4", "2"]);
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("nothing")));
    assert!(lines[6..].iter().all(|line| waited(line) < 0.9));
}

#[test]
fn what_is_no_room_is_wrong_usage() {
    let wrong = [
        (&["2"][..], "takes two numbers"),
        (&["2", "5", "1"], "takes two numbers"),
        (
            &["70000", "5"],
            "BACKLOG 70000: must be a whole number from 0",
        ),
        (&["two", "5"], "BACKLOG two: must be a whole number"),
        (
            &["2", "0"],
            "CLIENTS 0: must be a whole number from 1 to 400",
        ),
        (&["--loop", "2", "5"], "invalid option '--loop'"),
    ];
    for (words, message) in wrong {
        let output = room(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(message), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}
