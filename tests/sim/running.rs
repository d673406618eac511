//! Running a simulation: time, rest, several reactors, and the same run again.

use doorkeeper::sim::{Ending, Peer, Sim};
use doorkeeper::{
    Arrival, Closed, Config, Context, Event, Handler, Observer, Others, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

pub fn address() -> SocketAddr {
    "10.0.0.1:7".parse().unwrap()
}

pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

pub fn echo_server(sim: &Sim, config: Config) -> Rc<RefCell<Reactor>> {
    let server = sim.reactor(config).unwrap();
    server
        .borrow_mut()
        .listen(address(), |_| Some(Echo))
        .unwrap();
    server
}

/// What ended, and when.
#[derive(Clone, Default)]
pub struct Ends(pub Rc<RefCell<Vec<(Reason, u64, u64)>>>);

pub struct Records<H>(pub H, pub Ends);

impl<H: Handler> Handler for Records<H> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_open(cx)
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.on_data(cx, input)
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let entry = (closed.reason, closed.received, closed.sent);
        self.1.0.borrow_mut().push(entry);
    }
}

#[test]
fn an_echo_is_whole_and_in_order_on_every_network() {
    let text: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        sim.set_buffers(3000, 5000);
        let _server = echo_server(&sim, Config::default());
        let peer = sim.connect(address());
        peer.send(&text);
        peer.half_close();
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(peer.ending(), Some(Ending::Fin), "seed {seed}");
        assert!(peer.received() == text, "seed {seed}");
    }
}

#[test]
fn an_hour_of_idle_timeouts_passes_at_once() {
    let sim = Sim::new(3);
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(600));
    let server = echo_server(&sim, config);
    for round in 1..=6 {
        let peer = sim.connect(address());
        peer.send(b"x");
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(sim.now(), Duration::from_secs(600 * round));
        assert_eq!(peer.ended_at(), Some(sim.now()));
        assert_eq!(peer.received(), b"x");
    }
    assert_eq!(server.borrow().stats().closed(Reason::IdleTimeout), 6);
}

#[test]
fn a_run_that_cannot_go_on_fails_at_once_and_says_what_waits() {
    let sim = Sim::new(1);
    let _server = echo_server(&sim, Config::default());
    let peer = sim.connect(address());
    peer.send(b"abc");
    let run = catch_unwind(AssertUnwindSafe(|| {
        sim.run_until(|| peer.received() == b"abcd")
    }));
    let message = *run.unwrap_err().downcast::<String>().unwrap();
    for part in [
        "nothing is left to happen",
        "listener 0.0 is accepting, 0 in its accept queue",
        "is open; 3 bytes received, 0 of them not consumed; 3 sent, 0 not taken",
        "no deadline",
        "waits for input; it received 3 bytes: \"abc\"",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn the_time_passes_even_if_nothing_happens() {
    let sim = Sim::plain();
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.now(), Duration::from_secs(5));
    sim.run_to_rest();
    assert_eq!(sim.now(), Duration::from_secs(5));
}

struct Ticking(Rc<RefCell<Vec<Duration>>>, Sim);

impl Handler for Ticking {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(1), Duration::from_millis(1500));
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.0.borrow_mut().push(self.1.now());
        if self.0.borrow().len() < 3 {
            cx.set_timer(key, Duration::from_millis(1500));
        }
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[test]
fn timers_come_at_their_time() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let ticks = Rc::new(RefCell::new(Vec::new()));
    let (seen, inner) = (Rc::clone(&ticks), sim.clone());
    let service = move |_: &mut Arrival<'_>| Some(Ticking(Rc::clone(&seen), inner.clone()));
    server.borrow_mut().listen(address(), service).unwrap();
    sim.connect(address());
    sim.run_to_rest();
    let expected = [1500, 3000, 4500].map(Duration::from_millis);
    assert_eq!(*ticks.borrow(), expected);
}

#[test]
fn two_reactors_talk_to_each_other() {
    struct Client(Rc<RefCell<Vec<u8>>>);
    impl Handler for Client {
        fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            assert_eq!(cx.write(b"hello"), 5);
            cx.half_close();
            Ok(())
        }
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend(input);
            Ok(input.len())
        }
    }
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let server = echo_server(&sim, Config::default());
        let client = sim.reactor(Config::default()).unwrap();
        let answer = Rc::new(RefCell::new(Vec::new()));
        let handler = Records(Client(Rc::clone(&answer)), Ends::default());
        let ends = handler.1.clone();
        client.borrow_mut().connect(address(), handler).unwrap();
        sim.run_until(|| !ends.0.borrow().is_empty());
        assert_eq!(*answer.borrow(), b"hello");
        assert_eq!(*ends.0.borrow(), [(Reason::Finished, 5, 5)], "seed {seed}");
        assert_eq!(server.borrow().stats().accepted, 1);
    }
}

#[test]
fn another_thread_stops_the_loop_and_posts_to_it() {
    let sim = Sim::new(1);
    let server = echo_server(&sim, Config::default());
    sim.run_to_rest();
    let (handle, posted) = (
        server.borrow().handle(),
        std::sync::Arc::new(std::sync::Mutex::new(0)),
    );
    let counter = std::sync::Arc::clone(&posted);
    std::thread::spawn(move || {
        let work = move |_: &mut Reactor| *counter.lock().unwrap() += 1;
        assert!(handle.post(work).is_ok());
        handle.stop().unwrap();
    })
    .join()
    .unwrap();
    sim.run_until(|| server.borrow().is_done());
    assert_eq!(*posted.lock().unwrap(), 1);
}

#[test]
fn a_seed_is_one_run() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let server = echo_server(&sim, Config::default());
        let peers: Vec<_> = (0..5).map(|_| sim.connect(address())).collect();
        for peer in &peers {
            peer.send(&[7; 3000]);
            peer.half_close();
        }
        sim.run_to_rest();
        let stats = server.borrow().stats();
        (stats.turns, stats.events)
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

#[test]
fn shutdown_serves_the_accept_queue_and_ends() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let server = echo_server(&sim, Config::default());
        sim.run_to_rest();
        let peer = sim.connect(address());
        peer.send(b"last");
        peer.half_close();
        sim.run_until(|| peer.is_connected());
        server.borrow_mut().shutdown(Duration::from_secs(10));
        sim.run_until(|| server.borrow().is_done());
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(peer.received(), b"last", "seed {seed}");
        let late = sim.connect(address());
        sim.run_until(|| late.ending().is_some());
        assert!(!late.is_connected());
    }
}

#[test]
fn shutdown_at_capacity_serves_the_accept_queue_as_others_leave() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let mut config = Config::default();
        config.max_connections = 2;
        let server = echo_server(&sim, config);
        // Some runs are short of descriptors, too: a listener, a poller's and one connection's.
        if seed % 2 == 1 {
            sim.set_descriptors(2);
        }
        let peers: Vec<Peer> = (0..9).map(|_| sim.connect(address())).collect();
        sim.run_until(|| peers.iter().all(Peer::is_connected));
        server.borrow_mut().shutdown(Duration::from_secs(10));
        peers.iter().for_each(|peer| peer.send(b"last"));
        let mut waiting = peers;
        while !waiting.is_empty() {
            let is_served = |peer: &Peer| peer.received() == b"last";
            sim.run_until(|| waiting.iter().any(is_served));
            waiting
                .iter()
                .filter(|peer| is_served(peer))
                .for_each(Peer::close);
            waiting.retain(|peer| !is_served(peer));
        }
        sim.run_until(|| server.borrow().is_done());
        assert!(sim.now() < Duration::from_secs(10), "seed {seed}");
        assert_eq!(server.borrow().stats().closed(Reason::Finished), 9);
    }
}

#[test]
fn a_dropped_reactor_resets_what_it_holds() {
    let sim = Sim::plain();
    let server = echo_server(&sim, Config::default());
    let peer = sim.connect(address());
    sim.run_to_rest();
    let queued = sim.connect(address());
    drop(server);
    sim.run_to_rest();
    let reset = Some(Ending::Error(io::ErrorKind::ConnectionReset));
    assert_eq!((peer.ending(), queued.ending()), (Some(Ending::Fin), reset));
}

#[test]
fn a_loop_that_spins_fails_the_run() {
    struct Spins;
    impl Handler for Spins {
        fn on_data(&mut self, cx: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
            let own = cx.id();
            cx.others.wake(own);
            Ok(0)
        }
    }
    let sim = Sim::new(1);
    let server = sim.reactor(Config::default()).unwrap();
    let listening = server.borrow_mut().listen(address(), |_| Some(Spins));
    assert!(listening.is_ok());
    sim.connect(address()).send(b"x");
    let run = catch_unwind(AssertUnwindSafe(|| sim.run_to_rest()));
    let message = *run.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("something spins"), "{message}");
}

/// Sends this many bytes, and finishes.
struct Answer(usize);

impl Handler for Answer {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert_eq!(cx.write(&vec![7; self.0]), self.0);
        cx.finish();
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// A server with a linger timeout of 1 s, and a client whose system takes 1,000 of 5,000 bytes.
fn slow_reader(sim: &Sim, ends: &Ends) -> (Rc<RefCell<Reactor>>, Peer) {
    sim.set_buffers(10_000, 1000);
    let mut config = Config::default();
    config.linger_timeout = Duration::from_secs(1);
    let (server, ends) = (sim.reactor(config).unwrap(), ends.clone());
    let service = move |_: &mut Arrival<'_>| Some(Records(Answer(5000), ends.clone()));
    server.borrow_mut().listen(address(), service).unwrap();
    let peer = sim.connect(address());
    peer.stop_reading();
    (server, peer)
}

#[test]
fn a_finished_answer_is_waited_for_while_the_peer_takes_bytes() {
    for seed in 0..20 {
        let (sim, ends) = (Sim::new(seed), Ends::default());
        let (_server, peer) = slow_reader(&sim, &ends);
        for second in 0..10 {
            sim.run_for(Duration::from_millis(900));
            peer.read(500);
            if second == 3 {
                peer.send(b"late");
            }
        }
        peer.read_all();
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(
            (peer.received().len(), peer.ending()),
            (5000, Some(Ending::Fin))
        );
        // Its system has had the last of the answer for a while.
        assert_eq!(*ends.0.borrow(), [(Reason::LingerTimeout, 4, 5000)]);
    }
}

#[test]
fn a_peer_that_takes_nothing_ends_the_lingering_at_the_second_look() {
    let (sim, ends) = (Sim::plain(), Ends::default());
    let (_server, _peer) = slow_reader(&sim, &ends);
    sim.run_until(|| !ends.0.borrow().is_empty());
    assert_eq!(sim.now(), Duration::from_secs(2));
    assert_eq!(*ends.0.borrow(), [(Reason::LingerTimeout, 0, 5000)]);
}

/// When deadlines pass.
struct Passed(Sim, Rc<RefCell<Vec<Duration>>>);

impl Observer for Passed {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::DeadlinePassed { .. } = event {
            self.1.borrow_mut().push(self.0.now());
        }
    }
}

/// Activity does not move the deadline, which would cost every message. It passes too early, finds
/// nothing due, and is armed again.
#[test]
fn an_idle_timeout_is_one_lazy_deadline() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(20));
    let server = echo_server(&sim, config);
    let passed = Rc::new(RefCell::new(Vec::new()));
    let observer = Box::new(Passed(sim.clone(), Rc::clone(&passed)));
    server.borrow_mut().observe(observer);
    let peer = sim.connect(address());
    for _ in 0..12 {
        sim.run_for(Duration::from_secs(1));
        peer.send(b"x");
    }
    sim.run_to_rest();
    assert_eq!(*passed.borrow(), [20, 32].map(Duration::from_secs));
    assert_eq!(peer.ended_at(), Some(Duration::from_secs(32)));
}

/// The clock counts nanoseconds in 64 bits. Deadlines beyond that are at its end, 584 years after the
/// start.
#[test]
fn the_clock_may_come_to_the_end_of_its_range() {
    let sim = Sim::new(1);
    let end = Duration::from_nanos(u64::MAX);
    sim.run_for(end - Duration::from_secs(10));
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(60));
    let server = echo_server(&sim, config);
    let peer = sim.connect(address());
    peer.send(b"late");
    sim.run_until(|| peer.received() == b"late");
    sim.run_for(Duration::from_secs(9));
    assert_eq!(server.borrow().stats().open, 1);
    sim.run_to_rest();
    assert_eq!((sim.now(), peer.ended_at()), (end, Some(end)));
    // From then on every time has passed.
    let last = sim.connect(address());
    sim.run_to_rest();
    assert_eq!((sim.now(), last.ended_at()), (end, Some(end)));
    assert_eq!(server.borrow().stats().closed(Reason::IdleTimeout), 2);
}
