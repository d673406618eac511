//! The examples, as their clients see them.

mod common;

use common::{client, echo, read_all, read_exactly};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running example; ended when this is dropped.
struct Example {
    child: Child,
    address: SocketAddr,
}

impl Example {
    /// `cargo test` builds the examples beside the tests; a run of this file alone does not, so they are asked for.
    fn start(name: &str) -> Example {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let named = if profile.ends_with("release") { "--release" } else { "--profile=dev" };
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", named, "--example", name]).status().unwrap();
        assert!(built.success());
        let path = profile.join("examples").join(name);
        let mut child = Command::new(path).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let address = line.strip_prefix("listening ").unwrap().parse().unwrap();
        Example { child, address }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn echo_echoes() {
    let example = Example::start("echo");
    let mut stream = client(example.address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
}

#[test]
fn the_calculator_frames_requests_however_they_come() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    let wanted = b"5\n-6\nerror: division by zero\nerror: too large\nerror: write a sum as in: 2 + 3\n4\n";
    let sums = b"2 + 3\n2 * -3\r\n1 / 0\n9223372036854775807 + 1\nhello\n9 / 2\n";
    assert_eq!(echo_of(&mut stream, sums, wanted.len()), wanted);
    // One request in many reads: each byte is on its way before the next is sent.
    stream.set_nodelay(true).unwrap();
    for byte in b"20 - 1" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(echo_of(&mut stream, b"\n", 3), b"19\n");
    // And at the end a line without an end.
    stream.write_all(b"1 + 1\n2 +").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"2\nerror: the last line has no end\n");
}

fn echo_of(stream: &mut TcpStream, request: &[u8], count: usize) -> Vec<u8> {
    stream.write_all(request).unwrap();
    read_exactly(stream, count)
}

#[test]
fn the_calculator_answers_a_flood_of_requests_to_a_slow_reader() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        sender.write_all(&b"12345 * 100000\n".repeat(200_000)).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(read_all(&mut stream).unwrap(), b"1234500000\n".repeat(200_000));
    sending.join().unwrap();
}

#[test]
fn the_calculator_ends_a_line_without_end() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    stream.write_all(&[b'1'; 257]).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"error: a line has at most 256 bytes\n");
}

/// A member has joined once something it said has arrived.
fn joined(example: &Example, listener: &mut BufReader<TcpStream>) -> (BufReader<TcpStream>, String) {
    let stream = client(example.address);
    let name = stream.local_addr().unwrap().to_string();
    (&stream).write_all(b"hi\n").unwrap();
    assert_eq!(line(listener), format!("{name}: hi\n"));
    (BufReader::new(stream), name)
}

#[test]
fn chat_gives_a_line_to_everyone_else() {
    let example = Example::start("chat");
    let mut first = BufReader::new(client(example.address));
    // The first is in before the others, for the listener takes them in order.
    let (mut second, _) = joined(&example, &mut first);
    let (third, name) = joined(&example, &mut first);
    assert_eq!(line(&mut second), format!("{name}: hi\n"));
    third.get_ref().write_all(b"one\r\ntwo\nthr").unwrap();
    third.get_ref().write_all(b"ee\n").unwrap();
    for listener in [&mut first, &mut second] {
        for word in ["one", "two", "three"] {
            assert_eq!(line(listener), format!("{name}: {word}\n"));
        }
    }
}

#[test]
fn a_member_that_does_not_read_slows_nobody_and_is_told_what_it_missed() {
    let example = Example::start("chat");
    let mut reader = BufReader::new(client(example.address));
    let (mut slow, _) = joined(&example, &mut reader);
    let (talker, name) = joined(&example, &mut reader);
    assert_eq!(line(&mut slow), format!("{name}: hi\n"));
    let text = "x".repeat(1000);
    let said = 20_000;
    let mut sender = talker.get_ref().try_clone().unwrap();
    let message = format!("{text}\n").into_bytes();
    let sending = std::thread::spawn(move || (0..said).for_each(|_| sender.write_all(&message).unwrap()));
    let wanted = format!("{name}: {text}\n");
    // A reader that keeps up may still miss lines when its machine is busy, and is then told; nobody waits for the slow one.
    let mut heard = 0;
    while heard < said {
        heard += count_line(&line(&mut reader), &wanted);
    }
    sending.join().unwrap();
    slow.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut heard, mut missed) = (0, 0);
    while heard < said {
        let line = line(&mut slow);
        let count = count_line(&line, &wanted);
        missed += if line == wanted { 0 } else { count };
        heard += count;
    }
    assert!(missed > 0, "it had room for everything");
}

/// How many lines this one stands for: itself, or those it says were missed.
fn count_line(line: &str, wanted: &str) -> usize {
    if line == wanted {
        return 1;
    }
    let count = line.strip_prefix("* you missed ").and_then(|rest| rest.strip_suffix(" lines\n"));
    count.unwrap_or_else(|| panic!("neither whole nor left out: {line:?}")).parse().unwrap()
}
