//! Step 4: each peer is drained, and its errors end its own connection only.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{Read, Result, Write};

const LISTENER: Token = Token(usize::MAX);

/// Accepts until the accept queue is empty. The poller reports that clients have come, not that some are left.
fn accept_all(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Slab<TcpStream>,
) -> Result<()> {
    loop {
        let (mut stream, _peer) = match listener.accept() {
            Err(error) if error.kind() == WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        let entry = connections.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(stream);
    }
}

/// Reads until nothing is left, and sends it back. False at the end of the stream.
fn echo(stream: &mut TcpStream) -> Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => stream.write_all(&buffer[..count])?,
            Err(error) if error.kind() == WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening {}", listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            // A signal ended the wait, and mio does not repeat it: signal(7). There are no events.
            Err(error) if error.kind() == Interrupted => {}
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept_all(&listener, poll.registry(), &mut connections)?,
                Token(slot) => {
                    // An error ends this connection, and no other.
                    let open = echo(&mut connections[slot]).unwrap_or(false);
                    if !open {
                        connections.remove(slot);
                    }
                }
            }
        }
    }
}
