//! Step 8: out of descriptors. Clients wait in the accept queue, the program sleeps, and no client is lost.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{Read, Result, Write};
use std::time::Duration;

const LISTENER: Token = Token(usize::MAX);

/// A connection with this many bytes to send is not read.
const OUTPUT_MAX: usize = 65_536;

/// How soon accept is tried again after it has failed.
const RETRY: Duration = Duration::from_millis(100);

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not sent yet.
    output: VecDeque<u8>,
    /// The peer has ended its side. It may still read.
    ended: bool,
}

impl Connection {
    /// Reads until nothing is left, and sends it back. False when all is done.
    fn echo(&mut self) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            self.flush()?;
            if self.ended {
                return Ok(!self.output.is_empty());
            }
            if self.output.len() >= OUTPUT_MAX {
                // Unread bytes have had their event. The next one comes when more can be sent.
                return Ok(true);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.output.extend(&buffer[..count]),
                Err(error) if error.kind() == WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends as much as the kernel takes. An event says when it takes more.
    fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Err(error) if error.kind() == WouldBlock => break,
                sent => drop(self.output.drain(..sent?)),
            }
        }
        Ok(())
    }
}

/// Accepts until the accept queue is empty. The poller reports that clients have come, not that some are left.
fn accept_all(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Slab<Connection>,
) -> Result<()> {
    loop {
        let (mut stream, _peer) = match listener.accept() {
            Err(error) if error.kind() == WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        let entry = connections.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(entry.key()), both)?;
        entry.insert(Connection {
            stream,
            output: VecDeque::new(),
            ended: false,
        });
    }
}

fn main() -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening {}", listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::<Connection>::new();
    // Clients may be left in the accept queue.
    let mut accepting = false;
    loop {
        // No event says that a descriptor is free again.
        match poll.poll(&mut events, accepting.then_some(RETRY)) {
            // A signal ended the wait, and mio does not repeat it: signal(7). There are no events.
            Err(error) if error.kind() == Interrupted => {}
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accepting = true,
                Token(slot) => {
                    // An error ends this connection, and no other.
                    let open = connections[slot].echo().unwrap_or(false);
                    if !open {
                        connections.remove(slot);
                    }
                }
            }
        }
        if accepting {
            // Whatever the error (EMFILE, ENFILE, ENOMEM: accept(2)), the clients are still in the queue.
            accepting = accept_all(&listener, poll.registry(), &mut connections).is_err();
        }
    }
}
