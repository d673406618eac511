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
    pub(crate) fn new(stream: Stream, peer: SocketAddr, handler: Box<dyn Handler>, socket: TcpStream) -> Connection {
        Connection { stream, held: Holding::default(), peer: peer.into(), handler, socket }
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
        let (address, waiting) = (self.socket.local_addr().ok(), self.socket.waiting());
        ListenerView { id, address, door: self.admission.door(), waiting }
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
    /// Closed in this turn of the loop. The slot stays taken until the turn ends: the events still in hand may name it.
    Closed,
}

/// A source, its serial, and what was noted about it since its last turn began.
struct Slot {
    source: Source,
    serial: u32,
    noted: Readiness,
}

pub(crate) struct Sources {
    slab: Slab<Slot>,
    next_serial: u32,
    /// Each id at most once; the mark QUEUED says so.
    queue: VecDeque<Id>,
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
            queue: VecDeque::new(),
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
        let id = self.add(Source::Listener(Box::new(Listener { socket, service, admission: Admission::new() })));
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
        self.slab.insert(Slot { source, serial: id.serial(), noted: Readiness::default() });
        self.mark(id, Readiness::WOKEN);
        id
    }

    /// The source an id names; none once that source has closed.
    pub(crate) fn get(&self, id: Id) -> Option<&Source> {
        let slot = self.slab.get(id.slot()).filter(|slot| slot.serial == id.serial())?;
        (!matches!(slot.source, Source::Closed)).then_some(&slot.source)
    }

    fn slot(&mut self, id: Id) -> Option<&mut Slot> {
        let slot = self.slab.get_mut(id.slot()).filter(|slot| slot.serial == id.serial())?;
        (!matches!(slot.source, Source::Closed)).then_some(slot)
    }

    /// Notes something about a source and queues it. False if the id is stale.
    pub(crate) fn mark(&mut self, id: Id, marks: Readiness) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        slot.noted.add(marks);
        if slot.noted.add(Readiness::QUEUED) {
            self.queue.push_back(id);
        }
        true
    }

    /// Queues the source in a slot whose deadline has passed, and is armed no more.
    pub(crate) fn mark_due(&mut self, place: usize) -> Option<Id> {
        let slot = self.slab.get_mut(place)?;
        slot.noted.disarm();
        let id = Id::new(place, slot.serial);
        self.mark(id, Readiness::default()).then_some(id)
    }

    /// Notes that a source has a deadline.
    pub(crate) fn mark_armed(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            slot.noted.add(Readiness::ARMED);
        }
    }

    /// Takes the first in the queue out for its turn, with what was noted about it. None if it has closed meanwhile.
    pub(crate) fn next_turn(&mut self) -> Option<(Id, Readiness, Source)> {
        let id = self.queue.pop_front()?;
        let slot = self.slot(id)?;
        Some((id, slot.noted.take(), std::mem::replace(&mut slot.source, Source::Away)))
    }

    /// Takes a source out.
    pub(crate) fn check_out(&mut self, id: Id) -> Option<Source> {
        Some(std::mem::replace(&mut self.slot(id)?.source, Source::Away))
    }

    /// Puts it back.
    pub(crate) fn check_in(&mut self, id: Id, source: Source) {
        if let Some(slot) = self.slot(id) {
            // What is there is the mark of its absence, and needs no dropping.
            std::mem::forget(std::mem::replace(&mut slot.source, source));
        }
    }

    /// Leaves the slot closed; it is freed when the turn ends.
    pub(crate) fn retire(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            slot.source = Source::Closed;
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
        let open = self.slab.iter().filter(|(_, slot)| !matches!(slot.source, Source::Closed));
        open.map(|(place, slot)| Id::new(place, slot.serial)).collect()
    }
}

impl Others for Sources {
    fn room(&self, id: Id) -> usize {
        match self.get(id) {
            Some(Source::Connection(connection)) => connection.stream.room(&connection.held, self.output_max),
            _ => 0,
        }
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        let output_max = self.output_max;
        let Some(Slot { source: Source::Connection(connection), .. }) = self.slot(id) else { return 0 };
        let taken = connection.stream.push(&mut connection.held, bytes, output_max);
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

    fn connect(&mut self, address: SocketAddr, options: &ConnectOptions, call: Call) -> io::Result<Id> {
        if self.ending || !self.has_slot() {
            return Err(io::Error::other("the reactor has no place left, or is being dropped"));
        }
        let (noted, options) = (Readiness::default(), options.clone());
        let Call { handler, since } = call;
        self.open += 1;
        let dial = Dial { address, options, handler, socket: None, since, noted, half_closed: false };
        Ok(self.add(Source::Dial(Box::new(dial))))
    }

    fn stop(&mut self) {
        self.stopping = true;
    }

    fn queued(&self) -> usize {
        self.queue.len()
    }
}
