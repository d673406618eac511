//! The slab of listeners and connections, and the queue of those that have a turn coming.

use crate::admission::Admission;
use crate::config::ConnectOptions;
use crate::context::{Call, Others};
use crate::dial::Dial;
use crate::handler::{Handler, Service};
use crate::held::Holding;
use crate::id::Id;
use crate::net::{TcpListener, TcpStream};
use crate::peer::Peer;
use crate::readiness::Readiness;
use crate::snapshot::{ConnectionView, ListenerView};
use crate::stream::Stream;
use crate::timers::Tick;
use crate::watch::Watched;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// A connection: the machine, what it holds, its handler, its socket. Most of the memory of an idle connection is this.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) held: Holding,
    pub(crate) peer: Peer,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) socket: TcpStream,
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        peer: SocketAddr,
        handler: Box<dyn Handler>,
        socket: TcpStream,
    ) -> Connection {
        Connection {
            stream,
            held: Holding::default(),
            peer: peer.into(),
            handler,
            socket,
        }
    }

    pub(crate) fn view(&self, id: Id, now: Tick) -> ConnectionView {
        self.stream.view(id, self.peer.into(), &self.held, now)
    }
}

/// A listener: the doorkeeper's socket, who is called when someone enters, and when to let them.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) service: Box<dyn Service>,
    pub(crate) admission: Admission,
}

impl Listener {
    pub(crate) fn view(&self, id: Id) -> ListenerView {
        let (address, accept_queue) = (self.socket.local_addr().ok(), self.socket.accept_queue());
        ListenerView {
            id,
            address,
            state: self.admission.door(),
            accept_queue,
        }
    }
}

/// What a slot holds.
pub(crate) enum Source {
    Connection(Connection),
    Listener(Box<Listener>),
    Dial(Box<Dial>),
    Watch(Box<dyn Watched>),
    /// Taken out for its turn, so that its callbacks can reach every other slot.
    Away,
    /// Closed in this turn of the loop, and named by no id any more. The slot stays taken until the turn ends: the events still in
    /// hand may name it.
    Closed,
}

/// A source, its serial, and what was noted about it since its last turn began.
pub(crate) struct Slot {
    pub(crate) source: Source,
    serial: u32,
    pub(crate) noted: Readiness,
}

impl Slot {
    pub(crate) fn check_out(&mut self) -> Source {
        std::mem::replace(&mut self.source, Source::Away)
    }

    #[inline(always)]
    pub(crate) fn check_in(&mut self, source: Source) {
        // What is there is the mark of its absence, and needs no dropping.
        debug_assert!(matches!(self.source, Source::Away));
        std::mem::forget(std::mem::replace(&mut self.source, source));
    }
}

pub(crate) struct Sources {
    slab: Slab<Slot>,
    next_serial: u32,
    /// Those that have a turn coming, first come, first served; each at most once, as the mark QUEUED says.
    queue: Vec<Id>,
    /// How many at the front have theirs in this turn of the loop, and how many of these have had it.
    round: usize,
    driven: usize,
    /// What handlers asked to be closed.
    pub(crate) closing: VecDeque<Id>,
    /// Slots closed in this turn.
    dead: Vec<usize>,
    pub(crate) listeners: Vec<Id>,
    pub(crate) stopping: bool,
    /// Connections that are open or being established.
    pub(crate) open: usize,
    /// The reactor is being dropped: nothing new begins.
    pub(crate) ending: bool,
    output_max: usize,
}

impl Sources {
    pub(crate) fn new(capacity: usize, output_max: usize) -> Sources {
        Sources {
            slab: Slab::with_capacity(capacity),
            next_serial: 0,
            queue: Vec::new(),
            round: 0,
            driven: 0,
            closing: VecDeque::new(),
            dead: Vec::new(),
            listeners: Vec::new(),
            stopping: false,
            open: 0,
            ending: false,
            output_max,
        }
    }

    /// The id that the next source put in will have.
    pub(crate) fn next_id(&self) -> Id {
        Id::new(self.slab.vacant_key(), self.next_serial)
    }

    /// Whether there is a slot that an [`Id`] can name.
    pub(crate) fn has_slot(&self) -> bool {
        self.slab.vacant_key() < Id::SLOTS
    }

    pub(crate) fn add_connection(&mut self, connection: Connection) -> Id {
        self.open += 1;
        self.add(Source::Connection(connection))
    }

    pub(crate) fn add_listener(&mut self, socket: TcpListener, service: Box<dyn Service>) -> Id {
        let id = self.add(Source::Listener(Box::new(Listener {
            socket,
            service,
            admission: Admission::new(),
        })));
        self.listeners.push(id);
        id
    }

    pub(crate) fn add_watch(&mut self, watched: Box<dyn Watched>) -> Id {
        self.add(Source::Watch(watched))
    }

    /// Puts a source in and queues its first turn.
    fn add(&mut self, source: Source) -> Id {
        let id = self.next_id();
        self.next_serial = self.next_serial.wrapping_add(1);
        self.slab.insert(Slot {
            source,
            serial: id.serial(),
            noted: Readiness::default(),
        });
        self.mark(id, Readiness::WOKEN);
        id
    }

    /// The source an id names; none once that source has closed.
    pub(crate) fn get(&self, id: Id) -> Option<&Source> {
        self.slab
            .get(id.slot())
            .filter(|slot| slot.serial == id.serial())
            .map(|slot| &slot.source)
    }

    pub(crate) fn slot(&mut self, id: Id) -> Option<&mut Slot> {
        self.slab
            .get_mut(id.slot())
            .filter(|slot| slot.serial == id.serial())
    }

    /// Notes something about a source and queues it. False if the id is stale.
    pub(crate) fn mark(&mut self, id: Id, marks: Readiness) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        slot.noted.add(marks);
        if slot.noted.add(Readiness::QUEUED) {
            self.queue.push(id);
        }
        true
    }

    /// Queues the source in a slot whose deadline has passed, and is armed no more.
    pub(crate) fn mark_due(&mut self, place: usize) -> Option<Id> {
        let slot = self.slab.get_mut(place)?;
        slot.noted.remove(Readiness::ARMED);
        let id = Id::new(place, slot.serial);
        self.mark(id, Readiness::default()).then_some(id)
    }

    /// Notes that a source has a deadline.
    pub(crate) fn mark_armed(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            slot.noted.add(Readiness::ARMED);
        }
    }

    /// Everyone who is in the queue now has a turn, and who comes later waits for the next round.
    pub(crate) fn begin_round(&mut self) {
        self.round = self.queue.len();
    }

    /// Whose turn it is, in this round.
    pub(crate) fn next_in_round(&mut self) -> Option<Id> {
        if self.driven < self.round {
            self.driven += 1;
            return self.queue.get(self.driven - 1).copied();
        }
        self.queue.drain(..self.driven);
        (self.round, self.driven) = (0, 0);
        None
    }

    /// Takes a source out.
    pub(crate) fn check_out(&mut self, id: Id) -> Option<Source> {
        self.slot(id).map(Slot::check_out)
    }

    /// The slot of a source that is out: nobody else's meanwhile.
    pub(crate) fn place(&mut self, id: Id) -> Option<&mut Slot> {
        self.slab.get_mut(id.slot())
    }

    /// Puts a source back.
    pub(crate) fn check_in(&mut self, id: Id, source: Source) {
        if let Some(slot) = self.place(id) {
            slot.check_in(source);
        }
    }

    /// Leaves the slot closed; it is freed when the turn ends.
    pub(crate) fn retire(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            slot.source = Source::Closed;
            slot.serial = slot.serial.wrapping_add(1);
            self.dead.push(id.slot());
            self.listeners.retain(|&listener| listener != id);
        }
    }

    /// Frees the slots closed in this turn, and says whether there were any.
    pub(crate) fn free_dead(&mut self) -> bool {
        if self.dead.is_empty() {
            return false;
        }
        for slot in self.dead.drain(..) {
            self.slab.remove(slot);
        }
        true
    }

    /// Every id that names something.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let open = self
            .slab
            .iter()
            .filter(|(_, slot)| !matches!(slot.source, Source::Closed));
        open.map(|(place, slot)| Id::new(place, slot.serial))
            .collect()
    }
}

impl Others for Sources {
    fn room(&self, id: Id) -> usize {
        match self.get(id) {
            Some(Source::Connection(connection)) => {
                connection.stream.room(&connection.held, self.output_max)
            }
            _ => 0,
        }
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        let output_max = self.output_max;
        let Some(Slot {
            source: Source::Connection(connection),
            ..
        }) = self.slot(id)
        else {
            return 0;
        };
        let taken = connection
            .stream
            .push(&mut connection.held, bytes, output_max);
        if taken > 0 {
            self.mark(id, Readiness::default());
        }
        taken
    }

    fn wake(&mut self, id: Id) -> bool {
        self.mark(id, Readiness::WOKEN)
    }

    fn half_close(&mut self, id: Id) -> bool {
        match self.slot(id).map(|slot| &mut slot.source) {
            Some(Source::Connection(connection)) => connection.stream.half_close(),
            Some(Source::Dial(dial)) => dial.half_closed = true,
            _ => return false,
        }
        self.mark(id, Readiness::default())
    }

    fn close(&mut self, id: Id) -> bool {
        let named = self.get(id).is_some();
        if named {
            self.closing.push_back(id);
        }
        named
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        options: &ConnectOptions,
        call: Call,
    ) -> io::Result<Id> {
        if self.ending || !self.has_slot() {
            return Err(io::Error::other(
                "the reactor has no place left, or is being dropped",
            ));
        }
        let (noted, options) = (Readiness::default(), options.clone());
        let Call { handler, since } = call;
        self.open += 1;
        let dial = Dial {
            address,
            options,
            handler,
            socket: None,
            since,
            noted,
            half_closed: false,
        };
        Ok(self.add(Source::Dial(Box::new(dial))))
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
    use crate::net::Poller;
    use crate::reactor::Reactor;
    use crate::watch::Next;

    struct Idle;

    impl Watched for Idle {
        fn turn(&mut self, _: &mut Reactor, _: Id) -> Next {
            Next::Wait
        }
        fn deregister(&mut self, _: &Poller) {}
    }

    fn round(sources: &mut Sources) -> Vec<Id> {
        sources.begin_round();
        std::iter::from_fn(|| sources.next_in_round()).collect()
    }

    #[test]
    fn everyone_has_one_turn_a_round_in_order() {
        let mut sources = Sources::new(4, 1);
        let ids = [(); 3].map(|()| sources.add_watch(Box::new(Idle)));
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
        // New marks are taken up only once the old ones were.
        ids.iter()
            .for_each(|&id| sources.slot(id).unwrap().noted = Readiness::default());
        assert!(sources.mark(ids[2], Readiness::WOKEN) && sources.mark(ids[0], Readiness::WOKEN));
        assert!(sources.mark(ids[2], Readiness::READABLE));
        assert_eq!(round(&mut sources), [ids[2], ids[0]]);
        assert_eq!(round(&mut sources), []);
    }
}
