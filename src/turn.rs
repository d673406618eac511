//! What a connection's turn is given, and how it may end.

use crate::config::Config;
use crate::context::Others;
use crate::handler::{Callback, Reason};
use crate::id::Id;
use crate::net;
use crate::observe::{Event, Eyes};
use crate::timers::Tick;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Why a turn ended the connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) error: Option<io::Error>,
}

impl From<Reason> for End {
    fn from(reason: Reason) -> End {
        End { reason, error: None }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        use ErrorKind as Kind;
        let reason = match error.kind() {
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted | Kind::NotConnected => Reason::Reset,
            Kind::ConnectionRefused => Reason::Refused,
            Kind::TimedOut => Reason::TimedOut,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Reason::Unreachable,
            Kind::AddrNotAvailable | Kind::AddrInUse => Reason::NoLocalPort,
            _ if net::is_exhausted(&error) => Reason::Exhausted,
            _ => Reason::Io,
        };
        End { reason, error: Some(error) }
    }
}

/// The two buffers that all connections share, one turn at a time.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) input: Box<[u8]>,
    /// What the callbacks of this turn wrote.
    pub(crate) gathered: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new(config: &Config) -> Scratch {
        Scratch {
            input: vec![0; config.input_max_bytes].into_boxed_slice(),
            gathered: Vec::with_capacity(config.output_max_bytes),
        }
    }
}

/// What a turn is given.
pub(crate) struct Turn<'a> {
    pub(crate) id: Id,
    pub(crate) epoch: Instant,
    pub(crate) now: Tick,
    pub(crate) config: &'a Config,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) others: &'a mut dyn Others,
    pub(crate) eyes: &'a Eyes,
}

impl Turn<'_> {
    /// A callback has returned: tells whoever watches how long it took, and blames it if that was too long.
    #[inline]
    pub(crate) fn handled(&self, peer: impl FnOnce() -> SocketAddr, callback: Callback, started: Option<Instant>) {
        if let Some(started) = started {
            self.timed(peer(), callback, started.elapsed());
        }
    }

    #[cold]
    fn timed(&self, peer: SocketAddr, callback: Callback, took: Duration) {
        let id = self.id;
        self.eyes.tell(|| Event::Handled { id, peer, callback, took });
        if self.eyes.stall.is_some_and(|limit| took > limit) {
            let waited = self.others.queued();
            log::warn!("connection {id} with {peer}: {callback} held the loop for {took:?}; {waited} others waited");
        }
    }
}
