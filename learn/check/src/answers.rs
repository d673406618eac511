//! The exercises of chapters 02 to 04 ask for an answer. An experiment says if it is right.

use crate::checks::Verdict;
use crate::diag;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Error, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A question of a chapter.
#[derive(Debug)]
pub struct Question {
    /// The number of the chapter.
    pub chapter: u8,
    /// The question.
    pub asks: &'static str,
    /// A hint.
    pub hint: &'static str,
    judge: fn(&str) -> Result<Verdict, Error>,
}

/// All of them.
pub const QUESTIONS: [Question; 3] = [
    Question {
        chapter: 2,
        asks: "A client connects, sends 9 bytes, and has not ended its side. Nobody has accepted it. What is Recv-Q?",
        hint: "The kernel has accepted the bytes for a program that has not accepted the connection. A FIN counts as one byte, \
               and there is none yet.",
        judge: receive_queue,
    },
    Question {
        chapter: 3,
        asks: "60 clients connect at once, and nobody accepts. What is the smallest backlog with which none has to wait?",
        hint: "Linux lets one more in than listen(2) was told.",
        judge: backlog,
    },
    Question {
        chapter: 4,
        asks: "A listener has TCP_DEFER_ACCEPT. A client has connected and sent nothing: ss says ESTAB at its end. What does it say \
               at the server's?",
        hint: "The handshake's last ACK was ignored: tcp(7), TCP_DEFER_ACCEPT. Which state is a connection in before that ACK?",
        judge: deferred,
    },
];

impl Question {
    /// Makes the experiment, and compares.
    pub fn judge(&self, answer: &str) -> Verdict {
        (self.judge)(answer)
            .unwrap_or_else(|error| Verdict::Unchecked(format!("the experiment failed: {error}")))
    }
}

fn verdict(right: bool, seen: String) -> Result<Verdict, Error> {
    Ok(if right {
        Verdict::Pass(seen)
    } else {
        Verdict::Fail(seen)
    })
}

fn listen(backlog: i32) -> Result<(Socket, u16), Error> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(backlog)?;
    let address = socket.local_addr()?.as_socket();
    Ok((socket, address.map_or(0, |address| address.port())))
}

fn receive_queue(answer: &str) -> Result<Verdict, Error> {
    let (_listener, port) = listen(1)?;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.write_all(b"nine byte")?;
    let own = client.local_addr()?.port();
    let queue = || diag::end_of(port, own).map_or(0, |socket| socket.receive_queue);
    let before = queue();
    client.shutdown(std::net::Shutdown::Write)?;
    let seen = format!("Recv-Q is {before}, and {} when the FIN has come", queue());
    verdict(answer.parse() == Ok(before), seen)
}

/// How many of 60 clients are in the accept queue of this backlog.
fn admitted(backlog: i32) -> Result<u64, Error> {
    let (_listener, port) = listen(backlog)?;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        // EINPROGRESS: whether it gets in shows in the listener's queue.
        let _ = client.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
        clients.push(client);
    }
    Ok(diag::listener(port).map_or(0, |socket| socket.receive_queue))
}

fn backlog(answer: &str) -> Result<Verdict, Error> {
    let Ok(backlog) = answer.parse::<u16>() else {
        return verdict(false, format!("`{answer}` is not a backlog"));
    };
    let backlog = i32::from(backlog);
    let enough = admitted(backlog)?;
    let seen = format!("of 60 clients, a backlog of {backlog} lets {enough} in at once");
    if enough < 60 {
        return verdict(false, format!("{seen}; the rest try again after 1 s"));
    }
    let less = admitted(backlog - 1)?;
    let seen = format!("{seen}, and one of {} lets {less} in", backlog - 1);
    verdict(less < 60, seen)
}

/// Neither std nor socket2 sets TCP_DEFER_ACCEPT.
const DEFERRING: &str = "
import socket, sys
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
listener.listen(int(sys.argv[1]))
print(listener.getsockname()[1], flush=True)
input()
";

/// A program that listens with TCP_DEFER_ACCEPT, until this is dropped.
#[derive(Debug)]
pub struct Deferring {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Deferring {
    /// Starts it.
    pub fn start() -> Result<Deferring, Error> {
        Deferring::start_with(128)
    }

    /// Starts it with this backlog.
    pub fn start_with(backlog: u32) -> Result<Deferring, Error> {
        let mut python = Command::new("python3");
        python.args(["-c", DEFERRING, &backlog.to_string()]);
        let child = python
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut started = Deferring { child, port: 0 };
        let stdout = started.child.stdout.take();
        let mut line = String::new();
        BufReader::new(stdout.expect("standard output is piped")).read_line(&mut line)?;
        started.port = line.trim().parse().map_err(Error::other)?;
        Ok(started)
    }
}

impl Drop for Deferring {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn deferred(answer: &str) -> Result<Verdict, Error> {
    let listener = Deferring::start()?;
    let port = listener.port;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let own = client.local_addr()?.port();
    let state = || diag::end_of(port, own).map_or("no state", |socket| state_name(socket.state));
    let silent = state();
    client.write_all(b"x")?;
    let start = Instant::now();
    while state() == silent && start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = format!(
        "the server's end is in {silent}, and in {} once the client has sent a byte",
        state()
    );
    verdict(answer.to_uppercase().replace('_', "-") == silent, seen)
}

/// As ss(8) names the states of include/net/tcp_states.h.
pub fn state_name(state: u8) -> &'static str {
    match state {
        1 => "ESTAB",
        2 => "SYN-SENT",
        3 => "SYN-RECV",
        8 => "CLOSE-WAIT",
        _ => "another state",
    }
}
