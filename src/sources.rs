//! The slab of listeners and connections, and the queue of those that have a turn coming.

use crate::admission::Admission;
use crate::config::ConnectOptions;
use crate::context::{Call, Endpoint, Others};
use crate::dial::Dial;
use crate::handler::{Handler, Service};
use crate::id::Id;
use crate::net::{TcpListener, TcpStream};
use crate::readiness::Readiness;
use crate::snapshot::ListenerView;
use crate::stream::Stream;
use crate::watch::{Watch, Watched};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// A connection: the machine, its handler, its socket.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) socket: TcpStream,
    pub(crate) serial: u32,
}

/// A listener: the doorkeeper's socket, who is called when someone enters, and when to let them.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) service: Box<dyn Service>,
    pub(crate) admission: Admission,
    pub(crate) readiness: Readiness,
    serial: u32,
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
    Watch(Box<Watch>),
    /// Taken out for its turn, so that its callbacks can reach every other slot. Marks made meanwhile are kept.
    Away {
        serial: u32,
        readiness: Readiness,
    },
    /// Closed in this turn of the loop. The slot stays taken until the turn ends: the events still in hand may name it.
    Closed,
}

impl Source {
    fn serial(&self) -> Option<u32> {
        match self {
            Source::Connection(connection) => Some(connection.serial),
            Source::Listener(listener) => Some(listener.serial),
            Source::Dial(dial) => Some(dial.serial),
            Source::Watch(watch) => Some(watch.serial),
            Source::Away { serial, .. } => Some(*serial),
            Source::Closed => None,
        }
    }

    fn readiness(&mut self) -> Option<&mut Readiness> {
        match self {
            Source::Connection(connection) => Some(&mut connection.stream.readiness),
            Source::Listener(listener) => Some(&mut listener.readiness),
            Source::Dial(dial) => Some(&mut dial.readiness),
            Source::Watch(watch) => Some(&mut watch.readiness),
            Source::Away { readiness, .. } => Some(readiness),
            Source::Closed => None,
        }
    }
}

pub(crate) struct Sources {
    slab: Slab<Source>,
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

    pub(crate) fn add_connection(&mut self, stream: Stream, handler: Box<dyn Handler>, socket: TcpStream) -> Id {
        let serial = self.next_id().serial();
        self.open += 1;
        self.add(Source::Connection(Connection { stream, handler, socket, serial }))
    }

    pub(crate) fn add_listener(&mut self, socket: TcpListener, service: Box<dyn Service>) -> Id {
        let (serial, readiness) = (self.next_id().serial(), Readiness::default());
        let listener = Listener { socket, service, admission: Admission::new(), readiness, serial };
        let id = self.add(Source::Listener(Box::new(listener)));
        self.listeners.push(id);
        id
    }

    pub(crate) fn add_watch(&mut self, watched: Box<dyn Watched>) -> Id {
        let (serial, readiness) = (self.next_id().serial(), Readiness::default());
        self.add(Source::Watch(Box::new(Watch { watched, readiness, serial })))
    }

    /// Puts a source in and queues its first turn.
    fn add(&mut self, source: Source) -> Id {
        let id = self.next_id();
        self.next_serial = self.next_serial.wrapping_add(1);
        self.slab.insert(source);
        self.mark(id, Readiness::WOKEN);
        id
    }

    /// The source an id names; none once that source has closed.
    pub(crate) fn get(&self, id: Id) -> Option<&Source> {
        self.slab.get(id.slot()).filter(|source| source.serial() == Some(id.serial()))
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Source> {
        self.slab.get_mut(id.slot()).filter(|source| source.serial() == Some(id.serial()))
    }

    /// Notes something about a source and queues it. False if the id is stale.
    pub(crate) fn mark(&mut self, id: Id, marks: Readiness) -> bool {
        let Some(readiness) = self.get_mut(id).and_then(Source::readiness) else { return false };
        readiness.add(marks);
        if readiness.add(Readiness::QUEUED) {
            self.queue.push_back(id);
        }
        true
    }

    /// Marks the source in a slot whose deadline has passed.
    pub(crate) fn mark_slot(&mut self, slot: usize, marks: Readiness) -> Option<Id> {
        let id = Id::new(slot, self.slab.get(slot).and_then(Source::serial)?);
        self.mark(id, marks);
        Some(id)
    }

    pub(crate) fn next_queued(&mut self) -> Option<Id> {
        self.queue.pop_front()
    }

    /// Takes a source out for its turn.
    pub(crate) fn check_out(&mut self, id: Id) -> Option<Source> {
        let away = Source::Away { serial: id.serial(), readiness: Readiness::default() };
        self.get_mut(id).map(|source| std::mem::replace(source, away))
    }

    /// Puts it back, with what was noted about it meanwhile.
    pub(crate) fn check_in(&mut self, id: Id, mut source: Source) {
        let Some(place) = self.get_mut(id) else { return };
        if let (Some(noted), Some(readiness)) = (place.readiness(), source.readiness()) {
            readiness.add(noted.take());
        }
        *place = source;
    }

    /// Leaves the slot closed; it is freed when the turn ends.
    pub(crate) fn retire(&mut self, id: Id) {
        if let Some(source) = self.get_mut(id) {
            *source = Source::Closed;
            self.dead.push(id.slot());
            self.listeners.retain(|&listener| listener != id);
        }
    }

    /// Frees the slots closed in this turn, and says whether there were any.
    pub(crate) fn free_dead(&mut self) -> bool {
        let any = !self.dead.is_empty();
        for slot in self.dead.drain(..) {
            self.slab.remove(slot);
        }
        any
    }

    /// Every id that names something.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let named = self.slab.iter().filter_map(|(slot, source)| Some(Id::new(slot, source.serial()?)));
        named.collect()
    }
}

impl Others for Sources {
    fn room(&self, id: Id) -> usize {
        match self.get(id) {
            Some(Source::Connection(connection)) => connection.stream.room(self.output_max),
            _ => 0,
        }
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        let output_max = self.output_max;
        let Some(Source::Connection(connection)) = self.get_mut(id) else { return 0 };
        let taken = connection.stream.push(bytes, output_max);
        if taken > 0 {
            self.mark(id, Readiness::default());
        }
        taken
    }

    fn wake(&mut self, id: Id) -> bool {
        self.mark(id, Readiness::WOKEN)
    }

    fn half_close(&mut self, id: Id) -> bool {
        match self.get_mut(id) {
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
        let (serial, readiness, options) = (self.next_id().serial(), Readiness::default(), options.clone());
        let Call { handler, since } = call;
        self.open += 1;
        let dial = Dial { address, options, handler, socket: None, since, readiness, half_closed: false, serial };
        Ok(self.add(Source::Dial(Box::new(dial))))
    }

    fn stop(&mut self) {
        self.stopping = true;
    }

    fn queued(&self) -> usize {
        self.queue.len()
    }
}
