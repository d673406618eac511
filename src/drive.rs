//! One turn of one source: a listener accepts, a call is connected, a connection converses, a watched source is its host's.

use crate::admission::Stop;
use crate::context::{Context, Endpoint, Intent, Others};
use crate::dial::Dial;
use crate::end::End;
use crate::handler::{Callback, Closed, Handler, Reason};
use crate::held::Holding;
use crate::id::Id;
use crate::net::{self, Line, TcpStream, Told};
use crate::observe::{Budget, Event, Whose};
use crate::peer::Peer;
use crate::reactor::Reactor;
use crate::readiness::Readiness;
use crate::sources::{Connection, Listener, Source};
use crate::stream::Stream;
use crate::watch::{Next, Watched};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of an embedder; `None` if it panicked.
pub(crate) fn guard<R>(code: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(code)).ok()
}

impl Reactor {
    pub(crate) fn drive_one(&mut self, id: Id, noted: Readiness, source: Source) {
        match source {
            Source::Connection(connection) => self.converse(id, noted, connection),
            Source::Listener(listener) => self.admit(id, noted, listener),
            Source::Dial(dial) => self.dial(id, noted, dial),
            Source::Watch(watched) => self.attend(id, watched),
            Source::Away | Source::Closed => {}
        }
    }

    /// A connection's turn.
    fn converse(&mut self, id: Id, noted: Readiness, mut connection: Connection) {
        let Connection { stream, held, peer, handler, socket } = &mut connection;
        let (received, sent) = stream.moved();
        let line = Line { socket, told: Told { id, eyes: &self.eyes } };
        let mut cx = Context {
            id,
            peer: *peer,
            epoch: self.clock.epoch,
            now: self.now,
            config: &self.config,
            eyes: &self.eyes,
            endpoint: &line,
            held,
            gathered: &mut self.gathered,
            intent: stream.intent(),
            others: &mut self.sources,
        };
        let result = stream.turn(noted, &mut **handler, &mut self.input, &mut cx);
        self.stats.bytes_received += stream.moved().0 - received;
        self.stats.bytes_sent += stream.moved().1 - sent;
        if let Err(end) = result.and_then(|()| self.see_to_next(id, noted, &mut connection)) {
            return self.end(id, connection, end);
        }
        self.sources.check_in(id, Source::Connection(connection));
    }

    /// Sees to it that the connection has its next turn when there is anything to do in it.
    fn see_to_next(&mut self, id: Id, noted: Readiness, connection: &mut Connection) -> Result<(), End> {
        let Connection { stream, held, socket, .. } = connection;
        if stream.must_await_writable() {
            self.poller.add_writable(socket, id)?;
        }
        if stream.wants_turn(held, &self.config) {
            self.sources.mark(id, Readiness::default());
        }
        // Armed lazily: a deadline that moved away is left where it was. It comes too early, finds nothing due, and is armed
        // anew, so that activity costs nothing here.
        if noted.has(Readiness::ARMED) && !stream.has_near_deadline(held) {
            return Ok(());
        }
        let armed = self.timers.get(id.slot());
        let deadline = stream.deadline(held, &self.config);
        if let Some(deadline) = deadline.filter(|&deadline| armed.is_none_or(|armed| deadline < armed)) {
            self.timers.arm(id.slot(), deadline);
            self.sources.mark_armed(id);
        }
        Ok(())
    }

    /// Ends a connection: the receipt, the last callback, the socket, the slot.
    fn end(&mut self, id: Id, connection: Connection, end: End) {
        let Connection { stream, held, peer, handler, socket } = connection;
        let closed = stream.close(end, self.now, &held, &mut self.gathered);
        if closed.reason == Reason::Aborted || closed.unsent > 0 {
            socket.reset_on_close();
        }
        self.part(id, peer, Some(&socket), handler, &closed);
        socket.close(&self.told(id));
    }

    pub(crate) fn told(&self, id: Id) -> Told<'_> {
        Told { id, eyes: &self.eyes }
    }

    /// The slot, the counters, the last callback: its context reaches the loop, and nothing of the connection.
    fn part(&mut self, id: Id, peer: Peer, socket: Option<&TcpStream>, mut handler: Box<dyn Handler>, closed: &Closed) {
        self.log_end(id, peer.into(), closed);
        self.timers.disarm(id.slot());
        self.sources.retire(id);
        self.sources.open -= 1;
        self.stats.closed[closed.reason as usize] += 1;
        let mut cx = Context {
            id,
            peer,
            epoch: self.clock.epoch,
            now: self.now,
            config: &self.config,
            eyes: &self.eyes,
            endpoint: &Gone { socket },
            held: &mut Holding::default(),
            gathered: &mut self.gathered,
            intent: Intent::Abort,
            others: &mut self.sources,
        };
        let started = cx.eyes.start();
        let told = guard(|| handler.on_close(&mut cx, closed));
        cx.handled(started, Callback::Close);
        let dropped = guard(|| drop(handler));
        if told.and(dropped).is_none() {
            self.count_panic("on_close");
        }
    }

    /// A call's turn.
    fn dial(&mut self, id: Id, noted: Readiness, mut dial: Box<Dial>) {
        match dial.turn(noted, &self.poller, &self.config, self.now, &self.told(id)) {
            Ok(true) => self.connected(id, *dial),
            Ok(false) => {
                self.timers.arm(id.slot(), dial.deadline(&self.config));
                self.sources.check_in(id, Source::Dial(dial));
            }
            Err(end) => self.end_dial(id, *dial, end),
        }
    }

    /// The call is answered: from here on it is a connection like any other, and has its first turn at once.
    fn connected(&mut self, id: Id, dial: Dial) {
        let Dial { address, handler, socket: Some(socket), noted, half_closed, .. } = dial else { return };
        self.timers.disarm(id.slot());
        self.stats.connected += 1;
        log::debug!("connection {id} to {address}");
        let mut stream = Stream::connected(self.now);
        if half_closed {
            stream.half_close();
        }
        self.converse(id, noted, Connection::new(stream, address, handler, socket));
    }

    fn end_dial(&mut self, id: Id, dial: Dial, end: End) {
        let closed = dial.close(end, self.now);
        self.part(id, dial.address.into(), dial.socket.as_ref(), dial.handler, &closed);
        if let Some(socket) = dial.socket {
            socket.close(&self.told(id));
        }
    }

    /// A watched source's turn.
    fn attend(&mut self, id: Id, mut watched: Box<dyn Watched>) {
        match guard(|| watched.turn(self, id)) {
            Some(Next::Done) => self.unwatch(id, watched),
            Some(next) => {
                self.sources.check_in(id, Source::Watch(watched));
                if next == Next::Again {
                    self.sources.mark(id, Readiness::default());
                }
            }
            None => {
                self.count_panic("the callback of a watched source");
                self.unwatch(id, watched);
            }
        }
    }

    fn unwatch(&mut self, id: Id, mut watched: Box<dyn Watched>) {
        let gone = guard(|| {
            watched.deregister(&self.poller);
            drop(watched);
        });
        self.sources.retire(id);
        if gone.is_none() {
            self.count_panic("a watched source");
        }
    }

    fn log_end(&mut self, id: Id, peer: SocketAddr, closed: &Closed) {
        match closed.reason {
            Reason::Panic => self.count_panic("a handler"),
            Reason::Handler => {
                if let Some(suppressed) = self.troubles.handler.pass(self.now) {
                    log::warn!("connection {id} with {peer}: handler error{}{}", error_text(closed), more(suppressed));
                }
            }
            _ => {}
        }
        log::debug!(
            "connection {id} with {peer} closed: {}{}; {} bytes received, {} sent, {} unsent, {} discarded, age {} ms",
            closed.reason,
            error_text(closed),
            closed.received,
            closed.sent,
            closed.unsent,
            closed.discarded,
            closed.age.as_millis() as u64
        );
    }

    pub(crate) fn count_panic(&mut self, whose: &str) {
        self.stats.panics += 1;
        if let Some(suppressed) = self.troubles.panic.pass(self.now) {
            log::error!("{whose} panicked{}", more(suppressed));
        }
    }

    /// Closes whatever the id names, now.
    pub(crate) fn close_now(&mut self, id: Id, reason: Reason) {
        match self.sources.check_out(id) {
            Some(Source::Connection(connection)) => self.end(id, connection, reason.into()),
            Some(Source::Listener(listener)) => self.close_listener(id, *listener),
            Some(Source::Dial(dial)) => self.end_dial(id, *dial, reason.into()),
            Some(Source::Watch(watched)) => self.unwatch(id, watched),
            Some(Source::Away | Source::Closed) | None => {}
        }
    }

    fn close_listener(&mut self, id: Id, listener: Listener) {
        let Listener { socket, service, .. } = listener;
        socket.close(&self.told(id));
        log::info!("listener {id} closed");
        self.timers.disarm(id.slot());
        self.sources.retire(id);
        if guard(|| drop(service)).is_none() {
            self.count_panic("a service");
        }
    }

    /// A listener's turn.
    fn admit(&mut self, id: Id, noted: Readiness, mut listener: Box<Listener>) {
        if noted.has(Readiness::READABLE) {
            listener.admission.arrival();
        }
        if listener.admission.may_accept(self.now, noted.has(Readiness::WOKEN)) {
            let stop = self.accept_some(id, &mut listener);
            let before = listener.admission.door();
            let over = listener.admission.stopped(stop, self.now);
            let state = listener.admission.door();
            if state != before {
                self.eyes.tell(|| Event::Admission { id, state });
            }
            if stop == Stop::Budget {
                self.eyes.tell(|| Event::Spent { id, budget: Budget::Accept });
            }
            if over {
                return self.close_listener(id, *listener);
            }
        }
        if let Some(deadline) = listener.admission.deadline() {
            self.timers.arm(id.slot(), deadline);
        }
        let again = listener.admission.wants_turn();
        self.sources.check_in(id, Source::Listener(listener));
        if again {
            self.sources.mark(id, Readiness::default());
        }
    }

    /// Accepts until the waiting room is empty, within the budget of a turn.
    fn accept_some(&mut self, id: Id, listener: &mut Listener) -> Stop {
        let mut failed = 0;
        for _ in 0..self.config.accept_budget {
            if self.sources.open >= self.config.max_connections || !self.sources.has_slot() {
                return Stop::House;
            }
            match listener.socket.accept(self.sources.next_id(), &self.told(id)) {
                Ok((socket, peer)) => self.welcome(id, listener, socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Stop::Empty,
                Err(error) => {
                    failed += 1;
                    self.log_accept_error(id, &error);
                    if net::is_exhausted(&error) {
                        return Stop::Exhausted;
                    }
                }
            }
        }
        // An error costs the one connection it stands for. Where nothing but errors came, it stands for none: going on
        // would spin.
        if failed == self.config.accept_budget { Stop::Exhausted } else { Stop::Budget }
    }

    fn log_accept_error(&mut self, id: Id, error: &io::Error) {
        self.stats.accept_errors += 1;
        if let Some(suppressed) = self.troubles.accept.pass(self.now) {
            log::warn!("listener {id}: accept: {error}{}", more(suppressed));
        }
    }

    /// Takes someone in: a handler from the service, a slot, the poller.
    fn welcome(&mut self, door: Id, listener: &mut Listener, mut socket: TcpStream, peer: SocketAddr) {
        self.stats.accepted += 1;
        // An IPv4 peer of a dual-stack listener is shown as IPv4.
        let peer = SocketAddr::from(Peer::from(peer));
        let started = self.eyes.start();
        let answer = guard(|| listener.service.open(peer));
        self.eyes.handled(started, Callback::Service, || Whose { id: door, peer, others: self.sources.queued() });
        let Some(Some(handler)) = answer else {
            socket.close(&self.told(self.sources.next_id()));
            self.stats.turned_away += 1;
            return match answer {
                None => self.count_panic("a service"),
                Some(_) => log::debug!("{peer} turned away"),
            };
        };
        let registered = self.poller.add_stream(&mut socket, self.sources.next_id());
        let id = self.sources.add_connection(Connection::new(Stream::new(self.now), peer, handler, socket));
        log::debug!("connection {id} from {peer}");
        if let Err(error) = registered {
            self.refuse(id, error);
        }
    }

    /// The poller would not take a socket (ENOSPC at max_user_watches, ENOMEM; epoll_ctl(2)): that one goes, the rest stay.
    fn refuse(&mut self, id: Id, error: io::Error) {
        if let Some(suppressed) = self.troubles.register.pass(self.now) {
            log::warn!("connection {id}: cannot be watched: {error}{}", more(suppressed));
        }
        if let Some(Source::Connection(connection)) = self.sources.check_out(id) {
            self.end(id, connection, End { reason: Reason::Io, error: Some(error) });
        }
    }

    /// Lets a listener take in those who wait, and then closes it.
    pub(crate) fn drain_listener(&mut self, id: Id) {
        if let Some(Source::Listener(mut listener)) = self.sources.check_out(id) {
            listener.admission.drain();
            self.eyes.tell(|| Event::Admission { id, state: listener.admission.door() });
            self.sources.check_in(id, Source::Listener(listener));
            self.sources.mark(id, Readiness::WOKEN);
        }
    }

    /// A slot, and with it a descriptor, became free: whoever was kept waiting for one may try.
    pub(crate) fn reopen_doors(&mut self) {
        for place in 0..self.sources.listeners.len() {
            let id = self.sources.listeners[place];
            let held_up = matches!(self.sources.get(id), Some(Source::Listener(listener)) if listener.admission.is_held_up());
            if held_up {
                self.sources.mark(id, Readiness::WOKEN);
            }
        }
    }
}

/// What is left of a connection's socket in its last callback: its address, if it ever had one.
struct Gone<'a> {
    socket: Option<&'a TcpStream>,
}

impl Endpoint for Gone<'_> {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.map_or(Err(io::ErrorKind::NotConnected.into()), TcpStream::local_addr)
    }

    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn write(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// What the error says, on one line whatever bytes of a peer are in it.
fn error_text(closed: &Closed) -> String {
    let Some(error) = &closed.error else { return String::new() };
    // A handler's own error, and so its code.
    let text = guard(|| error.to_string()).unwrap_or_else(|| "an error that panicked when it was printed".to_string());
    format!(" ({})", text.escape_debug())
}

fn more(suppressed: u64) -> String {
    if suppressed == 0 { String::new() } else { format!(" ({suppressed} more like it since the last)") }
}
