//! All that a callback can do.

use super::Handler;
use crate::buffers::LazyBacklog;
use crate::common::Common;
use crate::config::ConnectOptions;
use crate::id::Id;
use crate::observe::{CallScope, Callback, Returned};
use crate::peer::Peer;
use crate::time::{Tick, TimerKey};
use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// The rest of the loop, as a callback reaches it. Every method only queues ids and bytes, so no
/// callback runs inside another.
pub(crate) trait LoopOps {
    fn room(&self, id: Id) -> usize;
    fn send(&mut self, id: Id, bytes: &[u8]) -> usize;
    fn wake(&mut self, id: Id) -> bool;
    fn half_close(&mut self, id: Id) -> bool;
    fn close(&mut self, id: Id) -> bool;
    fn connect(&mut self, attempt: Attempt) -> io::Result<Id>;
    /// A timer; `code` is a closure that is given the reactor, whose type is not known here.
    fn after(&mut self, at: Tick, code: Box<dyn Any>) -> io::Result<Id>;
    fn stop(&mut self);
    /// The number of ids in the queue.
    fn queued(&self) -> usize;
}

/// An outgoing connection that was asked for.
pub(crate) struct Attempt {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) since: Tick,
}

/// What a context asks of its connection's socket: the local address, and the descriptor to lend.
pub(crate) trait LocalAddr {
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// `None` for a connection in memory.
    #[cfg(unix)]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// How the handler asked for an end in this turn, if it did. Its writes take 0 bytes from then on. The
/// turn applies it after the callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Intent {
    #[default]
    Stay,
    HalfClose,
    Finish,
    Abort,
}

/// A callback's view of its own connection and of the loop it runs in.
pub struct Context<'a> {
    pub(crate) id: Id,
    pub(crate) peer: &'a Peer,
    pub(crate) common: &'a Common,
    /// `None` if no socket was created.
    pub(crate) socket: Option<&'a dyn LocalAddr>,
    pub(crate) backlog: &'a mut LazyBacklog,
    /// What the callbacks of this turn wrote. It is empty when the turn starts.
    pub(crate) output: &'a mut Vec<u8>,
    /// How much more can be written; 0 once the handler asked for an end.
    pub(crate) room: usize,
    pub(crate) intent: Intent,
    pub(crate) ops: &'a mut dyn LoopOps,
}

impl<'a> Context<'a> {
    #[inline(always)]
    pub(crate) fn new(
        id: Id,
        peer: &'a Peer,
        common: &'a Common,
        socket: Option<&'a dyn LocalAddr>,
        backlog: &'a mut LazyBacklog,
        output: &'a mut Vec<u8>,
        ops: &'a mut dyn LoopOps,
    ) -> Context<'a> {
        let (room, intent) = (common.config.output_max_bytes, Intent::Stay);
        Context {
            id,
            peer,
            common,
            socket,
            backlog,
            output,
            room,
            intent,
            ops,
        }
    }
}

/// The connection and the time.
impl Context<'_> {
    /// This connection's id, by which other code reaches it.
    pub fn id(&self) -> Id {
        self.id
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

    /// The time of this turn, on the monotonic clock. It does not advance during the turn.
    pub fn now(&self) -> Instant {
        self.common.clock.instant(self.common.now)
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
        self.room
    }

    /// Takes as many of the bytes as there is [`room`](Context::room) for, and returns how many. It
    /// never blocks. The bytes are sent together at the end of the turn.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.output.extend_from_slice(&bytes[..taken]);
        taken
    }
}

/// Ends.
impl Context<'_> {
    /// Ends this side's output and goes on reading: the output is sent, followed by a FIN
    /// (`shutdown(SHUT_WR)`; RFC 9293, section 3.6). Once the peer ended too and all of its input is
    /// consumed, the connection closes with [`Reason::Finished`](crate::Reason::Finished).
    pub fn half_close(&mut self) {
        if self.intent == Intent::Stay {
            self.intent = Intent::HalfClose;
            self.room = 0;
        }
    }

    /// Ends this side: the output is sent, followed by a FIN (`shutdown(SHUT_WR)`). From now on input
    /// is discarded. The connection closes when the peer ends, or at
    /// [`linger_timeout`](crate::Config::linger_timeout) or
    /// [`linger_max_bytes`](crate::Config::linger_max_bytes).
    pub fn finish(&mut self) {
        if matches!(self.intent, Intent::Stay | Intent::HalfClose) {
            self.intent = Intent::Finish;
            self.room = 0;
        }
    }

    /// Ends the connection with a reset at the end of this callback (RFC 9293, section 3.10.5,
    /// ABORT). Output that is not sent yet is dropped.
    pub fn abort(&mut self) {
        self.intent = Intent::Abort;
        self.room = 0;
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
        let at = self.common.now.after(after.max(Duration::from_nanos(1)));
        self.backlog.set_timer(at, key);
    }

    /// Removes a timer. True if it was set. It will not be called, even if it was due in this turn.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        self.backlog.remove_timer(key)
    }
}

/// The rest of the loop.
impl Context<'_> {
    /// Gives a connection a turn in which its unconsumed input is offered again. False if the id names
    /// nothing open.
    pub fn wake(&mut self, id: Id) -> bool {
        self.ops.wake(id)
    }

    /// Writes as much to another connection as it has room for, and returns how much. 0 if the id
    /// names nothing open, or a connection that has finished. To this connection's own id it is
    /// [`write`](Context::write).
    pub fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        if id == self.id {
            self.write(bytes)
        } else {
            self.ops.send(id, bytes)
        }
    }

    /// How many bytes [`send`](Context::send) to this id would take now: for messages that must be
    /// sent whole or not at all.
    pub fn room_of(&self, id: Id) -> usize {
        if id == self.id {
            self.room()
        } else {
            self.ops.room(id)
        }
    }

    /// [`half_close`](Context::half_close) for another connection: a relay passes the end of one side
    /// on to the other with it. False if the id names no connection.
    pub fn half_close_of(&mut self, id: Id) -> bool {
        if id == self.id {
            self.half_close();
            return true;
        }
        self.ops.half_close(id)
    }

    /// Closes a connection, a listener or a watched source at the end of this turn. Output that the
    /// connection has not sent is dropped, and the connection is then reset. The kernel resets the
    /// connections in the accept queue of a closed listener. False if the id names nothing open.
    pub fn close(&mut self, id: Id) -> bool {
        self.ops.close(id)
    }

    /// Connects to an address with the default [`ConnectOptions`]; see
    /// [`Reactor::connect`](crate::Reactor::connect).
    ///
    /// # Errors
    /// As for [`Reactor::connect`](crate::Reactor::connect).
    pub fn connect(&mut self, address: SocketAddr, handler: impl Handler) -> io::Result<Id> {
        self.connect_with(address, &ConnectOptions::default(), handler)
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// As for [`Reactor::connect`](crate::Reactor::connect).
    pub fn connect_with(
        &mut self,
        address: SocketAddr,
        options: &ConnectOptions,
        handler: impl Handler,
    ) -> io::Result<Id> {
        let (options, handler, since) = (options.clone(), Box::new(handler), self.common.now);
        self.ops.connect(Attempt {
            address,
            options,
            handler,
            since,
        })
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn.
    pub fn stop(&mut self) {
        self.ops.stop();
    }
}

/// For the connection's turn.
impl Context<'_> {
    pub(crate) fn scope(&self) -> CallScope<'_> {
        self.common.scope(self.id)
    }

    /// True if any output is not sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty() || !self.backlog.output().is_empty()
    }

    /// Moves this turn's output to the backlog.
    #[inline(always)]
    pub(crate) fn hold_output(&mut self) {
        if !self.output.is_empty() {
            let limit = self.common.config.output_max_bytes;
            self.backlog.get_or_insert().output.push(self.output, limit);
            self.output.clear();
        }
    }

    /// Reports that a callback of this connection returned, if callbacks are timed.
    pub(crate) fn returned(&self, started: Option<Instant>, callback: Callback) {
        let (id, peer, queued) = (self.id, self.peer(), self.ops.queued());
        let returned = || Returned {
            id,
            peer,
            callback,
            queued,
        };
        self.common.observation.returned(started, returned);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut context = f.debug_struct("Context");
        context
            .field("id", &self.id)
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
