//! `doorkeeper bench`, against servers that answer well, badly, late, and not at all.

mod common;

use common::Program;
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// `doorkeeper bench ADDRESS ARGS`, for a short while unless `args` say otherwise.
fn bench(address: SocketAddr, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    command.args(["bench", &address.to_string(), "--warm-up", "50ms", "--duration", "300ms"]);
    command.args(args.split_whitespace()).output().unwrap()
}

/// The report of a run that succeeds.
fn report(address: SocketAddr, args: &str) -> Value {
    let output = bench(address, &format!("{args} --json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({ "counting": true }));
    assert_eq!(lines[1], serde_json::json!({ "counted": true }));
    assert_eq!(lines.len(), 3);
    lines[2].clone()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report}"))
}

/// Each connection is given to `serve`, on a thread of its own; the addresses they come from are told.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> (SocketAddr, Receiver<IpAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (peers, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let _ = peers.send(stream.peer_addr().unwrap().ip());
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    (address, seen)
}

/// Echoes, and does something to the bytes, or to the time, of the `n`th read.
fn echo(mut stream: TcpStream, meddle: impl Fn(usize, &mut [u8])) {
    let mut buffer = [0; 65_536];
    for turn in 0.. {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                meddle(turn, &mut buffer[..count]);
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn every_mode_counts_what_came_back() {
    let program = Program::serve(&["echo=127.0.0.1:0", "daytime=127.0.0.1:0"]);
    let address = program.address("echo");
    for args in ["", "--connections 1", "--connections 8 --size 100000", "--pipeline 16 --size 1", "--mode connect --size 10"] {
        let report = report(address, args);
        let (requests, bytes) = (number(&report, "/requests"), number(&report, "/bytes_per_second"));
        assert!(requests > 0.0 && report["errors"] == serde_json::json!({}), "{args}: {report}");
        let (seconds, size) = (number(&report, "/seconds"), number(&report, "/size"));
        let most = number(&report, "/connections") * number(&report, "/pipeline");
        // What was under way when the counting began or ended is a part of the one and not of the other.
        assert!((bytes * seconds / size - requests).abs() <= most + 1.0, "{args}: {report}");
        assert!((number(&report, "/requests_per_second") * seconds - requests).abs() < 1.0);
        let parts = ["min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max"];
        let latencies = parts.map(|part| number(&report, &format!("/latency_ns/{part}")));
        assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{args}: {report}");
    }
    let idle = report(address, "--mode idle --connections 20");
    assert!(number(&idle, "/requests") <= 20.0);
    let read = report(program.address("daytime"), "--mode read --connections 4");
    assert!(number(&read, "/requests") > 0.0 && number(&read, "/bytes_per_second") > 0.0);
    let beside = report(address, "--connections 4 --flooders 2 --mutes 2");
    assert!(number(&beside, "/requests") > 0.0 && number(&beside, "/flood_bytes_per_second") > 0.0);
}

#[test]
fn bytes_that_were_not_sent_are_noticed() {
    let (address, _) = server(|stream| {
        echo(stream, |turn, bytes| {
            if turn == 20 {
                bytes[bytes.len() / 2] ^= 1;
            }
        });
    });
    let output = bench(address, "--connections 3");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("connections failed (other bytes came back than were sent: 3)"), "{text}");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("failed     3: other bytes came back than were sent"), "{report}");
}

#[test]
fn a_server_that_closes_or_is_not_there_is_told_of() {
    let (address, _) = server(drop);
    let output = bench(address, "--connections 3");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("the server closed") || text.contains("reset"), "{text}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bench(nobody, "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("doorkeeper: cannot load {nobody}: refused\n"));
}

#[test]
fn failures_of_one_kind_are_added_up_whoever_met_them() {
    // Both flooders are wronged, and two of the three others: one goes on, or there would be nothing left to measure.
    let wronged = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |stream| {
        let wronged = Arc::clone(&wronged);
        let floods = Cell::new(false);
        echo(stream, move |turn, bytes| {
            // By its first read: what remains of a flooder's request may be as short as another's whole one.
            floods.set(floods.get() || turn == 0 && bytes.len() > 64);
            if turn == 1 && (floods.get() || wronged.fetch_add(1, Ordering::Relaxed) < 2) {
                bytes[0] ^= 1;
            }
        });
    });
    let output = bench(address, "--connections 3 --flooders 2 --json");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["errors"], serde_json::json!({ "other bytes came back than were sent": 4 }));
}

/// The server stands still for half of the time. A load that waits for each answer sees one slow request; one that counts from when
/// each was due sees half of them slow.
#[test]
fn a_server_that_stalls_cannot_hide_in_the_open_loop() {
    const STALL: Duration = Duration::from_millis(500);
    let (address, _) = server(|stream| {
        echo(stream, |turn, _| {
            if turn == 40 {
                std::thread::sleep(STALL);
            }
        });
    });
    let report = report(address, "--connections 1 --rate 200 --duration 1s");
    let due = number(&report, "/requests") + number(&report, "/unanswered");
    assert!((150.0..=260.0).contains(&due), "all that were due are counted: {report}");
    assert!(number(&report, "/latency_ns/max") > 0.9 * STALL.as_nanos() as f64, "{report}");
    assert!(number(&report, "/latency_ns/p75") > 0.1 * STALL.as_nanos() as f64, "{report}");
}

#[test]
fn requests_are_lines_if_asked_for() {
    let (address, _) = server(|stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = Vec::new();
        // A line that is not as asked for ends the connection, and so fails the run.
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count == 12) && line == b"abcdefghijk\n" {
            (&stream).write_all(&line).unwrap();
            line.clear();
        }
    });
    let report = report(address, "--connections 2 --lines --size 12 --pipeline 5");
    assert!(number(&report, "/requests") > 0.0 && report["lines"] == true, "{report}");
}

#[test]
fn connections_come_from_the_addresses_asked_for() {
    let (address, seen) = server(|stream| echo(stream, |_, _| {}));
    report(address, "--connections 6 --source-addresses 127.0.0.2,127.0.0.3");
    let seen: BTreeSet<IpAddr> = seen.try_iter().collect();
    assert_eq!(seen, BTreeSet::from([[127, 0, 0, 2].into(), [127, 0, 0, 3].into()]));
}

#[test]
fn the_latencies_are_drawn() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let path = std::env::temp_dir().join(format!("doorkeeper-plot-{}.svg", std::process::id()));
    let output = bench(program.address("echo"), &format!("--connections 2 --plot {}", path.display()));
    assert!(output.status.success());
    let picture = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("2 connections") && picture.contains("<polyline"), "{picture}");
    let output = bench(program.address("echo"), "--plot /no/such/folder/plot.svg");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--plot /no/such/folder/plot.svg: "));
}
