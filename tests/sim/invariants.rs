//! The reactor under random handlers and random peers: what holds after every run.

use crate::running::address;
use doorkeeper::sim::{Ending, Peer, Sim};
use doorkeeper::{
    Closed, Config, ConnectionState, Context, Handler, Id, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The byte at a position of each stream, in both directions.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(pattern).collect()
}

/// What one handler saw and did.
#[derive(Default)]
struct Record {
    opened: u32,
    closed: u32,
    consumed: usize,
    written: usize,
    ended: bool,
    /// The connection, and whether `on_drain` has to come.
    id: Option<Id>,
    undrained: bool,
    reason: Option<Reason>,
}

/// What all handlers of a run share.
#[derive(Default)]
struct Shared {
    records: Vec<Record>,
    ids: Vec<Id>,
    /// The number of connections that may still be made.
    connections: usize,
    received: u64,
    sent: u64,
}

/// Does anything at all that a handler may do.
struct Wild {
    sim: Sim,
    shared: Rc<RefCell<Shared>>,
    number: usize,
}

impl Wild {
    fn new(sim: &Sim, shared: &Rc<RefCell<Shared>>) -> Wild {
        let mut all = shared.borrow_mut();
        all.records.push(Record::default());
        Wild {
            sim: sim.clone(),
            shared: Rc::clone(shared),
            number: all.records.len() - 1,
        }
    }

    fn record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.shared.borrow_mut().records[self.number])
    }

    fn check_alive(&self) {
        self.record(|record| assert_eq!((record.opened, record.closed), (1, 0)));
    }

    fn write(&self, cx: &mut Context<'_>) {
        let from = self.record(|record| record.written);
        let (room, length) = (cx.room(), 1 + self.sim.choose(300));
        let count = cx.write(&bytes(from, length));
        assert_eq!(
            count,
            length.min(room),
            "write takes what there is room for"
        );
        self.record(|record| {
            record.written += count;
            record.undrained |= count > 0;
        });
    }

    fn another(&self) -> Option<Id> {
        let ids = self.shared.borrow().ids.clone();
        (!ids.is_empty()).then(|| ids[self.sim.choose(ids.len())])
    }

    /// A few random acts.
    fn act(&self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..self.sim.choose(4) {
            match self.sim.choose(24) {
                0..8 => self.write(cx),
                8 => cx.half_close(),
                9 => cx.finish(),
                10 => {
                    let key = TimerKey(self.sim.choose(3) as u64);
                    cx.set_timer(key, Duration::from_millis(self.sim.choose(2000) as u64));
                }
                11 => {
                    cx.cancel_timer(TimerKey(self.sim.choose(3) as u64));
                }
                12 => {
                    let own = cx.id();
                    cx.wake(own);
                }
                13 => {
                    self.another().map(|id| cx.wake(id));
                }
                14 => {
                    self.another().map(|id| cx.half_close_of(id));
                }
                15 if self.sim.choose(4) == 0 => cx.abort(),
                16 if self.sim.choose(4) == 0 => {
                    self.another().map(|id| cx.close(id));
                }
                17 if self.sim.choose(4) == 0 => return Err(io::Error::other("wild")),
                18 if self.sim.choose(4) == 0 => panic!("wild"),
                19 => self.connect(cx)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn connect(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.shared.borrow().connections == 0 {
            return Ok(());
        }
        self.shared.borrow_mut().connections -= 1;
        let port = if self.sim.choose(4) == 0 { 9 } else { 7 };
        let to = std::net::SocketAddr::new(address().ip(), port);
        let id = cx.connect(to, Wild::new(&self.sim, &self.shared))?;
        self.shared.borrow_mut().ids.push(id);
        Ok(())
    }
}

impl Handler for Wild {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let id = cx.id();
        self.record(|record| {
            record.opened += 1;
            record.id = Some(id);
        });
        self.check_alive();
        self.shared.borrow_mut().ids.push(cx.id());
        self.act(cx)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.check_alive();
        let from = self.record(|record| record.consumed);
        assert!(
            !input.is_empty() && *input == bytes(from, input.len()),
            "input in order"
        );
        // Nothing is lost if the consumed part is not reported with an error.
        self.act(cx)?;
        let count = 1 + self.sim.choose(input.len());
        if count < input.len() {
            let own = cx.id();
            cx.wake(own);
        }
        self.record(|record| record.consumed += count);
        Ok(count)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        self.record(|record| assert!(std::mem::take(&mut record.undrained), "nothing was written"));
        self.act(cx)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        self.record(|record| assert!(!std::mem::replace(&mut record.ended, true)));
        self.act(cx)?;
        if self.sim.choose(3) > 0 {
            cx.finish();
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.check_alive();
        self.act(cx)
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        let id = cx.id();
        let mut shared = self.shared.borrow_mut();
        shared.ids.retain(|&other| other != id);
        shared.received += closed.received;
        shared.sent += closed.sent;
        let record = &mut shared.records[self.number];
        record.closed += 1;
        record.reason = Some(closed.reason);
        let consumed = record.consumed as u64;
        // Input that `finish` throws away is in no handler's sum.
        assert!(
            closed.received >= consumed + closed.discarded.min(1),
            "{closed:?}"
        );
        assert_eq!(
            closed.sent + closed.unsent,
            record.written as u64,
            "{closed:?}"
        );
    }
}

struct Side {
    peer: Peer,
    sent: usize,
}

fn act(sim: &Sim, side: &mut Side) {
    match sim.choose(12) {
        0..5 => {
            let length = 1 + sim.choose(700);
            side.peer.send(&bytes(side.sent, length));
            side.sent += length;
        }
        5 => side.peer.half_close(),
        6 if sim.choose(3) == 0 => side.peer.close(),
        7 if sim.choose(3) == 0 => side.peer.reset(),
        8 => side.peer.stop_reading(),
        9 => side.peer.read(sim.choose(500)),
        10 => side.peer.read_all(),
        _ => {}
    }
}

fn config(sim: &Sim) -> Config {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(20));
    config.linger_timeout = Duration::from_secs(2);
    config.linger_max_bytes = 1 + sim.choose(2000) as u64;
    config.turn_budget_bytes = 1 + sim.choose(600);
    config.input_max_bytes = 1 + sim.choose(400);
    config.output_max_bytes = 1 + sim.choose(400);
    config.accept_budget = 1 + sim.choose(3);
    config.events_per_turn = 1 + sim.choose(4);
    config.max_connections = 1 + sim.choose(6);
    config
}

fn check_sums(server: &Reactor, shared: &Shared) {
    let (stats, snapshot) = (server.stats(), server.snapshot());
    let closed: u64 = Reason::ALL.iter().map(|&reason| stats.closed(reason)).sum();
    let made = shared.records.len() as u64;
    assert_eq!(
        made,
        closed + stats.open as u64,
        "every handler is open or closed"
    );
    let open_received: u64 = snapshot.connections.iter().map(|view| view.received).sum();
    let open_sent: u64 = snapshot.connections.iter().map(|view| view.sent).sum();
    assert_eq!(stats.bytes_received, shared.received + open_received);
    assert_eq!(stats.bytes_sent, shared.sent + open_sent);
    let open = [ConnectionState::Open, ConnectionState::PeerEnded];
    for view in &snapshot.connections {
        let mut records = shared.records.iter();
        let record = records.find(|record| record.id == Some(view.id));
        let undrained = record.is_some_and(|record| record.undrained && record.closed == 0);
        let sent = view.pending_out == 0 && open.contains(&view.state);
        assert!(
            !(undrained && sent),
            "all is sent, and on_drain was not called"
        );
    }
    let limits = &snapshot.connections;
    assert!(
        limits
            .iter()
            .all(|view| view.pending_in <= 400 && view.pending_out <= 400)
    );
}

/// One run of random handlers against random peers.
fn wild(sim: &Sim) {
    sim.allow_panics();
    sim.set_buffers(1 + sim.choose(900), 1 + sim.choose(900));
    let shared = Rc::new(RefCell::new(Shared {
        connections: 6,
        ..Shared::default()
    }));
    let server = sim.reactor(config(sim)).unwrap();
    let (all, inner) = (Rc::clone(&shared), sim.clone());
    let service = move |_| Some(Wild::new(&inner, &all));
    server.borrow_mut().listen(address(), service).unwrap();
    let mut sides: Vec<Side> = (0..1 + sim.choose(4))
        .map(|_| Side {
            peer: sim.connect(address()),
            sent: 0,
        })
        .collect();
    for _ in 0..30 {
        let count = sides.len();
        act(sim, &mut sides[sim.choose(count)]);
        sim.run_for(Duration::from_millis(sim.choose(400) as u64));
        check_sums(&server.borrow(), &shared.borrow());
    }
    for side in &sides {
        side.peer.read_all();
        side.peer.half_close();
    }
    sim.run_to_rest();
    check_sums(&server.borrow(), &shared.borrow());
    let stats = server.borrow().stats();
    assert_eq!(stats.open, 0, "idle connections are closed");
    for side in &sides {
        let received = side.peer.received();
        assert!(received == bytes(0, received.len()), "output in order");
    }
    let shared = shared.borrow();
    assert!(
        shared.records.iter().all(|record| record.closed == 1),
        "on_close once"
    );
}

#[test]
fn anything_that_handlers_and_peers_do_leaves_the_sums_right() {
    let runs = std::env::var("DOORKEEPER_SEEDS").map_or(2000, |text| text.parse().unwrap());
    doorkeeper::sim::seeds(0..runs, wild);
}

/// Consumes a part of the input each time, and writes all of it back later.
struct Slow {
    sim: Sim,
    held: Vec<u8>,
    ended: bool,
}

impl Slow {
    fn write(&mut self, cx: &mut Context<'_>) {
        let count = cx.write(&self.held);
        self.held.drain(..count);
    }

    /// Not from `on_data`, whose input is not consumed yet.
    fn write_and_finish(&mut self, cx: &mut Context<'_>) {
        self.write(cx);
        if self.held.is_empty() && self.ended && cx.unread() == 0 {
            cx.finish();
        }
    }
}

impl Handler for Slow {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.write(cx);
        if self.held.len() > 500 {
            return Ok(0);
        }
        let count = 1 + self.sim.choose(input.len());
        self.held.extend(&input[..count]);
        match self.sim.choose(2) {
            0 => self.write(cx),
            _ => cx.set_timer(TimerKey(0), Duration::from_millis(1)),
        }
        let own = cx.id();
        cx.wake(own);
        Ok(count)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.write_and_finish(cx);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.write_and_finish(cx);
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.ended = true;
        self.write_and_finish(cx);
        Ok(())
    }
}

/// No deadline stays armed, so a wake-up that is lost is a run that cannot go on.
#[test]
fn no_wakeup_is_lost() {
    let runs = std::env::var("DOORKEEPER_SEEDS").map_or(2000, |text| text.parse().unwrap());
    doorkeeper::sim::seeds(0..runs, |sim| {
        sim.set_buffers(1 + sim.choose(900), 1 + sim.choose(900));
        let mut config = config(sim);
        config.idle_timeout = None;
        config.max_connections = 1 + sim.choose(3);
        let server = sim.reactor(config).unwrap();
        let inner = sim.clone();
        let service = move |_| {
            Some(Slow {
                sim: inner.clone(),
                held: Vec::new(),
                ended: false,
            })
        };
        server.borrow_mut().listen(address(), service).unwrap();
        let peers: Vec<Peer> = (0..3).map(|_| sim.connect(address())).collect();
        let text = bytes(0, 3000);
        for peer in &peers {
            peer.send(&text);
            peer.half_close();
        }
        sim.run_until(|| peers.iter().all(|peer| peer.ending().is_some()));
        for peer in &peers {
            assert_eq!(peer.ending(), Some(Ending::Fin));
            assert!(peer.received() == text);
        }
        let turns = server.borrow().stats().turns;
        assert!(
            turns < 100_000,
            "{turns} turns are more than the bytes need"
        );
    });
}
