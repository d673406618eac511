//! Figures that can be counted: system calls and allocations a message, bytes an idle connection.
//! Promise 7.

mod common;

use common::{
    Echo, EchoLines, Program, client, echo, have, listen, private_dirty, reactor, read_exactly,
    set, temporary,
};
use doorkeeper::{Config, Reactor};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_message_allocates_nothing() {
    let idle_timeout = Some(Duration::from_secs(60));
    let config = set(|config: &mut Config| config.idle_timeout = idle_timeout);
    let mut reactor = Reactor::new(config).unwrap();
    let mut stream = client(listen(&mut reactor, |_| Some(Echo)));
    let mut answer = [0; 64];
    // The first messages may fill tables. The thousand after them must not allocate.
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

/// An echo that the socket takes at once is sent from the buffer that it was read into, whatever
/// its size.
#[test]
fn a_large_answer_allocates_nothing_either() {
    let mut reactor = reactor();
    let mut stream = client(listen(&mut reactor, |_| Some(Echo)));
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

/// Runs the program under strace. Returns how often it made each call during the conversation.
fn count_calls<T>(talk: impl FnOnce(SocketAddr) -> T) -> HashMap<String, usize> {
    let path = temporary("calls");
    let program = Program::traced(
        &["-o", path.to_str().unwrap(), "-e", "trace=all"],
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
    let prefix = format!("{} ", program.pid());
    let still_open = talk(program.address("echo"));
    program.terminate();
    drop(still_open);
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // The calls after the signal end the program.
    let lines = trace[before..]
        .lines()
        .take_while(|line| !line.contains("--- SIGTERM"));
    let lines = lines
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::trim_start);
    let mut calls = HashMap::new();
    let mut accepted = Vec::new();
    for line in lines {
        // While another thread makes a call, a call is two lines: `accept4(… <unfinished ...>` and
        // `<... accept4 resumed>… = 12`.
        let resumed = line.strip_prefix("<... ");
        let (name, arguments) = match resumed {
            Some(rest) => (rest.split(' ').next().unwrap(), ""),
            None => line.split_once('(').unwrap(),
        };
        if name == "accept4" {
            accepted.extend(result(line));
        }
        // At its start the program also reads the queue of signals.
        let is_counted =
            name != "recvfrom" || first(arguments).is_some_and(|first| accepted.contains(&first));
        if resumed.is_none() && is_counted {
            *calls.entry(name.to_string()).or_default() += 1;
        }
    }
    calls
}

/// The descriptor that a call returned.
fn result(line: &str) -> Option<u32> {
    line.rsplit_once(" = ")?.1.parse().ok()
}

/// The descriptor that is a call's first argument.
fn first(arguments: &str) -> Option<u32> {
    arguments.split(',').next()?.parse().ok()
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

/// The poller forgets a socket that is closed, so it is not asked to.
#[test]
fn a_connection_costs_one_call_for_the_poller() {
    if !have("strace") {
        return;
    }
    let calls = count_calls(|address| {
        for _ in 0..100 {
            assert_eq!(echo(&mut client(address), b"x"), b"x");
        }
    });
    assert_eq!(
        calls.get("accept4").map(|&count| count >= 100),
        Some(true),
        "{calls:?}"
    );
    assert_eq!(calls.get("epoll_ctl"), Some(&100), "{calls:?}");
    // Its options are inherited from the listener.
    assert_eq!(calls.get("setsockopt"), None, "{calls:?}");
}

#[test]
fn messages_of_many_clients_share_one_epoll_wait() {
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
                .for_each(|stream| assert_eq!(read_exactly(stream, 64).len(), 64));
        }
        streams
    });
    let count = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert_eq!(count("sendto"), 640, "{calls:?}");
    assert_eq!(count("recvfrom"), 640, "{calls:?}");
    // A round of 32 messages takes a few waits, not 32.
    assert!(count("epoll_wait") <= 200, "{calls:?}");
}

const CONNECTIONS: usize = 10_000;
const SERVER: &str = "DOORKEEPER_TEST_SERVER";

/// The server's half of the test below, in a process of its own.
fn be_the_server() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::from_secs(600));
        config.max_connections = 20_000;
    });
    let mut reactor = Reactor::new(config).unwrap();
    let address = listen(&mut reactor, |_| Some(EchoLines));
    println!("\nport {}", address.port());
    // Standard input is a pipe from the parent: the server ends with it.
    let handle = reactor.handle();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        handle.stop().unwrap();
    });
    reactor.run().unwrap();
}

/// Server and clients are two processes, because one may not open that many descriptors.
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
        // `lo` stays unconsumed until the second read. Its buffer must be freed then.
        stream.write_all(b"hel\nlo").unwrap();
        assert_eq!(read_exactly(&mut stream, 4), b"hel\n");
        assert_eq!(echo(&mut stream, b"\n"), b"l");
        assert_eq!(read_exactly(&mut stream, 2), b"o\n");
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
    // In unoptimised builds mio keeps a word more in each socket.
    let most = if cfg!(debug_assertions) { 160.0 } else { 128.0 };
    assert!(each <= most, "{each:.1} bytes an idle connection");
}
