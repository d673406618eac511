//! How a connection's turn may end it.

use crate::handler::Reason;
use crate::net;
use std::io::{self, ErrorKind};

/// Why a turn ended the connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) error: Option<io::Error>,
}

impl From<Reason> for End {
    fn from(reason: Reason) -> End {
        End {
            reason,
            error: None,
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        use ErrorKind as Kind;
        let reason = match error.kind() {
            Kind::ConnectionReset
            | Kind::BrokenPipe
            | Kind::ConnectionAborted
            | Kind::NotConnected => Reason::Reset,
            Kind::ConnectionRefused => Reason::Refused,
            Kind::TimedOut => Reason::TimedOut,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Reason::Unreachable
            }
            Kind::AddrNotAvailable | Kind::AddrInUse => Reason::NoLocalPort,
            _ if net::is_exhausted(&error) => Reason::Exhausted,
            _ => Reason::Io,
        };
        End {
            reason,
            error: Some(error),
        }
    }
}
