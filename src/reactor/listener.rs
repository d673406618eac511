//! A listener's turn: when to accept, and accepting.

use super::Reactor;
use super::sources::{Connection, Listener, Source};
use crate::connection::Machine;
use crate::errno::is_exhausted;
use crate::guard::{discard, guard};
use crate::handler::{Arrival, Handler, LoopOps, Others};
use crate::id::Id;
use crate::observe::{Budget, Callback, Event, ListenerState, Returned};
use crate::peer::Peer;
use crate::readiness::Readiness;
use crate::sys::TcpStream;
use crate::time::Tick;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a listener waits before it tries again, after descriptors or memory ran out.
const BACKOFF: Duration = Duration::from_millis(100);

/// Why a turn stopped accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The accept queue is empty (EAGAIN).
    QueueEmpty,
    /// Descriptors or memory ran out.
    Exhausted,
    /// The budget of the turn is spent.
    BudgetSpent,
    /// `max_connections` are open.
    AtCapacity,
}

/// When a listener accepts.
///
/// The poller is edge-triggered: it reports an arrival once. If accept fails and the event is
/// forgotten, the server never accepts again. So only accept itself sets `queue_empty`, and an arrival
/// clears it, whatever errors come between.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pub(super) state: ListenerState,
    /// Accept said that the queue is empty, and no arrival was reported since.
    queue_empty: bool,
    /// Only a connection that closes, or `retry_at`, lets this listener accept again.
    is_held: bool,
    /// The listener is in the list of those that wait for a slot.
    pub(super) is_listed: bool,
    /// Descriptors or memory ran out: when to try again. A connection of this reactor that closes is
    /// another reason to try.
    retry_at: Option<Tick>,
}

impl Admission {
    /// Accepts nothing until it is resumed. A listener that shuts down goes on, because it closes once
    /// the connections that wait are accepted.
    pub(super) fn set_paused(&mut self, paused: bool) {
        let state = match self.state {
            ListenerState::ShuttingDown => return,
            _ if paused => ListenerState::Paused,
            ListenerState::Paused => ListenerState::Accepting,
            _ => return,
        };
        self.enter(state);
    }

    /// Only the connections that wait are accepted from now on; accept tells if there are any.
    fn shut_down(&mut self) {
        self.queue_empty = false;
        self.enter(ListenerState::ShuttingDown);
    }

    /// The next turn tries to accept, if the state lets it.
    fn enter(&mut self, state: ListenerState) {
        (self.state, self.is_held, self.retry_at) = (state, false, None);
    }

    /// Whether to try accept now. `retry`: descriptors may have become free.
    fn may_accept(&self, now: Tick, retry: bool) -> bool {
        let backs_off = self.retry_at.is_some_and(|at| now < at);
        !self.queue_empty && !self.is_paused() && (retry || !backs_off)
    }

    /// Records why accepting stopped. True if the listener is done: it shuts down, and no connection
    /// waits.
    fn stopped(&mut self, stop: Stop, now: Tick) -> bool {
        self.queue_empty = stop == Stop::QueueEmpty;
        self.retry_at = (stop == Stop::Exhausted).then(|| now.after(BACKOFF));
        self.is_held = matches!(stop, Stop::Exhausted | Stop::AtCapacity);
        if self.state == ListenerState::ShuttingDown {
            return self.queue_empty;
        }
        self.state = match stop {
            Stop::QueueEmpty | Stop::BudgetSpent => ListenerState::Accepting,
            Stop::Exhausted => ListenerState::Backoff,
            Stop::AtCapacity => ListenerState::Full,
        };
        false
    }

    fn is_paused(&self) -> bool {
        self.state == ListenerState::Paused
    }

    /// True if the next turn can accept without an event.
    fn wants_turn(&self) -> bool {
        !self.queue_empty && !self.is_paused() && !self.is_held
    }

    /// True if a connection that closes may let this listener accept.
    pub(super) fn waits_for_slot(&self) -> bool {
        !self.queue_empty && self.is_held
    }

    /// When to try again without a connection that closes.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.retry_at
    }
}

impl Reactor {
    /// A listener's turn.
    pub(super) fn accept_turn(&mut self, id: Id, marks: Readiness, mut listener: Box<Listener>) {
        // An event reports an arrival, so the queue is not empty any more.
        listener.admission.queue_empty &= !marks.intersects(Readiness::READABLE);
        // A connection closed, which also frees a descriptor; or other code woke this id.
        let retry = marks.intersects(Readiness::WOKEN);
        if listener.admission.may_accept(self.common.now, retry) {
            let stop = self.accept_some(id, &mut listener);
            let before = listener.admission.state;
            let done = listener.admission.stopped(stop, self.common.now);
            let state = listener.admission.state;
            if state != before {
                self.common.notify(|| Event::ListenerState { id, state });
            }
            if stop == Stop::BudgetSpent {
                let budget = Budget::Accept;
                self.common.notify(|| Event::BudgetSpent { id, budget });
            }
            if done {
                return self.close_listener(id, *listener);
            }
        }
        // Descriptors may also become free elsewhere in the process or the system, which no event reports.
        if let Some(deadline) = listener.admission.deadline() {
            self.deadlines.arm(id.slot(), deadline);
        }
        // The budget is spent and connections wait: no event reports these again.
        let again = listener.admission.wants_turn();
        if listener.admission.waits_for_slot() && !listener.admission.is_listed {
            listener.admission.is_listed = true;
            self.sources.waiting.push(id);
        }
        self.sources.check_in(id, Source::Listener(listener));
        if again {
            self.sources.enqueue(id, Readiness::default());
        }
    }

    /// Accepts until the accept queue is empty, within the budget of a turn.
    ///
    /// An error costs one connection, the one it stands for (accept(2), "Error handling"). If the whole
    /// budget is errors, they stand for none, and to go on would spin. When descriptors run out
    /// (EMFILE, ENFILE), no client is lost: its connection stays in the accept queue.
    fn accept_some(&mut self, id: Id, listener: &mut Listener) -> Stop {
        let mut failed = 0;
        for _ in 0..self.common.config.accept_budget {
            // Before accept, not after it: a client that waits in the accept queue costs no descriptor.
            let full = self.sources.open >= self.common.config.max_connections;
            if full || !self.sources.has_slot() {
                return Stop::AtCapacity;
            }
            let (next, scope) = (self.sources.next_id(), self.common.scope(id));
            match listener.socket.accept(next, scope) {
                Ok(accepted) => self.accept_one(id, listener, accepted),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Stop::QueueEmpty,
                Err(error) => {
                    failed += 1;
                    self.count_accept_error(id, &error);
                    // EINVAL: the socket does not listen any more, because another holder of an
                    // adopted one shut it down. It may listen again.
                    if is_exhausted(&error) || error.kind() == ErrorKind::InvalidInput {
                        return Stop::Exhausted;
                    }
                }
            }
        }
        match self.common.config.accept_budget == failed {
            true => Stop::Exhausted,
            false => Stop::BudgetSpent,
        }
    }

    /// An accepted connection: a handler from the service, a slot, the poller.
    fn accept_one(&mut self, id: Id, listener: &mut Listener, accepted: (TcpStream, SocketAddr)) {
        let (mut socket, peer) = accepted;
        self.stats.accepted += 1;
        // An IPv4 peer of a dual-stack listener is shown with its IPv4 address.
        let peer = SocketAddr::from(Peer::from(peer));
        // The service may connect, so the connection has its slot before the service is called.
        let (listener_id, id) = (id, self.sources.add(Source::Away));
        let Some(handler) = self.open(listener_id, listener, &socket, id, peer) else {
            self.sources.retire(id);
            self.stats.turned_away += 1;
            return socket.close(&self.poller, self.common.scope(id));
        };
        let registered = self.poller.add_stream(&mut socket, self.common.scope(id));
        let machine = Machine::new(self.common.now, false);
        let connection = Connection::new(machine, peer, handler, socket);
        self.sources.open += 1;
        self.sources.check_in(id, Source::Connection(connection));
        self.begin_limits(id, listener.limits.clone());
        log::debug!("connection {id} from {peer}");
        // It closes as a connection, so that its handler is told by `on_close`.
        if let Err(error) = registered {
            self.close_unregistered(id, error);
        }
    }

    /// Asks the service for a handler.
    fn open(
        &mut self,
        listener_id: Id,
        listener: &mut Listener,
        socket: &TcpStream,
        id: Id,
        peer: SocketAddr,
    ) -> Option<Box<dyn Handler>> {
        let (common, output, ops) = (&self.common, &mut self.output, &mut self.sources);
        let mut arrival = Arrival {
            id,
            listener: listener_id,
            peer,
            others: Others::without_own(id, common, output, ops),
            socket,
        };
        let started = self.common.observation.start();
        let opened = guard(|| (listener.service)(&mut arrival));
        self.common.observation.returned(started, || Returned {
            id: listener_id,
            peer,
            callback: Callback::Service,
            queued: self.sources.queued(),
        });
        match opened {
            None => self.count_panic("a service"),
            Some(None) => log::debug!("{peer} turned away"),
            Some(handler) => return handler,
        }
        None
    }

    /// Pauses or resumes a listener. False if the id names no listener.
    pub(super) fn set_paused(&mut self, id: Id, paused: bool) -> bool {
        let Some(Source::Listener(listener)) = self.sources.source(id) else {
            return false;
        };
        let before = listener.admission.state;
        listener.admission.set_paused(paused);
        let state = listener.admission.state;
        if state != before {
            self.common.notify(|| Event::ListenerState { id, state });
        }
        self.sources.enqueue(id, Readiness::default())
    }

    /// Lets a listener accept the connections that wait, and then closes it.
    pub(super) fn shut_down_listener(&mut self, id: Id) {
        if let Some(Source::Listener(mut listener)) = self.sources.check_out(id) {
            listener.admission.shut_down();
            let state = listener.admission.state;
            self.common.notify(|| Event::ListenerState { id, state });
            self.sources.check_in(id, Source::Listener(listener));
            self.sources.enqueue(id, Readiness::WOKEN);
        }
    }

    /// A slot, and with it a descriptor, became free: listeners that waited for one may accept. The
    /// others are not looked at.
    pub(super) fn wake_listeners(&mut self) {
        for id in std::mem::take(&mut self.sources.waiting) {
            self.sources.wake_listener(id);
        }
    }

    pub(super) fn close_listener(&mut self, id: Id, listener: Listener) {
        listener.socket.close(&self.poller, self.common.scope(id));
        log::info!("listener {id} closed");
        self.sources.listeners.retain(|&other| other != id);
        self.retire(id);
        if !discard(listener.service) {
            self.count_panic("a service");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::handler::{Context, Handler};

    /// Everything that can happen, in every order up to six steps: while a connection may wait, the
    /// listener has a turn, a deadline, or is woken when a connection closes.
    #[test]
    fn no_waiting_connection_is_forgotten() {
        fn walk(steps: &mut Vec<Option<Stop>>) {
            let (mut admission, mut waits) = (Admission::default(), true);
            for step in &*steps {
                match *step {
                    None => {
                        admission.queue_empty = false;
                        waits = true;
                    }
                    Some(stop) => {
                        admission.stopped(stop, Tick(0));
                        waits = stop != Stop::QueueEmpty;
                    }
                }
            }
            let comes_back = admission.wants_turn()
                || admission.waits_for_slot()
                || admission.deadline().is_some();
            assert!(!waits || comes_back, "{steps:?}");
            assert!(waits || !admission.wants_turn(), "{steps:?}");
            // One that has its turn anyway is not woken by each connection that closes.
            let has_both = admission.wants_turn() && admission.waits_for_slot();
            assert!(!has_both, "{steps:?}");
            if steps.len() < 6 {
                for step in [
                    None,
                    Some(Stop::QueueEmpty),
                    Some(Stop::Exhausted),
                    Some(Stop::BudgetSpent),
                    Some(Stop::AtCapacity),
                ] {
                    steps.push(step);
                    walk(steps);
                    steps.pop();
                }
            }
        }
        walk(&mut Vec::new());
    }

    struct Discard;

    impl Handler for Discard {
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> std::io::Result<usize> {
            Ok(input.len())
        }
    }

    #[test]
    fn only_listeners_that_wait_are_listed_and_each_once() {
        let config = Config {
            max_connections: 1,
            ..Config::default()
        };
        let mut reactor = Reactor::new(config).unwrap();
        let mut listen = || {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let id = reactor.listen(any, |_| Some(Discard)).unwrap();
            (id, reactor.local_addr(id).unwrap())
        };
        let [(first, address), (second, other), _] = [(); 3].map(|()| listen());
        let connect = |address| std::net::TcpStream::connect(address).unwrap();
        let turn = |reactor: &mut Reactor| reactor.turn(Some(Duration::ZERO)).unwrap();
        turn(&mut reactor);
        assert_eq!(reactor.sources.waiting, []);
        let mut clients = vec![connect(address)];
        turn(&mut reactor);
        assert_eq!(reactor.sources.open, 1);
        // At the limit, each arrival is an event, and a turn of its listener.
        for arrival in [address, address, other, other] {
            clients.push(connect(arrival));
            turn(&mut reactor);
        }
        assert_eq!(reactor.sources.waiting, [first, second]);
        clients.remove(0);
        (0..5).for_each(|_| turn(&mut reactor));
        assert_eq!(reactor.stats().accepted, 2);
        assert_eq!(reactor.sources.waiting, [first, second]);
    }

    #[test]
    fn backoff_ends_by_time_or_when_a_connection_closes() {
        let mut admission = Admission::default();
        admission.stopped(Stop::Exhausted, Tick(0));
        let until = admission.deadline().unwrap();
        assert!(!admission.may_accept(Tick(until.0 - 1), false));
        assert!(admission.may_accept(Tick(until.0 - 1), true));
        assert!(admission.may_accept(until, false));
    }
}
