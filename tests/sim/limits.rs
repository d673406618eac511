//! Limits of one listener's connections, or of one outgoing connection, beside those of the reactor; and
//! the limits in time.

use crate::running::{Echo, Ends, Records, address};
use crate::toys::Xor;
use doorkeeper::sim::{Ending, Peer, Sim};
use doorkeeper::{
    Arrival, Closed, Config, ConnectOptions, Context, Handler, Id, Limits, ListenOptions, MinRate,
    Others, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn other_address() -> SocketAddr {
    "10.0.0.1:8".parse().unwrap()
}

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

fn listening(limits: Limits) -> ListenOptions {
    let mut options = ListenOptions::default();
    options.limits = limits;
    options
}

fn connecting(limits: Limits) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.limits = limits;
    options
}

/// A reactor that listens twice: with these limits, and with its own.
fn serve<H: Handler>(
    sim: &Sim,
    config: Config,
    limits: Limits,
    make: impl Fn() -> H + Copy + 'static,
) -> (Rc<RefCell<Reactor>>, [Id; 2]) {
    let server = sim.reactor(config).unwrap();
    let mut reactor = server.borrow_mut();
    let limited = reactor
        .listen_with(address(), &listening(limits), move |_| Some(make()))
        .unwrap();
    let other = reactor
        .listen(other_address(), move |_| Some(make()))
        .unwrap();
    drop(reactor);
    (server, [limited, other])
}

/// Both kinds of listeners, the one with limits first.
fn both(sim: &Sim) -> [Peer; 2] {
    [address(), other_address()].map(|address| sim.connect(address))
}

/// Writes back how long each offer is that is longer than the one before, and consumes nothing.
struct Lengths(usize);

impl Handler for Lengths {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if input.len() > std::mem::replace(&mut self.0, input.len()) {
            cx.write(&[input.len() as u8]);
        }
        Ok(0)
    }
}

/// What a listener with this limit offers, and then what one with the reactor's offers.
fn offers(input_max_bytes: usize) -> [Vec<u8>; 2] {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.input_max_bytes = 20;
    let own = limits(|own| own.input_max_bytes = Some(input_max_bytes));
    let (_server, _) = serve(&sim, config, own, || Lengths(0));
    let peers = both(&sim);
    for peer in &peers {
        peer.send(&[b'x'; 60]);
    }
    sim.run_to_rest();
    peers.map(|peer| peer.received())
}

/// More than the reactor's is more than one read takes.
#[test]
fn a_listener_with_a_limit_of_input_offers_no_more() {
    assert_eq!(offers(8), [vec![8], vec![20]]);
    assert_eq!(offers(50), [vec![20, 40, 50], vec![20]]);
}

/// Says how much it may want, and how much room it has.
struct Bounds;

impl Handler for Bounds {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let own = cx.id();
        let wanted = (1..).take_while(|&total| cx.want(total).is_ok()).count();
        let room = (cx.room(), cx.others.room(own));
        cx.want(0)?;
        cx.write_all(format!("{wanted} {room:?}").as_bytes())?;
        Ok(input.len())
    }
}

#[test]
fn a_context_knows_the_limits_of_its_connection() {
    let sim = Sim::plain();
    let mut config = Config::default();
    (config.input_max_bytes, config.output_max_bytes) = (20, 30);
    let own = limits(|own| (own.input_max_bytes, own.output_max_bytes) = (Some(8), Some(9)));
    let (server, _) = serve(&sim, config, own.clone(), || Bounds);
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_to_rest();
    assert_eq!(peers[0].received(), b"8 (9, 9)");
    assert_eq!(peers[1].received(), b"20 (30, 30)");
    // Lent handlers, and outgoing connections.
    let to = "10.0.0.2:7".parse().unwrap();
    let _listening = sim.listen(to, 5).unwrap();
    let connect = |options: &ConnectOptions| {
        let mut reactor = server.borrow_mut();
        reactor.connect_with(to, options, Bounds).unwrap()
    };
    let (limited, other) = (
        connect(&connecting(own)),
        connect(&ConnectOptions::default()),
    );
    sim.run_to_rest();
    let mut reactor = server.borrow_mut();
    let mut bounds = |id| {
        let lent = reactor.with(id, |_: &mut Bounds, cx| (cx.room(), cx.want(9).is_ok()));
        (lent.unwrap(), reactor.room(id), reactor.send(id, &[0; 50]))
    };
    assert_eq!(bounds(limited), ((9, false), 9, 9));
    assert_eq!(bounds(other), ((30, true), 30, 30));
}

/// Sends to the connection that is named, and says how much that takes.
struct Sender(Rc<RefCell<Option<Id>>>);

impl Handler for Sender {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if let Some(to) = *self.0.borrow() {
            let (room, sent) = (cx.others.room(to), cx.others.send(to, &[b'!'; 100]));
            cx.write_all(format!("{room} {sent}").as_bytes())?;
        }
        Ok(input.len())
    }
}

/// Whoever has the turn, a message for another connection has the room of that one.
#[test]
fn each_connection_has_its_own_room_for_the_others() {
    for from in [0, 1] {
        let sim = Sim::plain();
        let mut config = Config::default();
        config.output_max_bytes = 30;
        let server = sim.reactor(config).unwrap();
        let target = Rc::new(RefCell::new(None));
        let addresses = [address(), other_address()];
        for (number, at) in addresses.into_iter().enumerate() {
            let inner = Rc::clone(&target);
            let service = move |arrival: &mut Arrival<'_>| {
                if number != from {
                    *inner.borrow_mut() = Some(arrival.id);
                }
                Some(Sender(Rc::clone(&inner)))
            };
            let own = limits(|own| own.output_max_bytes = (number == 0).then_some(9));
            let listening = server
                .borrow_mut()
                .listen_with(at, &listening(own), service);
            listening.unwrap();
        }
        let peers = addresses.map(|address| sim.connect(address));
        sim.run_to_rest();
        peers[from].send(b"?");
        sim.run_to_rest();
        let room = [30, 9][from];
        assert_eq!(peers[from].received(), format!("{room} {room}").as_bytes());
        assert_eq!(peers[1 - from].received(), vec![b'!'; room]);
    }
}

/// Writes this many bytes, whatever it hears.
struct Much(usize);

impl Handler for Much {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        cx.write_all(&vec![b'y'; self.0])?;
        Ok(input.len())
    }
}

#[test]
fn write_all_ends_a_connection_beyond_its_own_limit() {
    let sim = Sim::plain();
    let own = limits(|own| {
        own.output_hard_max_bytes = Some(99);
        own.output_max_bytes = Some(10);
    });
    let (server, _) = serve(&sim, Config::default(), own, || Much(100));
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_to_rest();
    assert!(
        matches!(
            peers[0].ending(),
            Some(Ending::Error(ErrorKind::ConnectionReset))
        ),
        "{:?}",
        peers[0].ending()
    );
    assert_eq!(peers[1].received().len(), 100);
    assert_eq!(server.borrow().stats().closed(Reason::HandlerError), 1);
}

/// Answers and finishes.
struct Finishes;

impl Handler for Finishes {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        cx.write(b"bye");
        cx.finish();
        Ok(input.len())
    }
}

fn closed(server: &Rc<RefCell<Reactor>>, reason: Reason) -> u64 {
    server.borrow().stats().closed(reason)
}

#[test]
fn the_end_has_the_limits_of_the_connection() {
    let sim = Sim::plain();
    let own = limits(|own| own.linger_timeout = Some(seconds(2)));
    let (server, [limited, _]) = serve(&sim, Config::default(), own, || Finishes);
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_for(seconds(3));
    assert_eq!(closed(&server, Reason::LingerTimeout), 1);
    sim.run_for(seconds(3));
    assert_eq!(closed(&server, Reason::LingerTimeout), 2);
    let set = |own: Limits| server.borrow_mut().set_limits(limited, &own).unwrap();
    set(limits(|own| own.linger_max_bytes = Some(10)));
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
        sim.run_for(seconds(1));
        peer.send(&[b'x'; 11]);
    }
    sim.run_for(seconds(1));
    assert_eq!(closed(&server, Reason::LingerLimit), 1);
    sim.run_to_rest();
    set(limits(|own| own.close_when_sent = Some(true)));
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_for(seconds(1));
    assert_eq!(closed(&server, Reason::Finished), 1);
    assert_eq!(peers[0].received(), b"bye");
}

#[test]
fn an_idle_timeout_may_be_shorter_longer_or_none() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.idle_timeout = Some(seconds(10));
    for (own, ends) in [(3, 3), (30, 30), (u64::MAX, 1000)] {
        let sim = Sim::plain();
        let own = match own {
            u64::MAX => Duration::MAX,
            own => seconds(own),
        };
        let own = limits(|limits| limits.idle_timeout = Some(own));
        let (server, _) = serve(&sim, config.clone(), own, || Echo);
        let peers = both(&sim);
        sim.run_for(seconds(1000));
        assert_eq!(peers[1].ended_at(), Some(seconds(10)));
        let ended = peers[0].ended_at();
        assert_eq!(ended, (ends < 1000).then_some(seconds(ends)));
        assert_eq!(server.borrow().stats().open, usize::from(ended.is_none()));
    }
    // Of an outgoing connection, from when it is established.
    let _listening = sim.listen(address(), 5).unwrap();
    let ends = Ends::default();
    let client = sim.reactor(config).unwrap();
    let options = connecting(limits(|own| own.idle_timeout = Some(seconds(4))));
    let handler = Records(Echo, ends.clone());
    client
        .borrow_mut()
        .connect_with(address(), &options, handler)
        .unwrap();
    sim.run_until(|| !ends.0.borrow().is_empty());
    assert_eq!(
        (ends.0.borrow()[0].0, sim.now()),
        (Reason::IdleTimeout, seconds(4))
    );
}

/// The next connection in the same slot has the limits of its own listener.
#[test]
fn limits_do_not_stay_in_a_slot() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.output_max_bytes = 30;
    let own = limits(|own| own.output_max_bytes = Some(9));
    let (_server, _) = serve(&sim, config, own, || Bounds);
    let places = [(address(), "9"), (other_address(), "30"), (address(), "9")];
    for (to, room) in places {
        let peer = sim.connect(to);
        peer.send(b"?");
        sim.run_to_rest();
        let text = String::from_utf8(peer.received()).unwrap();
        assert!(text.ends_with(&format!(" ({room}, {room})")), "{text}");
        peer.close();
        sim.run_to_rest();
    }
}

#[test]
fn a_limit_beyond_its_bounds_is_refused_where_it_is_given() {
    let sim = Sim::plain();
    let bad = [
        (
            limits(|own| own.input_max_bytes = Some(0)),
            "input_max_bytes is 0; it must be from 1 to",
        ),
        (
            limits(|own| own.idle_timeout = Some(Duration::ZERO)),
            "idle_timeout is 0",
        ),
        (
            limits(|own| own.max_lifetime = Some(Duration::ZERO)),
            "max_lifetime is 0",
        ),
        (
            limits(|own| {
                let span = Duration::ZERO;
                own.min_rate = Some(MinRate { bytes: 1, span });
            }),
            "min_rate.span is 0",
        ),
    ];
    for (bad, words) in bad {
        let server = sim.reactor(Config::default()).unwrap();
        let mut reactor = server.borrow_mut();
        let refused = |result: io::Result<Id>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(words), "{error}");
        };
        refused(reactor.listen_with(address(), &listening(bad.clone()), |_| Some(Echo)));
        let id = reactor.listen(address(), |_| Some(Echo)).unwrap();
        refused(reactor.set_limits(id, &bad).map(|()| id));
        let (told, ends) = (Rc::new(RefCell::new(None)), connecting(bad));
        let handler = Told(Rc::clone(&told));
        reactor.connect_with(address(), &ends, handler).unwrap();
        drop(reactor);
        sim.run_until(|| told.borrow().is_some());
        refused(Err(told.take().unwrap()));
        assert!(server.borrow_mut().close(id));
        sim.run_to_rest();
        let gone = server.borrow_mut().set_limits(id, &Limits::default());
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

struct Told(Rc<RefCell<Option<io::Error>>>);

impl Handler for Told {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let kind = closed.error.as_ref().map(io::Error::kind);
        let words = closed.error.as_ref().map(ToString::to_string);
        let error = kind
            .zip(words)
            .map(|(kind, words)| io::Error::new(kind, words));
        *self.0.borrow_mut() = error;
    }
}

/// Idle, at rest, and busy in every turn.
#[test]
fn a_lifetime_ends_a_connection_whatever_it_does() {
    for seed in 0..40 {
        let sim = Sim::new(seed);
        let mut config = Config::default();
        config.idle_timeout = (seed % 2 == 0).then_some(seconds(7));
        config.turn_budget_bytes = 100;
        let own = limits(|own| own.max_lifetime = Some(seconds(10)));
        let (server, _) = serve(&sim, config, own, || Echo);
        sim.set_buffers(1000, 1000);
        let [limited, other] = both(&sim);
        for _ in 0..40 {
            for peer in [&limited, &other] {
                peer.send(&[b'x'; 1000]);
            }
            sim.run_for(Duration::from_millis(500));
        }
        assert_eq!(
            limited.ending(),
            Some(Ending::Error(ErrorKind::ConnectionReset))
        );
        assert_eq!(limited.ended_at(), Some(seconds(10)), "seed {seed}");
        assert_eq!(other.ending(), None);
        assert_eq!(closed(&server, Reason::LifetimeOver), 1);
    }
}

/// Also one that waits for its peer's end.
#[test]
fn a_lifetime_of_all_connections_ends_those_that_linger() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.max_lifetime = Some(seconds(3));
    let (server, _) = serve(
        &sim,
        config,
        limits(|own| own.max_lifetime = Some(Duration::MAX)),
        || Finishes,
    );
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_for(seconds(6));
    assert_eq!(closed(&server, Reason::LifetimeOver), 1);
    assert_eq!(closed(&server, Reason::LingerTimeout), 1);
    assert_eq!(server.borrow().stats().open, 0);
}

/// A peer that sends `count` bytes each 100 ms, echoed, against 100 bytes in each second.
fn ended_at(count: usize, pauses_at: Option<u64>) -> Option<Duration> {
    let sim = Sim::plain();
    let rate = MinRate {
        bytes: 100,
        span: seconds(1),
    };
    let own = limits(|own| own.min_rate = Some(rate));
    let (server, _) = serve(&sim, Config::default(), own, || Echo);
    let [peer, other] = both(&sim);
    for tick in 0..50 {
        if pauses_at.is_none_or(|at| tick < at) {
            peer.send(&vec![b'x'; count]);
        }
        sim.run_for(Duration::from_millis(100));
    }
    assert_eq!(other.ending(), None);
    let slow = closed(&server, Reason::TooSlow);
    assert_eq!(slow, u64::from(peer.ending().is_some()));
    assert!(
        peer.ending()
            .is_none_or(|ending| ending == Ending::Error(ErrorKind::ConnectionReset))
    );
    peer.ended_at()
}

/// What is received and what is sent count together.
#[test]
fn a_connection_that_moves_too_little_in_a_span_is_reset() {
    assert_eq!(ended_at(5, None), None);
    assert_eq!(ended_at(4, None), Some(seconds(1)));
    assert_eq!(ended_at(0, None), Some(seconds(1)));
    // Each span counts by itself.
    assert_eq!(ended_at(50, Some(20)), Some(seconds(3)));
    assert_eq!(ended_at(50, Some(21)), Some(seconds(4)));
}

/// With 0 bytes the limit of the reactor does not hold, and one that lingers has its own.
#[test]
fn a_rate_of_all_connections_spares_those_that_linger_and_those_with_a_rate_of_0() {
    let sim = Sim::plain();
    let mut config = Config::default();
    let span = seconds(2);
    config.min_rate = Some(MinRate { bytes: 10, span });
    let own = limits(|own| own.min_rate = Some(MinRate { bytes: 0, span }));
    let (server, _) = serve(&sim, config, own, || Finishes);
    // The time of the reactor and that of a connection do not begin together.
    sim.run_for(seconds(1));
    let [idle, slow] = both(&sim);
    let lingering = sim.connect(other_address());
    lingering.send(b"?");
    sim.run_for(seconds(3));
    // What is thrown away brings a turn.
    lingering.send(b"late");
    sim.run_for(seconds(1));
    assert_eq!((idle.ending(), slow.ended_at()), (None, Some(seconds(3))));
    sim.run_for(seconds(4));
    assert_eq!(idle.ending(), None);
    assert_eq!(closed(&server, Reason::LingerTimeout), 1);
    assert_eq!(closed(&server, Reason::TooSlow), 1);
}

/// Consumes nothing at first; a layer gets it at 1.5 s.
struct LateLayer(bool);

impl Handler for LateLayer {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(0), Duration::from_millis(1500));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(if self.0 { input.len() } else { 0 })
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.0 = true;
        cx.add_layer(Xor(0))
    }
}

/// The layer begins a span, in which it is given what the handler has not consumed.
#[test]
fn a_layer_that_is_added_later_begins_a_span() {
    for (sent, ended) in [(0, 3500), (110, 4500)] {
        let sim = Sim::plain();
        let rate = MinRate {
            bytes: 100,
            span: seconds(1),
        };
        let own = limits(|own| own.min_rate = Some(rate));
        let (_server, _) = serve(&sim, Config::default(), own, || LateLayer(false));
        let [peer, _] = both(&sim);
        peer.send(&[b'x'; 500]);
        sim.run_for(seconds(3));
        peer.send(&vec![b'x'; sent]);
        sim.run_for(seconds(3));
        assert_eq!(peer.ended_at(), Some(Duration::from_millis(ended)));
    }
}

#[test]
fn a_rate_of_0_bytes_costs_no_turns() {
    let sim = Sim::plain();
    let span = Duration::from_millis(1);
    let own = limits(|own| own.min_rate = Some(MinRate { bytes: 0, span }));
    let (server, _) = serve(&sim, Config::default(), own, || Echo);
    let [_peer, _other] = both(&sim);
    sim.run_for(seconds(5));
    let turns = server.borrow().stats().turns;
    assert!(turns < 20, "{turns} turns");
}

#[test]
fn a_lent_handler_that_aborts_and_panics_resets() {
    let sim = Sim::plain();
    sim.allow_panics();
    let server = sim.reactor(Config::default()).unwrap();
    let id = Rc::new(RefCell::new(None));
    let inner = Rc::clone(&id);
    server
        .borrow_mut()
        .listen(address(), move |arrival: &mut Arrival<'_>| {
            *inner.borrow_mut() = Some(arrival.id);
            Some(Echo)
        })
        .unwrap();
    let peer = sim.connect(address());
    sim.run_to_rest();
    let id = id.borrow().unwrap();
    let lent = server.borrow_mut().with(id, |_: &mut Echo, cx| {
        cx.abort();
        panic!("after the abort");
    });
    assert_eq!(lent, None::<()>);
    sim.run_to_rest();
    assert_eq!(
        peer.ending(),
        Some(Ending::Error(ErrorKind::ConnectionReset))
    );
}

/// Limits of output that are higher than those of the reactor.
#[test]
fn limits_of_output_may_be_higher_than_those_of_the_reactor() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.output_max_bytes = 100;
    config.output_hard_max_bytes = 1000;
    let own = limits(|own| {
        own.output_max_bytes = Some(5000);
        own.output_hard_max_bytes = Some(50_000);
    });
    let (_server, _) = serve(&sim, config, own, || Much(40_000));
    sim.set_buffers(100_000, 100_000);
    let peers = both(&sim);
    for peer in &peers {
        peer.send(b"?");
    }
    sim.run_to_rest();
    assert_eq!(peers[0].received().len(), 40_000);
    assert_eq!(peers[1].received().len(), 0);
}

/// None of these ends anything, or needs a turn.
#[test]
fn the_largest_limits_are_none() {
    let sim = Sim::plain();
    let own = limits(|own| {
        own.output_hard_max_bytes = Some(isize::MAX as usize);
        own.output_max_bytes = Some(isize::MAX as usize);
        own.input_max_bytes = Some(isize::MAX as usize);
        own.idle_timeout = Some(Duration::MAX);
        own.linger_timeout = Some(Duration::MAX);
        own.linger_max_bytes = Some(u64::MAX);
        own.max_lifetime = Some(Duration::MAX);
        let (bytes, span) = (u64::MAX, Duration::MAX);
        own.min_rate = Some(MinRate { bytes, span });
    });
    let (server, _) = serve(&sim, Config::default(), own, || Much(10));
    let [peer, _] = both(&sim);
    peer.send(b"?");
    sim.run_for(seconds(1_000_000));
    peer.send(b"?");
    sim.run_for(seconds(1_000_000));
    assert_eq!((peer.received().len(), peer.ending()), (20, None));
    let turns = server.borrow().stats().turns;
    assert!(turns < 20, "{turns} turns");
    assert!(server.borrow().next_deadline().is_some());
}

/// The next connection in the same slot begins with a span of its own, and with no bytes.
#[test]
fn a_span_does_not_stay_in_a_slot() {
    let sim = Sim::plain();
    let mut config = Config::default();
    let (bytes, span) = (100, seconds(1));
    config.min_rate = Some(MinRate { bytes, span });
    let own = limits(|own| own.min_rate = Some(MinRate { bytes: 10, span }));
    let (_server, _) = serve(&sim, config, own, || Echo);
    let mut begin = Duration::ZERO;
    for (to, sent, lasts) in [
        (other_address(), 500, 2),
        (other_address(), 49, 1),
        (address(), 49, 2),
        (other_address(), 49, 1),
    ] {
        let peer = sim.connect(to);
        peer.send(&vec![b'x'; sent]);
        sim.run_until(|| peer.ending().is_some());
        begin += seconds(lasts);
        assert_eq!(peer.ended_at(), Some(begin));
    }
}

/// The shortest span ends an idle connection, and costs no turns before.
#[test]
fn a_span_of_a_nanosecond_ends_an_idle_connection() {
    let sim = Sim::plain();
    let span = Duration::from_nanos(1);
    let own = limits(|own| own.min_rate = Some(MinRate { bytes: 1, span }));
    let (server, _) = serve(&sim, Config::default(), own, || Echo);
    let [peer, _] = both(&sim);
    sim.run_for(seconds(1));
    assert!(peer.ended_at().unwrap() < Duration::from_millis(1));
    assert_eq!(closed(&server, Reason::TooSlow), 1);
    let turns = server.borrow().stats().turns;
    assert!(turns < 20, "{turns} turns");
}

/// A connection that waits in the accept queue has the limits of when it is accepted, and keeps them.
#[test]
fn limits_are_those_of_the_moment_at_which_a_connection_is_accepted() {
    let sim = Sim::plain();
    let own = limits(|own| own.output_max_bytes = Some(9));
    let (server, [limited, _]) = serve(&sim, Config::default(), own, || Bounds);
    let before = sim.connect(address());
    sim.run_to_rest();
    assert!(server.borrow_mut().pause(limited));
    let waits = sim.connect(address());
    sim.run_to_rest();
    let other = limits(|own| own.output_max_bytes = Some(11));
    server.borrow_mut().set_limits(limited, &other).unwrap();
    assert!(server.borrow_mut().resume(limited));
    for (peer, room) in [(&before, 9), (&waits, 11)] {
        peer.send(b"?");
        sim.run_to_rest();
        let text = String::from_utf8(peer.received()).unwrap();
        assert!(text.ends_with(&format!(" ({room}, {room})")), "{text}");
    }
}
