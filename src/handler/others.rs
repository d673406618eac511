//! Everything else on the loop, as a callback reaches it, and what a service is told.

use super::Handler;
use crate::common::Common;
use crate::config::ConnectOptions;
use crate::id::Id;
use crate::time::Tick;
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
    fn room(&self, id: Id, common: &Common) -> usize;
    fn send(&mut self, id: Id, bytes: &[u8], common: &Common) -> usize;
    fn wake(&mut self, id: Id) -> bool;
    fn half_close(&mut self, id: Id) -> bool;
    /// In good order.
    fn close(&mut self, id: Id, now: Tick) -> bool;
    fn abort(&mut self, id: Id) -> bool;
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
    /// Lends each layer over the socket, the uppermost first.
    fn layers(&self, code: &mut dyn FnMut(&mut dyn Any)) {
        let _ = code;
    }
}

/// How the handler asked for an end in this turn, if it did. From `HalfClose` on its writes take 0 bytes.
/// The turn applies it after the callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Intent {
    #[default]
    Stay,
    /// Another handler takes over.
    Become,
    /// Not yet: it finishes once nothing is under way.
    WhenQuiet,
    HalfClose,
    Finish,
    Abort,
}

/// Everything else on the loop, reached by its id. Every callback has one, and the
/// [`Reactor`](crate::Reactor) has the same methods, for timers, posts and the program.
///
/// A method only queues ids and bytes, so no callback runs inside another. The id of the callback's own
/// connection is an id like all others: what it asks for happens as if the connection had asked for it
/// itself.
pub struct Others<'a> {
    pub(crate) id: Id,
    pub(crate) common: &'a Common,
    /// What the callbacks of this turn wrote to their own connection. It is empty when the turn starts.
    pub(crate) output: &'a mut Vec<u8>,
    /// How much more can be written; 0 once the handler asked for an end.
    pub(crate) room: usize,
    pub(crate) intent: Intent,
    pub(crate) ops: &'a mut dyn LoopOps,
}

impl<'a> Others<'a> {
    #[inline(always)]
    pub(crate) fn new(
        id: Id,
        common: &'a Common,
        output: &'a mut Vec<u8>,
        ops: &'a mut dyn LoopOps,
    ) -> Others<'a> {
        let (room, intent) = (common.config.output_max_bytes, Intent::Stay);
        Others {
            id,
            common,
            output,
            room,
            intent,
            ops,
        }
    }

    /// Those of a callback whose connection is not open yet, or not any more.
    pub(crate) fn without_own(
        id: Id,
        common: &'a Common,
        output: &'a mut Vec<u8>,
        ops: &'a mut dyn LoopOps,
    ) -> Others<'a> {
        let mut others = Others::new(id, common, output, ops);
        others.ask(Intent::Abort);
        others
    }
}

/// Another connection, listener, timer or watched source.
impl Others<'_> {
    /// How many bytes [`send`](Others::send) to this id would take now: for messages that must be sent
    /// whole or not at all.
    pub fn room(&self, id: Id) -> usize {
        if id == self.id {
            self.room
        } else {
            self.ops.room(id, self.common)
        }
    }

    /// Writes as much to a connection as it has room for, and returns how much. 0 if the id names
    /// nothing open, or a connection whose output has ended.
    ///
    /// What is sent to an outgoing connection that is not established waits, and leaves once it is. If it
    /// never is, its receipt counts these bytes as unsent. If some wait when the attempt begins, which is
    /// in the next turn, Linux sends them with the ACK that completes the handshake, and not after it
    /// (TCP_QUICKACK, [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html)). With a
    /// [`Layered`](crate::Layered) handler it does not, because a layer may read before it writes.
    ///
    /// Small messages to one id leave together, in its next turn. A message of 4096 bytes or more is
    /// given to the kernel at once if nothing waits in front of it, at most one before the next turn; an
    /// [`abort`](Others::abort) cannot take it back.
    pub fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        if id == self.id {
            self.write(bytes)
        } else {
            self.ops.send(id, bytes, self.common)
        }
    }

    /// Calls [`on_wake`](Handler::on_wake) of a connection in its next turn, and then offers its
    /// unconsumed input again. A watched source has a turn too. False if the id names nothing open.
    pub fn wake(&mut self, id: Id) -> bool {
        self.ops.wake(id)
    }

    /// Ends a connection's output as [`Context::half_close`](crate::Context::half_close) does: a relay
    /// passes the end of one side on to the other with it. False if the id names no open connection.
    pub fn half_close(&mut self, id: Id) -> bool {
        if id == self.id {
            return self.ask(Intent::HalfClose);
        }
        self.ops.half_close(id)
    }

    /// Closes in good order. A connection sends what was written to it, as after
    /// [`Context::finish`](crate::Context::finish). If `on_open` has to come, it has no room, and if it
    /// returns an error, nothing is sent. An outgoing connection that is not established does so too, once
    /// it is; if nothing was sent to it, it ends with this turn. So does a listener, a watched source or a
    /// timer. The kernel resets the connections in the accept queue of a closed listener. False if the id
    /// names nothing open.
    pub fn close(&mut self, id: Id) -> bool {
        if id == self.id {
            return self.ask(Intent::Finish);
        }
        self.ops.close(id, self.common.now)
    }

    /// Ends a connection with a reset, as [`Context::abort`](crate::Context::abort) does, in its next
    /// turn. Output that is not sent yet is dropped. An outgoing connection that is not established ends
    /// with this turn. For everything else it is [`close`](Others::close). False if the id names nothing
    /// open.
    pub fn abort(&mut self, id: Id) -> bool {
        if id == self.id {
            return self.ask(Intent::Abort);
        }
        self.ops.abort(id)
    }
}

/// New connections, the time, the end.
impl Others<'_> {
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
        let (options, since) = (options.clone(), self.common.now);
        self.ops.connect(Attempt {
            address,
            options,
            handler: super::boxed(handler),
            since,
        })
    }

    /// The time of this turn, on the monotonic clock. It does not advance during the turn.
    pub fn now(&self) -> Instant {
        self.common.clock.instant(self.common.now)
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn.
    pub fn stop(&mut self) {
        self.ops.stop();
    }

    /// The time at which `wait` from now has passed.
    pub(crate) fn at(&self, wait: Duration) -> Tick {
        self.common.now.after(wait)
    }
}

/// The callback's own connection.
impl Others<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.output.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Asks for an end. One that goes further replaces an earlier one. False after an abort, and if the
    /// connection is not open.
    pub(crate) fn ask(&mut self, intent: Intent) -> bool {
        if self.intent == Intent::Abort {
            return false;
        }
        self.intent = self.intent.max(intent);
        self.room = 0;
        true
    }
}

/// What a service is told of a connection that its listener accepted.
pub struct Arrival<'a> {
    /// The id that the connection will have. Until the service returns, it is not open.
    pub id: Id,
    /// The listener that accepted it.
    pub listener: Id,
    /// The peer's address. An IPv4 peer of a dual-stack listener has its IPv4 address.
    pub peer: SocketAddr,
    /// Everything else on the loop.
    pub others: Others<'a>,
    pub(crate) socket: &'a dyn LocalAddr,
}

impl Arrival<'_> {
    /// The address at which the client arrived: one of the machine's, also where the listener listens
    /// on all of them. Each call asks the kernel.
    ///
    /// # Errors
    /// Those of [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html).
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl fmt::Debug for Others<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut others = f.debug_struct("Others");
        others.field("own", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Arrival<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arrival = f.debug_struct("Arrival");
        arrival
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
