//! Shared by the observations: a listener, clients, and a poller with its reports.

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::Result;
use std::net;
use std::time::Duration;

/// How long an event is awaited that comes, and one that does not. On the loopback an event is there when the call that causes it
/// returns, but for delayed ACKs.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(50);

pub struct Setting {
    pub listener: TcpListener,
    pub poll: Poll,
}

impl Setting {
    pub fn new() -> Result<Setting> {
        Ok(Setting {
            listener: TcpListener::bind(([127, 0, 0, 1], 0).into())?,
            poll: Poll::new()?,
        })
    }

    pub fn port(&self) -> u16 {
        self.listener
            .local_addr()
            .map_or(0, |address| address.port())
    }

    /// A client that blocks, and has connected.
    pub fn client(&self) -> Result<net::TcpStream> {
        let client = net::TcpStream::connect(self.listener.local_addr()?)?;
        client.set_nodelay(true)?;
        Ok(client)
    }

    /// A client, and the server's end of its connection.
    pub fn pair(&self) -> Result<(TcpStream, net::TcpStream)> {
        let client = self.client()?;
        let (server, _) = self.listener.accept()?;
        Ok((server, client))
    }

    /// Registers a source for reading.
    pub fn watch(&self, source: &mut impl Source, number: usize) -> Result<()> {
        self.poll
            .registry()
            .register(source, Token(number), Interest::READABLE)
    }

    /// The events of one wait; none if none come soon.
    pub fn events(&mut self) -> Result<Vec<Seen>> {
        self.wait(SHORT)
    }

    /// The events of one wait that has some.
    pub fn next_events(&mut self) -> Result<Vec<Seen>> {
        let events = self.wait(LONG)?;
        assert!(!events.is_empty(), "no event came");
        Ok(events)
    }

    fn wait(&mut self, limit: Duration) -> Result<Vec<Seen>> {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(limit))?;
        Ok(events.iter().map(Seen::from).collect())
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub number: usize,
    pub readable: bool,
    pub writable: bool,
    /// The peer has ended its side (EPOLLRDHUP, EPOLLHUP).
    pub read_closed: bool,
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Seen {
        Seen {
            number: event.token().0,
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
        }
    }
}

/// `1 event`, `2 events`, `no event`.
pub fn events(seen: &[Seen]) -> String {
    match seen.len() {
        0 => "no event".to_string(),
        1 => "1 event".to_string(),
        more => format!("{more} events"),
    }
}
