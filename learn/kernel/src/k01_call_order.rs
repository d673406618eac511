//! The calls of a server and a client, in the order in which one thread can make them.

use socket2::{Domain, Socket, Type};
use std::io::{Read, Result, Write};
use std::net::{Shutdown, SocketAddr};

/// Two columns.
fn server(call: &str) -> String {
    call.to_string()
}

fn client(call: &str) -> String {
    format!("{:34}{call}", "")
}

pub fn observe() -> Result<Vec<String>> {
    let mut calls = vec!["server                            client".to_string()];
    let mut buffer = [0; 100];

    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(16)?;
    let address = listener.local_addr()?;
    calls.extend(["socket()", "bind(127.0.0.1:0)", "listen(16)"].map(server));

    let mut peer = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    peer.connect(&address)?;
    calls.extend(["socket()", "connect() = 0"].map(client));

    let (mut accepted, _) = listener.accept()?;
    calls.push(server("accept() = a new socket"));
    // It is another socket with the listener's address: the peer's address tells connections apart.
    assert_eq!(accepted.local_addr()?.as_socket(), address.as_socket());
    assert_eq!(
        accepted.peer_addr()?.as_socket(),
        peer.local_addr()?.as_socket()
    );

    peer.write_all(b"hello\n")?;
    calls.push(client("write(6) = 6"));
    let count = accepted.read(&mut buffer)?;
    accepted.write_all(&buffer[..count])?;
    calls.extend([
        format!("read(100) = {count}"),
        format!("write({count}) = {count}"),
    ]);
    let count = peer.read(&mut buffer)?;
    calls.push(client(&format!("read(100) = {count}")));

    peer.shutdown(Shutdown::Write)?;
    calls.push(client("shutdown(SHUT_WR)"));
    let count = accepted.read(&mut buffer)?;
    drop(accepted);
    calls.extend([format!("read(100) = {count}"), server("close()")]);
    let count = peer.read(&mut buffer)?;
    calls.extend([client(&format!("read(100) = {count}")), client("close()")]);

    calls.push("the accepted socket has the listener's address and port".to_string());
    Ok(calls)
}
