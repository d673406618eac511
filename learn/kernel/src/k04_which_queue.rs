//! The client believes that it is connected. The server's end waits for more.

use check::answers::{Deferring, state_name};
use check::diag;
use std::io::{Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn observe() -> Result<Vec<String>> {
    // TCP_DEFER_ACCEPT is set.
    let listener = Deferring::start()?;
    let port = listener.port;
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    let own = client.local_addr()?.port();
    let state =
        |local, remote| diag::end_of(local, remote).map_or("none", |end| state_name(end.state));
    let queue = || diag::listener(port).map_or(0, |socket| socket.receive_queue);
    let silent = (state(own, port), state(port, own), queue());
    assert_eq!(silent, ("ESTAB", "SYN-RECV", 0));

    client.write_all(b"x")?;
    let start = Instant::now();
    while queue() == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the byte changed nothing"
        );
    }
    let after = (state(own, port), state(port, own), queue());
    assert_eq!(after, ("ESTAB", "ESTAB", 1));

    let say =
        |(client, server, queue)| format!("client {client}, server {server}, accept queue {queue}");
    Ok(vec![
        format!("the client has connected: {}", say(silent)),
        format!("the client has sent a byte: {}", say(after)),
    ])
}
