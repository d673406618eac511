//! Failures of the system, injected into the built program by strace and prlimit.

mod common;

use common::{
    PATIENCE, Program, client, cpu_time, descriptors, echo, have, read_all, read_exactly, temporary,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An echo server for which strace makes one system call fail: `CALL:error=ERRNO:when=WHICH`.
fn failing(injection: &str) -> Program {
    let call = injection.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={injection}"));
    Program::traced(
        &["-o", "/dev/null", "-e", &trace, "-e", &inject],
        &["echo=:0", "--shutdown-timeout", "0s"],
        "warn",
        1,
    )
}

/// Connects `count` clients, and then has an echo for each.
fn all_are_served(address: SocketAddr, count: usize) {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| client(address)).collect();
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(b"echo").unwrap());
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(read_exactly(stream, 4), b"echo"));
}

#[test]
fn an_error_of_accept_costs_that_connection_only() {
    if !have("strace") {
        return;
    }
    for error in ["ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN"] {
        let program = failing(&format!("accept4:error={error}:when=2"));
        all_are_served(program.address("echo"), 5);
        let log = program.terminate();
        assert_eq!(log.matches("accept:").count(), 1, "{error}: {log}");
    }
}

#[test]
fn after_many_errors_of_accept_in_a_row_the_listener_backs_off_and_goes_on() {
    if !have("strace") {
        return;
    }
    let program = failing("accept4:error=EPROTO:when=1..200");
    all_are_served(program.address("echo"), 3);
    assert!(program.terminate().contains("accept:"));
}

#[test]
fn running_out_of_descriptors_or_memory_loses_no_client() {
    if !have("strace") {
        return;
    }
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        let program = failing(&format!("accept4:error={error}:when=2..4"));
        all_are_served(program.address("echo"), 5);
        program.terminate();
    }
}

#[test]
fn an_interrupted_poller_goes_on() {
    if !have("strace") {
        return;
    }
    let program = failing("epoll_wait:error=EINTR:when=2+2");
    for _ in 0..20 {
        all_are_served(program.address("echo"), 3);
    }
    assert_eq!(program.terminate(), "");
}

/// The only failure that ends the loop.
#[test]
fn a_failing_poller_ends_the_program_with_its_error() {
    if !have("strace") {
        return;
    }
    let mut program = failing("epoll_wait:error=EINVAL:when=1");
    assert_eq!(program.wait().code(), Some(1));
    let log = program.log();
    assert!(
        log.contains("doorkeeper: the poller failed: Invalid argument"),
        "{log}"
    );
}

/// The listener, the waker and the signals are registered first. The fourth registration is the
/// second client's.
#[test]
fn a_socket_that_cannot_be_registered_is_closed_and_no_other() {
    if !have("strace") {
        return;
    }
    let program = failing("epoll_ctl:error=ENOSPC:when=4");
    let mut results: Vec<bool> = Vec::new();
    for _ in 0..4 {
        let mut stream = client(program.address("echo"));
        let answer = stream
            .write_all(b"hi")
            .and_then(|()| stream.read(&mut [0; 2]));
        results.push(answer.is_ok_and(|count| count == 2));
    }
    assert_eq!(
        results.iter().filter(|&&served| !served).count(),
        1,
        "{results:?}"
    );
    assert!(
        program
            .terminate()
            .contains("the poller refused it: No space left")
    );
}

#[test]
fn without_descriptors_the_server_uses_no_cpu_and_then_serves_everyone() {
    let program = Program::start(&[], &["echo=:0", "--shutdown-timeout", "0s"], "warn", 1);
    let pid = Pid::from_child(&program.child);
    let limit = |count| Rlimit {
        current: Some(count),
        maximum: Some(20_000),
    };
    prlimit(Some(pid), Resource::Nofile, limit(64)).unwrap();
    let mut streams: Vec<TcpStream> = (0..200).map(|_| client(program.address("echo"))).collect();
    let start = Instant::now();
    while descriptors(program.pid()) < 64 {
        assert!(start.elapsed() < PATIENCE);
    }
    let (cpu, begin) = (cpu_time(program.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (cpu_time(program.pid()) - cpu) / begin.elapsed().as_secs_f64();
    assert!(
        share < 0.05,
        "{:.1} % of a CPU without descriptors",
        share * 100.0
    );
    // Open connections are served meanwhile. A connection that closes makes room for another.
    assert_eq!(echo(&mut streams[0], b"meanwhile"), b"meanwhile");
    let rest = streams.split_off(20);
    drop(streams);
    prlimit(Some(pid), Resource::Nofile, limit(1000)).unwrap();
    let freed = Instant::now();
    for mut stream in rest {
        assert_eq!(echo(&mut stream, b"served"), b"served");
    }
    assert!(
        freed.elapsed() < Duration::from_secs(1),
        "{:?}",
        freed.elapsed()
    );
    let seconds = begin.elapsed().as_secs() + 2;
    let log = program.terminate();
    let lines = log.matches("Too many open files").count() as u64;
    assert!(
        (1..=seconds).contains(&lines),
        "{lines} lines in {seconds} s: {log}"
    );
    // The listener tries ten times a second, and after each connection that it closes.
    let held_back = log
        .split(" more like it")
        .filter_map(|part| part.rsplit('(').next()?.parse::<u64>().ok());
    let errors = held_back.sum::<u64>() + lines;
    assert!((lines + 1..200).contains(&errors), "{errors} errors: {log}");
}

/// Rust's runtime ignores SIGPIPE, but a host in another language need not. So the signal must not
/// be raised.
#[test]
fn no_send_to_a_closed_peer_raises_sigpipe() {
    if !have("strace") {
        return;
    }
    let path = temporary("sigpipe");
    let program = Program::traced(
        &[
            "-o",
            path.to_str().unwrap(),
            "-e",
            "trace=recvfrom,sendto,write,writev,sendmsg",
        ],
        &["chargen=:0", "echo=:0", "--shutdown-timeout", "0s"],
        "off",
        2,
    );
    for _ in 0..20 {
        let mut stream = client(program.address("chargen"));
        assert_eq!(read_exactly(&mut stream, 74).len(), 74);
        drop(stream);
    }
    assert_eq!(
        echo(&mut client(program.address("echo")), b"alive"),
        b"alive"
    );
    program.terminate();
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let gone = trace
        .lines()
        .filter(|line| line.contains("EPIPE") || line.contains("ECONNRESET"))
        .count();
    assert!(gone > 0, "no call met a closed peer");
    assert!(!trace.contains("SIGPIPE"));
    let mut sends = trace
        .lines()
        .take_while(|line| !line.contains("--- SIGTERM"))
        // A signal wakes the program's signal pipe with a send of no bytes, which raises nothing.
        .filter(|line| line.contains("sendto(") && !line.contains("\"\", 0"));
    let unsafe_send = sends.find(|line| !line.contains("MSG_NOSIGNAL"));
    assert_eq!(unsafe_send, None);
}

/// An echo server that is told to end while 100 clients are in its accept queue, which the loop has
/// not seen.
fn ends_with_a_queue(args: &[&str], files: Option<u64>) -> (Program, Vec<TcpStream>) {
    let program = Program::start(&[], &[&["echo=:0"], args].concat(), "info", 1);
    let pid = Pid::from_child(&program.child);
    if let Some(files) = files {
        let limit = Rlimit {
            current: Some(files),
            maximum: Some(20_000),
        };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }
    kill_process(pid, Signal::STOP).unwrap();
    let streams = (0..100).map(|_| {
        let mut stream = client(program.address("echo"));
        stream.write_all(b"let me in").unwrap();
        stream
    });
    let streams = streams.collect();
    kill_process(pid, Signal::TERM).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    (program, streams)
}

/// The last line of the log of a server that ends by itself.
fn last_line(mut program: Program) -> String {
    let log = program.log();
    assert_eq!(program.wait().code(), Some(0));
    log.lines().last().unwrap().to_string()
}

#[test]
fn a_shutdown_at_capacity_or_without_descriptors_serves_the_whole_queue_as_others_leave() {
    let at_capacity = ["--max-connections=10", "--shutdown-timeout=1h"];
    for (args, files) in [
        (&at_capacity[..], None),
        (&["--shutdown-timeout=1h"][..], Some(40)),
    ] {
        let (program, streams) = ends_with_a_queue(args, files);
        for mut stream in streams {
            assert_eq!(read_exactly(&mut stream, 9), b"let me in", "{args:?}");
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut stream).unwrap(), b"");
        }
        let line = last_line(program);
        let served = "100 accepted, 0 turned away, 100 finished, 0 cut off, 0 left waiting";
        assert!(line.contains(served), "{line}");
    }
}

#[test]
fn the_last_line_says_how_many_waited_when_the_patience_was_over() {
    let args = ["--max-connections=10", "--shutdown-timeout=100ms"];
    let (program, mut streams) = ends_with_a_queue(&args, None);
    let line = last_line(program);
    let left = "10 accepted, 0 turned away, 0 finished, 10 cut off, 90 left waiting";
    assert!(line.contains(left), "{line}");
    assert_eq!(read_exactly(&mut streams[0], 9), b"let me in");
}
