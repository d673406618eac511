//! The story the program tells of itself, line by line, against what happened.

mod common;

use common::{PATIENCE, Program, client, echo, have, read_all, read_exactly};
use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

fn terminate(program: &Program) {
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
}

/// A narrated server, and what it tells.
struct Told {
    program: Program,
    lines: BufReader<ChildStderr>,
}

impl Told {
    fn serve(args: &[&str]) -> Told {
        let mut program = Program::start(&[], args, "error", 1);
        let lines = BufReader::new(program.stderr.take().unwrap());
        Told { program, lines }
    }

    fn address(&self) -> SocketAddr {
        self.program.listening[0].1
    }

    /// Reads to the first line with this in it, and returns all read, without times, ids and meanings.
    fn until(&mut self, words: &str) -> Vec<String> {
        let mut story = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "never told {words:?}: {story:#?}"
            );
            story.push(
                line.split_whitespace()
                    .skip(2)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
            if line.contains(words) {
                return story;
            }
        }
    }
}

/// The beginnings of the lines, in order.
fn assert_story(story: &[String], wanted: &[&str]) {
    let matches = story.len() == wanted.len()
        && story
            .iter()
            .zip(wanted)
            .all(|(line, wanted)| line.starts_with(wanted));
    assert!(matches, "{story:#?}\nis not\n{wanted:#?}");
}

#[test]
fn the_story_is_the_whole_diagram_in_two_columns() {
    let output = Command::new(env!("CARGO_BIN_EXE_doorkeeper"))
        .arg("story")
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut server, mut client) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (left, right) = (line[..38].trim(), line[38..76].trim());
        assert!(
            left.is_empty() != right.is_empty() || left == "server",
            "{line}"
        );
        server.extend((!left.is_empty()).then_some(left.to_string()));
        client.extend((!right.is_empty()).then_some(right.to_string()));
    }
    let begin = [
        "server",
        "socket() = ok",
        "bind(127.0.0.1:0) = ok",
        "listen(1024) = ok",
        "accept() = EAGAIN",
    ];
    let middle = [
        "accept() = 2.2",
        "accept() = EAGAIN",
        "read(65536) = 6",
        "write(6) = 6",
        "read(65536) = 0",
    ];
    assert_story(
        &server,
        &[&begin[..], &middle, &["close() = ok", "close() = ok"]].concat(),
    );
    let begin = [
        "client",
        "socket() = ok",
        "connect(127.0.0.1:",
        "getsockopt(SO_ERROR) = ok",
        "write(6) = 6",
        "shutdown() = ok",
    ];
    assert_story(
        &client,
        &[
            &begin[..],
            &["read(65536) = 6", "read(65536) = 0", "close() = ok"],
        ]
        .concat(),
    );
}

#[test]
fn an_echo_a_half_close_and_a_reset_are_told_as_they_happen() {
    let mut told = Told::serve(&["echo=127.0.0.1:0", "--narrate"]);
    let begin = [
        "socket() = ok",
        "bind(127.0.0.1:0) = ok",
        "listen(1024) = ok the doorkeeper",
        "accept() = EAGAIN the waiting room is empty",
    ];
    assert_story(&told.until("EAGAIN"), &begin);
    let mut stream = client(told.address());
    let mut story = told.until("is let in");
    let room = format!("the waiting room of {}: ", told.address());
    assert_story(
        &story,
        &[
            &format!("{room}1 of 1024"),
            &format!(
                "accept() = 2.2 the first in line, {}",
                stream.local_addr().unwrap()
            ),
        ],
    );
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    story = told.until("write(5)");
    assert_story(
        &story,
        &[
            "accept() = EAGAIN",
            &format!("{room}0 of 1024"),
            "read(65536) = 5 5 bytes have come",
            "write(5) = 5 5 bytes",
        ],
    );
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    assert_story(
        &told.until("close()"),
        &[
            "read(65536) = 0 the peer has ended",
            "close() = ok the socket is gone",
        ],
    );
    let stream = client(told.address());
    told.until("is let in");
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let story = told.until("close()");
    let reset = &story[story.len() - 2..];
    assert_story(
        reset,
        &[
            "read(65536) = ECONNRESET Connection reset by peer",
            "close() = ok",
        ],
    );
}

#[test]
fn a_daytime_a_full_house_and_a_full_waiting_room_are_told() {
    let mut told = Told::serve(&["daytime=127.0.0.1:0", "--narrate"]);
    let mut stream = client(told.address());
    assert_eq!(read_all(&mut stream).unwrap().len(), 26);
    drop(stream);
    let story = told.until("close()");
    let end = &story[story.len() - 4..];
    assert_story(
        end,
        &[
            "write(26) = 26",
            "shutdown() = ok no more will come",
            "read(65536) = 0 the peer",
            "close() = ok",
        ],
    );
    drop(told);

    let mut told = Told::serve(&[
        "echo=127.0.0.1:0",
        "--narrate",
        "--max-connections",
        "1",
        "--backlog",
        "1",
    ]);
    let mut first = client(told.address());
    assert_eq!(echo(&mut first, b"hello"), b"hello");
    let _waiting = [client(told.address()), client(told.address())];
    // Linux lets one more in than the backlog says.
    let story = told.until(": 2 of 1");
    assert!(
        story.iter().any(|line| line == "the listener: full"),
        "{story:#?}"
    );
    drop(first);
    let story = told.until("is let in");
    assert!(
        story.iter().any(|line| line.starts_with("close()")),
        "{story:#?}"
    );
}

#[test]
fn running_out_of_descriptors_is_told() {
    if !have("prlimit") {
        return;
    }
    let wrapper = ["prlimit", "--nofile=24", "--"];
    let mut program = Program::start(
        &wrapper,
        &["echo=127.0.0.1:0", "--narrate", "--max-connections", "100"],
        "error",
        1,
    );
    let (lines, address) = (
        BufReader::new(program.stderr.take().unwrap()),
        program.listening[0].1,
    );
    let mut told = Told { program, lines };
    let streams: Vec<TcpStream> = (0..30).map(|_| client(address)).collect();
    let story = told.until("the listener: backing off");
    assert!(
        story
            .iter()
            .any(|line| line.starts_with("accept() = EMFILE Too many open files")),
        "{story:#?}"
    );
    drop(streams);
    told.until("the listener: accepting");
}

#[test]
fn a_refused_connect_is_told() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    let output = command
        .args(["connect", "--narrate", &nobody.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let story: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_whitespace()
                .skip(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let connect = format!("connect({nobody}) = EINPROGRESS");
    let wanted = [
        "socket() = ok",
        &connect,
        "getsockopt(SO_ERROR) = ECONNREFUSED Connection refused",
        "close() = ok",
    ];
    assert_story(&story[..4], &wanted);
}

/// The value of a field of a line of the narration's JSON.
fn field(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(&format!("\"{name}\":"))?.1;
    Some(rest.split([',', '}']).next()?.trim_matches('"').to_string())
}

/// The calls on sockets of a trace: each with what it returned, and no descriptors.
fn traced(trace: &str) -> Vec<String> {
    let mut ours = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((call, result)) = line.rsplit_once(" = ") else {
            continue;
        };
        let Some((name, args)) = call
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .split_once('(')
        else {
            continue;
        };
        let fd: String = args.chars().take_while(char::is_ascii_digit).collect();
        let returned = result.split(' ').next().unwrap();
        let mut told = |name: &str, result: &str| calls.push(format!("{name} {result}"));
        let failed = returned == "-1";
        let result = if failed {
            result.split(' ').nth(1).unwrap()
        } else {
            returned
        };
        match name {
            "socket" if args.starts_with("AF_INET") => {
                ours.insert(returned.to_string(), ());
                told("socket", "0");
            }
            "accept4" if failed => told("accept", result),
            "accept4" => {
                ours.insert(returned.to_string(), ());
                told("accept", "0");
            }
            "recvfrom" if ours.contains_key(&fd) => told("read", result),
            "sendto" if ours.contains_key(&fd) => told("write", result),
            "bind" | "listen" | "shutdown" if ours.contains_key(&fd) => told(name, result),
            "close" if ours.remove(&fd).is_some() => told("close", result),
            _ => {}
        }
    }
    calls
}

#[test]
fn the_narrated_calls_are_the_traced_calls() {
    if !have("strace") {
        return;
    }
    let path = std::env::temp_dir().join(format!("doorkeeper-narrate-{}", std::process::id()));
    let filter = "trace=socket,bind,listen,accept4,recvfrom,sendto,shutdown,close";
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        path.to_str().unwrap(),
        "-e",
        filter,
    ];
    let args = [
        "echo=127.0.0.1:0",
        "daytime=127.0.0.1:0",
        "--narrate=json",
        "--shutdown-timeout",
        "0s",
    ];
    let mut program = Program::start(&wrapper, &args, "off", 2);
    for round in 1..5 {
        let mut stream = client(program.address("echo"));
        for _ in 0..round {
            assert_eq!(
                echo(&mut stream, &vec![b'x'; 1000 * round]).len(),
                1000 * round
            );
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"");
        assert_eq!(
            read_all(&mut client(program.address("daytime")))
                .unwrap()
                .len(),
            26
        );
        let stream = client(program.address("echo"));
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
    kill_process(
        Pid::from_raw(children.trim().parse().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    let mut story = String::new();
    program
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut story)
        .unwrap();
    program.wait();
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let names = HashMap::from([("11", "EAGAIN"), ("104", "ECONNRESET"), ("32", "EPIPE")]);
    let told: Vec<String> = story
        .lines()
        .filter_map(|line| {
            let result = field(line, "result")
                .or_else(|| field(line, "errno").map(|errno| names[errno.as_str()].to_string()))?;
            Some(format!("{} {result}", field(line, "call")?))
        })
        .collect();
    let traced = traced(&trace);
    assert!(told.len() > 60, "{told:?}");
    assert_eq!(told, traced, "{trace}");
}

#[test]
fn a_blocked_reader_of_the_story_stalls_nobody_and_is_told_what_was_left_out() {
    let mut program = Program::start(&[], &["echo=127.0.0.1:0", "--narrate"], "error", 1);
    let mut stderr = program.stderr.take().unwrap();
    let mut stream = client(program.listening[0].1);
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let (start, mut early) = (Instant::now(), 0);
    for round in 0..40_000 {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        assert!(start.elapsed() < 3 * PATIENCE);
        if round == 10_000 {
            early = resident();
        }
    }
    let late = resident();
    assert!(late < early + 1024, "grew from {early} to {late} KiB");
    // Once it reads again it is told how much it missed, and then what happens.
    let reader = std::thread::spawn(move || {
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while !text.contains("lines left out") {
            let count = stderr.read(&mut piece).unwrap();
            assert!(count > 0, "never told");
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        text
    });
    while !reader.is_finished() {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        assert!(start.elapsed() < 4 * PATIENCE);
    }
    let text = reader.join().unwrap();
    let left_out: usize = text
        .split(" lines left out")
        .next()
        .unwrap()
        .rsplit('(')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(left_out > 60_000, "{left_out}");
}

/// The signal that asks for a table. Most loaded first: one holds input, one has moved more than the other.
#[test]
fn a_signal_logs_a_table_of_everything() {
    let mut program = Program::start(&[], &["echo=127.0.0.1:0"], "info", 1);
    let address = program.listening[0].1;
    let (mut quiet, mut busy) = (client(address), client(address));
    assert_eq!(echo(&mut quiet, b"hello"), b"hello");
    assert_eq!(echo(&mut busy, &[b'x'; 5000]).len(), 5000);
    kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    let mut table = String::new();
    while !table.contains("0 connected") {
        assert!(log.read_line(&mut table).unwrap() > 0, "{table}");
    }
    let place = |word: &str| {
        table
            .find(word)
            .unwrap_or_else(|| panic!("no {word}: {table}"))
    };
    assert!(
        place(&busy.local_addr().unwrap().to_string())
            < place(&quiet.local_addr().unwrap().to_string())
    );
    place("1 listeners, 2 connections");
    place("waiting 0 of 1024");
    terminate(&program);
}

#[test]
fn bytes_of_a_peer_do_not_reach_the_terminal() {
    let mut told = Told::serve(&["echo=127.0.0.1:0", "--narrate"]);
    let mut stream = client(told.address());
    stream.write_all(b"\x1b[2J\x07secret").unwrap();
    assert_eq!(read_exactly(&mut stream, 11).len(), 11);
    let story = told.until("write(11)").concat();
    assert!(
        !story.contains("secret") && !story.contains(|c: char| c.is_control()),
        "{story:?}"
    );
}
