//! What systemd wants of a service: sockets that it passes, and messages on how the service is.

mod common;

use common::{PATIENCE, client, echo, read_all};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorkeeper");

/// Runs a shell that has this as its standard input: descriptor 3 for the program.
fn shell(script: &str, socket: impl Into<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-ec", script, PROGRAM])
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// One socket is passed, by the name `web`, and `serve ARGS` runs to its end.
fn refused(args: &str, socket: impl Into<OwnedFd>) -> String {
    let script = format!(
        "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" serve {args}"
    );
    let mut child = shell(&script, socket).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output: Output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args}: {message}");
    message
}

struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(mut command: Command) -> Server {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Server { child, stdout }
    }

    /// The next line `listening SERVICE ADDRESS`.
    fn listening(&mut self) -> (String, SocketAddr) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "listening", "{line}");
        (words[1].to_string(), words[2].parse().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn passed_sockets_are_served_by_name_and_by_number() {
    for place in ["fd:web", "fd:3"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let script = format!(
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" serve echo={place} daytime=:0"
        );
        let mut server = Server::start(shell(&script, socket));
        assert_eq!(server.listening(), ("echo".to_string(), address));
        assert_eq!(echo(&mut client(address), b"hello"), b"hello");
        let (name, daytime) = server.listening();
        assert_eq!(name, "daytime");
        assert_eq!(read_all(&mut client(daytime)).unwrap().len(), 26);
    }
}

#[test]
fn passed_and_asked_for_must_be_the_same() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    for (args, words) in [
        ("echo=:0", &["no SERVICE=fd:NAME asks for", "3 web"][..]),
        (
            "echo=fd:web time=fd:time",
            &["fd:time: no such socket", "3 web"],
        ),
        ("echo=fd:web time=fd:4", &["fd:4: no such socket", "3 web"]),
        ("echo=fd:web time=fd:3", &["fd:3", "asked for twice"]),
    ] {
        let message = refused(args, socket());
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{args}: {message}"
        );
    }
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    let message = refused("echo=fd:web", datagram);
    assert!(
        message.contains("fd:web: it must be a TCP socket"),
        "{message}"
    );
}

/// LISTEN_PID names another process: the variables were inherited, and the sockets are not ours.
#[test]
fn sockets_of_another_process_are_not_touched() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=1 LISTEN_FDS=1 exec \"$0\" serve echo=:0";
    let mut server = Server::start(shell(script, socket));
    let (_, address) = server.listening();
    assert_eq!(echo(&mut client(address), b"hello"), b"hello");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=1 LISTEN_FDS=1 exec \"$0\" serve echo=fd:3";
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = shell(script, socket).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("passed are none"), "{message}");
}

#[test]
fn systemds_own_tool_starts_it_when_a_client_comes() {
    if !common::have("systemd-socket-activate") {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    // It becomes the program, and so is killed with it.
    let mut command = Command::new("systemd-socket-activate");
    command
        .args(["--listen", &address.to_string(), "--fdname=echo"])
        .args([PROGRAM, "serve", "echo=fd:echo"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let server = Server::start(command);
    let start = Instant::now();
    let mut stream = loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => break common::limited(stream),
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    drop(server);
}

/// A service manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self) -> String {
        let mut message = [0; 4096];
        let count = self.0.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..count]).into_owned()
    }

    /// Reads to the first message that begins so.
    fn until(&self, begin: &str) -> String {
        let start = Instant::now();
        loop {
            let message = self.next();
            if message.starts_with(begin) {
                return message;
            }
            assert!(start.elapsed() < PATIENCE, "no {begin:?}");
        }
    }
}

fn notified(name: &str, socket: UnixDatagram) -> (Manager, Server) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "echo=127.0.0.1:0", "--shutdown-timeout=1h"])
        .env("NOTIFY_SOCKET", name)
        .env("WATCHDOG_USEC", "200000")
        .env("RUST_LOG", "off")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    (Manager(socket), Server::start(command))
}

#[test]
fn the_manager_hears_of_each_state() {
    let path = common::temporary("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (manager, mut server) = notified(path.to_str().unwrap(), socket);
    let (_, address) = server.listening();
    manager.until("READY=1");
    // The watchdog wants to hear of it again and again.
    for _ in 0..3 {
        assert_eq!(manager.until("WATCHDOG"), "WATCHDOG=1");
    }
    let mut stream = client(address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    assert_eq!(manager.until("STATUS=1"), "STATUS=1 open, 0 waiting");
    server.signal(Signal::HUP);
    let reloading = manager.until("RELOADING=1\nMONOTONIC_USEC=");
    assert!(reloading.rsplit('=').next().unwrap().parse::<u64>().is_ok());
    manager.until("READY=1");
    server.signal(Signal::TERM);
    manager.until("STOPPING=1");
    // It still turns.
    manager.until("WATCHDOG=1");
    drop(stream);
    assert!(server.child.wait().unwrap().success());
    std::fs::remove_file(path).unwrap();
}

/// WATCHDOG_PID names another process: its watchdog is not ours.
#[test]
fn the_watchdog_of_another_process_is_not_answered() {
    let path = common::temporary("watchdog");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "echo=127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .env("WATCHDOG_PID", "1")
        .stdout(Stdio::piped());
    let (manager, mut server) = (Manager(socket), Server::start(command));
    let (_, address) = server.listening();
    let mut stream = client(address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    // The status comes once a second, and a watchdog's answer would come before it.
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|message: &String| message.starts_with("STATUS=1 open"))
    {
        seen.push(manager.next());
    }
    assert!(
        !seen.iter().any(|message| message.contains("WATCHDOG")),
        "{seen:?}"
    );
    std::fs::remove_file(path).unwrap();
}

/// The name of an abstract socket begins with an at sign.
#[test]
fn an_abstract_socket_is_understood() {
    let name = format!("doorkeeper-{}", std::process::id());
    let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let (manager, mut server) = notified(&format!("@{name}"), socket);
    server.listening();
    manager.until("READY=1");
}

/// A manager that is stopped, or gone, is no reason not to serve.
#[test]
fn a_manager_that_does_not_read_stalls_nothing() {
    let path = common::temporary("silent");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (manager, mut server) = notified(path.to_str().unwrap(), socket);
    let (_, address) = server.listening();
    for _ in 0..200 {
        server.signal(Signal::HUP);
        assert_eq!(echo(&mut client(address), b"hello"), b"hello");
    }
    drop(manager);
    server.signal(Signal::HUP);
    assert_eq!(echo(&mut client(address), b"hello"), b"hello");
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    std::fs::remove_file(path).unwrap();
}

/// `ss` shows both of the accepted socket, which inherits them.
#[test]
fn a_passed_socket_gets_keepalive_and_the_send_buffer() {
    for (args, options) in [
        ("chargen=fd:3", &["tb524288,"][..]),
        (
            "--send-buffer=9000 echo=fd:3",
            &["tb18000,", "timer:(keepalive,"],
        ),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let script = format!(
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve {args} time=:0"
        );
        let mut server = Server::start(shell(&script, socket));
        server.listening();
        let mut stream = client(address);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let filter = format!("src = {address}");
        let output = Command::new("ss")
            .args(["-Htnmo", "state", "established", &filter])
            .output()
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let is_set = options.iter().all(|option| line.contains(option));
        assert!(is_set, "{args}: {line}");
    }
}

/// A socket that is passed belongs to others: which of several that share its port gets a connection
/// is not for this program to say.
#[test]
fn a_passed_socket_does_not_take_a_shared_port_over() {
    let shared = |address: SocketAddr| -> TcpListener {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        socket.into()
    };
    let passed = shared("127.0.0.1:0".parse().unwrap());
    let address = passed.local_addr().unwrap();
    let other = shared(address);
    let script =
        "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --take-over echo=fd:3";
    let mut server = Server::start(shell(script, passed));
    server.listening();
    let clients: Vec<_> = (0..60).map(|_| client(address)).collect();
    other.set_nonblocking(true).unwrap();
    let others = other.incoming().take_while(Result::is_ok).count();
    // That one of two gets none or all of 60 has a probability of 2e-18.
    assert!((1..60).contains(&others), "{others}");
    drop(clients);
}
