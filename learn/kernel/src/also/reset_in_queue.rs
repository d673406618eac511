//! A client that was reset while it waited in the accept queue is still accepted.

use crate::setting::Setting;
use check::diag;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Result};
use std::time::Duration;

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;
    let client = setting.client()?;
    let own = client.local_addr()?;
    let queue = || diag::listener(setting.port()).map_or(0, |socket| socket.receive_queue);
    let before = queue();
    // Close with a RST: socket(7), SO_LINGER.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    let after = queue();
    assert_eq!((before, after), (1, 1));

    let (mut server, peer) = setting.listener.accept()?;
    assert_eq!(peer, own);
    let name = server.peer_addr().map_err(|error| error.kind());
    assert_eq!(name, Err(ErrorKind::NotConnected));
    let read = server.read(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::ConnectionReset));

    Ok(vec![
        format!("a client waits: accept queue {before}"),
        format!("it resets the connection: accept queue {after}"),
        "accept() = a new socket, and the client's address".into(),
        "getpeername(): ENOTCONN; read(): ECONNRESET".into(),
    ])
}
