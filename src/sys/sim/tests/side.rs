//! One side of the comparison: a script's calls on the kernel, or on the simulation.

use super::script::Op;
use crate::config::{ConnectOptions, ListenOptions};
use crate::connection::Endpoint;
use crate::handler::LocalAddr;
use crate::id::Id;
use crate::observe::{CallScope, Observation};
use crate::readiness::Readiness;
use crate::sys::sim::world::Rule;
use crate::sys::sim::{Decisions, Process, SharedWorld, World};
use crate::sys::{Polled, Poller, TcpListener, TcpStream};
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The slot of the first listener; streams have the slots before it.
const LISTENERS: usize = 1000;

struct Stream {
    socket: TcpStream,
    local: Option<SocketAddr>,
    /// The other end, once it is accepted.
    pair: Option<usize>,
    watched: bool,
    /// How many bytes this end wrote and read.
    wrote: usize,
    read: usize,
    /// It was written to until it was full, and the other end has not drained it since.
    full: bool,
    /// The other end is full, even if it is closed by now.
    flooded: bool,
}

pub(super) struct Side {
    poller: Poller,
    observation: Observation,
    ip: Ipv4Addr,
    world: Option<SharedWorld>,
    listeners: Vec<Option<TcpListener>>,
    addresses: Vec<SocketAddr>,
    watched_listeners: Vec<usize>,
    streams: Vec<Option<Stream>>,
    /// A FIN may be unacknowledged, or what a full connection held until it was drained.
    unacknowledged: bool,
    /// How long a delayed acknowledgement is waited for.
    patience: Duration,
    started: Instant,
    passed: Duration,
    pub(super) log: Vec<String>,
}

impl Side {
    pub(super) fn kernel(ip: Ipv4Addr, patience: Duration) -> Side {
        Side::new(Poller::new(256).unwrap(), ip, patience, None)
    }

    pub(super) fn simulation(ip: Ipv4Addr, broken: Option<Rule>) -> Side {
        let world = Rc::new(RefCell::new(World::new(Decisions::Plain)));
        world.borrow_mut().broken = broken;
        let poller = Poller::simulated(Process::new(&world, 256)).unwrap();
        Side::new(poller, ip, Duration::ZERO, Some(world))
    }

    fn new(poller: Poller, ip: Ipv4Addr, patience: Duration, world: Option<SharedWorld>) -> Side {
        Side {
            poller,
            observation: Observation::new(0, None),
            ip,
            world,
            listeners: Vec::new(),
            addresses: Vec::new(),
            watched_listeners: Vec::new(),
            streams: Vec::new(),
            unacknowledged: false,
            patience,
            started: Instant::now(),
            passed: Duration::ZERO,
            log: Vec::new(),
        }
    }

    /// True if the calls took so long that a SYN may have been sent again meanwhile.
    pub(super) fn is_late(&self) -> bool {
        self.world.is_none() && self.started.elapsed() - self.passed > Duration::from_millis(800)
    }

    pub(super) fn run(&mut self, script: &[Op]) {
        for &op in script {
            let result = self.call(op);
            self.log.push(format!("{op:?}: {result}"));
        }
    }

    fn scope(&self) -> CallScope<'_> {
        CallScope {
            id: Id::new(0, 0),
            observation: &self.observation,
        }
    }

    fn call(&mut self, op: Op) -> String {
        match op {
            Op::Listen { backlog } => self.listen(backlog),
            Op::Connect { listener, bound } => self.connect(listener, bound),
            Op::Wait => self.wait(),
            Op::Pass => self.pass(),
            Op::SetBacklog { listener, .. }
            | Op::AcceptQueue { listener }
            | Op::CloseListener { listener }
            | Op::WatchListener { listener }
            | Op::Accept { listener } => match nth(&self.listeners, listener) {
                Some(index) => self.call_listener(op, index),
                None => "no listener".to_string(),
            },
            Op::Watch { stream, .. }
            | Op::Read { stream, .. }
            | Op::Write { stream, .. }
            | Op::Fill { stream }
            | Op::Drain { stream }
            | Op::Shutdown { stream }
            | Op::ResetOnClose { stream }
            | Op::Close { stream }
            | Op::TakeError { stream }
            | Op::PeerAddr { stream } => match nth(&self.streams, stream) {
                Some(index) => self.call_stream(op, index),
                None => "no stream".to_string(),
            },
        }
    }

    fn listen(&mut self, backlog: u32) -> String {
        let options = ListenOptions {
            backlog,
            ..ListenOptions::default()
        };
        let address = SocketAddr::from((self.ip, 0));
        let bound = TcpListener::bind(&self.poller, address, &options, self.scope());
        let listener = bound.unwrap();
        self.addresses.push(listener.local_addr().unwrap());
        self.listeners.push(Some(listener));
        format!("listener {}", self.listeners.len() - 1)
    }

    /// Connects to a listener that may be closed by now.
    fn connect(&mut self, listener: usize, bound: bool) -> String {
        let to = self.addresses[listener % self.addresses.len()];
        let options = ConnectOptions {
            local: bound.then(|| SocketAddr::from((self.ip, 0))),
            ..ConnectOptions::default()
        };
        let connected = TcpStream::connect(&self.poller, to, &options, false, self.scope());
        match connected {
            Ok(socket) => self.add(socket, None),
            Err(error) => shown(&Err::<(), _>(error)),
        }
    }

    fn add(&mut self, socket: TcpStream, pair: Option<usize>) -> String {
        let index = self.streams.len();
        let mut flooded = false;
        if let Some(Some(pair)) = pair.map(|pair| &mut self.streams[pair]) {
            pair.pair = Some(index);
            flooded = pair.full;
        }
        self.streams.push(Some(Stream {
            local: socket.local_addr().ok(),
            socket,
            pair,
            watched: false,
            wrote: 0,
            read: 0,
            full: false,
            flooded,
        }));
        format!("stream {index}")
    }

    fn call_listener(&mut self, op: Op, index: usize) -> String {
        let scope = CallScope {
            id: Id::new(0, 0),
            observation: &self.observation,
        };
        let slot = &mut self.listeners[index];
        let listener = slot.as_mut().unwrap();
        match op {
            Op::SetBacklog { backlog, .. } => shown(&listener.set_backlog(backlog, scope)),
            Op::AcceptQueue { .. } => format!("{:?}", listener.accept_queue()),
            Op::WatchListener { .. } if self.watched_listeners.contains(&index) => {
                "again".to_string()
            }
            Op::WatchListener { .. } => {
                self.watched_listeners.push(index);
                let id = Id::new(LISTENERS + index, 0);
                shown(
                    &self
                        .poller
                        .add_listener(listener, CallScope { id, ..scope }),
                )
            }
            Op::CloseListener { .. } => {
                *slot = None;
                "closed".to_string()
            }
            _ => match listener.accept(Id::new(0, 0), scope) {
                Ok((socket, peer)) => self.accepted(socket, peer),
                Err(error) => shown(&Err::<(), _>(error)),
            },
        }
    }

    /// The accepted connection's client, if the script still has it.
    fn accepted(&mut self, socket: TcpStream, peer: SocketAddr) -> String {
        let client = self.streams.iter().rposition(|stream| {
            let local = stream.as_ref().and_then(|stream| stream.local);
            local == Some(peer)
        });
        let added = self.add(socket, client);
        format!("{added} of {client:?}")
    }

    fn call_stream(&mut self, op: Op, index: usize) -> String {
        let scope = CallScope {
            id: Id::new(0, 0),
            observation: &self.observation,
        };
        let stream = self.streams[index].as_mut().unwrap();
        match op {
            Op::Watch { writable, .. } => self.watch(index, writable),
            Op::Read { length, .. } => self.read(index, length),
            Op::Write { length, .. } => self.write(index, length),
            Op::Fill { .. } => self.fill(index),
            Op::Drain { .. } => self.drain(index),
            Op::Shutdown { .. } => {
                self.unacknowledged = true;
                shown(&stream.socket.shutdown_write(scope))
            }
            Op::ResetOnClose { .. } => {
                stream.socket.reset_on_close();
                "set".to_string()
            }
            Op::Close { .. } => {
                self.unacknowledged = true;
                self.streams[index] = None;
                "closed".to_string()
            }
            Op::TakeError { .. } => shown(&stream.socket.take_error(scope)),
            _ => match stream.socket.peer_addr() {
                Ok(peer) => format!("{:?}", self.addresses.iter().position(|&it| it == peer)),
                Err(error) => shown(&Err::<(), _>(error)),
            },
        }
    }

    fn watch(&mut self, index: usize, writable: bool) -> String {
        let scope = CallScope {
            id: Id::new(index, 0),
            observation: &self.observation,
        };
        let stream = self.streams[index].as_mut().unwrap();
        let before = std::mem::replace(&mut stream.watched, true);
        let socket = &mut stream.socket;
        shown(&match (before, writable) {
            (true, _) => self.poller.add_writable(socket, scope),
            (false, true) => self.poller.add_connecting(socket, scope),
            (false, false) => self.poller.add_stream(socket, scope),
        })
    }
}

/// Moving bytes.
impl Side {
    /// After the other end was filled, only reading all has a result that is not free.
    fn read(&mut self, index: usize, length: usize) -> String {
        if self.streams[index].as_ref().unwrap().flooded {
            return self.drain(index);
        }
        shown(&self.read_once(index, length))
    }

    fn read_once(&mut self, index: usize, length: usize) -> io::Result<usize> {
        let mut buffer = vec![0; length];
        let stream = self.streams[index].as_ref().unwrap();
        let count = stream.socket.read(&mut buffer, self.scope())?;
        assert!(
            buffer[..count] == *pattern(stream.read, count),
            "these bytes were not written"
        );
        self.streams[index].as_mut().unwrap().read += count;
        Ok(count)
    }

    fn write(&mut self, index: usize, length: usize) -> String {
        if self.streams[index].as_ref().unwrap().full {
            return "full".to_string();
        }
        shown(&self.write_once(index, length))
    }

    fn write_once(&mut self, index: usize, length: usize) -> io::Result<usize> {
        let stream = self.streams[index].as_ref().unwrap();
        let count = stream
            .socket
            .write(pattern(stream.wrote, length), self.scope())?;
        self.streams[index].as_mut().unwrap().wrote += count;
        Ok(count)
    }

    fn fill(&mut self, index: usize) -> String {
        // Later acknowledgements may make room for a little more, so it is not written to until drained.
        if self.streams[index].as_ref().unwrap().full {
            return "full".to_string();
        }
        let (mut refused, mut wrote) = (0, false);
        loop {
            match self.write_once(index, 65_536) {
                Ok(_) => (refused, wrote) = (0, true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && refused < 3 => {
                    refused += 1;
                    self.pause(Duration::from_millis(3));
                }
                Err(error) => {
                    let stream = self.streams[index].as_mut().unwrap();
                    stream.full = wrote;
                    let pair = stream.pair.filter(|_| wrote);
                    if let Some(Some(peer)) = pair.map(|pair| &mut self.streams[pair]) {
                        peer.flooded = true;
                    }
                    return format!("wrote: {wrote}, then {}", shown(&Err::<(), _>(error)));
                }
            }
        }
    }

    fn drain(&mut self, index: usize) -> String {
        let (mut empty, mut read) = (0, false);
        let end = loop {
            match self.read_once(index, 65_536) {
                Ok(0) => break Ok(0),
                Ok(_) => (empty, read) = (0, true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && empty < 3 => {
                    empty += 1;
                    self.pause(Duration::from_millis(3));
                }
                Err(error) => break Err(error),
            }
        };
        let stream = self.streams[index].as_mut().unwrap();
        self.unacknowledged |= std::mem::take(&mut stream.flooded);
        let (pair, count) = (stream.pair, stream.read);
        let mut all = None;
        if let Some(Some(peer)) = pair.map(|pair| &mut self.streams[pair]) {
            peer.full = false;
            all = Some(peer.wrote == count);
        }
        format!("read: {read}, all of it: {all:?}, then {}", shown(&end))
    }

    fn pause(&self, time: Duration) {
        if self.world.is_none() {
            std::thread::sleep(time);
        }
    }
}

/// Waiting.
impl Side {
    /// All events, once everything is at rest.
    fn wait(&mut self) -> String {
        if std::mem::take(&mut self.unacknowledged) {
            self.pause(self.patience);
        }
        let mut events = Vec::new();
        loop {
            self.poller.wait(Some(Duration::ZERO)).unwrap();
            for event in self.poller.events() {
                match event {
                    Polled::Ready(id, marks) if !self.is_free(id.slot(), marks) => {
                        events.push(format!("{} {marks:?}", id.slot()));
                    }
                    _ => {}
                }
            }
            if self.poller.events().count() == 0 {
                break;
            }
        }
        events.sort();
        events.join(", ")
    }

    /// The writer of a full connection probes it, and then a few more bytes may arrive at any time.
    /// The kernel may also make the writer's buffer larger at any time, which is an event of its own.
    fn is_free(&self, index: usize, marks: Readiness) -> bool {
        let Some(Some(stream)) = self.streams.get(index) else {
            return false;
        };
        let more_input = stream.flooded && !marks.intersects(Readiness::UNDRAINED);
        more_input || stream.full && stream.socket.peer_addr().is_ok()
    }

    /// Whether a stream waits for the answer to its SYN; it has neither a peer nor a result.
    fn waiting_clients(&self) -> usize {
        let streams = self.streams.iter().flatten();
        let waiting = streams.filter(|stream| {
            let connected = stream.socket.peer_addr().is_ok();
            !connected && stream.pair.is_none()
        });
        waiting.count()
    }

    fn pass(&mut self) -> String {
        if self.waiting_clients() > 1 {
            return "not with several that wait".to_string();
        }
        let time = Duration::from_millis(1100);
        self.passed += time;
        match &self.world {
            Some(world) => {
                let mut world = world.borrow_mut();
                let until = world.now().after(time);
                world.advance(until);
            }
            None => std::thread::sleep(time),
        }
        "passed".to_string()
    }
}

/// The bytes at a position of a stream.
fn pattern(at: usize, length: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(70_000).collect());
    &BYTES[at % 251..][..length]
}

/// The index that a number of a script names: one of those that are open.
fn nth<T>(all: &[Option<T>], number: usize) -> Option<usize> {
    let open: Vec<usize> = (0..all.len())
        .filter(|&index| all[index].is_some())
        .collect();
    (!open.is_empty()).then(|| open[number % open.len()])
}

/// The kind, the count and the number of the error.
fn shown<T: std::fmt::Debug>(result: &io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} {:?}", error.kind(), error.raw_os_error()),
    }
}
