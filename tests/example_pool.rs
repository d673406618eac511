//! The example `pool`, with a redis-server that is killed and started again.

mod common;

use common::{PATIENCE, built, have, refusing_address};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A process that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts redis-server without a file. Returns when it accepts connections.
fn redis_server(address: SocketAddr) -> Running {
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string()]);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let server = Running(command.stdout(Stdio::null()).spawn().unwrap());
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "redis-server does not listen");
        std::thread::yield_now();
    }
    server
}

/// The lines of a stream, read on a thread of its own, so that waiting for one has a time limit.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

struct Pool {
    child: Running,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Pool {
    fn start(address: SocketAddr, connections: usize) -> Pool {
        let mut child = Command::new(built("pool"))
            .args([&address.to_string(), &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Pool {
            child: Running(child),
            stdin,
            stdout,
            stderr,
        }
    }

    fn say(&mut self, commands: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(commands.as_bytes()).unwrap();
    }

    fn hear(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).unwrap()
    }

    /// Calls until the answer is this one.
    fn call_until(&mut self, wanted: &str) {
        let start = Instant::now();
        loop {
            self.say("PING\n");
            let answer = self.hear();
            if answer == wanted {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "still {answer}");
        }
    }

    /// Waits for this line on standard error.
    fn wait_for(&self, wanted: &str) {
        let start = Instant::now();
        while self.stderr.recv_timeout(PATIENCE).expect(wanted) != wanted {
            assert!(start.elapsed() < PATIENCE, "not heard: {wanted}");
        }
    }
}

#[test]
fn the_pool_answers_the_calls_of_threads_and_connects_again_with_growing_pauses() {
    if !have("redis-server") {
        return;
    }
    let address = refusing_address();
    let mut pool = Pool::start(address, 1);
    // Nothing listens yet.
    for pause in ["50ms", "100ms", "200ms"] {
        pool.wait_for(&format!("connection 0: refused; again in {pause}"));
    }
    pool.say("PING\n");
    assert_eq!(pool.hear(), "PING: error: not connected");
    let server = redis_server(address);
    pool.call_until("PING: +PONG\\r\\n");
    // Every call has its own reply: each number is there once.
    pool.say(&"INCR n\n".repeat(2000));
    let numbers: BTreeSet<String> = (0..2000).map(|_| pool.hear()).collect();
    let wanted = (1..=2000).map(|number| format!("INCR n: :{number}\\r\\n"));
    assert_eq!(numbers, wanted.collect());
    pool.say("LPUSH list a bc\n");
    assert_eq!(pool.hear(), "LPUSH list a bc: :2\\r\\n");
    pool.say("LRANGE list 0 -1\n");
    let list = "*2\\r\\n$2\\r\\nbc\\r\\n$1\\r\\na\\r\\n";
    assert_eq!(pool.hear(), format!("LRANGE list 0 -1: {list}"));
    drop(server);
    // The pause begins anew, because there was a connection.
    pool.wait_for("connection 0: refused; again in 100ms");
    pool.call_until("PING: error: not connected");
    let _server = redis_server(address);
    pool.call_until("PING: +PONG\\r\\n");
    pool.say("GET n\n");
    assert_eq!(pool.hear(), "GET n: $-1\\r\\n", "a new server");
    drop(pool.stdin.take());
    assert!(pool.child.0.wait().unwrap().success());
}

/// Waiting calls fail when their connection closes; they do not wait for the end of their time.
#[test]
fn a_call_without_a_reply_fails_when_the_server_is_killed() {
    if !have("redis-server") {
        return;
    }
    let address = refusing_address();
    let server = redis_server(address);
    let mut pool = Pool::start(address, 2);
    pool.call_until("PING: +PONG\\r\\n");
    pool.say("BLPOP nothing 0\n");
    // On the other connection, behind the one that waits.
    pool.call_until("PING: +PONG\\r\\n");
    drop(server);
    let answer = pool.hear();
    let failed = answer.strip_prefix("BLPOP nothing 0: error: ");
    assert!(failed.is_some_and(|why| why != "timed out"), "{answer}");
}
