//! All that a callback may do.

use crate::common::Common;
use crate::config::ConnectOptions;
use crate::gathered::Gathered;
use crate::handler::{Callback, Handler, TimerKey};
use crate::held::Holding;
use crate::id::Id;
use crate::net::{TcpStream, Told};
use crate::observe::Whose;
use crate::peer::Peer;
use crate::timers::Tick;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The rest of the loop, as a callback may reach it. Everything here only queues ids and bytes; nothing is driven.
pub(crate) trait Others {
    fn room(&self, id: Id) -> usize;
    fn send(&mut self, id: Id, bytes: &[u8]) -> usize;
    fn wake(&mut self, id: Id) -> bool;
    fn half_close(&mut self, id: Id) -> bool;
    fn close(&mut self, id: Id) -> bool;
    fn connect(
        &mut self,
        address: SocketAddr,
        options: &ConnectOptions,
        call: Call,
    ) -> io::Result<Id>;
    fn stop(&mut self);
    /// How many have a turn coming.
    fn queued(&self) -> usize;
}

/// A loop with nobody else in it, for a connection by itself.
#[cfg(any(test, doorkeeper_pieces))]
pub(crate) struct Nobody;

#[cfg(any(test, doorkeeper_pieces))]
impl Others for Nobody {
    fn room(&self, _: Id) -> usize {
        0
    }
    fn send(&mut self, _: Id, _: &[u8]) -> usize {
        0
    }
    fn wake(&mut self, _: Id) -> bool {
        false
    }
    fn half_close(&mut self, _: Id) -> bool {
        false
    }
    fn close(&mut self, _: Id) -> bool {
        false
    }
    fn connect(&mut self, _: SocketAddr, _: &ConnectOptions, _: Call) -> io::Result<Id> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn stop(&mut self) {}
    fn queued(&self) -> usize {
        0
    }
}

/// Who wants to be connected, and since when.
pub(crate) struct Call {
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) since: Tick,
}

/// How a handler asked for its connection to end; where it did, it writes no more.
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
    /// `None` where there never was one.
    pub(crate) socket: Option<&'a TcpStream>,
    pub(crate) held: &'a mut Holding,
    pub(crate) gathered: Gathered<'a>,
    /// How much more may be written; none once the handler has asked for an end.
    pub(crate) room: usize,
    pub(crate) intent: Intent,
    pub(crate) others: &'a mut dyn Others,
}

impl<'a> Context<'a> {
    /// With nothing asked for yet, and room for all that a connection may hold.
    #[inline(always)]
    pub(crate) fn new(
        id: Id,
        peer: &'a Peer,
        common: &'a Common,
        socket: Option<&'a TcpStream>,
        held: &'a mut Holding,
        gathered: Gathered<'a>,
        others: &'a mut dyn Others,
    ) -> Context<'a> {
        let room = common.config.output_max_bytes;
        Context {
            id,
            peer,
            common,
            socket,
            held,
            gathered,
            room,
            intent: Intent::Stay,
            others,
        }
    }
}

impl Context<'_> {
    /// This connection's id, by which others can reach it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The peer's address. An IPv4 peer of a dual-stack listener is shown as IPv4.
    pub fn peer(&self) -> SocketAddr {
        (*self.peer).into()
    }

    /// This side's address ([getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html)); asked of the kernel
    /// at every call, and its errors are the kernel's.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.map_or(
            Err(io::ErrorKind::NotConnected.into()),
            TcpStream::local_addr,
        )
    }

    /// The time of this turn, on the monotonic clock. It stands still while the turn lasts.
    pub fn now(&self) -> Instant {
        self.common.clock.instant(self.common.now)
    }

    /// How many bytes [`write`](Context::write) would take now. 0 after [`finish`](Context::finish) or
    /// [`half_close`](Context::half_close).
    pub fn room(&self) -> usize {
        self.room
    }

    /// Whether anything that was written has not left.
    pub(crate) fn has_output(&self) -> bool {
        !self.gathered.is_empty() || !self.held.output().is_empty()
    }

    /// What was written is to leave later.
    #[inline]
    pub(crate) fn hold_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.hold_all();
        }
    }

    #[inline(never)]
    fn hold_all(&mut self) {
        self.held.hold().output.push(
            self.gathered.as_slice(),
            self.common.config.output_max_bytes,
        );
        self.gathered.clear();
    }

    pub(crate) fn told(&self) -> Told<'_> {
        self.common.told(self.id)
    }

    /// A callback of this connection has returned.
    #[inline(always)]
    pub(crate) fn handled(&self, started: Option<Instant>, callback: Callback) {
        if started.is_some() {
            self.timed(started, callback);
        }
    }

    #[cold]
    fn timed(&self, started: Option<Instant>, callback: Callback) {
        let whose = || Whose {
            id: self.id,
            peer: self.peer(),
            others: self.others.queued(),
        };
        self.common.eyes.handled(started, callback, whose);
    }

    /// How many bytes of input are held because [`on_data`](crate::Handler::on_data) did not consume them. While `on_data`
    /// runs this does not count new input.
    pub fn unread(&self) -> usize {
        self.held.input().len()
    }

    /// Takes as many of the bytes as there is [`room`](Context::room) for, and says how many. It never blocks; the bytes leave
    /// together at the end of the turn.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.gathered.push(&bytes[..taken]);
        taken
    }

    /// [`write`](Context::write) for bytes that live as long as the program. If they are all that is written in this turn, the
    /// connection holds no unsent output, and the socket takes them at once, they are sent from where they lie; else they are
    /// copied, as they are from an `on_drain` that follows a send in the same turn.
    pub fn write_static(&mut self, bytes: &'static [u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.gathered.push_static(&bytes[..taken]);
        taken
    }

    /// Ends this side's output, and goes on listening: what was written is delivered, then the peer is told that no more will
    /// come (`shutdown(SHUT_WR)`, a FIN; RFC 9293, 3.6). Once the peer has ended too and all of its input is consumed, the
    /// connection closes, with [`Reason::Finished`](crate::Reason::Finished).
    pub fn half_close(&mut self) {
        if self.intent == Intent::Stay {
            self.intent = Intent::HalfClose;
            self.room = 0;
        }
    }

    /// Ends this side: what was written is delivered, then the peer is told that no more will come (`shutdown(SHUT_WR)`, a
    /// FIN). Input is discarded from now on, and the connection closes when the peer closes, or at
    /// [`linger_timeout`](crate::Config::linger_timeout) or [`linger_max_bytes`](crate::Config::linger_max_bytes).
    pub fn finish(&mut self) {
        if matches!(self.intent, Intent::Stay | Intent::HalfClose) {
            self.intent = Intent::Finish;
            self.room = 0;
        }
    }

    /// Ends the connection at the end of this callback, with a reset (RFC 9293, 3.10.5 ABORT). What has not left is dropped.
    pub fn abort(&mut self) {
        self.intent = Intent::Abort;
        self.room = 0;
    }

    /// Calls [`on_timer`](crate::Handler::on_timer) with `key` once `after` has passed: not before, and later only by what the
    /// loop is busy with. A timer of the same key is replaced.
    pub fn set_timer(&mut self, key: TimerKey, after: Duration) {
        self.held.remove_alarm(key);
        // One nanosecond at least: a timer set for now, by its own callback, must not come due in the turn that set it.
        let at = self.common.now.after(after.max(Duration::from_nanos(1)));
        self.held.hold().alarms.push((at, key));
    }

    /// Forgets a timer, and says whether it was set. It will not be called, not even if it was due in this very turn.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        self.held.remove_alarm(key)
    }

    /// Gives a connection a turn in which it is offered again what it left unconsumed. False if the id names nothing open.
    pub fn wake(&mut self, id: Id) -> bool {
        self.others.wake(id)
    }

    /// Writes to another connection as much as it has room for, and says how much. 0 if the id names nothing open, or a
    /// connection that has finished. To its own id it is [`write`](Context::write).
    pub fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        if id == self.id {
            self.write(bytes)
        } else {
            self.others.send(id, bytes)
        }
    }

    /// How many bytes [`send`](Context::send) to this id would take now: for messages that must go whole or not at all.
    pub fn room_of(&self, id: Id) -> usize {
        if id == self.id {
            self.room()
        } else {
            self.others.room(id)
        }
    }

    /// Ends the output of another connection, like its own [`half_close`](Context::half_close): a relay carries the end of one
    /// side across with it. False if the id names no connection.
    pub fn half_close_of(&mut self, id: Id) -> bool {
        if id == self.id {
            self.half_close();
            return true;
        }
        self.others.half_close(id)
    }

    /// Closes a connection or a listener at the end of this turn, at once: what the connection has not sent is dropped, and it
    /// is then reset. Clients in a closed listener's waiting room are reset by the kernel. False if the id names nothing open.
    pub fn close(&mut self, id: Id) -> bool {
        self.others.close(id)
    }

    /// Connects to an address, with the default [`ConnectOptions`]; see [`Reactor::connect`](crate::Reactor::connect).
    ///
    /// # Errors
    /// As for [`Reactor::connect`](crate::Reactor::connect).
    pub fn connect(
        &mut self,
        address: SocketAddr,
        handler: impl Handler + 'static,
    ) -> io::Result<Id> {
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
        handler: impl Handler + 'static,
    ) -> io::Result<Id> {
        self.others.connect(
            address,
            options,
            Call {
                handler: Box::new(handler),
                since: self.common.now,
            },
        )
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn.
    pub fn stop(&mut self) {
        self.others.stop();
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
