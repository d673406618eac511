//! A connection's turn: read, callbacks, send, what comes next, the end.

use super::Reactor;
use super::layered::{layers_over, put_back};
use super::sources::{Connection, Source};
use crate::buffers::LazyBacklog;
use crate::closed::{Closed, End, Reason};
use crate::config::Config;
use crate::guard::{discard, guard};
use crate::handler::{Attempt, Context, Handler, LocalAddr, LoopOps, Others};
use crate::id::Id;
use crate::layers::Layered;
use crate::observe::{Callback, Returned};
use crate::readiness::Readiness;
use std::io;
use std::rc::Rc;

impl Reactor {
    /// The turn of the source that the id names, if it has not closed since. The source is taken out
    /// of its slot for the turn, so that its callbacks can reach every other source without reference
    /// counts.
    pub(super) fn drive_source(&mut self, id: Id) {
        // None if it closed after it was queued: the serial of the slot has moved on.
        let Some(slot) = self.sources.slot(id) else {
            return;
        };
        let special = Readiness::LAYERED.union(Readiness::LIMITED);
        if slot.pending.intersects(special.union(Readiness::CLOSING)) {
            return self.drive_special(id);
        }
        // QUEUED is taken too, so a mark that arrives during the turn queues the id again.
        let marks = slot.pending.take();
        let mut source = slot.check_out();
        let Source::Connection(connection) = &mut source else {
            return self.drive_other(id, marks, source);
        };
        let (common, output, ops) = (&self.common, &mut self.output, &mut self.sources);
        let (backlog, socket) = (&mut connection.backlog, &connection.socket);
        let mut cx = Context {
            others: Others::new(id, common, output, ops),
            peer: &connection.peer,
            socket: Some(socket),
            backlog,
        };
        let (machine, handler) = (&mut connection.machine, &mut *connection.handler);
        let input = common.input_of_turn(&mut self.input);
        let result = machine.run(marks, input, socket, handler, &mut cx);
        let armed = marks.intersects(Readiness::ARMED);
        let result = match result {
            // The common case: only an event brings the next turn. There is nothing to schedule if a
            // deadline is armed already, or if there is none to arm.
            Ok(true) if armed || !common.has_time_limit => Ok(()),
            Ok(_) => match self.schedule_next(id, armed, connection) {
                Ok(()) if connection.backlog.layers.is_some() => {
                    return self.layered_turn(id, None, source);
                }
                scheduled => scheduled,
            },
            Err(end) => Err(end),
        };
        if let Err(end) = result {
            return self.close_connection(id, source, end);
        }
        if let Some(slot) = self.sources.slot_of_away(id) {
            slot.check_in(source);
        }
    }

    /// The turn of a connection with limits of its own, or with layers, or with both: the first puts the
    /// limits in force and goes through `drive_source` again. A source that is to be closed has none.
    #[cold]
    #[inline(never)]
    fn drive_special(&mut self, id: Id) {
        if self.has_mark(id, Readiness::CLOSING) {
            return;
        }
        if self.has_mark(id, Readiness::LIMITED) {
            return self.with_own_limits(id, &mut |reactor| reactor.drive_source(id));
        }
        self.drive_layered(id);
    }

    /// Keeps the limits of a connection that is established now. The mark says that it has its own.
    pub(super) fn begin_limits(&mut self, id: Id, own: Option<Rc<Config>>) {
        let has_own = self.common.begin_limits(id, own, self.common.now);
        if let Some(slot) = self.sources.slot(id).filter(|_| has_own) {
            slot.pending.insert(Readiness::LIMITED);
        }
    }

    /// LIMITED: the connection has limits of its own that are not in force yet. CLOSING: phase 5 closes it.
    fn has_mark(&mut self, id: Id, mark: Readiness) -> bool {
        let slot = self.sources.slot(id);
        slot.is_some_and(|slot| slot.pending.intersects(mark))
    }

    /// Runs a turn with the limits of its connection in the place of the reactor's. Meanwhile the slot is
    /// without its mark, because `turn` begins where the mark led here.
    fn with_own_limits(&mut self, id: Id, turn: &mut dyn FnMut(&mut Reactor)) {
        if let Some(slot) = self.sources.slot(id) {
            slot.pending.remove(Readiness::LIMITED);
        }
        self.common.use_limits_of(id);
        turn(self);
        self.common.use_reactor_limits();
        // If the connection closed, its id is stale, and no slot is marked.
        if let Some(slot) = self.sources.slot(id) {
            slot.pending.insert(Readiness::LIMITED);
        }
    }

    /// The turns of all other kinds of sources. Out of line, because most turns are a connection's.
    #[inline(never)]
    fn drive_other(&mut self, id: Id, marks: Readiness, source: Source) {
        match source {
            Source::Listener(listener) => self.accept_turn(id, marks, listener),
            Source::Outgoing(outgoing) => self.connect_turn(id, marks, outgoing),
            Source::Watch(watched) => self.run_watch(id, watched),
            Source::After(after) => self.after_turn(id, marks, after),
            Source::Connection(_) | Source::Away | Source::Closed => {}
        }
    }

    /// Queues the next turn if it can make progress without an event, and arms the next deadline.
    #[inline(never)]
    pub(super) fn schedule_next(
        &mut self,
        id: Id,
        armed: bool,
        found: &mut Connection,
    ) -> Result<(), End> {
        self.change_handler(&mut found.backlog, &mut found.handler);
        let (machine, backlog) = (&mut found.machine, &found.backlog);
        // The kernel refused output for the first time. From now on the poller reports when it has room.
        if machine.must_await_writable() {
            let scope = self.common.scope(id);
            self.poller.add_writable(&mut found.socket, scope)?;
        }
        // No event may follow for what can be done already: the poller reports each change once.
        if machine.wants_turn(backlog, &self.common.config) {
            self.sources.enqueue(id, Readiness::default());
        }
        // Deadlines are armed lazily. One that moved away stays where it is: it passes too early,
        // nothing is due, and it is armed again. So activity costs nothing here.
        if armed && !machine.has_near_deadline(backlog) {
            return Ok(());
        }
        // A connection that moves bytes in every turn has no other look at the clock.
        if let Some(reason) = machine.overdue(id, &self.common) {
            return Err(reason.into());
        }
        machine.renew_span(id, &self.common);
        let current = self.deadlines.get(id.slot());
        let deadline = machine.deadline(backlog, id, &self.common);
        if let Some(deadline) = deadline.filter(|&next| current.is_none_or(|at| next < at)) {
            self.deadlines.arm(id.slot(), deadline);
            if let Some(slot) = self.sources.slot_of_away(id) {
                slot.pending.insert(Readiness::ARMED);
            }
        }
        Ok(())
    }

    /// Puts the handler that takes over in the place of the one that asked for it.
    fn change_handler(&mut self, backlog: &mut LazyBacklog, handler: &mut Box<dyn Handler>) {
        let held = backlog.get_mut();
        let Some(next) = held.and_then(|held| held.next_handler.take()) else {
            return;
        };
        if let Ok(mut next) = next.downcast::<Box<dyn Handler>>() {
            if let Some(layered) = (**next).as_any().downcast_mut::<Layered>() {
                layered.take_over();
            }
            let old = std::mem::replace(handler, *next);
            if !discard(old) {
                self.count_panic("the drop of a handler");
            }
        }
    }

    /// Reads the clock outside a turn, because a host may have been elsewhere for any time. All code of a
    /// turn sees one time.
    pub(super) fn note_time(&mut self) {
        if !self.lent {
            self.common.now = self.common.clock.now();
        }
    }

    /// Runs an embedder's code with the handler of a connection. `None` if there is no connection.
    pub(super) fn lend_handler(
        &mut self,
        id: Id,
        code: &mut dyn FnMut(&mut dyn Handler, &mut Context<'_>),
    ) -> Option<()> {
        if self.has_mark(id, Readiness::LIMITED) {
            let mut lent = None;
            self.with_own_limits(id, &mut |reactor| lent = reactor.lend_handler(id, code));
            return lent;
        }
        self.note_time();
        let mut source = self.sources.check_out(id)?;
        let (common, output, ops) = (&self.common, &mut self.output, &mut self.sources);
        let mut adds_layers = false;
        let lent = match &mut source {
            Source::Connection(found) => {
                let layers = found.backlog.take_layers();
                let over = layers_over(layers.as_ref(), &found.socket);
                let socket = over.as_ref().map(|over| over as &dyn LocalAddr);
                let mut cx = Context {
                    others: Others::new(id, common, output, ops),
                    peer: &found.peer,
                    socket: socket.or(Some(&found.socket)),
                    backlog: &mut found.backlog,
                };
                found.machine.lend(&mut *found.handler, &mut cx, code);
                adds_layers = put_back(found, layers);
                self.change_handler(&mut found.backlog, &mut found.handler);
                true
            }
            Source::Outgoing(outgoing) => outgoing.lend(id, common, output, ops, code),
            _ => false,
        };
        let is_outgoing = matches!(source, Source::Outgoing(_));
        match adds_layers {
            true => self.layered_turn(id, None, source),
            false => self.sources.check_in(id, source),
        }
        if is_outgoing && !lent {
            self.count_panic("a handler");
            self.sources.abort(id);
        }
        lent.then(|| {
            self.sources.enqueue(id, Readiness::default());
        })
    }

    /// Ends a connection, established or not. What its last turn wrote and did not send counts as unsent.
    pub(super) fn close_connection(&mut self, id: Id, source: Source, end: End) {
        let (machine, mut backlog, peer, mut handler, socket) = match source {
            Source::Connection(found) => {
                let (peer, socket) = (found.peer.into(), Some(found.socket));
                (found.machine, found.backlog, peer, found.handler, socket)
            }
            Source::Outgoing(found) => {
                let Attempt {
                    address, handler, ..
                } = found.attempt;
                (found.machine, found.backlog, address, handler, found.socket)
            }
            _ => return,
        };
        self.change_handler(&mut backlog, &mut handler);
        let layers = backlog.take_layers();
        let (unsent, now) = (self.output.len(), self.common.now);
        self.output.clear();
        let closed = machine.receipt(end, (id, peer), now, &backlog, unsent);
        // After a FIN the peer would take a part of an answer for the whole. A reset tells it that the
        // rest is missing. The kernel may have established what the reactor does not know of yet.
        let is_abrupt = matches!(closed.reason, Reason::LifetimeOver | Reason::TooSlow);
        let resets = is_abrupt || closed.unsent > 0 || machine.was_aborted();
        if let Some(socket) = socket.as_ref().filter(|_| resets) {
            socket.reset_on_close();
        }
        self.finish_close(handler, closed);
        if !discard(layers) {
            self.count_panic("the drop of a layer");
        }
        if let Some(socket) = socket {
            socket.close(&self.poller, self.common.scope(id));
        }
    }

    /// Makes the id stale, counts, and calls `on_close`. The slot is freed in phase 6. The handler and
    /// its error are dropped here.
    fn finish_close(&mut self, mut handler: Box<dyn Handler>, closed: Closed) {
        let (id, peer) = (closed.id, closed.peer);
        self.log_close(&closed);
        // Before `on_close`, so that the callback cannot reach this connection by its id.
        self.retire(id);
        self.sources.open -= 1;
        self.stats.closed[closed.reason as usize] += 1;
        let (output, ops) = (&mut self.output, &mut self.sources);
        let mut others = Others::without_own(id, &self.common, output, ops);
        let started = self.common.observation.start();
        let called = guard(|| handler.on_close(&mut others, &closed));
        self.common.observation.returned(started, || Returned {
            id,
            peer,
            callback: Callback::Close,
            queued: self.sources.queued(),
        });
        // The destructors of a handler and of its error are an embedder's code too.
        let panicked = called.is_none() | !discard(handler) | !discard(closed);
        if panicked {
            self.count_panic("on_close");
        }
    }

    /// Makes the id of a source stale, and removes its deadline. The slot is freed in phase 6.
    #[inline(never)]
    pub(super) fn retire(&mut self, id: Id) {
        self.deadlines.disarm(id.slot());
        self.common.forget_limits(id);
        self.sources.retire(id);
    }

    /// Closes whatever the id names, now.
    pub(super) fn close_now(&mut self, id: Id, reason: Reason) {
        match self.sources.check_out(id) {
            Some(Source::Listener(listener)) => self.close_listener(id, *listener),
            Some(Source::Watch(watched)) => self.unwatch(id, watched),
            Some(Source::After(after)) => self.close_after(id, after),
            // Of what closed already it closes nothing. No source is away outside phase 4.
            Some(source) => self.close_connection(id, source, reason.into()),
            None => {}
        }
    }

    /// The poller refused a socket (ENOSPC at max_user_watches, ENOMEM; epoll_ctl(2)). That connection
    /// ends, the others stay.
    pub(super) fn close_unregistered(&mut self, id: Id, error: io::Error) {
        if let Some(more) = self.troubles.register.pass(self.common.now) {
            log::warn!("connection {id}: the poller refused it: {error}{more}");
        }
        if let Some(source) = self.sources.check_out(id) {
            let end = End::new(Reason::Io, error);
            self.close_connection(id, source, end);
        }
    }
}
