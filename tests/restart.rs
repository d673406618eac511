//! A restart under load loses nobody: the new process begins before the old one ends.

mod common;

use common::{PATIENCE, Program, client};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

const RESTARTS: usize = 20;

/// Clients that connect, have an echo, and close, over and over. A reset is counted; every other
/// failure panics.
struct Load {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    reset: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Load {
        let is_over = Arc::<AtomicBool>::default();
        let [served, reset] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let threads = (0..4).map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            let reset = Arc::clone(&reset);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let count = match talk(address) {
                        Ok(()) => &served,
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => &reset,
                        Err(error) => panic!("a client was not served: {error}"),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Load {
            is_over,
            served,
            reset,
            threads,
        }
    }

    /// Waits until some more have been served.
    fn wait(&self) {
        let before = self.served.load(Ordering::Relaxed);
        let start = std::time::Instant::now();
        while self.served.load(Ordering::Relaxed) < before + 20 {
            assert!(start.elapsed() < PATIENCE, "nobody is served");
            std::thread::yield_now();
        }
    }

    /// Ends the load. How many clients were served to their end, and how many were reset.
    fn finish(self) -> (usize, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client was not served");
        }
        let [served, reset] = [self.served, self.reset].map(|count| count.load(Ordering::Relaxed));
        (served, reset)
    }
}

fn talk(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut answer)?, 0);
    Ok(())
}

fn end(mut server: Program) {
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert!(server.wait().success());
}

/// Starts a server on a passed socket, as systemd does, and waits until it listens.
fn start_on(socket: &TcpListener) -> Program {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve echo=fd:3";
    let mut command = Command::new("sh");
    let mut child = command
        .args(["-ec", script, env!("CARGO_BIN_EXE_doorkeeper")])
        .env("RUST_LOG", "warn")
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    // It is killed when this is dropped.
    let server = Program {
        child,
        listening: Vec::new(),
        stderr: None,
    };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening echo "), "{line}");
    server
}

/// The socket outlives each process, and with it the accept queue.
#[test]
fn restarts_on_a_passed_socket_lose_nobody() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = start_on(&socket);
    let load = Load::start(socket.local_addr().unwrap());
    for _ in 0..RESTARTS {
        load.wait();
        let new = start_on(&socket);
        load.wait();
        end(std::mem::replace(&mut server, new));
    }
    load.wait();
    let (served, reset) = load.finish();
    assert!(
        served > 20 * RESTARTS && reset == 0,
        "{served}, {reset} reset"
    );
    end(server);
}

/// Each process has its own accept queue. The old one gets no connection once the new one listens, and
/// serves its queue before it ends.
#[test]
fn restarts_that_take_over_a_shared_port_lose_nobody() {
    let start = |port: u16| {
        let address = format!("echo=127.0.0.1:{port}");
        Program::serve(&[&address, "--take-over"])
    };
    let mut server = start(0);
    let address = server.address("echo");
    let load = Load::start(address);
    for _ in 0..RESTARTS {
        load.wait();
        let new = start(address.port());
        load.wait();
        end(std::mem::replace(&mut server, new));
    }
    load.wait();
    let (served, reset) = load.finish();
    assert!(
        served > 20 * RESTARTS && reset == 0,
        "{served}, {reset} reset"
    );
}

/// A process without --take-over undoes what an earlier one attached.
#[test]
fn one_process_takes_over_and_several_share() {
    let start = |port: u16, option: &str| {
        let address = format!("echo=127.0.0.1:{port}");
        Program::start(&[], &[&address, option], "info", 1)
    };
    let first = start(0, "--take-over");
    let address = first.address("echo");
    let second = start(address.port(), "--take-over");
    for _ in 0..200 {
        talk(address).unwrap();
    }
    let third = start(address.port(), "--reuse-port");
    for _ in 0..60 {
        talk(address).unwrap();
    }
    let [first, second, third] = [first, second, third].map(accepted);
    assert_eq!(first + second + third, 260);
    // That one of three gets none of 60 has a probability of 3e-11.
    let is_right = (1..60).contains(&first) && second > 200 && third > 0;
    assert!(is_right, "{first}, {second}, {third}");
}

/// It attaches nothing then, so a program that knows nothing of it can share its port.
#[test]
fn a_process_that_is_alone_leaves_the_choice_to_the_kernel() {
    let server = Program::serve(&["echo=127.0.0.1:0", "--take-over"]);
    let address = server.address("echo");
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&address.into()).unwrap();
    other.listen(128).unwrap();
    let other = TcpListener::from(other);
    let clients: Vec<TcpStream> = (0..60).map(|_| client(address)).collect();
    other.set_nonblocking(true).unwrap();
    let others = other.incoming().take_while(Result::is_ok).count();
    // That one of two gets none or all of 60 has a probability of 2e-18.
    assert!((1..60).contains(&others), "{others}");
    drop(clients);
}

/// Ends a server. How many connections it has accepted.
fn accepted(server: Program) -> u64 {
    let log = server.terminate();
    let (before, _) = log.split_once(" accepted").expect("no totals");
    before.rsplit(' ').next().unwrap().parse().unwrap()
}
