//! `doorkeeper bench`, against servers that answer well, badly, late, and not at all.

mod common;

use common::{PATIENCE, Program, have, only_child, peak};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// `doorkeeper bench ADDRESS ARGS`, for a short while unless `args` say otherwise.
fn command(address: impl ToString, args: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=1",
        "60",
        env!("CARGO_BIN_EXE_doorkeeper"),
        "bench",
        &address.to_string(),
    ]);
    command
        .args(["--warm-up", "50ms", "--duration", "300ms"])
        .args(args.split_whitespace());
    command
}

fn bench(address: impl ToString, args: &str) -> Output {
    command(address, args).output().unwrap()
}

/// What a run that fails says at the end.
fn fault(address: impl ToString, args: &str) -> String {
    let output = bench(address, args);
    assert_eq!(output.status.code(), Some(1), "{args}");
    String::from_utf8(output.stderr).unwrap()
}

/// The report of a run that succeeds.
fn report(address: impl ToString, args: &str) -> Value {
    let output = bench(address, &format!("{args} --json"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    results(&text.lines().map(str::to_string).collect::<Vec<_>>())
}

/// The last of the three lines that `--json` writes.
fn results(lines: &[String]) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], serde_json::json!({ "counting": true }));
    assert_eq!(lines[1], serde_json::json!({ "counted": true }));
    assert_eq!(lines.len(), 3);
    lines[2].clone()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{pointer} in {report}"))
}

/// Each connection is given to `serve`, on a thread of its own; the addresses they come from are
/// told.
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
    for args in [
        "",
        "--connections 1",
        "--connections 8 --size 100000",
        "--pipeline 16 --size 1",
        "--mode connect --size 10",
        "--mode connect --size 100000",
    ] {
        let report = report(address, args);
        let (requests, bytes) = (
            number(&report, "/requests"),
            number(&report, "/bytes_per_second"),
        );
        assert!(
            requests > 0.0 && report["errors"] == serde_json::json!({}),
            "{args}: {report}"
        );
        let (seconds, size) = (number(&report, "/seconds"), number(&report, "/size"));
        let most = number(&report, "/connections") * number(&report, "/pipeline");
        // What was under way when the counting began or ended is a part of the one and not of the
        // other.
        assert!(
            (bytes * seconds / size - requests).abs() <= most + 1.0,
            "{args}: {report}"
        );
        assert!((number(&report, "/requests_per_second") * seconds - requests).abs() < 1.0);
        let parts = ["min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max"];
        let latencies = parts.map(|part| number(&report, &format!("/latency_ns/{part}")));
        assert!(
            latencies[0] > 0.0 && latencies.is_sorted(),
            "{args}: {report}"
        );
    }
    // With a rate the load does not sleep, so its share of a processor says nothing.
    let busy = report(address, "--connections 4");
    assert!(
        (0.0..2.0).contains(&number(&busy, "/own_cpu_share")),
        "{busy}"
    );
    let paced = report(address, "--connections 4 --rate 100");
    assert_eq!(paced["own_cpu_share"], Value::Null);
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
    assert!(
        text.contains("connections failed (other bytes came back than were sent: 3)"),
        "{text}"
    );
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        report.contains("failed     3: other bytes came back than were sent"),
        "{report}"
    );
}

/// All connections send the same pattern, but no two the same part of it at once.
#[test]
fn an_echo_given_to_another_is_noticed() {
    for args in ["--connections 2", "--connections 2 --lines"] {
        let (others, waiting) = (
            Arc::new(Mutex::new(Vec::<TcpStream>::new())),
            Arc::new(Barrier::new(2)),
        );
        let (address, _) = server(move |stream| {
            let (mut stream, mut bytes) = (stream, [0; 64]);
            stream.read_exact(&mut bytes).unwrap();
            let place = {
                let mut others = others.lock().unwrap();
                others.push(stream.try_clone().unwrap());
                others.len() - 1
            };
            waiting.wait();
            (&others.lock().unwrap()[1 - place])
                .write_all(&bytes)
                .unwrap();
            let _ = stream.read(&mut bytes);
        });
        let text = fault(address, args);
        assert!(
            text.contains("other bytes came back than were sent"),
            "{args}: {text}"
        );
    }
}

#[test]
fn a_server_that_closes_or_refuses_fails_the_run() {
    let (address, _) = server(drop);
    let text = fault(address, "--connections 3");
    assert!(
        text.contains("the server closed") || text.contains("reset"),
        "{text}"
    );
    let text = fault(address, "--connections 3 --mode read");
    assert!(
        text.contains("the server closed without an answer"),
        "{text}"
    );
    let (address, _) = server(|mut stream| {
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes[..20]).unwrap();
    });
    let text = fault(address, "--connections 3 --mode connect");
    assert!(
        text.contains("the server closed before the echo was complete"),
        "{text}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        fault(nobody, ""),
        format!("doorkeeper: cannot load {nobody}: refused\n")
    );
}

/// Every connection of the server ends after its second echo, and the load goes on all the same.
#[test]
fn connections_that_fail_are_replaced_if_asked_for() {
    let (address, accepted) = server(|mut stream| {
        let mut bytes = [0; 64];
        for _ in 0..2 {
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let run = |args: &str| {
        let output = bench(address, &format!("{args} --json"));
        assert_eq!(output.status.code(), Some(1), "{args}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        results(&lines)
    };
    let report = run("--connections 3 --warm-up 0s --reconnect");
    let requests = number(&report, "/requests");
    assert!(requests > 20.0, "{report}");
    let errors: f64 = report["errors"]
        .as_object()
        .unwrap()
        .values()
        .map(|one| one.as_f64().unwrap())
        .sum();
    // Two requests a failure. Some of both are before the measurement, or not complete at its end.
    let difference = (requests / 2.0 - errors).abs();
    assert!(difference <= 6.0, "{report}");
    assert!(accepted.try_iter().count() as f64 >= errors, "{report}");
    // So it does where the server closes without an answer.
    let (address, accepted) = server(drop);
    let text = fault(address, "--connections 3 --mode read --reconnect");
    assert!(
        text.contains("the server closed without an answer: "),
        "{text}"
    );
    let accepted = accepted.try_iter().count();
    assert!(accepted > 12, "{accepted}");
}

/// A latency that nobody measured is none, and not the best of all.
#[test]
fn where_nothing_was_answered_there_are_no_latencies() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let behind = Arc::clone(&gate);
    let (address, _) = server(move |_stream| drop(behind.lock()));
    let mut child = command(address, "--connections 3 --json --duration 1h")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    drop(closed);
    let report = results(&std::iter::once(first).chain(lines).collect::<Vec<_>>());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(
        (&report["latency_ns"], &report["unanswered"]),
        (&Value::Null, &serde_json::json!(0)),
        "{report}"
    );
}

#[test]
fn a_server_that_never_answers_fails_the_run() {
    let (address, _) = server(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    for args in [
        "--connections 3",
        "--connections 3 --mode connect",
        "--connections 3 --rate 100",
    ] {
        assert_eq!(
            fault(address, args),
            "doorkeeper: no request was answered during the measurement\n",
            "{args}"
        );
    }
    assert_eq!(
        fault(address, "--connections 3 --mode idle"),
        "doorkeeper: requests without an answer during the whole measurement: 3\n"
    );
    let served = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |mut stream| {
        if served.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        } else {
            echo(stream, |_, _| {});
        }
    });
    assert_eq!(
        fault(address, "--connections 3 --pipeline 2"),
        "doorkeeper: requests without an answer during the whole measurement: 2\n"
    );
}

/// They reconnect all the time, so that at every moment some are not connected.
#[test]
fn counting_begins_however_many_connect_again_and_again() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let report = report(
        program.address("echo"),
        "--mode connect --connections 1000 --duration 3s",
    );
    assert!(number(&report, "/requests") > 0.0);
}

#[test]
fn the_first_address_that_accepts_is_loaded() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let address = program.address("echo");
    let report = report(format!("localhost:{}", address.port()), "--connections 2");
    assert_eq!(report["target"], address.to_string());
}

#[test]
fn what_was_counted_until_an_interruption_is_reported() {
    let (answers, answered) = sync_channel(0);
    let (address, _) = server(move |stream| {
        let answers = answers.clone();
        echo(stream, move |_, _| {
            let _ = answers.try_send(());
        });
    });
    let mut child = command(address, "--json --duration 1h")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    // More than can have been under way before: some of these count.
    (0..200).for_each(|_| answered.recv_timeout(PATIENCE).unwrap());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let lines: Vec<String> = std::iter::once(first).chain(lines).collect();
    assert!(child.wait().unwrap().success());
    assert!(number(&results(&lines), "/seconds") < 60.0);
    // Before that there is nothing to report.
    let (address, seen) = server(|stream| echo(stream, |_, _| {}));
    let mut child = command(address, "--warm-up 1h")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    seen.recv_timeout(PATIENCE).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(
        text,
        "doorkeeper: interrupted before the measurement began\n"
    );
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (args, problem) in [
        (
            "--reconnect --rate 10",
            "--reconnect does not go with --rate",
        ),
        (
            "--rate 1000001",
            "--rate 1000001: must be a whole number from 1 to 1000000",
        ),
        (
            "--pipeline 0",
            "--pipeline 0: must be a whole number from 1 to 65536",
        ),
        (
            "--size 1073741825",
            "--size 1073741825: must be a whole number from 1 to 1073741824",
        ),
        (
            "--duration 31days",
            "--duration 31days: must be at most 30 days",
        ),
        ("--warm-up 99999999999years", "--warm-up 99999999999years: "),
        (
            "--duration 0s",
            "--duration 0 would measure nothing; it must be longer",
        ),
        (
            "--mode read --size 64",
            "--size and --lines describe requests, and --mode read sends none",
        ),
        (
            "--mode read --lines",
            "--size and --lines describe requests, and --mode read sends none",
        ),
        (
            "--mode idle --plot x.svg",
            "--plot has nothing to draw in --mode idle",
        ),
        (
            "--lines --size 1048577",
            "--size with --lines must be at most 1048576",
        ),
        (
            "--connections 300 --pipeline 65536",
            "--connections times --pipeline must be at most 16777216",
        ),
        (
            "--send x",
            "--send goes with one of --expect, --expect-bytes and --until",
        ),
        (
            "--expect x",
            "--send goes with one of --expect, --expect-bytes and --until",
        ),
        (
            "--send x --expect y --until z",
            "--send goes with one of --expect, --expect-bytes and --until",
        ),
        (
            "--send x --until y --size 5",
            "--size, --lines and --mode are for echoes",
        ),
        (
            "--send x\\q --until y",
            "--send x\\q: after a backslash stands r, n, t, 0, a backslash",
        ),
        (
            "--mode idle --rate 5",
            "--rate and --pipeline are for --mode echo",
        ),
        (
            "--mode connect --pipeline 2",
            "--rate and --pipeline are for --mode echo",
        ),
        ("--send x --expect=", "--expect: must not be empty"),
    ] {
        let output = bench("127.0.0.1:1", args);
        assert_eq!(output.status.code(), Some(2), "{args}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with(&format!("doorkeeper: {problem}")),
            "{args}: {text}"
        );
    }
}

#[test]
fn failures_of_one_kind_are_added_up_over_all_connections() {
    // Both flooders are wronged, and two of the three others: one goes on, or there would be
    // nothing left to measure.
    let wronged = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |stream| {
        let wronged = Arc::clone(&wronged);
        let floods = Cell::new(false);
        echo(stream, move |turn, bytes| {
            // By its first read: what remains of a flooder's request may be as short as another's
            // whole one.
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
    assert_eq!(
        report["errors"],
        serde_json::json!({ "other bytes came back than were sent": 4 })
    );
    // Those that never read are connections too.
    let (address, _) = server(|stream| {
        let ended = stream.try_clone().unwrap();
        echo(stream, move |_, bytes| {
            if bytes.len() > 64 {
                ended.shutdown(Shutdown::Both).unwrap();
            }
        });
    });
    let text = fault(address, "--connections 3 --mutes 1");
    assert!(
        text.contains("connections failed (") && text.contains(": 1)"),
        "{text}"
    );
}

/// The server stands still for half of the time. A load that waits for each answer sees one slow
/// request; one that counts from when each was due sees half of them slow.
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
    assert!(
        (150.0..=260.0).contains(&due),
        "all that were due are counted: {report}"
    );
    assert!(
        number(&report, "/latency_ns/max") > 0.9 * STALL.as_nanos() as f64,
        "{report}"
    );
    assert!(
        number(&report, "/latency_ns/p75") > 0.1 * STALL.as_nanos() as f64,
        "{report}"
    );
}

/// All connections together make the rate, each at a time of its own.
#[test]
fn the_rate_is_that_of_all_connections_and_spread_over_them() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrivals);
    let (address, _) = server(move |stream| {
        echo(stream, |_, _| seen.lock().unwrap().push(Instant::now()));
    });
    // One every 20 ms; of each connection, one every 200 ms.
    let report = report(address, "--connections 10 --rate 50 --duration 2s");
    let due = number(&report, "/requests") + number(&report, "/unanswered");
    assert!((90.0..=110.0).contains(&due), "{report}");
    let mut arrivals = std::mem::take(&mut *arrivals.lock().unwrap());
    arrivals.sort();
    let mut gaps: Vec<Duration> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    assert!(median > Duration::from_millis(5), "{median:?}");
}

/// Of 20 requests one is slow: it is in the 99th percentile, and not in the 90th.
#[test]
fn percentiles_are_those_of_their_names() {
    const SLOW: f64 = 60e6;
    let (address, _) = server(|stream| {
        echo(stream, |turn, _| {
            if turn % 20 == 10 {
                std::thread::sleep(Duration::from_millis(60));
            }
        });
    });
    let report = report(address, "--connections 1 --duration 2s");
    let part = |name: &str| number(&report, &format!("/latency_ns/{name}"));
    assert!(
        part("p90") < SLOW / 2.0 && part("p99") >= SLOW && part("min") < SLOW / 2.0,
        "{report}"
    );
}

#[test]
fn the_text_shows_milliseconds() {
    let (address, _) = server(|stream| {
        echo(stream, |_, _| std::thread::sleep(Duration::from_millis(20)));
    });
    let output = bench(address, "--connections 1");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text
        .lines()
        .find(|line| line.starts_with("latency "))
        .unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((words[1], *words.last().unwrap()), ("p50", "ms"), "{row}");
    let median: f64 = words[2].parse().unwrap();
    assert!((20.0..2000.0).contains(&median), "{row}");
}

/// What the server echoed before the measurement does not count.
#[test]
fn the_warm_up_is_not_counted() {
    let echoed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&echoed);
    let (address, _) = server(move |stream| {
        echo(stream, |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    let mut child = command(address, "--connections 1 --json --warm-up 2s")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let before = echoed.load(Ordering::Relaxed);
    let report = results(&std::iter::once(first).chain(lines).collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
    let all = echoed.load(Ordering::Relaxed);
    assert!(before > 100, "{before}");
    let requests = number(&report, "/requests");
    // One thread has one processor. A request takes two system calls at least.
    let cpu = ["share", "ns_per_request"].map(|cpu| number(&report, &format!("/own_cpu_{cpu}")));
    assert!(cpu[0] < 1.2 && cpu[1] > 100.0, "{report}");
    // This test learns of the begin a little late.
    let most = (all - before) as f64 + 0.5 * before as f64;
    assert!(requests > 0.0 && requests < most, "{before} {all} {report}");
}

#[test]
fn a_wrong_byte_far_into_a_long_echo_is_noticed() {
    let (address, _) = server(|mut stream| {
        let mut echo = vec![0; 60_000];
        while stream.read_exact(&mut echo).is_ok() {
            echo[59_999] ^= 1;
            if stream.write_all(&echo).is_err() {
                return;
            }
        }
    });
    for mode in ["", " --mode connect"] {
        let text = fault(address, &format!("--connections 1 --size 60000{mode}"));
        assert!(
            text.contains("other bytes came back than were sent: 1"),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_byte_far_into_a_long_answer_is_noticed() {
    let mut answer = vec![b'x'; 60_000];
    let expected = String::from_utf8(answer.clone()).unwrap();
    answer[59_999] = b'y';
    let output = exchange(answers_lines(answer), &["--expect", &expected]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let problem = "other bytes came back than were expected: 3";
    assert!(text.contains(problem), "{text}");
}

/// One of three connections never has an answer. The others do not hide it.
#[test]
fn a_connection_without_an_answer_fails_the_run_with_a_rate_too() {
    let served = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |mut stream| {
        if served.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        } else {
            echo(stream, |_, _| {});
        }
    });
    assert_eq!(
        fault(address, "--connections 3 --rate 300"),
        "doorkeeper: connections without an answer during the measurement: 1\n"
    );
}

/// Of a connection that failed before the measurement, what is due during it counts.
#[test]
fn a_connection_that_failed_in_the_warm_up_counts_from_the_begin() {
    let served = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |stream| {
        let fails = served.fetch_add(1, Ordering::Relaxed) == 0;
        let peer = stream.try_clone().unwrap();
        echo(stream, move |turn, _| {
            if fails && turn == 2 {
                peer.shutdown(Shutdown::Both).unwrap();
            }
        });
    });
    let args = "--connections 2 --rate 100 --warm-up 2s --duration 1s --json";
    let output = bench(address, args);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let report = results(&text.lines().map(str::to_string).collect::<Vec<_>>());
    // Each has 50 a second. The one that failed would have nearly 100 more of the warm-up; the other
    // may have some of them, if this machine was busy when the measurement began.
    let (each, unanswered) = (
        50.0 * number(&report, "/seconds"),
        number(&report, "/unanswered"),
    );
    let due = number(&report, "/requests") + unanswered;
    assert!(unanswered >= each - 2.0, "{report}");
    assert!(
        (2.0 * each - 4.0..2.0 * each + 80.0).contains(&due),
        "{report}"
    );
}

/// A request that is under way at the end has no answer, and is no fault of its connection.
#[test]
fn a_slow_answer_at_the_end_is_no_mute_connection() {
    let (address, _) = server(|stream| {
        echo(stream, |_, _| {
            std::thread::sleep(Duration::from_millis(150))
        });
    });
    // One request of each connection in the time that is measured, and three of them at its end.
    let report = report(address, "--connections 20 --rate 20 --duration 1s");
    assert!(number(&report, "/unanswered") > 0.0, "{report}");
}

/// The server closes one of two connections halfway. What was due from it after that counts, and is
/// in the percentiles.
#[test]
fn requests_that_were_due_after_their_connection_failed_are_counted() {
    let served = Arc::new(AtomicUsize::new(0));
    let (address, _) = server(move |stream| {
        let fails = served.fetch_add(1, Ordering::Relaxed) == 0;
        let peer = stream.try_clone().unwrap();
        echo(stream, move |turn, _| {
            if fails && turn == 30 {
                peer.shutdown(Shutdown::Both).unwrap();
            }
        });
    });
    // Each has 50 a second, so the first fails after 0.6 s and has 70 more.
    let output = bench(
        address,
        "--connections 2 --rate 100 --warm-up 0s --duration 2s --json",
    );
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let report = results(&text.lines().map(str::to_string).collect::<Vec<_>>());
    let due = number(&report, "/requests") + number(&report, "/unanswered");
    assert!((190.0..=205.0).contains(&due), "{report}");
    assert!(number(&report, "/unanswered") >= 65.0, "{report}");
    assert!(number(&report, "/latency_ns/p90") > 1e8, "{report}");
}

/// Far more is due than the server answers: memory does not grow, and all of it is counted.
#[test]
fn a_rate_that_the_server_cannot_keep_takes_no_memory() {
    let (address, _) = server(|stream| {
        echo(stream, |_, _| std::thread::sleep(Duration::from_millis(1)));
    });
    let mut child = command(
        address,
        "--connections 4 --rate 1000000 --duration 4s --json",
    )
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let early = peak(only_child(child.id()));
    let second = lines.next().unwrap();
    let late = peak(only_child(child.id()));
    let lines: Vec<String> = [first, second].into_iter().chain(lines).collect();
    let report = results(&lines);
    assert!(child.wait().unwrap().success(), "{report}");
    assert!(
        late < early + (4 << 20),
        "grew from {early} to {late} bytes"
    );
    let due = number(&report, "/requests") + number(&report, "/unanswered");
    assert!((3.9e6..4.6e6).contains(&due), "{report}");
    // Half of them were due in the first half of the time, and wait since then.
    let median = number(&report, "/latency_ns/p50");
    assert!((1.5e9..3.0e9).contains(&median), "{report}");
}

/// A load that was stopped says so, whatever it was doing then.
#[test]
fn a_load_that_was_stopped_reports_its_own_delay() {
    let (address, _) = server(|stream| echo(stream, |_, _| {}));
    let mut child = command(address, "--connections 1 --rate 5 --duration 2s --json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let load = Pid::from_raw(only_child(child.id()) as i32).unwrap();
    // Not longer than between two requests that are due, which are 200 ms apart.
    std::thread::sleep(Duration::from_millis(500));
    kill_process(load, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    kill_process(load, Signal::CONT).unwrap();
    let report = results(&std::iter::once(first).chain(lines).collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
    assert!(number(&report, "/most_late_ns") > 80e6, "{report}");
}

/// Answers each line with these bytes.
fn answers_lines(answer: impl Into<Arc<[u8]>>) -> SocketAddr {
    let answer = answer.into();
    let (address, _) = server(move |stream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n');
        for line in lines.map_while(Result::ok) {
            if line != b"PING\r" || (&stream).write_all(&answer).is_err() {
                return;
            }
        }
    });
    address
}

/// `bench ADDRESS --send 'PING\r\n' ARGS`.
fn exchange(address: SocketAddr, args: &[&str]) -> Output {
    let mut command = command(address, "--connections 3 --pipeline 2 --json");
    command.args(["--send", "PING\\r\\n"]).args(args);
    command.output().unwrap()
}

#[test]
fn any_request_and_its_answer_can_be_loaded() {
    let address = answers_lines(*b"+PONG\r\n");
    for args in [
        ["--expect", "+PONG\\r\\n"],
        ["--expect-bytes", "7"],
        ["--until", "\\r\\n"],
        ["--until", "\\x0a"],
    ] {
        let output = exchange(address, &args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        let text = String::from_utf8(output.stdout).unwrap();
        let report = results(&text.lines().map(str::to_string).collect::<Vec<_>>());
        let requests = number(&report, "/requests");
        assert!(requests > 50.0 && report["mode"] == "exchange", "{report}");
        // Seven bytes each, but for those under way at either end.
        let bytes = number(&report, "/bytes_per_second") * number(&report, "/seconds");
        assert!((bytes / 7.0 - requests).abs() <= 7.0, "{report}");
    }
}

#[test]
fn an_answer_that_is_not_as_expected_is_noticed() {
    for (answer, args, problem) in [
        (
            &b"-ERR\r\n"[..],
            ["--expect", "+PONG\\r\\n"],
            "other bytes came back than were expected: 3",
        ),
        (
            b"+PONG\r\n+PONG\r\n+PONG\r\n",
            ["--expect", "+PONG\\r\\n"],
            "more answers came back than were asked for: 3",
        ),
        (
            b"123456789012345678901234567890",
            ["--expect-bytes", "7"],
            "more answers came back than were asked for: 3",
        ),
        (
            b"a\nb\nc\n",
            ["--until", "\\n"],
            "more answers came back than were asked for: 3",
        ),
    ] {
        let output = exchange(answers_lines(answer), &args);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(problem), "{args:?}: {text}");
    }
}

#[test]
fn redis_can_be_loaded() {
    if !have("redis-server") {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut redis = Command::new("timeout");
    let mut redis = redis
        .args(["--kill-after=1", "60", "redis-server", "--save", ""])
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = exchange(address, &["--expect", "+PONG\\r\\n"]);
    kill_process(Pid::from_child(&redis), Signal::TERM).unwrap();
    redis.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_number_of_requests_ends_the_measurement() {
    let (address, _) = server(|stream| echo(stream, |_, _| {}));
    let report = report(address, "--connections 2 --requests 100 --duration 1h");
    let requests = number(&report, "/requests");
    assert!((100.0..200.0).contains(&requests), "{report}");
    assert!(number(&report, "/seconds") < 60.0, "{report}");
}

#[test]
fn connecting_can_be_spread_over_a_time() {
    let (address, seen) = server(|stream| echo(stream, |_, _| {}));
    let mut child = command(address, "--connections 10 --ramp 2s")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    seen.recv_timeout(PATIENCE).unwrap();
    let first = Instant::now();
    for _ in 1..10 {
        seen.recv_timeout(PATIENCE).unwrap();
    }
    let took = first.elapsed();
    // The last is made when nine tenths of the time have passed.
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert!(child.wait().unwrap().success());
}

/// A poller's sleep is rounded up to a millisecond, and what it oversleeps is no latency of the
/// server's. A busy machine may be slow all the same, so one run of several is enough.
#[test]
fn the_load_is_on_time_in_the_open_loop() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let median = || {
        number(
            &report(
                program.address("echo"),
                "--connections 1 --rate 150 --duration 500ms",
            ),
            "/latency_ns/p50",
        )
    };
    assert!((0..8).any(|_| median() < 400_000.0), "always late");
}

#[test]
fn requests_are_lines_if_asked_for() {
    let (address, _) = server(|stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = Vec::new();
        // A line that is not as asked for ends the connection, and so fails the run.
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count == 12)
            && line[0].is_ascii_digit()
        {
            (&stream).write_all(&line).unwrap();
            line.clear();
        }
    });
    let report = report(address, "--connections 2 --lines --size 12 --pipeline 5");
    assert!(
        number(&report, "/requests") > 0.0 && report["lines"] == true,
        "{report}"
    );
}

#[test]
fn connections_come_from_the_addresses_asked_for() {
    let (address, seen) = server(|stream| echo(stream, |_, _| {}));
    report(
        address,
        "--connections 6 --source-addresses 127.0.0.2,127.0.0.3",
    );
    let seen: BTreeSet<IpAddr> = seen.try_iter().collect();
    assert_eq!(
        seen,
        BTreeSet::from([[127, 0, 0, 2].into(), [127, 0, 0, 3].into()])
    );
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let output = bench(program.address("echo"), "--connections 2");
    assert!(output.status.success() && output.stderr.is_empty());
    if !have("script") {
        return;
    }
    let words = format!(
        "{} bench {} --duration 300ms --warm-up 50ms",
        env!("CARGO_BIN_EXE_doorkeeper"),
        program.address("echo")
    );
    let output = Command::new("timeout")
        .args(["60", "script", "-qec", &words, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let shown: Vec<&str> = text.split("\r\x1b[K").collect();
    assert!(
        shown[1].starts_with("connecting 0.0 s: ") && shown[1].contains(" requests, p99 "),
        "{text:?}"
    );
    // It is gone when the report comes.
    assert!(
        shown.last().unwrap().starts_with("echo on 127.0.0.1:"),
        "{text:?}"
    );
}

#[test]
fn the_latencies_are_drawn() {
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let path = std::env::temp_dir().join(format!("doorkeeper-plot-{}.svg", std::process::id()));
    let output = bench(
        program.address("echo"),
        &format!("--connections 2 --plot {}", path.display()),
    );
    assert!(output.status.success());
    let picture = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(
        picture.contains("2 connections") && picture.contains("<polyline"),
        "{picture}"
    );
    // That it cannot be written is said before the load, not after it.
    for (path, problem) in [
        ("/no/such/folder/plot.svg", "No such file"),
        ("/dev/full", "it must be a regular file"),
    ] {
        let output = bench(program.address("echo"), &format!("--plot {path}"));
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains(&format!("--plot {path}: {problem}")),
            "{text}"
        );
    }
    // A run without a picture leaves no file.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = fault(nobody, &format!("--plot {}", path.display()));
    assert!(text.contains("refused") && !path.exists(), "{text}");
}
