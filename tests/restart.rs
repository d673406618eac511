//! A restart under load loses nobody: the new process begins before the old one ends.

mod common;

use common::{Program, alone, client, echo, have, read_all};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

const RESTARTS: usize = 20;

/// Clients that connect, have an echo, and close, over and over. One that fails panics.
struct Load {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Load {
        let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..4).map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = client(address);
                    assert_eq!(echo(&mut stream, b"hello"), b"hello");
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&mut stream).unwrap(), b"");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Load {
            is_over,
            served,
            threads,
        }
    }

    /// Waits until some more have been served.
    fn wait(&self) {
        let before = self.served.load(Ordering::Relaxed);
        let start = std::time::Instant::now();
        while self.served.load(Ordering::Relaxed) < before + 20 {
            assert!(start.elapsed() < common::PATIENCE, "nobody is served");
            std::thread::yield_now();
        }
    }

    /// Ends the load. Every client was served to its end.
    fn finish(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client was not served");
        }
        self.served.load(Ordering::Relaxed)
    }
}

fn end(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Starts a server on a passed socket, as systemd does, and waits until it listens.
fn start_on(socket: &TcpListener) -> Child {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve echo=fd:3";
    let mut command = Command::new("sh");
    let mut child = command
        .args(["-ec", script, env!("CARGO_BIN_EXE_doorkeeper")])
        .env("RUST_LOG", "warn")
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening echo "), "{line}");
    child
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
    assert!(load.finish() > 20 * RESTARTS);
    end(server);
}

/// Each process has its own accept queue. With net.ipv4.tcp_migrate_req the kernel moves what is
/// still in it, or arrives between the last accept and the close, to the other process.
#[test]
fn restarts_with_a_shared_port_lose_nobody() {
    if !have("unshare") || !have("ip") {
        return;
    }
    let setup =
        "ip link set lo up && echo 1 >/proc/sys/net/ipv4/tcp_migrate_req && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--map-root-user", "--net", "sh", "-ec", setup];
    if !alone("restarts_with_a_shared_port_lose_nobody", &wrapper) {
        return;
    }
    let args = |port: u16| [format!("echo=127.0.0.1:{port}"), "--reuse-port".to_string()];
    let start = |port: u16| Program::serve(&args(port).each_ref().map(String::as_str));
    let mut server = start(0);
    let address = server.address("echo");
    let load = Load::start(address);
    for _ in 0..RESTARTS {
        load.wait();
        let new = start(address.port());
        load.wait();
        let mut old = std::mem::replace(&mut server, new);
        kill_process(Pid::from_child(&old.child), Signal::TERM).unwrap();
        assert!(old.wait().success());
    }
    load.wait();
    assert!(load.finish() > 20 * RESTARTS);
}
