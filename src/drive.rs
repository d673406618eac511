//! One turn of one source: a listener accepts, a call is connected, a connection converses, a watched source is its host's.

use crate::admission::Stop;
use crate::context::{Context, Others};
use crate::dial::Dial;
use crate::end::End;
use crate::gathered::Gathered;
use crate::handler::{Callback, Closed, Handler, Reason};
use crate::held::Holding;
use crate::id::Id;
use crate::net::{self, TcpStream};
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
    /// The turn of whatever the id names, if it has not closed meanwhile.
    pub(crate) fn drive_one(&mut self, id: Id) {
        let Some(slot) = self.sources.slot(id) else {
            return;
        };
        let noted = slot.noted.take();
        let mut source = slot.check_out();
        let Source::Connection(connection) = &mut source else {
            return self.drive_other(id, noted, source);
        };
        let Connection {
            stream,
            held,
            peer,
            handler,
            socket,
        } = connection;
        let common = &self.common;
        let count = match stream.hear(noted, &*socket, id, held, common, &mut self.input) {
            Ok(count) => count,
            Err(error) => return self.fail(id, source, error),
        };
        let gathered = Gathered::new(&self.input[..count], &mut self.gathered);
        let mut cx = Context::new(
            id,
            peer,
            common,
            Some(&*socket),
            held,
            gathered,
            &mut self.sources,
        );
        let result = stream.answer(&*socket, &mut **handler, &mut cx);
        if result.is_err() {
            cx.gathered.settle();
        }
        let armed = noted.has(Readiness::ARMED) || common.config.idle_timeout.is_none();
        let result = match result {
            Ok(true) if armed => Ok(()),
            Ok(_) => self.see_to_next(id, noted, connection),
            Err(end) => Err(end),
        };
        if let Err(end) = result {
            return self.end(id, source, end);
        }
        if let Some(slot) = self.sources.place(id) {
            slot.check_in(source);
        }
    }

    #[inline(never)]
    fn drive_other(&mut self, id: Id, noted: Readiness, source: Source) {
        match source {
            Source::Listener(listener) => self.admit(id, noted, listener),
            Source::Dial(dial) => self.dial(id, noted, dial),
            Source::Watch(watched) => self.attend(id, watched),
            Source::Connection(_) | Source::Away | Source::Closed => {}
        }
    }

    /// A connection whose read failed.
    #[cold]
    fn fail(&mut self, id: Id, mut source: Source, error: io::Error) {
        let Source::Connection(Connection {
            stream,
            held,
            peer,
            handler,
            socket,
        }) = &mut source
        else {
            return;
        };
        let gathered = Gathered::new(&[], &mut self.gathered);
        let mut cx = Context::new(
            id,
            peer,
            &self.common,
            Some(&*socket),
            held,
            gathered,
            &mut self.sources,
        );
        let end = stream.fail(error, &mut **handler, &mut cx);
        cx.gathered.settle();
        self.end(id, source, end);
    }

    /// Sees to it that the connection has its next turn when there is anything to do in it.
    #[inline(never)]
    fn see_to_next(
        &mut self,
        id: Id,
        noted: Readiness,
        connection: &mut Connection,
    ) -> Result<(), End> {
        let Connection {
            stream,
            held,
            socket,
            ..
        } = connection;
        if stream.must_await_writable() {
            self.poller.add_writable(socket, id)?;
        }
        if stream.wants_turn(held, &self.common.config) {
            self.sources.mark(id, Readiness::default());
        }
        // Armed lazily: a deadline that moved away is left where it was. It comes too early, finds nothing due, and is armed
        // anew, so that activity costs nothing here.
        if noted.has(Readiness::ARMED) && !stream.has_near_deadline(held) {
            return Ok(());
        }
        let armed = self.timers.get(id.slot());
        let deadline = stream.deadline(held, &self.common.config);
        if let Some(deadline) =
            deadline.filter(|&deadline| armed.is_none_or(|armed| deadline < armed))
        {
            self.timers.arm(id.slot(), deadline);
            self.sources.mark_armed(id);
        }
        Ok(())
    }

    /// Ends a connection: the receipt, the last callback, the socket, the slot.
    fn end(&mut self, id: Id, source: Source, end: End) {
        let Source::Connection(Connection {
            stream,
            held,
            peer,
            handler,
            socket,
        }) = source
        else {
            return;
        };
        let closed = stream.close(end, self.common.now, &held, &mut self.gathered);
        if closed.reason == Reason::Aborted || closed.unsent > 0 {
            socket.reset_on_close();
        }
        self.part(id, peer, Some(&socket), handler, &closed);
        socket.close(self.common.told(id));
    }

    /// The slot, the counters, the last callback: its context reaches the loop, and nothing of the connection.
    fn part(
        &mut self,
        id: Id,
        peer: Peer,
        socket: Option<&TcpStream>,
        mut handler: Box<dyn Handler>,
        closed: &Closed,
    ) {
        self.log_end(id, peer.into(), closed);
        self.timers.disarm(id.slot());
        self.sources.retire(id);
        self.sources.open -= 1;
        self.stats.closed[closed.reason as usize] += 1;
        let mut nothing = Holding::default();
        let gathered = Gathered::new(&[], &mut self.gathered);
        let mut cx = Context::new(
            id,
            &peer,
            &self.common,
            socket,
            &mut nothing,
            gathered,
            &mut self.sources,
        );
        cx.abort();
        let started = cx.common.eyes.start();
        let told = guard(|| handler.on_close(&mut cx, closed));
        cx.handled(started, Callback::Close);
        let dropped = guard(|| drop(handler));
        if told.and(dropped).is_none() {
            self.count_panic("on_close");
        }
    }

    /// A call's turn.
    fn dial(&mut self, id: Id, noted: Readiness, mut dial: Box<Dial>) {
        match dial.turn(
            noted,
            &self.poller,
            &self.common.config,
            self.common.now,
            self.common.told(id),
        ) {
            Ok(true) => self.connected(id, *dial),
            Ok(false) => {
                self.timers
                    .arm(id.slot(), dial.deadline(&self.common.config));
                self.sources.check_in(id, Source::Dial(dial));
            }
            Err(end) => self.end_dial(id, *dial, end),
        }
    }

    /// The call is answered: from here on it is a connection like any other, and has its first turn at once.
    fn connected(&mut self, id: Id, dial: Dial) {
        let Dial {
            address,
            handler,
            socket: Some(socket),
            noted,
            half_closed,
            ..
        } = dial
        else {
            return;
        };
        self.timers.disarm(id.slot());
        self.stats.connected += 1;
        log::debug!("connection {id} to {address}");
        let mut stream = Stream::connected(self.common.now);
        if half_closed {
            stream.half_close();
        }
        if let Some(slot) = self.sources.slot(id) {
            slot.check_in(Source::Connection(Connection::new(
                stream, address, handler, socket,
            )));
            slot.noted.add(noted);
        }
        self.drive_one(id);
    }

    fn end_dial(&mut self, id: Id, dial: Dial, end: End) {
        let closed = dial.close(end, self.common.now);
        self.part(
            id,
            dial.address.into(),
            dial.socket.as_ref(),
            dial.handler,
            &closed,
        );
        if let Some(socket) = dial.socket {
            socket.close(self.common.told(id));
        }
    }

    /// A watched source's turn.
    fn attend(&mut self, id: Id, mut watched: Box<dyn Watched>) {
        match self.lend(|reactor| watched.turn(reactor, id)) {
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
            Reason::HandlerError => {
                if let Some(suppressed) = self.troubles.handler.pass(self.common.now) {
                    log::warn!(
                        "connection {id} with {peer}: handler error{}{}",
                        error_text(closed),
                        more(suppressed)
                    );
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
        if let Some(suppressed) = self.troubles.panic.pass(self.common.now) {
            log::error!("{whose} panicked{}", more(suppressed));
        }
    }

    /// Closes whatever the id names, now.
    pub(crate) fn close_now(&mut self, id: Id, reason: Reason) {
        match self.sources.check_out(id) {
            Some(source @ Source::Connection(_)) => self.end(id, source, reason.into()),
            Some(Source::Listener(listener)) => self.close_listener(id, *listener),
            Some(Source::Dial(dial)) => self.end_dial(id, *dial, reason.into()),
            Some(Source::Watch(watched)) => self.unwatch(id, watched),
            Some(Source::Away | Source::Closed) | None => {}
        }
    }

    fn close_listener(&mut self, id: Id, listener: Listener) {
        let Listener {
            socket, service, ..
        } = listener;
        socket.close(self.common.told(id));
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
        if listener
            .admission
            .may_accept(self.common.now, noted.has(Readiness::WOKEN))
        {
            let stop = self.accept_some(id, &mut listener);
            let before = listener.admission.door();
            let over = listener.admission.stopped(stop, self.common.now);
            let state = listener.admission.door();
            if state != before {
                self.common.eyes.tell(|| Event::ListenerState { id, state });
            }
            if stop == Stop::Budget {
                self.common.eyes.tell(|| Event::BudgetSpent {
                    id,
                    budget: Budget::Accept,
                });
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
        for _ in 0..self.common.config.accept_budget {
            if self.sources.open >= self.common.config.max_connections || !self.sources.has_slot() {
                return Stop::House;
            }
            match listener
                .socket
                .accept(self.sources.next_id(), self.common.told(id))
            {
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
        if failed == self.common.config.accept_budget {
            Stop::Exhausted
        } else {
            Stop::Budget
        }
    }

    fn log_accept_error(&mut self, id: Id, error: &io::Error) {
        self.stats.accept_errors += 1;
        if let Some(suppressed) = self.troubles.accept.pass(self.common.now) {
            log::warn!("listener {id}: accept: {error}{}", more(suppressed));
        }
    }

    /// Takes someone in: a handler from the service, a slot, the poller.
    fn welcome(
        &mut self,
        door: Id,
        listener: &mut Listener,
        mut socket: TcpStream,
        peer: SocketAddr,
    ) {
        self.stats.accepted += 1;
        // An IPv4 peer of a dual-stack listener is shown as IPv4.
        let peer = SocketAddr::from(Peer::from(peer));
        let started = self.common.eyes.start();
        let answer = guard(|| listener.service.open(peer));
        self.common
            .eyes
            .handled(started, Callback::Service, || Whose {
                id: door,
                peer,
                others: self.sources.queued(),
            });
        let Some(Some(handler)) = answer else {
            socket.close(self.common.told(self.sources.next_id()));
            self.stats.turned_away += 1;
            return match answer {
                None => self.count_panic("a service"),
                Some(_) => log::debug!("{peer} turned away"),
            };
        };
        let registered = self.poller.add_stream(&mut socket, self.sources.next_id());
        let id = self.sources.add_connection(Connection::new(
            Stream::new(self.common.now),
            peer,
            handler,
            socket,
        ));
        log::debug!("connection {id} from {peer}");
        if let Err(error) = registered {
            self.refuse(id, error);
        }
    }

    /// The poller would not take a socket (ENOSPC at max_user_watches, ENOMEM; epoll_ctl(2)): that one goes, the rest stay.
    fn refuse(&mut self, id: Id, error: io::Error) {
        if let Some(suppressed) = self.troubles.register.pass(self.common.now) {
            log::warn!(
                "connection {id}: cannot be watched: {error}{}",
                more(suppressed)
            );
        }
        if let Some(source) = self.sources.check_out(id) {
            self.end(
                id,
                source,
                End {
                    reason: Reason::Io,
                    error: Some(error),
                },
            );
        }
    }

    /// Lets a listener take in those who wait, and then closes it.
    pub(crate) fn drain_listener(&mut self, id: Id) {
        if let Some(Source::Listener(mut listener)) = self.sources.check_out(id) {
            listener.admission.drain();
            self.common.eyes.tell(|| Event::ListenerState {
                id,
                state: listener.admission.door(),
            });
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

/// What the error says, on one line whatever bytes of a peer are in it.
fn error_text(closed: &Closed) -> String {
    let Some(error) = &closed.error else {
        return String::new();
    };
    // A handler's own error, and so its code.
    let text = guard(|| error.to_string())
        .unwrap_or_else(|| "an error that panicked when it was printed".to_string());
    format!(" ({})", text.escape_debug())
}

fn more(suppressed: u64) -> String {
    if suppressed == 0 {
        String::new()
    } else {
        format!(" ({suppressed} more like it since the last)")
    }
}
