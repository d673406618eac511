//! The forms of the program's log: text, JSON, and what the journal of systemd wants.

mod common;

use common::{Program, client, echo, read_all};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorkeeper");

/// The log of a server of echo that has had one client, and the addresses of both.
fn log_of(program: &mut Program) -> (String, SocketAddr, SocketAddr) {
    let address = program.address("echo");
    let mut stream = client(address);
    let peer = stream.local_addr().unwrap();
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    assert!(program.wait().success());
    let mut log = String::new();
    let mut stderr = program.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    (log, address, peer)
}

#[test]
fn a_json_log_is_an_object_a_line_with_a_record_of_each_connection() {
    let wrapper = ["env", "-u", "RUST_LOG"];
    let mut program = Program::start(&wrapper, &["echo=:0", "--log=json"], "", 1);
    let (log, address, peer) = log_of(&mut program);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for field in ["time", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let records: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "doorkeeper::access")
        .collect();
    let [record] = records[..] else {
        panic!("{log}");
    };
    for (field, value) in [
        ("service", Value::from("echo")),
        ("listener", address.to_string().into()),
        ("peer", peer.to_string().into()),
        ("reason", "finished".into()),
        ("received", 5.into()),
        ("sent", 5.into()),
        ("unsent", 0.into()),
    ] {
        assert_eq!(record[field], value, "{record}");
    }
    assert!(record["age_ms"].is_u64(), "{record}");
}

#[test]
fn access_records_are_lines_of_text_for_those_who_ask() {
    let filter = "off,doorkeeper::access=debug";
    let mut program = Program::start(&[], &["echo=:0"], filter, 1);
    let (log, address, peer) = log_of(&mut program);
    let wanted = format!(
        "doorkeeper::access: echo on {address}: {peer}: finished; 5 bytes received, 5 sent"
    );
    assert!(log.contains(&wanted) && log.lines().count() == 1, "{log}");
    // Without being asked for they cost nothing, and are not there.
    let mut program = Program::start(&[], &["echo=:0"], "info", 1);
    let (log, address, _) = log_of(&mut program);
    assert!(!log.contains("doorkeeper::access"), "{log}");
    let wanted = format!("echo on {address} is listener 0.0");
    assert!(log.contains(&wanted), "{log}");
}

/// The journal is where JOURNAL_STREAM says, and has time stamps of its own.
#[test]
fn lines_for_the_journal_begin_with_their_level() {
    for (is_journal, form) in [(true, "text"), (false, "text"), (true, "json")] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (reader, writer) = (File::from(reader), File::from(writer));
        let status = writer.metadata().unwrap();
        let inode = status.ino() + u64::from(!is_journal);
        let mut command = Command::new(PROGRAM);
        let child = command
            .args([
                "serve",
                "echo=:0",
                "--max-connections=1000000",
                "--log",
                form,
            ])
            .env("JOURNAL_STREAM", format!("{}:{inode}", status.dev()))
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap();
        drop(command);
        // It is killed when this is dropped.
        let mut program = Program {
            child,
            listening: Vec::new(),
            stderr: None,
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(program.child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
        assert!(program.wait().success());
        let log = std::io::read_to_string(reader).unwrap();
        let first = log.lines().next().unwrap();
        if form == "json" {
            let line: Value = serde_json::from_str(first.strip_prefix("<6>").unwrap()).unwrap();
            assert!(line["time"].is_null() && line["level"] == "info", "{first}");
        } else if is_journal {
            assert!(first.starts_with("<6>doorkeeper::cli::serve: "), "{first}");
            assert!(
                log.contains("\n<4>doorkeeper::cli::serve: --max-c"),
                "{log}"
            );
        } else {
            assert!(
                first.starts_with("20") && first.contains(" INFO "),
                "{first}"
            );
        }
    }
}

#[test]
fn a_failure_is_json_where_the_log_is() {
    let mut command = Command::new(PROGRAM);
    let output = command
        .args(["serve", "echo=192.0.2.1:7", "--log=json"])
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["level"], "error");
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("cannot listen for echo on 192.0.2.1:7"),
        "{message}"
    );
}

#[test]
fn the_quotes_that_are_read_and_skipped_are_counted() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quotes-counted");
    let long = "x".repeat(600);
    for (text, told) in [
        ("one\n%\ntwo\n".to_string(), ": 2 quotes\n"),
        (
            format!("one\n%\n{long}\n"),
            ": 1 quotes; 1 more are skipped, ",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let args = ["qotd=:0", "--quotes", path.to_str().unwrap()];
        let log = Program::start(&[], &args, "info", 1).terminate();
        let wanted = format!("--quotes {}{told}", path.display());
        assert!(log.contains(&wanted), "{log}");
    }
}
