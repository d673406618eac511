//! The limits of `serve` on connections, in all and of one source, and what the log says of them.

mod common;

use common::{PATIENCE, Program, alone, client, echo, have};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::ChildStderr;
use std::time::{Duration, Instant};

fn signal(program: &Program, signal: Signal) {
    kill_process(Pid::from_child(&program.child), signal).unwrap();
}

struct Log(BufReader<ChildStderr>);

impl Log {
    fn of(program: &mut Program) -> Log {
        Log(BufReader::new(program.stderr.take().unwrap()))
    }

    /// Reads to the first line with these words, and returns it.
    fn until(&mut self, words: &str) -> String {
        let mut seen = String::new();
        loop {
            let begin = seen.len();
            assert!(
                self.0.read_line(&mut seen).unwrap() > 0,
                "no line has {words:?}: {seen}"
            );
            if seen[begin..].contains(words) {
                return seen[begin..].trim_end().to_string();
            }
        }
    }

    fn rest(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}

#[test]
fn the_connection_limit_is_logged_with_its_numbers_and_so_is_its_end() {
    let args = ["echo=:0", "--max-connections", "20"];
    let mut program = Program::start(&[], &args, "info", 1);
    let mut log = Log::of(&mut program);
    let address = program.address("echo");
    // All of them are in the accept queue before the loop sees the first.
    signal(&program, Signal::STOP);
    let streams: Vec<TcpStream> = (0..23).map(|_| client(address)).collect();
    signal(&program, Signal::CONT);
    let line = log.until("at the limit");
    assert!(
        line.contains("WARN")
            && line.contains("20 of 20 connections are open, and 3 wait in the accept queues"),
        "{line}"
    );
    drop(streams);
    let line = log.until("below the limit again");
    assert!(line.contains("18 of 20 connections are open"), "{line}");
}

/// Two messages of the limit are five seconds apart, and the second is not forgotten.
#[test]
fn a_limit_that_is_reached_again_and_again_is_logged_now_and_then() {
    let args = ["echo=:0", "--max-connections", "1"];
    let mut program = Program::start(&[], &args, "warn", 1);
    let log = Log::of(&mut program);
    let (start, address) = (Instant::now(), program.address("echo"));
    for _ in 0..300 {
        assert_eq!(echo(&mut client(address), b"hello"), b"hello");
    }
    let mut last = client(address);
    assert_eq!(echo(&mut last, b"hello"), b"hello");
    while start.elapsed() < Duration::from_millis(5500) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(echo(&mut last, b"hello"), b"hello");
    let seconds = start.elapsed().as_secs() as usize;
    drop(last);
    signal(&program, Signal::TERM);
    assert!(program.wait().success());
    let text = log.rest();
    let lines = text.matches("at the limit").count();
    assert!((2..=seconds / 5 + 1).contains(&lines), "{text}");
}

/// A client with this local address.
fn client_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    let local: SocketAddr = format!("{source}:0").parse().unwrap();
    socket.bind(&local.into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether a new client of this source is served, or closed at once.
fn is_served(source: &str, address: SocketAddr) -> Option<TcpStream> {
    let mut stream = client_from(source, address);
    // A write to a closed connection may fail, and so may the read after it.
    let _ = std::io::Write::write_all(&mut stream, b"hello");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).ok()?;
    assert_eq!(&answer, b"hello");
    Some(stream)
}

#[test]
fn one_source_has_no_more_than_its_share_and_gets_it_back() {
    let args = ["echo=127.0.0.1:0", "--max-per-source", "3"];
    let mut program = Program::start(&[], &args, "info", 1);
    let mut log = Log::of(&mut program);
    let address = program.address("echo");
    let mut served: Vec<TcpStream> = (0..3)
        .map(|_| is_served("127.0.0.2", address).unwrap())
        .collect();
    for _ in 0..4 {
        assert!(is_served("127.0.0.2", address).is_none());
    }
    let line = log.until("the limit of one source");
    assert!(
        line.contains("WARN") && line.contains("127.0.0.2 had 3 connections open"),
        "{line}"
    );
    // Those that come together are in one line; those after it are told at the end.
    let closed = |line: &str| -> usize {
        let (_, count) = line.rsplit_once("one source: ").unwrap();
        let count = count.strip_suffix(" closed since the last message");
        count.unwrap().parse().unwrap()
    };
    assert!(is_served("127.0.0.2", address).is_none());
    let mut turned_away = 5;
    assert!(is_served("127.0.0.3", address).is_some());
    served.pop();
    let start = Instant::now();
    while is_served("127.0.0.2", address).is_none() {
        turned_away += 1;
        assert!(start.elapsed() < PATIENCE, "the slot is not free again");
    }
    drop(served);
    signal(&program, Signal::TERM);
    assert!(program.wait().success());
    let text = log.rest();
    let lines = text.lines().filter(|line| line.contains("one source"));
    let told: usize = closed(&line) + lines.map(closed).sum::<usize>();
    assert_eq!(told, turned_away, "{text}");
    let stopped = text
        .lines()
        .find(|line| line.contains("stopped: "))
        .unwrap();
    let words: Vec<&str> = stopped.split(' ').collect();
    let at = words.iter().position(|&word| word == "turned").unwrap();
    assert!(words[at - 1].parse::<u32>().unwrap() >= 4, "{stopped}");
}

#[test]
fn the_addresses_of_one_ipv6_network_are_one_source() {
    if !have("unshare") || !have("ip") {
        return;
    }
    let addresses = ["8::1", "8::2", "8::3", "9::1"]
        .map(|end| format!("ip -6 address add 2001:db8:0:{end}/64 dev lo nodad && "));
    let setup = format!(
        "ip link set lo up && {} exec \"$0\" \"$@\"",
        addresses.concat()
    );
    let wrapper = ["unshare", "--map-root-user", "--net", "sh", "-ec", &setup];
    if !alone("the_addresses_of_one_ipv6_network_are_one_source", &wrapper) {
        return;
    }
    let program = Program::serve(&["echo=[2001:db8:0:8::1]:0", "--max-per-source=2"]);
    let address = program.address("echo");
    let _served =
        ["8::2", "8::3"].map(|end| is_served(&format!("[2001:db8:0:{end}]"), address).unwrap());
    assert!(is_served("[2001:db8:0:8::1]", address).is_none());
    assert!(is_served("[2001:db8:0:9::1]", address).is_some());
}
