//! Failures of the system, injected into the built program by strace and prlimit.

mod common;

use common::{PATIENCE, Program, client, echo, have, read_exactly};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The program under strace, with its calls tampered with. Its own process is ended before strace's.
struct Traced {
    program: Program,
    server: Pid,
}

impl Traced {
    fn start(injections: &[&str], args: &[&str]) -> Traced {
        let mut words = vec!["strace", "-f", "-qq", "-o", "/dev/null"];
        for injection in injections {
            let call = injection.split(':').next().unwrap();
            words.extend([
                "-e",
                Box::leak(format!("trace={call}").into_boxed_str()),
                "-e",
            ]);
            words.push(Box::leak(format!("inject={injection}").into_boxed_str()));
        }
        let program = Program::start(&words, args, "warn", 1);
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
        let server = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        Traced { program, server }
    }

    fn address(&self) -> SocketAddr {
        self.program.listening[0].1
    }

    /// Ends it and returns its log.
    fn log(mut self) -> String {
        kill_process(self.server, Signal::TERM).unwrap();
        self.program.wait();
        let mut log = String::new();
        self.program
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        log
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self
            .program
            .child
            .try_wait()
            .is_ok_and(|status| status.is_none())
        {
            let _ = kill_process(self.server, Signal::KILL);
        }
    }
}

/// So many clients connect at once, and then each wants its echo.
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
fn an_error_of_accept_costs_nobody_else_their_place() {
    if !have("strace") {
        return;
    }
    for error in ["ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN"] {
        let traced = Traced::start(
            &[&format!("accept4:error={error}:when=2")],
            &["echo=:0", "--shutdown-timeout", "0s"],
        );
        all_are_served(traced.address(), 5);
        let log = traced.log();
        assert_eq!(log.matches("accept:").count(), 1, "{error}: {log}");
    }
}

#[test]
fn an_error_of_accept_that_does_not_end_is_backed_off_from() {
    if !have("strace") {
        return;
    }
    let traced = Traced::start(
        &["accept4:error=EPROTO:when=1..200"],
        &["echo=:0", "--shutdown-timeout", "0s"],
    );
    all_are_served(traced.address(), 3);
    assert!(traced.log().contains("accept:"));
}

#[test]
fn running_out_of_descriptors_or_memory_forgets_nobody() {
    if !have("strace") {
        return;
    }
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        let traced = Traced::start(
            &[&format!("accept4:error={error}:when=2..4")],
            &["echo=:0", "--shutdown-timeout", "0s"],
        );
        all_are_served(traced.address(), 5);
        traced.log();
    }
}

#[test]
fn a_poller_that_is_interrupted_goes_on() {
    if !have("strace") {
        return;
    }
    let traced = Traced::start(
        &["epoll_wait:error=EINTR:when=2+2"],
        &["echo=:0", "--shutdown-timeout", "0s"],
    );
    for _ in 0..20 {
        all_are_served(traced.address(), 3);
    }
    assert_eq!(traced.log(), "");
}

/// The one failure that ends the loop; and the program says so.
#[test]
fn a_poller_that_fails_ends_the_loop_with_its_error() {
    if !have("strace") {
        return;
    }
    let mut traced = Traced::start(&["epoll_wait:error=EINVAL:when=1"], &["echo=:0"]);
    assert_eq!(traced.program.wait().code(), Some(1));
    let mut log = String::new();
    traced
        .program
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(
        log.contains("doorkeeper: the poller failed: Invalid argument"),
        "{log}"
    );
}

/// The listener, the waker and the signals are watched first; the fourth is the second client.
#[test]
fn a_socket_that_cannot_be_watched_is_closed_and_no_other() {
    if !have("strace") {
        return;
    }
    let traced = Traced::start(
        &["epoll_ctl:error=ENOSPC:when=4"],
        &["echo=:0", "--shutdown-timeout", "0s"],
    );
    let mut results: Vec<bool> = Vec::new();
    for _ in 0..4 {
        let mut stream = client(traced.address());
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
    assert!(traced.log().contains("cannot be watched: No space left"));
}

/// Seconds of CPU a process has used.
fn cpu_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn starved_of_descriptors_it_waits_quietly_and_then_serves_everyone() {
    let mut program = Program::start(&[], &["echo=:0", "--shutdown-timeout", "0s"], "warn", 1);
    let pid = Pid::from_child(&program.child);
    let limit = |count| Rlimit {
        current: Some(count),
        maximum: Some(20_000),
    };
    prlimit(Some(pid), Resource::Nofile, limit(64)).unwrap();
    let mut streams: Vec<TcpStream> = (0..200).map(|_| client(program.address("echo"))).collect();
    // It has all it may have when its descriptors are used up.
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", program.pid()))
            .unwrap()
            .count()
    };
    let start = Instant::now();
    while descriptors() < 64 {
        assert!(start.elapsed() < PATIENCE);
    }
    let (cpu, begin) = (cpu_time(program.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (cpu_time(program.pid()) - cpu) / begin.elapsed().as_secs_f64();
    assert!(
        share < 0.05,
        "{:.1} % of a CPU while starved",
        share * 100.0
    );
    // Those inside are served meanwhile, and whoever leaves makes place for another.
    assert_eq!(echo(&mut streams[0], b"inside"), b"inside");
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
    kill_process(pid, Signal::TERM).unwrap();
    program.wait();
    let mut log = String::new();
    program
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    let lines = log.matches("Too many open files").count() as u64;
    assert!(
        (1..=seconds).contains(&lines),
        "{lines} lines in {seconds} s: {log}"
    );
    // One attempt each time it tries again, ten times a second, and at each own close.
    let held_back = log
        .split(" more like it")
        .filter_map(|part| part.rsplit('(').next()?.parse::<u64>().ok());
    let errors = held_back.sum::<u64>() + lines;
    assert!((lines + 1..200).contains(&errors), "{errors} errors: {log}");
}

/// Rust's runtime ignores SIGPIPE, but a host written in another language need not: so the signal must not be raised in the
/// first place.
#[test]
fn no_write_to_a_peer_that_is_gone_raises_sigpipe() {
    if !have("strace") {
        return;
    }
    let path = std::env::temp_dir().join(format!("doorkeeper-sigpipe-{}", std::process::id()));
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        path.to_str().unwrap(),
        "-e",
        "trace=recvfrom,sendto,write,writev,sendmsg",
    ];
    let mut program = Program::start(
        &wrapper,
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
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
    kill_process(
        Pid::from_raw(children.trim().parse().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    program.wait();
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let gone = trace
        .lines()
        .filter(|line| line.contains("EPIPE") || line.contains("ECONNRESET"))
        .count();
    assert!(gone > 0, "no call met a peer that was gone");
    assert!(!trace.contains("SIGPIPE"));
    let mut sends = trace
        .lines()
        .take_while(|line| !line.contains("--- SIGTERM"))
        .filter(|line| line.contains("sendto("));
    assert!(sends.all(|line| line.contains("MSG_NOSIGNAL")));
}
