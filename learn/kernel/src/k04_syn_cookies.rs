//! With many requests the kernel keeps no more of them, and sends SYN cookies. In a network namespace of its own, because the
//! settings belong to it.

use check::answers::{Deferring, state_name};
use check::diag;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

/// The word by which this program is started inside the namespace.
pub const INSIDE: &str = "cookies-inside";

/// LISTEN in include/net/tcp_states.h.
const LISTEN: u8 = 10;

/// Linux lets one request more in than this.
const BACKLOG: u32 = 3;

/// Makes the namespace, and runs this program there.
pub fn observe() -> Result<Vec<String>> {
    let inside = |words: &[&str]| Command::new("unshare").args(words).output();
    let program = std::env::current_exe()?;
    // The second form needs no root, where user namespaces are allowed: unshare(1).
    for namespace in ["--net", "--map-root-user --net"] {
        let mut words: Vec<&str> = namespace.split(' ').collect();
        words.extend(["ip", "link", "set", "lo", "up"]);
        if !inside(&words).is_ok_and(|output| output.status.success()) {
            continue;
        }
        words.truncate(words.len() - 5);
        let program = program.to_string_lossy();
        words.extend([&program, INSIDE, "1"]);
        let output = inside(&words)?;
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(3) {
            return Err(missing(error.trim()));
        }
        assert!(output.status.success(), "{error}");
        let said = String::from_utf8_lossy(&output.stdout);
        return Ok(said.lines().map(String::from).collect());
    }
    Err(missing(
        "unshare(1) makes no network namespace here, or ip(8) sets nothing in it",
    ))
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

fn set_cookies(value: &str) -> Result<()> {
    let file = "/proc/sys/net/ipv4/tcp_syncookies";
    fs::write(file, value).map_err(|error| missing(&format!("{file}: {error}")))
}

/// A client that has begun to connect and sends nothing.
fn silent_client(port: u16) -> Result<(Socket, u16)> {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    // EINPROGRESS.
    let _ = client.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    let own = client.local_addr()?.as_socket();
    Ok((client, own.map_or(0, |own| own.port())))
}

pub fn observe_inside() -> Result<Vec<String>> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    assert!(up.success());
    set_cookies("1")?;
    let listener = Deferring::start_with(BACKLOG)?;
    let port = listener.port;
    // Where the server has no such connection, the kernel shows the listener.
    let connection = |end: &diag::Socket| end.state != LISTEN;
    let name = |end: Option<diag::Socket>| {
        let end = end.filter(connection);
        end.map_or("nothing", |end| state_name(end.state))
    };
    let seen = |own| {
        let queue = diag::listener(port).map_or(0, |socket| socket.receive_queue);
        (
            name(diag::end_of(own, port)),
            name(diag::end_of(port, own)),
            queue,
        )
    };
    let settles = |own, wanted| {
        let start = Instant::now();
        while seen(own) != wanted {
            let late = start.elapsed() > Duration::from_secs(10);
            assert!(!late, "{:?}, not {wanted:?}", seen(own));
        }
        wanted
    };
    let say =
        |(client, server, queue)| format!("client {client}, server {server}, accept queue {queue}");

    let mut clients = Vec::new();
    let mut kept = ("", "", 0);
    for _ in 0..=BACKLOG {
        let (client, own) = silent_client(port)?;
        clients.push(client);
        kept = settles(own, ("ESTAB", "SYN-RECV", 0));
    }
    let (_one, own) = silent_client(port)?;
    let cookie = settles(own, ("ESTAB", "ESTAB", 1));

    set_cookies("0")?;
    let (_other, own) = silent_client(port)?;
    let dropped = settles(own, ("SYN-SENT", "nothing", 1));
    Ok(vec![
        "TCP_DEFER_ACCEPT, a backlog of 3, and clients that send nothing".into(),
        format!("each of the first {}: {}", clients.len(), say(kept)),
        format!("one more, by a SYN cookie: {}", say(cookie)),
        format!("one more, with tcp_syncookies = 0: {}", say(dropped)),
    ])
}
