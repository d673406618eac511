//! The slab of all sources, the queue of ids, and deferred free.

#[cfg(feature = "sim")]
mod invariants;

use super::after::After;
use super::listener::Admission;
use super::outgoing::Outgoing;
use super::watch::Watched;
use crate::buffers::LazyBacklog;
use crate::closed::Reason;
use crate::common::Common;
use crate::config::Config;
use crate::connection::Machine;
use crate::errno::failure;
use crate::handler::{Attempt, Handler, LoopOps, Service};
use crate::id::Id;
use crate::observe::{AcceptQueue, ConnectionView, ListenerView};
use crate::peer::Peer;
use crate::readiness::Readiness;
use crate::sys::{TcpListener, TcpStream};
use crate::time::Tick;
use slab::Slab;
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A connection: the machine, what it holds, its handler, its socket. This is most of the memory of an
/// idle connection.
pub(super) struct Connection {
    pub(super) machine: Machine,
    pub(super) backlog: LazyBacklog,
    pub(super) peer: Peer,
    pub(super) handler: Box<dyn Handler>,
    pub(super) socket: TcpStream,
}

impl Connection {
    pub(super) fn new(
        machine: Machine,
        peer: SocketAddr,
        handler: Box<dyn Handler>,
        socket: TcpStream,
    ) -> Connection {
        let (backlog, peer) = (LazyBacklog::default(), peer.into());
        Connection {
            machine,
            backlog,
            peer,
            handler,
            socket,
        }
    }

    pub(super) fn view(&self, id: Id, now: Tick) -> ConnectionView {
        let mut view = ConnectionView::connecting(id, self.peer.into(), Duration::ZERO);
        self.machine.view(&mut view, &self.backlog, now);
        view
    }
}

/// A listener: its socket, the service that makes handlers, and when it accepts.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// The limits of its connections, where they are not the reactor's.
    pub(super) limits: Option<Rc<Config>>,
    pub(super) service: Service,
    pub(super) admission: Admission,
}

impl Listener {
    pub(super) fn view(&self, id: Id, accept_queue: Option<AcceptQueue>) -> ListenerView {
        let (address, state) = (self.socket.local_addr().ok(), self.admission.state);
        ListenerView {
            id,
            address,
            state,
            accept_queue,
        }
    }
}

/// What a slot holds.
pub(super) enum Source {
    Connection(Connection),
    Listener(Box<Listener>),
    Outgoing(Box<Outgoing>),
    Watch(Box<dyn Watched>),
    After(Box<After>),
    /// The source is taken out for its turn. This owns nothing.
    Away,
    /// The source closed in this turn of the loop, and no id names it. The slot is taken until the turn
    /// ends, because events of this turn may still name it.
    Closed,
}

pub(super) struct Slot {
    pub(super) source: Source,
    serial: u32,
    /// The marks since the source's last turn began. They are kept beside the source, so that an
    /// event looks at one place, whatever kind of source it is, and while the source is away.
    pub(super) pending: Readiness,
}

impl Slot {
    pub(super) fn check_out(&mut self) -> Source {
        std::mem::replace(&mut self.source, Source::Away)
    }

    #[inline(always)]
    pub(super) fn check_in(&mut self, source: Source) {
        // The slot holds `Away`, which owns nothing, so it need not be dropped.
        debug_assert!(matches!(self.source, Source::Away));
        std::mem::forget(std::mem::replace(&mut self.source, source));
    }
}

#[derive(Default)]
pub(super) struct Sources {
    slab: Slab<Slot>,
    next_serial: u32,
    /// The ids that have a turn coming, in order; each at most once, which the mark QUEUED ensures.
    queue: Vec<Id>,
    /// How many ids at the front of the queue have their turn in this round, and how many of them had
    /// it.
    round: usize,
    driven: usize,
    /// What handlers and the program asked to close, for phase 5.
    pub(super) closing: Vec<Id>,
    /// Slots closed in this turn.
    closed: Vec<usize>,
    /// Every listener, in the order in which they were made.
    pub(super) listeners: Vec<Id>,
    /// Listeners that wait for a slot or a descriptor, each at most once.
    pub(super) waiting: Vec<Id>,
    /// A stop was asked for: `run` returns at the end of the turn.
    pub(super) stopping: bool,
    /// The number of connections, open or being established.
    pub(super) open: usize,
    /// The marks with which a new source is queued, beside WOKEN: those of a shutdown.
    first_marks: Readiness,
    /// The reactor is being dropped: no new source is added.
    pub(super) ending: bool,
}

impl Sources {
    pub(super) fn new(capacity: usize) -> Sources {
        let mut sources = Sources::default();
        sources.slab.reserve(capacity);
        sources
    }
}

/// The slab.
impl Sources {
    /// The id of the next source that is added.
    pub(super) fn next_id(&self) -> Id {
        Id::new(self.slab.vacant_key(), self.next_serial)
    }

    /// True if there is a free slot that an [`Id`] can name.
    pub(super) fn has_slot(&self) -> bool {
        self.slab.vacant_key() < Id::SLOTS
    }

    pub(super) fn add_connection(&mut self, connection: Connection) -> Id {
        self.open += 1;
        self.add(Source::Connection(connection))
    }

    pub(super) fn add_listener(
        &mut self,
        socket: TcpListener,
        limits: Option<Rc<Config>>,
        service: Service,
    ) -> Id {
        let admission = Admission::default();
        let id = self.add(Source::Listener(Box::new(Listener {
            socket,
            limits,
            service,
            admission,
        })));
        self.listeners.push(id);
        id
    }

    /// Adds a source, unless no slot is left: it is dropped then.
    #[inline(never)]
    fn try_add(&mut self, source: Source) -> io::Result<Id> {
        self.check_slot()?;
        Ok(self.add(source))
    }

    /// Adds a source and queues its first turn.
    pub(super) fn add(&mut self, source: Source) -> Id {
        let id = self.next_id();
        self.next_serial = self.next_serial.wrapping_add(1);
        self.slab.insert(Slot {
            source,
            serial: id.serial(),
            pending: Readiness::default(),
        });
        self.enqueue(id, Readiness::WOKEN.union(self.first_marks));
        id
    }

    /// Queues every connection, those that are being established, and from now on each that is added,
    /// to be told that the loop shuts down. They are read first, because a turn takes a bounded number
    /// of events: input may have arrived unseen.
    pub(super) fn announce_shutdown(&mut self) {
        let marks = Readiness::SHUTDOWN.union(Readiness::READABLE);
        self.first_marks = marks;
        let hears = |source: &Source| matches!(source, Source::Connection(_) | Source::Outgoing(_));
        let found = self.iter().filter(|&(_, source)| hears(source));
        let ids: Vec<Id> = found.map(|(id, _)| id).collect();
        for id in ids {
            self.enqueue(id, marks);
        }
    }

    /// The source that an id names; `None` once that source has closed.
    pub(super) fn get(&self, id: Id) -> Option<&Source> {
        let slot = self.slab.get(id.slot())?;
        (slot.serial == id.serial()).then_some(&slot.source)
    }

    pub(super) fn slot(&mut self, id: Id) -> Option<&mut Slot> {
        let slot = self.slab.get_mut(id.slot())?;
        (slot.serial == id.serial()).then_some(slot)
    }

    pub(super) fn source(&mut self, id: Id) -> Option<&mut Source> {
        self.slot(id).map(|slot| &mut slot.source)
    }

    /// Takes a source out.
    #[inline(never)]
    pub(super) fn check_out(&mut self, id: Id) -> Option<Source> {
        self.slot(id).map(Slot::check_out)
    }

    /// The slot of a source that is out. No other code uses it until the source is put back, so the
    /// serial is not checked.
    pub(super) fn slot_of_away(&mut self, id: Id) -> Option<&mut Slot> {
        self.slab.get_mut(id.slot())
    }

    /// Puts a source back.
    #[inline(never)]
    pub(super) fn check_in(&mut self, id: Id, source: Source) {
        if let Some(slot) = self.slot_of_away(id) {
            slot.check_in(source);
        }
    }

    /// Closes the slot of a source that is out. It is freed when the turn ends. Its serial moves on, so that its id is stale from
    /// now on.
    pub(super) fn retire(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            slot.check_in(Source::Closed);
            slot.serial = slot.serial.wrapping_add(1);
            self.closed.push(id.slot());
        }
    }

    /// Frees the slots closed in this turn. True if there were any.
    pub(super) fn free_closed(&mut self) -> bool {
        if self.closed.is_empty() {
            return false;
        }
        for slot in self.closed.drain(..) {
            let slot = self.slab.remove(slot);
            debug_assert!(matches!(slot.source, Source::Closed));
            std::mem::forget(slot);
        }
        true
    }

    /// Every listener and its id.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Id, &Listener)> {
        self.listeners.iter().filter_map(|&id| match self.get(id)? {
            Source::Listener(listener) => Some((id, &**listener)),
            _ => None,
        })
    }

    /// The number of slots, whether they are taken or not.
    pub(super) fn slots(&self) -> usize {
        self.slab.capacity()
    }

    /// The id of the source in a slot. If that has closed, no other code has this id.
    pub(super) fn id_in(&self, slot: usize) -> Option<Id> {
        let serial = self.slab.get(slot)?.serial;
        Some(Id::new(slot, serial))
    }

    /// Every source and its id, in the order of the slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Source)> {
        let slots = self.slab.iter();
        let sources = slots.map(|(index, slot)| (Id::new(index, slot.serial), &slot.source));
        sources.filter(|(_, source)| !matches!(source, Source::Closed))
    }

    /// An error if no slot is left for a new source.
    pub(super) fn check_slot(&self) -> io::Result<()> {
        if self.has_slot() && !self.ending {
            return Ok(());
        }
        let message = "no slot is left, or the reactor is being dropped";
        Err(failure(io::ErrorKind::Other, message))
    }
}

/// The queue.
impl Sources {
    /// Adds marks to a source and queues it. False if the id is stale.
    #[inline(never)]
    pub(super) fn enqueue(&mut self, id: Id, marks: Readiness) -> bool {
        self.add_event(id, marks)
    }

    /// [`enqueue`](Self::enqueue) in line, for the events of the poller, of which there are most.
    #[inline(always)]
    pub(super) fn add_event(&mut self, id: Id, marks: Readiness) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        slot.pending.insert(marks);
        if slot.pending.insert(Readiness::QUEUED) {
            self.queue.push(id);
        }
        true
    }

    /// Queues the source in a slot whose deadline has passed and is not armed any more.
    pub(super) fn enqueue_due(&mut self, index: usize) -> Option<Id> {
        let slot = self.slab.get_mut(index)?;
        slot.pending.remove(Readiness::ARMED);
        let id = Id::new(index, slot.serial);
        self.enqueue(id, Readiness::default()).then_some(id)
    }

    /// Takes a listener off the list of those that wait for a slot, and queues it if it waits still.
    pub(super) fn wake_listener(&mut self, id: Id) {
        if let Some(Source::Listener(listener)) = self.source(id) {
            listener.admission.is_listed = false;
            if listener.admission.waits_for_slot() {
                self.enqueue(id, Readiness::WOKEN);
            }
        }
    }

    /// The ids that are queued now have a turn in this round. Those that are queued later wait for the
    /// next.
    pub(super) fn begin_round(&mut self) {
        self.round = self.queue.len();
    }

    /// The next id of this round.
    pub(super) fn next_in_round(&mut self) -> Option<Id> {
        if self.driven < self.round {
            self.driven += 1;
            return self.queue.get(self.driven - 1).copied();
        }
        self.queue.drain(..self.driven);
        (self.round, self.driven) = (0, 0);
        None
    }
}

impl LoopOps for Sources {
    fn room(&self, id: Id, common: &Common) -> usize {
        let most = common.limits(id).output_max_bytes;
        match self.get(id) {
            Some(Source::Connection(found)) => found.machine.room(&found.backlog, most),
            Some(Source::Outgoing(found)) => {
                let most = found.output_max(most);
                found.machine.room(&found.backlog, most)
            }
            _ => 0,
        }
    }

    fn send(&mut self, id: Id, bytes: &[u8], common: &Common) -> usize {
        let most = common.limits(id).output_max_bytes;
        let (machine, backlog, socket, most) = match self.source(id) {
            Some(Source::Connection(Connection {
                machine,
                backlog,
                socket,
                ..
            })) => (machine, backlog, Some(&*socket), most),
            Some(Source::Outgoing(found)) => {
                let most = found.output_max(most);
                let found = &mut **found;
                (&mut found.machine, &mut found.backlog, None, most)
            }
            _ => return 0,
        };
        let taken = machine.push(bytes, backlog, socket, common.scope(id), common, most);
        if taken > 0 {
            self.enqueue(id, Readiness::default());
        }
        taken
    }

    fn wake(&mut self, id: Id) -> bool {
        self.enqueue(id, Readiness::WOKEN.union(Readiness::CALLED))
    }

    fn half_close(&mut self, id: Id) -> bool {
        match self.source(id) {
            Some(Source::Connection(connection)) => connection.machine.half_close(),
            Some(Source::Outgoing(outgoing)) => outgoing.machine.half_close(),
            _ => return false,
        }
        self.enqueue(id, Readiness::default())
    }

    fn close(&mut self, id: Id, now: Tick) -> bool {
        let (machine, backlog) = match self.source(id) {
            Some(Source::Connection(found)) => (&mut found.machine, &mut found.backlog),
            Some(Source::Outgoing(found)) if !found.backlog.output.is_empty() => {
                (&mut found.machine, &mut found.backlog)
            }
            _ => return self.abort(id),
        };
        machine.finish(backlog, now);
        self.enqueue(id, Readiness::default())
    }

    fn abort(&mut self, id: Id) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        match &mut slot.source {
            Source::Connection(found) => {
                found.machine.end(Reason::Aborted);
                return self.enqueue(id, Readiness::default());
            }
            // Until it is closed it takes no more output.
            Source::Outgoing(found) => found.machine.half_close(),
            _ => {}
        }
        slot.pending.insert(Readiness::CLOSING);
        self.closing.push(id);
        true
    }

    fn connect(&mut self, attempt: Attempt) -> io::Result<Id> {
        let id = self.try_add(Source::Outgoing(Box::new(Outgoing::new(attempt))))?;
        self.open += 1;
        Ok(id)
    }

    fn after(&mut self, at: Tick, code: Box<dyn Any>) -> io::Result<Id> {
        let after = After::new(at, code).ok_or(io::ErrorKind::InvalidInput)?;
        self.try_add(Source::After(Box::new(after)))
    }

    fn stop(&mut self) {
        self.stopping = true;
    }

    fn queued(&self) -> usize {
        self.queue.len() - self.driven
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::CallScope;
    use crate::reactor::Reactor;
    use crate::reactor::watch::Next;
    use crate::sys::Poller;

    struct Idle;

    impl Watched for Idle {
        fn turn(&mut self, _: &mut Reactor, _: Id) -> Next {
            Next::Wait
        }
        fn deregister(&mut self, _: &Poller, _: CallScope<'_>) {}
        fn discard(self: Box<Self>) -> bool {
            true
        }
    }

    fn round(sources: &mut Sources) -> Vec<Id> {
        sources.begin_round();
        std::iter::from_fn(|| sources.next_in_round()).collect()
    }

    #[test]
    fn every_queued_id_has_one_turn_a_round_in_order() {
        let mut sources = Sources::new(4);
        let ids = [(); 3].map(|()| sources.add(Source::Watch(Box::new(Idle))));
        sources.begin_round();
        assert_eq!(
            (sources.next_in_round(), sources.queued()),
            (Some(ids[0]), 2)
        );
        assert_eq!(
            (sources.next_in_round(), sources.next_in_round()),
            (Some(ids[1]), Some(ids[2]))
        );
        assert_eq!((sources.next_in_round(), sources.queued()), (None, 0));
        // An id is queued again only after its marks were taken.
        ids.iter()
            .for_each(|&id| sources.slot(id).unwrap().pending = Readiness::default());
        assert!(
            sources.enqueue(ids[2], Readiness::WOKEN) && sources.enqueue(ids[0], Readiness::WOKEN)
        );
        assert!(sources.enqueue(ids[2], Readiness::READABLE));
        assert_eq!(round(&mut sources), [ids[2], ids[0]]);
        assert_eq!(round(&mut sources), []);
    }
}
