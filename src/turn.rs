//! What a connection's turn is given, and how it may end.

use crate::config::Config;
use crate::context::Others;
use crate::handler::Reason;
use crate::id::Id;
use crate::net;
use crate::timers::Tick;
use std::io::{self, ErrorKind};
use std::time::Instant;

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
}
