//! The program `check`: its output, its exit status, and that nothing stays behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs `check`, with standard error out of the way.
fn check(words: &[&str], variables: &[(&str, Option<&str>)]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_check"));
    command.args(words).env_remove("CI");
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let Output { status, stdout, .. } = command.output().unwrap();
    (String::from_utf8(stdout).unwrap(), status.code())
}

fn python() -> String {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../other/echo_asyncio.py");
    server.to_str().unwrap().to_string()
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_pass_and_a_fail_are_told_by_the_exit_status_and_in_a_sentence() {
    let (said, status) = check(&["05", "python3", &python()], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(
        said,
        "05 pass: a second client was served while the first was silent: 2 of 2 bytes came back\n"
    );
    let (said, status) = check(&["14", "python3", &python()], &[]);
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(
        said,
        "14 FAIL: `who` was echoed: its connections have no names\n"
    );
}

#[test]
fn a_hint_is_given_on_request_and_runs_nothing() {
    for words in [["--hint", "11"], ["11", "--hint"]] {
        let (said, status) = check(&words, &[]);
        assert_eq!(status, Some(0));
        assert!(said.contains("EMFILE"), "{said}");
    }
}

#[test]
fn words_that_make_no_sense_are_an_error() {
    for words in [&["99", "true"] as &[&str], &["--hint", "x"], &["--all"]] {
        let (said, status) = check(words, &[]);
        assert_eq!(status, Some(2), "{words:?}: {said}");
    }
    let (said, status) = check(&["07"], &[]);
    assert_eq!(status, Some(0));
    assert!(said.starts_with("07 20000 bytes"), "{said}");
}

#[test]
fn an_answer_is_judged_by_an_experiment() {
    let right = [
        ("02", "9"),
        ("03", "59"),
        ("04", "SYN-RECV"),
        ("04", "syn_recv"),
    ];
    let wrong = [
        ("02", "10"),
        ("02", "x"),
        ("03", "15"),
        ("03", "60"),
        ("03", "x"),
        ("04", "ESTAB"),
    ];
    for (chapter, answer) in right {
        let (said, status) = check(&[chapter, answer], &[]);
        assert_eq!(status, Some(0), "{chapter} {answer}: {said}");
    }
    for (chapter, answer) in wrong {
        let (said, status) = check(&[chapter, answer], &[]);
        assert_eq!(status, Some(1), "{chapter} {answer}: {said}");
    }
    let (said, _) = check(&["03", "15"], &[]);
    assert!(
        said.contains("a backlog of 15 lets 16 in at once"),
        "{said}"
    );
}

const REVERSING: &str = "
import socket
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
while line := peer.recv(4096):
    peer.sendall(line[-2::-1] + line[-1:])
";

#[test]
fn the_first_exercise_can_be_done() {
    let (said, status) = check(&["01", "python3", "-c", REVERSING], &[]);
    assert_eq!(status, Some(0), "{said}");
    let (said, status) = check(&["01", "python3", &python()], &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("came back as `doorkeeper`, not as `repeekrood`"),
        "{said}"
    );
}

#[test]
fn a_program_that_is_no_server_is_said_to_be_none() {
    let (said, status) = check(&["05", "/nowhere/to/be/found"], &[]);
    assert!(said.contains("does not start"), "{said}");
    assert_eq!(status, Some(1));
    let (said, _) = check(&["05", "false"], &[]);
    assert!(said.contains("before it printed a port"), "{said}");
    // Standard output ends before the program does.
    let ends_late = "exec >&-; sleep 0.2; exit 5";
    let (said, _) = check(&["05", "sh", "-c", ends_late], &[]);
    let ended = "it ended (exit status: 5) before it printed a port";
    assert!(said.contains(ended), "{said}");
    let (said, _) = check(&["05", "sh", "-c", "echo listening 9; exec sleep 60"], &[]);
    assert!(said.contains("nobody listens on port 9"), "{said}");
}

/// Python ignores SIGPIPE, and a C program does not.
#[test]
fn a_server_that_sigpipe_ends_does_not_survive_a_reset() {
    let server = python();
    let run = format!(
        "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); exec(open('{server}').read())"
    );
    let (said, status) = check(&["07", "python3", "-c", &run], &[]);
    let wanted = "after another client ended its side and reset its connection, ";
    assert!(said.contains(wanted) && said.contains("SIGPIPE"), "{said}");
    assert_eq!(status, Some(1));
}

/// The same in the two checks that count system calls.
#[test]
fn without_strace_nothing_counts_as_checked() {
    let python3 = String::from_utf8(
        Command::new("sh")
            .args(["-c", "command -v python3"])
            .output()
            .unwrap()
            .stdout,
    );
    let python3 = python3.unwrap();
    for chapter in ["12", "13"] {
        let words = [chapter, python3.trim(), &python()];
        let nothing = ("PATH", Some("/nonexistent"));
        let (said, status) = check(&words, &[nothing]);
        assert!(said.contains("NOT CHECKED: strace is missing"), "{said}");
        assert_eq!(status, Some(3));
        let (_, status) = check(&words, &[nothing, ("CI", Some("true"))]);
        assert_eq!(status, Some(1), "where nothing may be missing, it fails");
    }
}

/// The server is a grandchild here: `check` starts a shell, which starts it and waits.
#[test]
fn what_was_started_is_ended() {
    let ids = scratch("ids");
    let script = format!(
        "python3 {} & echo $$ $! > {}; wait",
        python(),
        ids.display()
    );
    let (said, status) = check(&["05", "sh", "-c", &script], &[]);
    assert_eq!(status, Some(0), "{said}");
    let ids = std::fs::read_to_string(ids).unwrap();
    assert_eq!(ids.split_whitespace().count(), 2);
    for id in ids.split_whitespace() {
        let start = Instant::now();
        while is_alive(id) {
            assert!(start.elapsed() < Duration::from_secs(20), "{id} is alive");
        }
    }
}

/// A zombie has ended. Its parent has not waited for it yet, which is not the check's affair.
fn is_alive(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    ["State:\tR", "State:\tS", "State:\tD", "State:\tT"]
        .iter()
        .any(|state| status.contains(state))
}
