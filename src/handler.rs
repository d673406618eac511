//! What an embedder implements, and what it is told.

use crate::context::Context;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A handler's own name for one of its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(pub u64);

/// One side of one conversation. The reactor calls it; it never blocks.
///
/// A callback that returns an error ends its connection with [`Reason::HandlerError`], one that panics with [`Reason::Panic`]:
/// at once, and what it had not yet sent is dropped. Nobody else is affected.
///
/// ```
/// use doorkeeper::{Context, Handler};
/// use std::io;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
///         Ok(cx.write(input))
///     }
/// }
/// ```
pub trait Handler {
    /// The connection is established. Called once, before every other callback; not at all for an outgoing connection that
    /// never is.
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// There is input. Returns how many bytes of it, from its front, are consumed.
    ///
    /// The rest is offered again, in front of new input, when new input arrives, when all output has left, or when someone
    /// wakes this id. So take all you can: whole requests that are left lying wait for one of these. At most
    /// [`Config::input_max_bytes`](crate::Config::input_max_bytes) are kept; at that limit the peer is no longer read,
    /// and neither its end nor a reset is seen until something is consumed.
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize>;

    /// All that was written has left for the kernel, and there is room for
    /// [`Config::output_max_bytes`](crate::Config::output_max_bytes) more.
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The peer has sent its last byte (a FIN); it may still be reading. Called once, after every byte was offered. What
    /// was not consumed by then ([`Context::unread`]) is still offered again on a drain or a wake-up, until
    /// [`finish`](Context::finish), which is what this does unless you say otherwise.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    /// A timer set with [`Context::set_timer`] is due. It is gone now; set it again for another round.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        let _ = (cx, key);
        Ok(())
    }

    /// The connection is closed, or an outgoing one was never established. Called exactly once, last, whatever happened.
    ///
    /// The context still reaches the rest of the loop (to close or wake another connection, to connect anew, to stop); of its
    /// own connection nothing is left, so it writes 0 bytes and sets no timer.
    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        let _ = (cx, closed);
    }
}

/// A method of [`Handler`] or [`Service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Callback {
    /// [`Service::open`].
    Service,
    /// [`Handler::on_open`].
    Open,
    /// [`Handler::on_data`].
    Data,
    /// [`Handler::on_drain`].
    Drain,
    /// [`Handler::on_eof`].
    Eof,
    /// [`Handler::on_timer`].
    Timer,
    /// [`Handler::on_close`].
    Close,
}

/// Prints the method's name, as in `on_data`.
impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Callback::Service => "open",
            Callback::Open => "on_open",
            Callback::Data => "on_data",
            Callback::Drain => "on_drain",
            Callback::Eof => "on_eof",
            Callback::Timer => "on_timer",
            Callback::Close => "on_close",
        })
    }
}

/// Makes a [`Handler`] for each connection that a listener accepts.
///
/// A closure `FnMut(SocketAddr) -> Option<impl Handler>` is a service.
pub trait Service {
    /// Someone stands at the door. `None` turns it away: its connection is closed at once.
    fn open(&mut self, peer: SocketAddr) -> Option<Box<dyn Handler>>;
}

impl<F, H> Service for F
where
    F: FnMut(SocketAddr) -> Option<H>,
    H: Handler + 'static,
{
    fn open(&mut self, peer: SocketAddr) -> Option<Box<dyn Handler>> {
        self(peer).map(|handler| Box::new(handler) as Box<dyn Handler>)
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The handler finished, all it wrote has left, and the peer closed too.
    Finished,
    /// The peer reset the connection, or was gone when more was to be written (ECONNRESET, EPIPE).
    Reset,
    /// Any other error of the socket; [`Closed::error`] is it.
    Io,
    /// No byte moved for [`Config::idle_timeout`](crate::Config::idle_timeout).
    IdleTimeout,
    /// Finished, but the peer did not close within [`Config::linger_timeout`](crate::Config::linger_timeout).
    LingerTimeout,
    /// Finished, but the peer sent more than [`Config::linger_max_bytes`](crate::Config::linger_max_bytes) after that.
    LingerLimit,
    /// The handler called [`Context::abort`].
    Aborted,
    /// Someone else called `close` with this connection's id.
    Closed,
    /// A callback returned an error; [`Closed::error`] is it.
    HandlerError,
    /// A callback panicked.
    Panic,
    /// The reactor was dropped.
    ReactorDropped,
    /// Nobody listens there, or the peer would not have us (ECONNREFUSED); also where the kernel joined the socket to itself.
    Refused,
    /// No answer: not within the time for connecting, or not to what was sent (ETIMEDOUT).
    TimedOut,
    /// No way there (EHOSTUNREACH, ENETUNREACH, ENETDOWN).
    Unreachable,
    /// Every local port that this connection could have is taken (EADDRNOTAVAIL, EADDRINUSE).
    NoLocalPort,
    /// Out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    Exhausted,
}

impl Reason {
    /// Every reason, in the order of the statistics.
    pub const ALL: [Reason; 16] = [
        Reason::Finished,
        Reason::Reset,
        Reason::Io,
        Reason::IdleTimeout,
        Reason::LingerTimeout,
        Reason::LingerLimit,
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
            Reason::IdleTimeout => "idle",
            Reason::LingerTimeout => "peer did not close in time",
            Reason::LingerLimit => "peer sent too much after the end",
            Reason::Aborted => "aborted",
            Reason::Closed => "closed",
            Reason::HandlerError => "handler error",
            Reason::Panic => "handler panicked",
            Reason::ReactorDropped => "reactor stopped",
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
    /// Why it ended.
    pub reason: Reason,
    /// The error behind the reason, where there is one: that of the system, of [`Reason::HandlerError`], or what it was that timed
    /// out.
    pub error: Option<io::Error>,
    /// Bytes read from the peer, the discarded ones included.
    pub received: u64,
    /// Bytes the kernel took. Whether the peer read them, TCP does not tell.
    pub sent: u64,
    /// Bytes written by the handler that never left. Where there are any the connection is reset, not closed, so that the
    /// peer cannot take a part for the whole.
    pub unsent: u64,
    /// Bytes received that no handler consumed. What was last offered counts, if that callback failed or aborted.
    pub discarded: u64,
    /// How long the connection was open; of one never established, how long it was tried.
    pub age: Duration,
}
