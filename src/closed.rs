//! Why a connection ended, and what it moved.

use crate::errno::is_exhausted;
use crate::id::Id;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Both sides ended in order: the handler called [`finish`](crate::Context::finish), or
    /// [`half_close`](crate::Context::half_close) and then consumed all input; all output was sent;
    /// and the peer's FIN was read, or [`Config::close_when_sent`](crate::Config::close_when_sent) does
    /// not wait for it.
    Finished,
    /// The peer reset the connection, or was gone when output was sent (ECONNRESET, EPIPE).
    Reset,
    /// Any other error of the socket; [`Closed::error`] holds it. With ECONNABORTED somebody ended the
    /// connection on this machine (Linux: `ss -K`, [ss(8)](https://man7.org/linux/man-pages/man8/ss.8.html)).
    Io,
    /// No byte moved for [`Config::idle_timeout`](crate::Config::idle_timeout).
    IdleTimeout,
    /// The handler finished, but the peer neither closed nor took a byte within
    /// [`Config::linger_timeout`](crate::Config::linger_timeout).
    LingerTimeout,
    /// The handler finished, but the peer then sent more than
    /// [`Config::linger_max_bytes`](crate::Config::linger_max_bytes).
    LingerLimit,
    /// It was open for [`Config::max_lifetime`](crate::Config::max_lifetime).
    LifetimeOver,
    /// It moved fewer bytes than [`Config::min_rate`](crate::Config::min_rate) demands.
    TooSlow,
    /// The handler called [`Context::abort`](crate::Context::abort), or other code called `abort` with
    /// the id of this connection.
    Aborted,
    /// Before this outgoing connection was established, other code called `abort`, or called `close` and
    /// had sent nothing.
    Closed,
    /// A callback or a method of a [`Layer`](crate::Layer) returned an error; [`Closed::error`] holds it.
    HandlerError,
    /// A callback or a method of a layer panicked.
    Panic,
    /// The reactor was dropped.
    ReactorDropped,
    /// No socket listens at that address, or it rejects this side (ECONNREFUSED). Also: the kernel
    /// connected the socket to itself.
    Refused,
    /// No answer within the time for connecting, or to what was sent (ETIMEDOUT).
    TimedOut,
    /// There is no route to the peer (EHOSTUNREACH, ENETUNREACH, ENETDOWN).
    Unreachable,
    /// Every local port that the connection could use is taken (EADDRNOTAVAIL, EADDRINUSE).
    NoLocalPort,
    /// Descriptors or memory ran out (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    Exhausted,
}

impl Reason {
    /// Every reason, in the order of the statistics.
    pub const ALL: [Reason; 18] = [
        Reason::Finished,
        Reason::Reset,
        Reason::Io,
        Reason::IdleTimeout,
        Reason::LingerTimeout,
        Reason::LingerLimit,
        Reason::LifetimeOver,
        Reason::TooSlow,
        Reason::Aborted,
        Reason::Closed,
        Reason::HandlerError,
        Reason::Panic,
        Reason::ReactorDropped,
        Reason::Refused,
        Reason::TimedOut,
        Reason::Unreachable,
        Reason::NoLocalPort,
        Reason::Exhausted,
    ];
}

/// Prints the reason in lower case, as in `handler error`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Finished => "finished",
            Reason::Reset => "reset by peer",
            Reason::Io => "input/output error",
            Reason::IdleTimeout => "idle timeout",
            Reason::LingerTimeout => "linger timeout: the peer did not close",
            Reason::LingerLimit => "linger limit: the peer sent too much after the end",
            Reason::LifetimeOver => "lifetime over",
            Reason::TooSlow => "too slow",
            Reason::Aborted => "aborted",
            Reason::Closed => "closed",
            Reason::HandlerError => "handler error",
            Reason::Panic => "handler panicked",
            Reason::ReactorDropped => "reactor dropped",
            Reason::Refused => "refused",
            Reason::TimedOut => "timed out",
            Reason::Unreachable => "unreachable",
            Reason::NoLocalPort => "no local port left",
            Reason::Exhausted => "out of descriptors or memory",
        })
    }
}

/// The receipt of a connection: why it ended and what it moved.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The id that the connection had. It names nothing any more.
    pub id: Id,
    /// The peer's address. For an outgoing connection: the address that was given.
    pub peer: SocketAddr,
    /// Why the connection ended.
    pub reason: Reason,
    /// The error behind the reason, if there is one: the system's, the handler's or a
    /// layer's (for [`Reason::HandlerError`]), or one that says what timed out.
    pub error: Option<io::Error>,
    /// Bytes read from the peer, discarded ones included.
    pub received: u64,
    /// Bytes that the kernel took. TCP does not tell whether the peer read them.
    pub sent: u64,
    /// Of these, the bytes that the peer's system had not acknowledged at the end. Known on Linux, for
    /// [`Reason::LingerTimeout`], because the kernel is asked then; `None` otherwise. The kernel goes on
    /// to send them, until the peer sends something: it then resets the connection (RFC 9293, 3.10.7.1).
    pub undelivered: Option<u64>,
    /// Bytes that the handler wrote and the kernel did not take. If there are any, the connection is
    /// reset, not closed, so that the peer cannot take a part of an answer for the whole.
    pub unsent: u64,
    /// Received bytes that no handler consumed. The last offered input counts if that callback failed
    /// or aborted.
    pub discarded: u64,
    /// How long the connection was open. If it was never established: how long it was tried.
    pub age: Duration,
}

/// Prints what the connection moved, as in `5 bytes received, 5 sent, 0 unsent, 0 discarded, age 12 ms`.
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Closed {
            received,
            sent,
            unsent,
            discarded,
            undelivered,
            ..
        } = self;
        let age = self.age.as_millis();
        write!(
            f,
            "{received} bytes received, {sent} sent, {unsent} unsent, "
        )?;
        if let Some(undelivered @ 1..) = undelivered {
            write!(f, "{undelivered} undelivered, ")?;
        }
        write!(f, "{discarded} discarded, age {age} ms")
    }
}

/// How a connection ends: the error of a turn, before the receipt is made out of it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) error: Option<io::Error>,
}

impl End {
    pub(crate) fn new(reason: Reason, error: io::Error) -> End {
        let error = Some(error);
        End { reason, error }
    }

    /// The receipt of a connection that moved nothing.
    pub(crate) fn receipt(self, id: Id, peer: SocketAddr, age: Duration) -> Closed {
        Closed {
            id,
            peer,
            reason: self.reason,
            error: self.error,
            received: 0,
            sent: 0,
            undelivered: None,
            unsent: 0,
            discarded: 0,
            age,
        }
    }
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
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::NotConnected => Reason::Reset,
            Kind::ConnectionRefused => Reason::Refused,
            Kind::TimedOut => Reason::TimedOut,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Reason::Unreachable
            }
            Kind::AddrNotAvailable | Kind::AddrInUse => Reason::NoLocalPort,
            _ if is_exhausted(&error) => Reason::Exhausted,
            _ => Reason::Io,
        };
        End {
            reason,
            error: Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_made_on_this_machine_is_not_told_as_a_reset_by_the_peer() {
        let reason = |kind: ErrorKind| End::from(io::Error::from(kind)).reason;
        assert_eq!(reason(ErrorKind::ConnectionAborted), Reason::Io);
        assert_eq!(reason(ErrorKind::ConnectionReset), Reason::Reset);
    }

    #[test]
    fn a_receipt_prints_what_moved() {
        let end = End::from(Reason::Finished);
        let id = Id::new(0, 0);
        let peer = SocketAddr::from(([127, 0, 0, 1], 7));
        let mut closed = end.receipt(id, peer, Duration::from_millis(12));
        (closed.received, closed.sent, closed.unsent) = (5, 6, 7);
        let text = "5 bytes received, 6 sent, 7 unsent, 0 discarded, age 12 ms";
        assert_eq!(closed.to_string(), text);
        closed.undelivered = Some(0);
        assert_eq!(closed.to_string(), text);
        closed.undelivered = Some(8);
        let text = "5 bytes received, 6 sent, 7 unsent, 8 undelivered, 0 discarded, age 12 ms";
        assert_eq!(closed.to_string(), text);
    }
}
