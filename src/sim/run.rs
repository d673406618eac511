//! A simulation, and how it runs: one thing moves at a time.

use super::member::Member;
use super::peer::{Listening, Peer, SharedPeer, State};
use super::quiet;
use super::story::{self, Teller};
use crate::config::Config;
use crate::reactor::Reactor;
use crate::sys::sim::{Choice, Decisions, Process, Route, SharedWorld, World};
use crate::time::Tick;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

/// The number of steps without progress beyond which something spins: no byte moves, and no time
/// passes.
const STEPS_WITHOUT_PROGRESS: usize = 20_000;

/// A simulated network, and what runs in it. Cloning gives another handle of the same simulation.
#[derive(Clone)]
pub struct Sim {
    pub(super) world: SharedWorld,
    pub(super) members: Rc<RefCell<Vec<Member>>>,
    pub(super) peers: Rc<RefCell<Vec<SharedPeer>>>,
    /// The peers that may have something to do.
    active: Rc<RefCell<BTreeSet<usize>>>,
    panics_allowed: Rc<Cell<bool>>,
}

/// What can move, apart from the network.
#[derive(Clone, Copy, Debug)]
enum Mover {
    Read(usize),
    Write(usize),
    Reactor(usize),
}

/// Making a simulation, and what it consists of.
impl Sim {
    /// A simulation whose network decides at random, with this seed. The same seed decides the same.
    pub fn new(seed: u64) -> Sim {
        Sim::with(Decisions::random(seed))
    }

    /// A simulation of a network without surprises: what is sent arrives at once and whole, as on
    /// loopback.
    pub fn plain() -> Sim {
        Sim::with(Decisions::Plain)
    }

    pub(super) fn with(decisions: Decisions) -> Sim {
        Sim {
            world: Rc::new(RefCell::new(World::new(decisions))),
            members: Rc::default(),
            peers: Rc::default(),
            active: Rc::default(),
            panics_allowed: Rc::default(),
        }
    }

    /// An ordinary reactor on this network. Several can talk to each other.
    ///
    /// The simulation gives it turns; do not call [`run`](Reactor::run) on it. What it holds ends when
    /// the test drops it. `watch`, `adopt_stream` and `adopt_listener` return `Unsupported`, because
    /// they take sources of the kernel. Its descriptor ([`as_fd`](std::os::fd::AsFd)) is never readable.
    ///
    /// # Errors
    /// As for [`Reactor::new`].
    pub fn reactor(&self, config: Config) -> io::Result<Rc<RefCell<Reactor>>> {
        let process = Process::new(&self.world, config.events_per_turn);
        let number = process.number();
        let mut reactor = Reactor::simulated(self.with_bytes(config), process)?;
        if self.world.borrow().story.is_some() {
            reactor.observe(Box::new(Teller {
                world: Rc::clone(&self.world),
                reactor: self.members.borrow().len(),
            }));
        }
        let reactor = Rc::new(RefCell::new(reactor));
        let member = Member::new(&reactor, number);
        self.members.borrow_mut().push(member);
        Ok(reactor)
    }

    /// A story shows the first bytes of each read and write.
    fn with_bytes(&self, mut config: Config) -> Config {
        if self.world.borrow().story.is_some() {
            config.observed_bytes = config.observed_bytes.max(story::SHOWN);
        }
        config
    }

    /// A peer that connects to an address. Its [`ending`](Peer::ending) says if that fails.
    pub fn connect(&self, address: SocketAddr) -> Peer {
        let mut peers = self.peers.borrow_mut();
        let peer = State::connect(&self.world, peers.len(), address);
        let peer = Rc::new(RefCell::new(peer));
        peers.push(Rc::clone(&peer));
        Peer(peer)
    }

    /// A listening socket for the test. It queues `backlog` + 1 connections, as Linux does.
    ///
    /// # Errors
    /// `AddrInUse`.
    pub fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<Listening> {
        Listening::new(&self.world, &self.peers, address, backlog)
    }
}

/// The network's limits and faults.
impl Sim {
    /// How often a choice differs from the plainest at random: from 0, never, to 255, nearly always. In
    /// [`explore`](super::explore), 0 means never, and any other rate means that it can.
    pub fn set_rate(&self, choice: Choice, rate: u8) {
        self.world.borrow_mut().chooser.set_rate(choice, rate);
    }

    /// The most times that a choice differs from the plainest in one run. There is no such limit except
    /// those that [`explore`](super::explore) names.
    pub fn set_most(&self, choice: Choice, most: usize) {
        self.world.borrow_mut().chooser.set_most(choice, most);
    }

    /// Bytes that a socket holds for sending, and for reading, before it is full. Default 65,536 each.
    pub fn set_buffers(&self, send: usize, receive: usize) {
        let mut world = self.world.borrow_mut();
        world.limits.send_buffer = send;
        world.limits.receive_buffer = receive;
        world.touched.extend(0..self.peers.borrow().len());
    }

    /// How many descriptors a process may have open: then socket(2) and accept(2) fail with EMFILE.
    pub fn set_descriptors(&self, limit: usize) {
        self.world.borrow_mut().limits.descriptors = limit;
    }

    /// The automatic ports: when all are taken, connect(2) fails with EADDRNOTAVAIL.
    pub fn set_ports(&self, ports: RangeInclusive<u16>) {
        self.world.borrow_mut().limits.ports = ports;
    }

    /// Connecting to this address fails at once: EHOSTUNREACH.
    pub fn set_unreachable(&self, ip: IpAddr) {
        self.world
            .borrow_mut()
            .routes
            .insert(ip, Route::Unreachable);
    }

    /// Nothing at this address answers, so connecting fails after 135 s: ETIMEDOUT.
    pub fn set_silent(&self, ip: IpAddr) {
        self.world.borrow_mut().routes.insert(ip, Route::Silent);
    }

    /// Lets callbacks panic. Without this a run fails when one does, although the reactor survives it.
    pub fn allow_panics(&self) {
        self.panics_allowed.set(true);
    }

    /// A number below `options` that the simulation decides, as it decides everything else.
    pub fn choose(&self, options: usize) -> usize {
        self.world.borrow_mut().choose(Choice::Test, options)
    }

    /// The time since the simulation's start.
    pub fn now(&self) -> Duration {
        self.world.borrow().now().since(Tick::default())
    }
}

/// Running.
impl Sim {
    /// Runs until the condition is true, and fails at once if nothing is left to happen before.
    ///
    /// # Panics
    /// If nothing is left to happen, and says what everyone waits for. Also if something spins: 20,000
    /// steps in which no byte moves and no time passes.
    #[track_caller]
    pub fn run_until(&self, mut condition: impl FnMut() -> bool) {
        if !self.can_reach(&mut condition) {
            panic!("nothing is left to happen; {}", self.describe());
        }
    }

    /// Runs until the condition is true. False if nothing is left to happen before.
    #[track_caller]
    pub(super) fn can_reach(&self, mut condition: impl FnMut() -> bool) -> bool {
        let mut steps = Steps::default();
        while !condition() {
            if !self.step(None) {
                return false;
            }
            steps.count(self);
        }
        true
    }

    /// Runs for this time, and then the time has passed, even if nothing happened.
    ///
    /// # Panics
    /// If something spins.
    #[track_caller]
    pub fn run_for(&self, time: Duration) {
        let until = self.world.borrow().now().after(time);
        let mut steps = Steps::default();
        while self.step(Some(until)) {
            steps.count(self);
        }
        self.world.borrow_mut().advance(until);
    }

    /// Runs until nothing is left to happen, timers included.
    ///
    /// # Panics
    /// If something spins.
    #[track_caller]
    pub fn run_to_rest(&self) {
        let mut steps = Steps::default();
        while self.step(None) {
            steps.count(self);
        }
    }

    /// Runs until nothing moves unless time passes.
    ///
    /// # Panics
    /// If something spins.
    #[track_caller]
    pub fn run_now(&self) {
        let now = self.world.borrow().now();
        let mut steps = Steps::default();
        while self.step(Some(now)) {
            steps.count(self);
        }
    }

    pub(super) fn tell(&self, line: &str) {
        self.world.borrow_mut().tell(|| line.to_string());
    }

    /// One thing moves, or the time jumps to the next thing that is due by then. False if there is
    /// neither.
    fn step(&self, until: Option<Tick>) -> bool {
        let (flights, movers) = self.movers();
        let count = flights + movers.len();
        if count == 0 {
            let next = self.next_time();
            let next = next.filter(|&next| until.is_none_or(|until| next <= until));
            return next
                .inspect(|&next| self.world.borrow_mut().advance(next))
                .is_some();
        }
        let chosen = self.world.borrow_mut().choose(Choice::Next, count);
        match chosen.checked_sub(flights) {
            Some(index) => self.do_move(movers[index]),
            None => drop(self.world.borrow_mut().deliver(chosen)),
        }
        true
    }

    /// Everything that can move now: the network, which is counted, and after it the peers and the
    /// reactors. On a plain network the first one moves, so no more than one is looked for.
    fn movers(&self) -> (usize, Vec<Mover>) {
        let (flights, plain) = {
            let world = self.world.borrow();
            (world.in_flight(), world.chooser.is_plain())
        };
        let mut movers = Vec::new();
        self.add_peers(&mut movers, plain);
        if movers.is_empty() || !plain {
            self.add_reactors(&mut movers);
        }
        (flights, movers)
    }

    /// A peer that cannot move is not looked at again before it is touched.
    fn add_peers(&self, movers: &mut Vec<Mover>, first: bool) {
        let peers = self.peers.borrow();
        let mut active = self.active.borrow_mut();
        active.extend(self.world.borrow_mut().touched.drain(..));
        let mut idle = Vec::new();
        for &index in active.iter() {
            let peer = peers[index].borrow();
            let before = movers.len();
            movers.extend(peer.may_read().then_some(Mover::Read(index)));
            movers.extend(peer.may_write().then_some(Mover::Write(index)));
            if movers.len() == before {
                idle.push(index);
            } else if first {
                break;
            }
        }
        for index in idle {
            active.remove(&index);
        }
    }

    fn add_reactors(&self, movers: &mut Vec<Mover>) {
        let now = self.world.borrow().now();
        for (index, member) in self.members.borrow().iter().enumerate() {
            if member.running().is_some() {
                let due = member.next_turn().is_some_and(|next| next <= now);
                if due || self.world.borrow_mut().is_ready(member.process) {
                    movers.push(Mover::Reactor(index));
                }
            }
        }
    }

    fn do_move(&self, mover: Mover) {
        match mover {
            Mover::Read(index) => self.peers.borrow()[index].borrow_mut().read(),
            Mover::Write(index) => self.peers.borrow()[index].borrow_mut().write(),
            Mover::Reactor(index) => {
                let member = self.members.borrow()[index].clone();
                if let Some(reactor) = member.running() {
                    let turn = reactor.borrow_mut().turn(Some(Duration::ZERO));
                    turn.expect("a simulated poller does not fail");
                    self.check_panics(&reactor.borrow());
                    self.check_invariants(&member, &reactor.borrow());
                }
            }
        }
    }

    /// A reactor survives the panics of its handlers, but a test of one must fail.
    fn check_panics(&self, reactor: &Reactor) {
        if reactor.stats().panics > 0 && !self.panics_allowed.get() {
            panic!("a callback panicked: {}", quiet::last());
        }
    }

    /// After every turn. A check of all sources costs as much as they are, so a large reactor has one
    /// only now and then.
    fn check_invariants(&self, member: &Member, reactor: &Reactor) {
        let mut checked = reactor.check_turn();
        if checked.is_ok() && member.owes_check(reactor.sources()) {
            checked = reactor.check_sources();
        }
        if let Err(words) = checked {
            let process = member.process;
            panic!("an invariant of the reactor of process {process} does not hold: {words}");
        }
    }

    fn next_time(&self) -> Option<Tick> {
        let members = self.members.borrow();
        let turns = members.iter().filter_map(Member::next_turn);
        turns.chain(self.world.borrow().next_timer()).min()
    }
}

/// Counts the steps without progress.
#[derive(Default)]
struct Steps {
    before: (Tick, u64),
    count: usize,
}

impl Steps {
    #[track_caller]
    fn count(&mut self, sim: &Sim) {
        let world = sim.world.borrow();
        let now = (world.now(), world.progress);
        drop(world);
        self.count += 1;
        if now != self.before {
            (self.before, self.count) = (now, 0);
        }
        assert!(
            self.count < STEPS_WITHOUT_PROGRESS,
            "{STEPS_WITHOUT_PROGRESS} steps without progress: something spins; {}",
            sim.describe()
        );
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sim({})", self.describe())
    }
}
