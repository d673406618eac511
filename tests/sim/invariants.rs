//! The reactor under random handlers and random peers. After each of its turns the simulation checks
//! what a socket can tell (`src/reactor/invariants.rs`), and these runs what a handler and a peer can.
//!
//! More runs, here ten million (`5000000..10000000` makes the second half of them):
//! `DOORKEEPER_SEEDS=10000000 cargo test --profile sim --features sim --test sim invariants`

use crate::audit::{AT_ONCE, Auditor, Faults};
use crate::running::address;
use crate::wild::{
    Bounds, Everything, Record, Shared, Wild, act_as_program, bytes, know, options, own_limits,
    up_to,
};
use doorkeeper::sim::{Choice, Ending, Peer, Sim};
use doorkeeper::{Arrival, Config, Context, Handler, ListenOptions, Reactor, Reason, TimerKey};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

struct Side {
    peer: Peer,
    local: Option<SocketAddr>,
    sent: usize,
}

impl Side {
    fn new(peer: Peer) -> Side {
        let local = peer.local_addr();
        Side {
            peer,
            local,
            sent: 0,
        }
    }
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
    config.linger_max_bytes = up_to(sim, 2000) as u64;
    config.turn_budget_bytes = up_to(sim, 600);
    config.input_max_bytes = up_to(sim, 400);
    config.output_max_bytes = up_to(sim, 400);
    if sim.choose(4) == 1 {
        config.output_max_bytes += AT_ONCE;
    }
    config.output_hard_max_bytes = up_to(sim, 3000);
    config.accept_budget = up_to(sim, 3);
    config.events_per_turn = up_to(sim, 4);
    config.max_connections = up_to(sim, 6);
    config.timers_per_turn = up_to(sim, 3);
    config
}

/// The statistics are the receipts of those that closed and what the others moved so far.
fn check_sums(server: &Reactor, shared: &Shared, now: Duration) {
    assert!(shared.faults.is_empty(), "{:?}", shared.faults);
    let (stats, snapshot) = (server.stats(), server.snapshot());
    let closed: u64 = Reason::ALL.iter().map(|&reason| stats.closed(reason)).sum();
    let made = shared.records.len() as u64;
    assert_eq!(
        made,
        closed + stats.open as u64,
        "every handler is open or closed"
    );
    assert_eq!(stats.open, snapshot.connections.len());
    let open_received: u64 = snapshot.connections.iter().map(|view| view.received).sum();
    let open_sent: u64 = snapshot.connections.iter().map(|view| view.sent).sum();
    assert_eq!(stats.bytes_received, shared.received + open_received);
    assert_eq!(stats.bytes_sent, shared.sent + open_sent);
    // One of lent code is counted in the next turn.
    assert!(stats.panics == shared.panics || server.is_done());
    for &reason in &Reason::ALL {
        let receipts = shared.records.iter().filter_map(|record| record.receipt);
        let count = receipts.filter(|receipt| receipt.0 == reason).count();
        assert_eq!(stats.closed(reason), count as u64, "{reason}");
    }
    // A reactor that is shut down has no turns any more.
    let views = snapshot.connections.iter().filter(|_| !server.is_done());
    for view in views {
        let mut records = shared.records.iter();
        if let Some(record) = records.find(|record| record.id == Some(view.id)) {
            record.check_rest(view, now, shared.shuts_down);
        }
    }
}

/// A reactor and its wild handlers.
struct Party {
    sim: Sim,
    reactor: Rc<RefCell<Reactor>>,
    shared: Everything,
    faults: Faults,
}

impl Party {
    fn new(sim: &Sim) -> Party {
        let (shared, faults, config) = (Everything::default(), Faults::default(), config(sim));
        let mut all = shared.borrow_mut();
        (all.connections, all.timers) = (6, 10);
        all.bounds = Bounds::of(&config);
        // Observed turns take another path, so half of the runs are not observed.
        all.is_observed = sim.choose(2) == 1;
        let reactor = sim.reactor(config.clone()).unwrap();
        if all.is_observed {
            let auditor = Auditor::new(&config, &faults, &shared);
            reactor.borrow_mut().observe(Box::new(auditor));
        }
        drop(all);
        Party {
            sim: sim.clone(),
            reactor,
            shared,
            faults,
        }
    }

    fn check(&self) {
        check_sums(
            &self.reactor.borrow(),
            &self.shared.borrow(),
            self.sim.now(),
        );
        self.faults.check();
    }

    /// Idle connections are closed, and the others when the reactor is dropped.
    fn check_ended(&mut self) {
        let (done, open) = (
            self.reactor.borrow().is_done(),
            self.reactor.borrow().stats().open,
        );
        assert!(done || open == 0, "{open} idle connections are open");
        let other = self.sim.reactor(Config::default()).unwrap();
        drop(std::mem::replace(&mut self.reactor, other));
        let shared = self.shared.borrow();
        assert!(shared.faults.is_empty(), "{:?}", shared.faults);
        let once = shared.records.iter().all(|record| record.closed == 1);
        assert!(once, "on_close once");
    }
}

/// The record of the handler between these addresses, its own first.
fn with_record<T>(
    parties: &[Party],
    ends: (SocketAddr, SocketAddr),
    code: impl Fn(&Record) -> T,
) -> Option<T> {
    parties.iter().find_map(|party| {
        let shared = party.shared.borrow();
        let mut records = shared.records.iter();
        records.find(|record| record.ends == Some(ends)).map(&code)
    })
}

/// What a side received is what the other wrote, in order; all of it, if both ended in order.
fn check_output(sides: &[Side], parties: &[Party]) {
    for side in sides {
        let received = side.peer.received();
        assert!(received == bytes(0, received.len()), "output in order");
        let ends = side.local.map(|local| (address(), local));
        let found = ends
            .and_then(|ends| with_record(parties, ends, |record| (record.written, record.receipt)));
        let Some((written, receipt)) = found else {
            assert!(received.is_empty(), "nobody wrote that");
            continue;
        };
        assert!(received.len() <= written, "more than was written");
        let Some((reason, taken, sent)) = receipt else {
            continue;
        };
        assert!(taken <= side.sent as u64 && received.len() as u64 <= sent);
        if reason == Reason::Finished && side.peer.ending() == Some(Ending::Fin) {
            assert_eq!(received.len(), written, "the whole output");
        }
    }
    for party in parties {
        for one in &party.shared.borrow().records {
            check_pair(parties, one);
        }
    }
}

/// Both ends of a connection between two reactors, or within one.
fn check_pair(parties: &[Party], one: &Record) {
    let Some(((local, peer), receipt)) = one.ends.zip(one.receipt) else {
        return;
    };
    let other = with_record(parties, (peer, local), |other| other.receipt);
    if let Some((reason, _, sent)) = other.flatten() {
        assert!(receipt.1 <= sent, "received {} of {sent}", receipt.1);
        // One that does not wait for the other's end may miss it.
        let waits = !one.bounds.closes_when_sent;
        if waits && (receipt.0, reason) == (Reason::Finished, Reason::Finished) {
            assert_eq!(receipt.1, sent, "both ended in order");
        }
    }
}

/// One run of random handlers on two reactors, which connect to each other, against random peers.
fn wild(sim: &Sim) {
    sim.allow_panics();
    sim.set_buffers(up_to(sim, 900), up_to(sim, 900));
    if sim.choose(4) == 0 {
        sim.set_rate(Choice::AcceptError, 64);
    }
    let mut parties = [(); 2].map(|()| Party::new(sim));
    let (all, inner) = (Rc::clone(&parties[0].shared), sim.clone());
    let (limits, bounds) = own_limits(sim).unzip();
    let mut listening = ListenOptions::default();
    listening.limits = limits.unwrap_or_default();
    let service = move |arrival: &mut Arrival<'_>| {
        let handler = Wild::new(&inner, &all, bounds);
        all.borrow_mut().records[handler.number].accepted = true;
        // Others may reach it before its `on_open`.
        if inner.choose(2) == 1 {
            know(&all, handler.number, arrival.id);
        }
        Some(handler)
    };
    let mut server = parties[0].reactor.borrow_mut();
    let listener = server.listen_with(address(), &listening, service).unwrap();
    drop(server);
    let mut sides: Vec<Side> = (0..1 + sim.choose(4))
        .map(|_| Side::new(sim.connect(address())))
        .collect();
    for _ in 0..30 {
        let count = sides.len();
        act(sim, &mut sides[sim.choose(count)]);
        let party = &parties[sim.choose(2)];
        act_as_program(
            sim,
            &party.shared,
            &mut party.reactor.borrow_mut(),
            listener,
        );
        connect(sim, &parties[1]);
        sim.run_for(Duration::from_millis(sim.choose(400) as u64));
        parties.iter().for_each(Party::check);
        check_output(&sides, &parties);
    }
    parties[0].reactor.borrow_mut().resume(listener);
    for side in &sides {
        side.peer.read_all();
        side.peer.half_close();
    }
    sim.run_to_rest();
    parties.iter().for_each(Party::check);
    check_output(&sides, &parties);
    parties.iter_mut().for_each(Party::check_ended);
}

fn connect(sim: &Sim, client: &Party) {
    let mut shared = client.shared.borrow_mut();
    if sim.choose(8) > 0 || shared.connections == 0 {
        return;
    }
    shared.connections -= 1;
    drop(shared);
    let (options, bounds) = options(own_limits(sim));
    let handler = Wild::new(sim, &client.shared, bounds);
    let number = handler.number;
    let mut reactor = client.reactor.borrow_mut();
    let connecting = reactor.connect_with(address(), &options, handler);
    know(&client.shared, number, connecting.unwrap());
}

#[test]
fn anything_that_handlers_and_peers_do_leaves_the_sums_right() {
    seeds(1, wild);
}

/// The seeds that `DOORKEEPER_SEEDS` asks for, a number of them or a range as in `2000..9000`.
fn asked_seeds() -> Range<u64> {
    let asked = std::env::var("DOORKEEPER_SEEDS").unwrap_or("2000".to_string());
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    from.parse().unwrap()..to.parse().unwrap()
}

/// On every core. A test that takes longer makes only a share of the runs.
fn seeds(share: u64, test: fn(&Sim)) {
    let asked = asked_seeds();
    let (from, runs) = (asked.start / share, (asked.end - asked.start) / share);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let name = std::thread::current()
        .name()
        .unwrap_or_default()
        .to_string();
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let range = from + runs * thread / threads..from + runs * (thread + 1) / threads;
            // A failure names the test by its thread.
            let worker = std::thread::Builder::new().name(name.clone());
            worker
                .spawn(move || doorkeeper::sim::seeds(range, test))
                .unwrap()
        })
        .collect();
    for worker in workers {
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
/// Consumes a part of the input each time, and writes all of it back later. It asks for more input, writes
/// beyond its room, and lets another one of its kind go on.
struct Slow {
    sim: Sim,
    held: Vec<u8>,
    consumed: usize,
    ended: bool,
}

/// What each peer sends.
const LENGTH: usize = 3000;

impl Slow {
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let count = match self.sim.choose(4) {
            1 => {
                cx.write_all(&self.held)?;
                self.held.len()
            }
            _ => cx.write(&self.held),
        };
        self.held.drain(..count);
        Ok(())
    }

    /// Not from `on_data`, whose input is not consumed yet.
    fn write_and_finish(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.write(cx)?;
        if self.held.is_empty() && self.ended {
            match self.sim.choose(2) {
                0 if cx.unread() == 0 => cx.finish(),
                0 => {}
                _ => cx.finish_when_quiet(),
            }
        }
        Ok(())
    }

    /// What happens beside the consuming. Returns whether the rest of the input is to be offered again
    /// without more.
    fn ask(&mut self, cx: &mut Context<'_>, rest: usize) -> io::Result<bool> {
        match self.sim.choose(8) {
            0..3 => self.write(cx)?,
            3 if !self.ended => {
                let next = Slow {
                    sim: self.sim.clone(),
                    held: std::mem::take(&mut self.held),
                    consumed: self.consumed,
                    ended: false,
                };
                cx.become_handler(next);
            }
            4 => {
                let most = self.sim.choose(400).min(LENGTH - self.consumed);
                cx.set_timer(TimerKey(0), Duration::from_millis(1));
                // More than fits is an error, and nothing is wanted then.
                return Ok(cx.want(most).is_err() || most <= rest);
            }
            _ => cx.set_timer(TimerKey(0), Duration::from_millis(1)),
        }
        Ok(true)
    }
}

impl Handler for Slow {
    /// It took over.
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.write(cx)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.write(cx)?;
        if self.held.len() > 500 {
            return Ok(0);
        }
        let count = 1 + self.sim.choose(input.len());
        self.held.extend(&input[..count]);
        self.consumed += count;
        if self.ask(cx, input.len() - count)? {
            let own = cx.id();
            cx.others.wake(own);
        }
        Ok(count)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.write_and_finish(cx)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.write_and_finish(cx)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.ended = true;
        self.write_and_finish(cx)
    }
}

/// Code outside is lent the handlers.
fn lend(server: &Rc<RefCell<Reactor>>) {
    let connections = server.borrow().snapshot().connections;
    for view in connections {
        let written = server.borrow_mut().with(view.id, Slow::write);
        assert!(written.is_none_or(|written| written.is_ok()));
    }
}

/// No deadline stays armed, so a wake-up that is lost is a run that cannot go on.
#[test]
fn no_wakeup_is_lost() {
    seeds(10, |sim| {
        sim.set_buffers(up_to(sim, 900), up_to(sim, 900));
        let mut config = config(sim);
        config.idle_timeout = None;
        config.max_connections = up_to(sim, 3);
        // All that is written at all.
        config.output_hard_max_bytes = 4000;
        let server = sim.reactor(config).unwrap();
        let inner = sim.clone();
        let service = move |_: &mut Arrival<'_>| {
            Some(Slow {
                sim: inner.clone(),
                held: Vec::new(),
                consumed: 0,
                ended: false,
            })
        };
        server.borrow_mut().listen(address(), service).unwrap();
        let peers: Vec<Peer> = (0..3).map(|_| sim.connect(address())).collect();
        let text = bytes(0, LENGTH);
        peers.iter().for_each(|peer| peer.send(&text));
        let ends_early = sim.choose(2) == 1;
        for peer in peers.iter().filter(|_| ends_early) {
            peer.half_close();
        }
        for _ in 0..sim.choose(20) {
            sim.run_for(Duration::from_millis(sim.choose(3) as u64));
            lend(&server);
        }
        // There may be room for one connection at a time, of any of them.
        let mut open: Vec<&Peer> = peers.iter().filter(|_| !ends_early).collect();
        while !open.is_empty() {
            let has_all = |peer: &&Peer| peer.received().len() == LENGTH;
            sim.run_until(|| open.iter().any(has_all));
            open.iter()
                .filter(|peer| has_all(peer))
                .for_each(|peer| peer.half_close());
            open.retain(|peer| !has_all(peer));
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
