//! What can be counted exactly: system calls and allocations a message, memory an idle connection.

mod common;

use common::{Program, client, echo, have, set};
use doorkeeper::{Config, Context, Handler, Reactor};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

/// Echoes whole lines only, so that a part of one has to be held.
struct Lines;

impl Handler for Lines {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let whole = input
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        Ok(cx.write(&input[..whole]))
    }
}

fn reactor<H: Handler + 'static>(config: Config, handler: fn() -> H) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(config).unwrap();
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), move |_| Some(handler()))
        .unwrap();
    let address = reactor.local_addr(id).unwrap();
    (reactor, address)
}

#[test]
fn a_message_allocates_nothing() {
    let (mut reactor, address) = reactor(
        set(|config: &mut Config| {
            config.idle_timeout = Some(Duration::from_secs(60));
        }),
        || Echo,
    );
    let mut stream = client(address);
    let mut answer = [0; 64];
    // The first messages may fill tables; the thousand after them may not touch the heap.
    let mut ping = |reactor: &mut Reactor| {
        stream.write_all(&[b'x'; 64]).unwrap();
        let before = reactor.stats().bytes_sent;
        while reactor.stats().bytes_sent < before + 64 {
            reactor.turn(None).unwrap();
        }
        stream.read_exact(&mut answer).unwrap();
    };
    (0..10).for_each(|_| ping(&mut reactor));
    let info = allocation_counter::measure(|| (0..1000).for_each(|_| ping(&mut reactor)));
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// An echo that the socket takes at once is sent from where it was read, whatever its size; so is what is static.
#[test]
fn a_large_answer_allocates_nothing_either() {
    let (mut reactor, address) = reactor(Config::default(), || Echo);
    let mut stream = client(address);
    let (question, mut answer) = (vec![7; 30_000], vec![0; 30_000]);
    let mut ask = |reactor: &mut Reactor| {
        stream.write_all(&question).unwrap();
        let wanted = reactor.stats().bytes_sent + 30_000;
        while reactor.stats().bytes_sent < wanted {
            reactor.turn(None).unwrap();
        }
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == question);
    };
    (0..10).for_each(|_| ask(&mut reactor));
    let info = allocation_counter::measure(|| (0..100).for_each(|_| ask(&mut reactor)));
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// Runs the program under strace for the time of a conversation, and counts its calls by name.
fn count_calls<T>(talk: impl FnOnce(SocketAddr) -> T) -> HashMap<String, usize> {
    let path = std::env::temp_dir().join(format!(
        "doorkeeper-calls-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        path.to_str().unwrap(),
        "-e",
        "trace=all",
    ];
    let mut program = Program::start(
        &wrapper,
        &[
            "echo=:0",
            "--idle-timeout",
            "1h",
            "--shutdown-timeout",
            "0s",
        ],
        "off",
        1,
    );
    let before = std::fs::read_to_string(&path).unwrap().len();
    let still_open = talk(program.address("echo"));
    let children = format!("/proc/{0}/task/{0}/children", program.pid());
    let server = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill_process(Pid::from_raw(server).unwrap(), Signal::TERM).unwrap();
    program.wait();
    drop(still_open);
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut calls = HashMap::new();
    let mut accepted = Vec::new();
    let prefix = format!("{server} ");
    // What follows the signal is the end; a line that begins with `<` completes a call begun on another.
    let lines = trace[before..]
        .lines()
        .take_while(|line| !line.contains("--- SIGTERM"));
    let lines = lines
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::trim_start);
    for line in lines.filter(|line| !line.starts_with('<')) {
        let (name, arguments) = line.split_once('(').unwrap();
        if name == "accept4" {
            accepted.extend(
                line.rsplit_once(" = ")
                    .and_then(|(_, descriptor)| descriptor.parse::<u32>().ok()),
            );
        }
        // The queue of signals is read too, when the program starts.
        let descriptor = arguments
            .split(',')
            .next()
            .and_then(|first| first.parse().ok());
        if name != "recvfrom" || descriptor.is_some_and(|descriptor| accepted.contains(&descriptor))
        {
            *calls.entry(name.to_string()).or_default() += 1;
        }
    }
    calls
}

#[test]
fn a_message_of_one_client_takes_three_system_calls() {
    if !have("strace") {
        return;
    }
    let calls = count_calls(|address| {
        let mut stream = client(address);
        for _ in 0..500 {
            assert_eq!(echo(&mut stream, &[b'x'; 64]).len(), 64);
        }
        stream
    });
    let count = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert_eq!(count("sendto"), 500, "{calls:?}");
    assert_eq!(count("recvfrom"), 500, "{calls:?}");
    assert!((500..=505).contains(&count("epoll_wait")), "{calls:?}");
    let others =
        calls.values().sum::<usize>() - count("sendto") - count("recvfrom") - count("epoll_wait");
    assert!(others < 10, "{calls:?}");
}

#[test]
fn messages_of_many_clients_share_the_wait() {
    if !have("strace") {
        return;
    }
    let calls = count_calls(|address| {
        let mut streams: Vec<TcpStream> = (0..32).map(|_| client(address)).collect();
        for _ in 0..20 {
            streams
                .iter_mut()
                .for_each(|stream| stream.write_all(&[b'x'; 64]).unwrap());
            streams
                .iter_mut()
                .for_each(|stream| assert_eq!(common::read_exactly(stream, 64).len(), 64));
        }
        streams
    });
    let count = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert_eq!(count("sendto"), 640, "{calls:?}");
    assert_eq!(count("recvfrom"), 640, "{calls:?}");
    // A round of all takes a few waits, not one for each.
    assert!(count("epoll_wait") <= 200, "{calls:?}");
}

const CONNECTIONS: usize = 10_000;
const SERVER: &str = "DOORKEEPER_TEST_SERVER";

/// The other half of the test below: not a test by itself.
fn be_the_server() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::from_secs(600));
        config.max_connections = 20_000;
    });
    let (mut reactor, address) = reactor(config, || Lines);
    println!("\nport {}", address.port());
    // Ends with its parent: the standard input is a pipe from it.
    let handle = reactor.handle();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        handle.stop().unwrap();
    });
    reactor.run().unwrap();
}

/// Memory that is this process's own and was written to, in bytes.
fn private_dirty(pid: u32) -> usize {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Both ends in two processes, for one may not have so many descriptors.
#[test]
fn an_idle_connection_takes_at_most_128_bytes() {
    if std::env::var_os(SERVER).is_some() {
        return be_the_server();
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "an_idle_connection_takes_at_most_128_bytes",
            "--nocapture",
        ])
        .env(SERVER, "1");
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines
        .find_map(|line| {
            line.unwrap()
                .strip_prefix("port ")
                .map(|port| port.parse::<u16>().unwrap())
        })
        .unwrap();
    let connect = || {
        let mut stream = client(([127, 0, 0, 1], port).into());
        // The rest of the first answer is held until the second, and must be given back then.
        stream.write_all(b"hel\nlo").unwrap();
        assert_eq!(common::read_exactly(&mut stream, 4), b"hel\n");
        assert_eq!(echo(&mut stream, b"\n"), b"l");
        assert_eq!(common::read_exactly(&mut stream, 2), b"o\n");
        stream
    };
    let first = connect();
    let before = private_dirty(server.id());
    let others: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect();
    let each = (private_dirty(server.id()) - before) as f64 / CONNECTIONS as f64;
    println!("{each:.1} bytes an idle connection");
    drop((first, others));
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    // Unoptimised builds of mio keep a debugging word in each socket.
    let most = if cfg!(debug_assertions) { 160.0 } else { 128.0 };
    assert!(each <= most, "{each:.1} bytes an idle connection");
}
