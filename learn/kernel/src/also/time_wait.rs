//! The side that closes first is in TIME_WAIT, and holds the port. SO_REUSEADDR on both servers frees it.

use super::listen;
use check::diag;
use std::io::{ErrorKind, Read, Result};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// TIME_WAIT in include/net/tcp_states.h.
const TIME_WAIT: u8 = 6;

/// A server closes its connection first and ends. Whether another one can bind its port at once.
fn restart(first_reuses: bool, second_reuses: bool) -> Result<bool> {
    let reuse = |reuses| move |socket: &socket2::Socket| socket.set_reuse_address(reuses);
    let (listener, address) = listen(0, 16, reuse(first_reuses))?;
    let mut client = TcpStream::connect(address)?;
    let own = client.local_addr()?.port();
    let (server, _) = listener.accept()?;
    drop((server, listener));
    // The client answers the FIN with its own.
    client.read_exact(&mut [0; 1]).expect_err("the end");
    drop(client);
    let start = Instant::now();
    while diag::end_of(address.port(), own).map(|socket| socket.state) != Some(TIME_WAIT) {
        assert!(start.elapsed() < Duration::from_secs(10), "no TIME_WAIT");
    }
    match listen(address.port(), 16, reuse(second_reuses)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn observe() -> Result<Vec<String>> {
    let mut lines = vec!["the server closes first: its end is in TIME_WAIT".to_string()];
    for (first, second, may) in [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (true, true, true),
    ] {
        assert_eq!(restart(first, second)?, may, "{first} {second}");
        let word = |reuses| if reuses { "with" } else { "without" };
        let outcome = if may { "ok" } else { "EADDRINUSE" };
        lines.push(format!(
            "old server {} SO_REUSEADDR, new one {}: bind() = {outcome}",
            word(first),
            word(second)
        ));
    }
    Ok(lines)
}
