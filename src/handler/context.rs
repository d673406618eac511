//! All that a callback can do.

use super::{Intent, LocalAddr, Others};
use crate::buffers::LazyBacklog;
use crate::id::Id;
use crate::observe::CallScope;
use crate::peer::Peer;
use crate::time::TimerKey;
use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A callback's view of its own connection, and of everything else on the loop.
pub struct Context<'a> {
    /// Everything else on the loop.
    pub others: Others<'a>,
    pub(crate) peer: &'a Peer,
    /// `None` if no socket was created.
    pub(crate) socket: Option<&'a dyn LocalAddr>,
    pub(crate) backlog: &'a mut LazyBacklog,
}

/// The connection and the time.
impl Context<'_> {
    /// This connection's id, by which other code reaches it.
    pub fn id(&self) -> Id {
        self.others.id
    }

    /// The peer's address. An IPv4 peer of a dual-stack listener has its IPv4 address.
    pub fn peer(&self) -> SocketAddr {
        (*self.peer).into()
    }

    /// This side's address. Each call asks the kernel.
    ///
    /// # Errors
    /// Those of [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html);
    /// `NotConnected` if no socket was created.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.map_or(
            Err(io::ErrorKind::NotConnected.into()),
            LocalAddr::local_addr,
        )
    }

    /// The socket, as [`Reactor::socket`](crate::Reactor::socket) lends it. `None` if no socket was
    /// created.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.and_then(LocalAddr::descriptor)
    }

    /// True from the call of [`Reactor::shutdown`](crate::Reactor::shutdown) on.
    pub fn is_shutting_down(&self) -> bool {
        self.others.common.shutdown_until.is_some()
    }

    /// The time of this turn, on the monotonic clock. It does not advance during the turn.
    pub fn now(&self) -> Instant {
        self.others.now()
    }
}

/// Input and output.
impl Context<'_> {
    /// The number of bytes held because [`on_data`](crate::Handler::on_data) did not consume them. 0
    /// during `on_data` itself, because it is offered all of them.
    pub fn unread(&self) -> usize {
        self.backlog.input().len()
    }

    /// How many bytes [`write`](Context::write) would take now. 0 after
    /// [`finish`](Context::finish) or [`half_close`](Context::half_close).
    pub fn room(&self) -> usize {
        self.others.room
    }

    /// Takes as many of the bytes as there is [`room`](Context::room) for, and returns how many. It
    /// never blocks. The bytes are sent together at the end of the turn.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.others.write(bytes)
    }
}

/// Ends.
impl Context<'_> {
    /// Ends this side's output and goes on reading: the output is sent, followed by a FIN
    /// (`shutdown(SHUT_WR)`; RFC 9293, section 3.6). Once the peer ended too and all of its input is
    /// consumed, the connection closes with [`Reason::Finished`](crate::Reason::Finished).
    pub fn half_close(&mut self) {
        self.others.ask(Intent::HalfClose);
    }

    /// Ends this side: the output is sent, followed by a FIN (`shutdown(SHUT_WR)`). From now on input
    /// is discarded. The connection closes when the peer ends, or at
    /// [`linger_timeout`](crate::Config::linger_timeout) or
    /// [`linger_max_bytes`](crate::Config::linger_max_bytes).
    pub fn finish(&mut self) {
        self.others.ask(Intent::Finish);
    }

    /// Ends the connection with a reset at the end of this callback (RFC 9293, section 3.10.5,
    /// ABORT). Output that is not sent yet is dropped.
    pub fn abort(&mut self) {
        self.others.ask(Intent::Abort);
    }
}

/// Timers.
impl Context<'_> {
    /// Calls [`on_timer`](crate::Handler::on_timer) with `key` once `after` has passed: not earlier,
    /// and later only while the loop is busy. It replaces a timer with the same key. Timers are due in
    /// the order of their times, and of their keys where these are equal, at most
    /// [`timers_per_turn`](crate::Config::timers_per_turn) in one turn. With n timers, to set, cancel
    /// or call one takes time proportional to log n.
    pub fn set_timer(&mut self, key: TimerKey, after: Duration) {
        // At least one nanosecond: a timer that its own callback sets for now must not be due in the
        // same turn.
        let at = self.others.at(after.max(Duration::from_nanos(1)));
        self.backlog.set_timer(at, key);
    }

    /// Removes a timer. True if it was set. It will not be called, even if it was due in this turn.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        self.backlog.remove_timer(key)
    }
}

/// For the connection's turn.
impl Context<'_> {
    pub(crate) fn scope(&self) -> CallScope<'_> {
        self.others.common.scope(self.others.id)
    }

    /// True if any output is not sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.others.output.is_empty() || !self.backlog.output().is_empty()
    }

    /// Moves this turn's output to the backlog.
    #[inline(always)]
    pub(crate) fn hold_output(&mut self) {
        if !self.others.output.is_empty() {
            let limit = self.others.common.config.output_max_bytes;
            self.backlog
                .get_or_insert()
                .output
                .push(self.others.output, limit);
            self.others.output.clear();
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut context = f.debug_struct("Context");
        context
            .field("id", &self.id())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
