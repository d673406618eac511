//! Step 11: ids with serials. A name that has outlived its connection names nothing.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{Read, Result, Write};
use std::time::Duration;

const LISTENER: Token = Token(usize::MAX);

/// The bits of an id that are its slot.
const SLOT: usize = 0xffff_ffff;

/// A connection with this many bytes to send is not read.
const OUTPUT_MAX: usize = 65_536;

/// How soon accept is tried again after it has failed.
const RETRY: Duration = Duration::from_millis(100);

struct Connection {
    id: Token,
    stream: TcpStream,
    /// Bytes that were read and not sent yet.
    output: VecDeque<u8>,
    /// The end of the stream is near: a short read leaves it unread.
    closing: bool,
    /// The peer has ended its side. It may still read.
    ended: bool,
}

impl Connection {
    /// One turn: at most one read, and as many writes as the kernel takes. Returns the connection to close, if any.
    fn turn(&mut self, queue: &mut BTreeSet<Token>) -> Result<Option<Token>> {
        let (mut buffer, mut close) = ([0; 4096], None);
        self.flush()?;
        // Unread bytes have had their event. The next one comes when more can be sent.
        if !self.ended && self.output.len() < OUTPUT_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    close = self.answer(&buffer[..count]);
                    if count == buffer.len() || self.closing {
                        queue.insert(self.id);
                    }
                    self.flush()?;
                }
                Err(error) if error.kind() == WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let over = self.ended && self.output.is_empty();
        Ok(if over { Some(self.id) } else { close })
    }

    /// Echoes. Two lines do more: `who` is answered with the connection's name, `close NAME` closes that one.
    fn answer(&mut self, input: &[u8]) -> Option<Token> {
        if input == b"who\n" {
            self.output.extend(format!("{}\n", self.id.0).bytes());
            return None;
        }
        self.output.extend(input);
        let name = input.strip_prefix(b"close ")?;
        str::from_utf8(name).ok()?.trim().parse().ok().map(Token)
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

#[derive(Default)]
struct Connections {
    slab: Slab<Connection>,
    accepted: usize,
}

impl Connections {
    /// Accepts until the accept queue is empty. The poller reports that clients have come, not that some are left.
    fn accept_all(&mut self, listener: &TcpListener, registry: &Registry) -> Result<()> {
        loop {
            let (mut stream, _peer) = match listener.accept() {
                Err(error) if error.kind() == WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            let entry = self.slab.vacant_entry();
            // The serial above the slot: slots return, serials do not (before 4 billion connections).
            let id = Token(self.accepted << 32 | entry.key());
            self.accepted += 1;
            registry.register(&mut stream, id, Interest::READABLE | Interest::WRITABLE)?;
            entry.insert(Connection {
                id,
                stream,
                output: VecDeque::new(),
                closing: false,
                ended: false,
            });
        }
    }

    /// The connection of this id, and never a later one in the same slot.
    fn find(&mut self, id: Token) -> Option<&mut Connection> {
        let found = self.slab.get_mut(id.0 & SLOT);
        found.filter(|connection| connection.id == id)
    }

    fn close(&mut self, id: Token) {
        if self.find(id).is_some() {
            self.slab.remove(id.0 & SLOT);
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
    let mut connections = Connections::default();
    // The connections that have a turn in the next round.
    let mut queue = BTreeSet::new();
    // Clients may be left in the accept queue.
    let mut accepting = false;
    loop {
        let timeout = match accepting {
            _ if !queue.is_empty() => Some(Duration::ZERO),
            // No event says that a descriptor is free again.
            accepting => accepting.then_some(RETRY),
        };
        match poll.poll(&mut events, timeout) {
            // A signal ended the wait, and mio does not repeat it: signal(7). There are no events.
            Err(error) if error.kind() == Interrupted => {}
            result => result?,
        }
        for event in &events {
            let id = event.token();
            // It is in no slot.
            accepting |= id == LISTENER;
            if let Some(connection) = connections.find(id) {
                connection.closing |= event.is_read_closed();
                queue.insert(id);
            }
        }
        for id in std::mem::take(&mut queue) {
            // An error ends this connection, and no other.
            let turn = |it: &mut Connection| it.turn(&mut queue).unwrap_or(Some(id));
            if let Some(over) = connections.find(id).and_then(turn) {
                connections.close(over);
            }
        }
        if accepting {
            // Whatever the error (EMFILE, ENFILE, ENOMEM: accept(2)), the clients are still in the queue.
            accepting = connections.accept_all(&listener, poll.registry()).is_err();
        }
    }
}
