//! Echo on mio alone, without timers, limits or buffers: while a peer's socket is full, the server waits for that peer and serves
//! no other.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{ErrorKind, Read, Result, Write};

const LISTENER: Token = Token(usize::MAX);

/// Echoes what has come; returns whether the connection stays open. A short read ends the loop, unless the peer has ended: then
/// only a further read returns the end.
fn echo(stream: &mut TcpStream, buffer: &mut [u8], closed: bool) -> Result<bool> {
    loop {
        let count = match stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        if count < buffer.len() && !closed {
            return Ok(true);
        }
    }
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_string());
    let mut listener = TcpListener::bind(address.parse().expect("an address"))?;
    println!("listening {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut streams, mut buffer) = (Slab::new(), vec![0; 65_536]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let slot = streams.vacant_entry();
                    poll.registry()
                        .register(&mut stream, Token(slot.key()), Interest::READABLE)?;
                    slot.insert(stream);
                }
            } else if let Some(stream) = streams.get_mut(event.token().0)
                && !echo(stream, &mut buffer, event.is_read_closed()).unwrap_or(false)
            {
                streams.remove(event.token().0);
            }
        }
    }
}
