//! Turns that must come without an event, sends from outside a turn, and how long the loop sleeps.

use crate::running::{Echo, address, echo_server};
use doorkeeper::sim::{Choice, Ending, Peer, Sim};
use doorkeeper::{Closed, Config, Context, Handler, Id, Others, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Does what the first byte of its input says, and logs its callbacks.
struct Obeys(Log);

/// Why it ended, and what was not acknowledged then.
type End = (Reason, Option<u64>);

#[derive(Clone, Default)]
struct Log {
    calls: Rc<RefCell<Vec<String>>>,
    end: Rc<Cell<Option<End>>>,
    id: Rc<Cell<Option<Id>>>,
}

impl Log {
    fn add(&self, call: impl ToString) {
        self.calls.borrow_mut().push(call.to_string());
    }
    fn take(&self) -> String {
        std::mem::take(&mut *self.calls.borrow_mut()).join(" ")
    }
    fn id(&self) -> Id {
        self.id.get().unwrap()
    }
}

impl Handler for Obeys {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.id.set(Some(cx.id()));
        Ok(())
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.add(input.len());
        match input[0] {
            b'w' => drop(cx.write(&[b'x'; 100])),
            b'a' => {
                cx.write(&[b'x'; 5000]);
                cx.finish();
            }
            // It consumes nothing.
            b'q' => {
                cx.finish_when_quiet();
                return Ok(0);
            }
            b'+' => {
                cx.finish_when_quiet();
                cx.write_all(b"x")?;
                return Ok(0);
            }
            b'1' => return Ok(1),
            _ => {}
        }
        Ok(input.len())
    }
    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.0.add("drain");
        Ok(())
    }
    fn on_shutdown(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.0.add("shutdown");
        Ok(())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.0.end.set(Some((closed.reason, closed.undelivered)));
    }
}

/// A server of such handlers with one client, which is connected.
fn obeying(sim: &Sim, config: Config) -> (Rc<RefCell<Reactor>>, Peer, Log) {
    let (server, log) = (sim.reactor(config).unwrap(), Log::default());
    let inner = log.clone();
    let service = move |_: &mut doorkeeper::Arrival<'_>| Some(Obeys(inner.clone()));
    server.borrow_mut().listen(address(), service).unwrap();
    let peer = sim.connect(address());
    sim.run_now();
    (server, peer, log)
}

#[test]
fn at_the_limit_of_output_held_input_is_offered_again_and_one_byte_beyond_it_is_not() {
    for (last, calls) in [(b"q", "1 1"), (b"+", "1")] {
        let sim = Sim::plain();
        sim.set_buffers(1, 1);
        let mut config = Config::default();
        config.output_max_bytes = 4;
        let (_server, peer, log) = obeying(&sim, config);
        peer.stop_reading();
        // The kernel takes two bytes, so four are held after the second.
        for step in [b"w", b"w"] {
            peer.send(step);
            sim.run_now();
        }
        log.take();
        peer.send(last);
        sim.run_now();
        assert_eq!(log.take(), calls);
        peer.read_all();
        // Output leaves, and then it is offered again.
        sim.run_until(|| log.calls.borrow().contains(&"1".to_string()));
    }
}

#[test]
fn the_shutdown_is_told_in_the_turn_after_input_that_is_consumed_in_part() {
    let sim = Sim::plain();
    let (server, peer, log) = obeying(&sim, Config::default());
    peer.send(b"123");
    sim.run_until(|| peer.unsent() == 0);
    server.borrow_mut().shutdown(HOUR);
    sim.run_now();
    assert_eq!(log.take(), "3 shutdown");
}

#[test]
fn what_the_peer_has_not_acknowledged_is_told_of_one_whose_linger_time_is_over_only() {
    for closes in [true, false] {
        let sim = Sim::plain();
        sim.set_buffers(10_000, 1000);
        let mut config = Config::default();
        config.linger_timeout = SECOND;
        let (_server, peer, log) = obeying(&sim, config);
        peer.stop_reading();
        peer.send(b"a");
        // At the first look the rest is 4,000 bytes, and it lingers on.
        sim.run_for(SECOND + SECOND / 2);
        assert_eq!(log.end.get(), None);
        if closes {
            peer.read_all();
            peer.half_close();
        }
        sim.run_until(|| log.end.get().is_some());
        let expected = match closes {
            true => (Reason::Finished, None),
            false => (Reason::LingerTimeout, Some(4000)),
        };
        assert_eq!(log.end.get(), Some(expected));
    }
}

/// Sends one byte after ten seconds.
struct SendsLater;

impl Handler for SendsLater {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(0), 10 * SECOND);
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        cx.write(b".");
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// The poller tells of one of them in a turn, and both deadlines have passed.
#[test]
fn input_that_the_poller_has_not_told_of_keeps_a_connection_at_its_idle_timeout() {
    let sim = Sim::plain();
    let client = sim.reactor(Config::default()).unwrap();
    let mut config = Config::default();
    config.events_per_turn = 1;
    config.idle_timeout = Some(10 * SECOND);
    let server = echo_server(&sim, config);
    for _ in 0..2 {
        client.borrow_mut().connect(address(), SendsLater).unwrap();
    }
    sim.run_for(15 * SECOND);
    assert_eq!(server.borrow().stats().open, 2);
    sim.run_for(10 * SECOND);
    assert_eq!(server.borrow().stats().closed(Reason::IdleTimeout), 2);
}

#[test]
fn a_send_of_4096_bytes_leaves_at_once_and_smaller_or_later_ones_in_the_next_turn() {
    let sim = Sim::plain();
    let (server, peer, log) = obeying(&sim, Config::default());
    let sent = || server.borrow().stats().bytes_sent;
    let send = |count| server.borrow_mut().send(log.id(), &vec![b'x'; count]);
    assert_eq!((send(4096), sent()), (4096, 4096));
    assert_eq!((send(4096), sent()), (4096, 4096));
    sim.run_now();
    assert_eq!((peer.received().len(), sent()), (8192, 8192));
    assert_eq!((send(4095), sent()), (4095, 8192));
    assert_eq!((send(5000), sent()), (5000, 8192));
    sim.run_now();
    assert_eq!(sent(), 8192 + 9095);
    log.take();
    // All of it is sent: that is told in the next turn, also if nothing else is to be done.
    assert_eq!((send(4096), log.take()), (4096, String::new()));
    sim.run_now();
    assert_eq!(log.take(), "drain");
    // A part of it is sent, and then it is not told yet.
    sim.set_buffers(1000, 1000);
    peer.stop_reading();
    assert_eq!(send(5000), 5000);
    sim.run_now();
    assert_eq!(log.take(), "");
    peer.read_all();
    sim.run_now();
    assert_eq!(log.take(), "drain");
}

#[test]
fn half_close_by_id_ends_the_output_of_what_is_open_or_going_to_be() {
    let sim = Sim::plain();
    let (server, peer, log) = obeying(&sim, Config::default());
    let listening = sim.listen("10.0.0.9:9".parse().unwrap(), 5).unwrap();
    let connecting = server
        .borrow_mut()
        .connect("10.0.0.9:9".parse().unwrap(), Echo)
        .unwrap();
    for id in [log.id(), connecting] {
        assert!(server.borrow_mut().half_close(id));
    }
    let mut accepted = None;
    sim.run_until(|| {
        accepted = accepted.take().or_else(|| listening.accept());
        accepted.is_some()
    });
    let accepted = accepted.unwrap();
    sim.run_now();
    assert_eq!(peer.ending(), Some(Ending::Fin));
    assert_eq!(accepted.ending(), Some(Ending::Fin));
    assert_eq!(server.borrow().stats().open, 2);
    // The reactor has closed it, so its id names nothing.
    peer.close();
    sim.run_now();
    assert!(!server.borrow_mut().half_close(log.id()));
}

/// If the whole budget is errors, to go on at once would spin. Connections that arrive are no reason to wait.
#[test]
fn only_a_budget_of_errors_makes_a_listener_wait() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        sim.set_rate(Choice::AcceptError, if seed == 0 { 0 } else { 200 });
        let mut config = Config::default();
        config.accept_budget = 1;
        let server = echo_server(&sim, config);
        let _peers: Vec<Peer> = (0..5).map(|_| sim.connect(address())).collect();
        sim.run_to_rest();
        let stats = server.borrow().stats();
        let waits = u32::try_from(stats.accept_errors).unwrap();
        assert_eq!(sim.now(), waits * SECOND / 10, "seed {seed}");
        assert!(seed > 0 || (stats.accepted, waits) == (5, 0));
    }
}

/// A host that was elsewhere for a while sleeps until the deadline, and not longer.
#[test]
fn a_turn_reads_the_clock_before_it_sleeps_and_sleeps_only_if_nothing_is_to_be_done() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let turn = || server.borrow_mut().turn(Some(HOUR)).unwrap();
    let ran = Rc::new(Cell::new(false));
    let inner = Rc::clone(&ran);
    let code = move |_: &mut Reactor| inner.set(true);
    server.borrow_mut().after(20 * SECOND, code).unwrap();
    // Its first turn is queued.
    turn();
    assert_eq!(sim.now(), Duration::ZERO);
    sim.run_for(12 * SECOND);
    turn();
    assert_eq!((sim.now(), ran.get()), (20 * SECOND, true));
    server.borrow_mut().stop();
    turn();
    assert_eq!(sim.now(), 20 * SECOND);
}

/// It closes once the connections that wait are accepted.
#[test]
fn a_listener_that_shuts_down_is_not_paused() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let listening = server.borrow_mut().listen(address(), |_| Some(Echo));
    let listener = listening.unwrap();
    sim.run_now();
    let peer = sim.connect(address());
    peer.send(b"last");
    sim.run_until(|| peer.is_connected());
    server.borrow_mut().shutdown(HOUR);
    server.borrow_mut().pause(listener);
    sim.run_now();
    assert_eq!(peer.received(), b"last");
    assert!(server.borrow().local_addr(listener).is_err());
}

#[test]
fn without_a_linger_time_nobody_asks_what_was_not_acknowledged() {
    let sim = Sim::plain();
    sim.set_buffers(10_000, 1000);
    let mut config = Config::default();
    config.linger_timeout = Duration::ZERO;
    let (_server, peer, log) = obeying(&sim, config);
    peer.stop_reading();
    peer.send(b"a");
    sim.run_until(|| log.end.get().is_some());
    let end = (Reason::LingerTimeout, None);
    assert_eq!((log.end.get(), sim.now()), (Some(end), Duration::ZERO));
}
