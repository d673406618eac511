//! Two listeners share a port. The kernel spreads the clients, and resets those of a listener that closes.

use super::listen;
use check::diag;
use std::io::{ErrorKind, Read, Result};
use std::net::TcpStream;
use std::time::Duration;

/// That all of them go to the same of two listeners has a chance of 1 in 2^63.
const CLIENTS: usize = 64;

pub fn observe() -> Result<Vec<String>> {
    let share = |socket: &socket2::Socket| socket.set_reuse_port(true);
    let (one, address) = listen(0, 128, share)?;
    let (other, _) = listen(address.port(), 128, share)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(Duration::from_millis(1)))?;
        clients.push(client);
    }
    drop(one);
    let (mut reset, mut waiting) = (0, 0);
    for client in &mut clients {
        match client.read(&mut [0; 1]).map_err(|error| error.kind()) {
            Err(ErrorKind::ConnectionReset) => reset += 1,
            Err(ErrorKind::WouldBlock) => waiting += 1,
            read => panic!("{read:?}"),
        }
    }
    let queue = diag::listener(address.port()).map_or(0, |socket| socket.receive_queue);
    assert!(reset > 0 && waiting > 0 && reset + waiting == CLIENTS);
    assert_eq!(queue as usize, waiting);
    drop(other);

    Ok(vec![
        format!("{CLIENTS} clients connect to a port that two listeners share"),
        format!("one listener closes: {reset} clients are reset, {waiting} are not"),
        format!("the accept queue of the other listener: {queue}"),
    ])
}
