//! The trace, held against the rules of the Trace Event Format by a parser.

mod common;

use common::{PATIENCE, Program, alone, client, echo, have, read_all, send_until_full};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Instant;

struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        File(std::env::temp_dir().join(format!("doorkeeper-trace-{name}-{}", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The events of a trace that is as it should be.
fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let events: Vec<Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let (mut spans, mut slices) = (BTreeMap::new(), Vec::new());
    for event in &events {
        let text = |name: &str| {
            event[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name}: {event}"))
        };
        let number = |name: &str| {
            event[name]
                .as_f64()
                .filter(|&number| number >= 0.0)
                .unwrap_or_else(|| panic!("no {name}: {event}"))
        };
        assert!(
            !text("name").is_empty()
                && event["pid"].is_u64()
                && event["tid"].is_u64()
                && event["args"].is_object(),
            "{event}"
        );
        let begin = number("ts");
        match text("ph") {
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            "X" => slices.push((begin, begin + number("dur"))),
            "C" => assert!(
                event["args"]
                    .as_object()
                    .unwrap()
                    .values()
                    .all(Value::is_number),
                "{event}"
            ),
            "i" => assert_eq!(text("s"), "g"),
            phase @ ("b" | "n" | "e") => {
                let open = spans
                    .entry((text("cat").to_string(), text("id").to_string()))
                    .or_insert(false);
                assert_eq!(*open, phase != "b", "{event}");
                *open = phase != "e";
            }
            other => panic!("no such phase: {other}"),
        }
    }
    // On one track slices lie beside or within each other, give or take the rounding of a
    // microsecond's thousandth.
    slices.sort_by(|one, other| one.0.total_cmp(&other.0).then(other.1.total_cmp(&one.1)));
    let mut around: Vec<f64> = Vec::new();
    for (begin, end) in slices {
        while around.last().is_some_and(|&outer| outer <= begin + 0.01) {
            around.pop();
        }
        assert!(
            around.last().is_none_or(|&outer| end <= outer + 5.0),
            "{begin} to {end} is half within {around:?}"
        );
        around.push(end);
    }
    events
}

fn talk(program: &Program) {
    for _ in 0..20 {
        let mut stream = client(program.address("echo"));
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"");
    }
}

fn count(events: &[Value], name: &str, phase: &str) -> usize {
    events
        .iter()
        .filter(|event| event["name"] == name && event["ph"] == phase)
        .count()
}

#[test]
fn a_trace_shows_turns_callbacks_connections_and_accept_queues() {
    let file = File::new("whole");
    let mut program = Program::serve(&[
        "echo=127.0.0.1:0",
        "--trace",
        file.0.to_str().unwrap(),
        "--shutdown-timeout=0s",
    ]);
    talk(&program);
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    assert!(program.wait().success());
    let events = events(&file.0);
    for (name, phase, wanted) in [
        ("connection", "b", 20),
        ("read", "n", 40),
        ("write", "n", 20),
        ("on_open", "X", 20),
        ("on_eof", "X", 20),
    ] {
        assert_eq!(count(&events, name, phase), wanted, "{name}");
    }
    assert_eq!(
        (
            count(&events, "connection", "e"),
            count(&events, "listener", "b"),
            count(&events, "listener", "e")
        ),
        (20, 1, 1)
    );
    let slices = |turns: bool| -> Vec<(f64, f64)> {
        let slices = events
            .iter()
            .filter(|event| event["ph"] == "X" && (event["name"] == "turn") == turns);
        let number = |value: &Value| value.as_f64().unwrap();
        slices
            .map(|slice| {
                (
                    number(&slice["ts"]),
                    number(&slice["ts"]) + number(&slice["dur"]),
                )
            })
            .collect()
    };
    let (turns, callbacks) = (slices(true), slices(false));
    assert!(
        turns.len() > 20 && turns.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "turns follow each other: {turns:?}"
    );
    // Figures in the file are rounded to nanoseconds.
    let within = |&(begin, end): &(f64, f64)| {
        turns
            .iter()
            .any(|turn| turn.0 - 0.01 <= begin && end <= turn.1 + 0.01)
    };
    assert!(
        callbacks.iter().all(within),
        "a callback runs in a turn: {callbacks:?} {turns:?}"
    );
    let room = format!("accept queue of {}", program.address("echo"));
    assert!(
        events
            .iter()
            .any(|event| event["name"] == room.as_str() && event["args"]["value"] == 1)
    );
    assert!(count(&events, "pending output", "C") > 0);
}

/// Output that a client does not read is a curve above zero.
#[test]
fn a_trace_shows_output_that_waits() {
    let file = File::new("pending");
    let args = [
        "echo=127.0.0.1:0",
        "--trace",
        file.0.to_str().unwrap(),
        "--shutdown-timeout=0s",
    ];
    let mut program = Program::serve(&args);
    let mut mute = client(program.address("echo"));
    send_until_full(&mut mute, &[b'x'; 1 << 16]);
    // Something happens, and more than a sum's interval later.
    let start = Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(50) {
        talk(&program);
    }
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    assert!(program.wait().success());
    let events = events(&file.0);
    let most = events
        .iter()
        .filter(|event| event["name"] == "pending output")
        .map(|event| event["args"]["value"].as_u64().unwrap())
        .max();
    assert!(most.unwrap() > 1000, "{most:?}");
}

#[test]
fn a_trace_is_whole_also_when_the_program_is_killed_and_says_what_it_left_out() {
    let file = File::new("killed");
    let path = file.0.to_str().unwrap();
    let mut program =
        Program::serve(&["echo=127.0.0.1:0", "--trace", path, "--trace-max", "20000"]);
    let start = Instant::now();
    let left_out = |events: &[Value]| {
        events
            .iter()
            .find(|event| event["name"] == "left out")
            .map(|event| event["args"]["events"].as_u64())
    };
    loop {
        talk(&program);
        assert!(std::fs::metadata(path).unwrap().len() <= 20_000);
        if left_out(&events(&file.0)).is_some() {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert!(left_out(&events(&file.0)).unwrap().unwrap() > 0);
}

/// A disk with room for a part of the trace.
#[test]
fn a_trace_on_a_full_disk_stays_whole_and_the_log_says_so_once() {
    if !have("unshare") || !have("mount") {
        return;
    }
    let folder = std::env::temp_dir().join("doorkeeper-full-disk");
    let setup = format!(
        "mkdir -p {0} && mount -t tmpfs -o size=64k tmpfs {0} && exec \"$0\" \"$@\"",
        folder.display()
    );
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-ec", &setup];
    if !alone(
        "a_trace_on_a_full_disk_stays_whole_and_the_log_says_so_once",
        &wrapper,
    ) {
        return;
    }
    let path = folder.join("trace");
    let args = ["echo=127.0.0.1:0", "--trace", path.to_str().unwrap()];
    let mut program = Program::start(&[], &args, "warn", 1);
    for _ in 0..10 {
        talk(&program);
    }
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    assert!(program.wait().success());
    let mut log = String::new();
    let mut stderr = program.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(
        log.lines().count() == 1 && log.contains("trace: No space left on device (os error 28)"),
        "{log}"
    );
    let events = events(&path);
    assert!(events.len() > 100, "{}", events.len());
    let last = events.last().unwrap();
    assert_eq!(last["name"], "left out");
    // Each visit has a span, and some of the 200 are in the file and some are not.
    let left_out = last["args"]["events"].as_u64().unwrap() as usize;
    assert!(left_out > 100 && left_out + events.len() > 200 * 8);
}

fn refused(path: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    let output = command
        .args(["serve", "echo=:0", "--trace", path])
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_trace_that_cannot_be_written_is_named() {
    let message = refused("/no/such/folder/trace");
    assert!(
        message.contains("--trace /no/such/folder/trace: No such file"),
        "{message}"
    );
    // Neither can be written over, which the closing bracket needs.
    for path in ["/dev/full", "/dev/stdout"] {
        let message = refused(path);
        let wanted = format!("--trace {path}: it must be a regular file");
        assert!(message.contains(&wanted), "{message}");
    }
}
