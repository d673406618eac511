//! Connections through a layer: bytes that wait within it, times, and ends.

use crate::running::address;
use crate::toys::{Records, Xor};
use doorkeeper::sim::{Peer, Sim};
use doorkeeper::{
    Arrival, Closed, Config, Context, Handler, Layer, Layered, Others, Reactor, Reason, TimerKey,
};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What came in, and how it ended: the reason, and what was not acknowledged.
#[derive(Clone, Default)]
struct Seen {
    received: Rc<Cell<usize>>,
    end: Rc<Cell<Option<End>>>,
}

type End = (Reason, Option<u64>);

/// Does one thing when it is opened and one by its timer, and stays after the peer's end.
struct Stays {
    open: fn(&mut Context<'_>),
    timer: fn(&mut Context<'_>),
    seen: Seen,
}

impl Handler for Stays {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (self.open)(cx);
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        (self.timer)(cx);
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.seen
            .received
            .set(self.seen.received.get() + input.len());
        Ok(input.len())
    }
    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.seen.end.set(Some((closed.reason, closed.undelivered)));
    }
}

type Server = Rc<RefCell<Reactor>>;

/// A server of such handlers over a layer, and one client. The linger timeout is a second.
fn through<L: Layer>(
    sim: &Sim,
    mut config: Config,
    layer: impl Fn() -> L + 'static,
    open: fn(&mut Context<'_>),
    timer: fn(&mut Context<'_>),
) -> (Server, Peer, Seen) {
    config.linger_timeout = SECOND;
    let (server, seen) = (sim.reactor(config).unwrap(), Seen::default());
    let inner = seen.clone();
    let service = move |_: &mut Arrival<'_>| {
        let seen = inner.clone();
        Some(Layered::new(layer(), Stays { open, timer, seen }))
    };
    server.borrow_mut().listen(address(), service).unwrap();
    (server, sim.connect(address()), seen)
}

fn nothing(_: &mut Context<'_>) {}

/// Makes as many bytes of a byte as it says.
struct Grows;

impl Layer for Grows {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        for &count in input {
            plain.extend(std::iter::repeat_n(b'x', count.into()));
        }
        Ok(input.len())
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }
}

/// The first bytes make more than the ten that a turn reads. The others are a short read, after which the
/// socket still has some, or has some again.
#[test]
fn a_short_read_of_what_a_layer_holds_is_not_the_last_of_the_socket() {
    let first = [7, 1, 1, 1, 1, 1, 1, 1, 1];
    for arrives_at_once in [true, false] {
        let sim = Sim::plain();
        let mut config = Config::default();
        config.input_max_bytes = 10;
        let (_server, peer, seen) = through(&sim, config, || Grows, nothing, nothing);
        sim.run_now();
        peer.send(&first);
        if !arrives_at_once {
            sim.run_until(|| seen.received.get() == 10);
        }
        peer.send(&[1; 20]);
        sim.run_now();
        assert_eq!(seen.received.get(), 35);
    }
}

#[test]
fn a_layers_output_waits_for_space_without_a_turn() {
    let open: fn(&mut Context<'_>) = |cx| {
        cx.write(&[b'x'; 10]);
        cx.set_timer(TimerKey(0), SECOND);
    };
    let timer: fn(&mut Context<'_>) = |cx| {
        cx.write(&[b'y'; 5]);
    };
    // One of these fits exactly.
    for size in 1..=20 {
        let sim = Sim::plain();
        sim.set_buffers(size, size);
        let (server, peer, _) = through(&sim, Config::default(), || Xor(1), open, timer);
        peer.stop_reading();
        sim.run_to_rest();
        let turns = server.borrow().stats().turns;
        assert!(turns < 20, "{turns} with {size} bytes");
        peer.read_all();
        sim.run_to_rest();
        assert_eq!(peer.received().len(), 15);
    }
}

#[test]
fn a_reset_after_the_end_of_the_peer_is_told_through_a_layer() {
    let sim = Sim::plain();
    let (_server, peer, seen) = through(&sim, Config::default(), || Xor(1), nothing, nothing);
    peer.half_close();
    sim.run_to_rest();
    assert_eq!(seen.end.get(), None);
    peer.reset();
    sim.run_to_rest();
    assert_eq!(seen.end.get(), Some((Reason::Reset, None)));
}

#[test]
fn what_was_not_acknowledged_is_told_through_a_layer() {
    let sim = Sim::plain();
    sim.set_buffers(10_000, 1000);
    let open: fn(&mut Context<'_>) = |cx| {
        cx.write(&[b'x'; 5000]);
        cx.finish();
    };
    let (_server, peer, seen) = through(&sim, Config::default(), || Xor(1), open, nothing);
    peer.stop_reading();
    sim.run_until(|| seen.end.get().is_some());
    let end = (Reason::LingerTimeout, Some(4000));
    assert_eq!((seen.end.get(), sim.now()), (Some(end), 2 * SECOND));
}

/// Sends a part of a record every 1.5 seconds, of which the layer makes nothing, until the connection ends.
fn trickle(sim: &Sim, peer: &Peer, seen: &Seen) {
    peer.send(b"HI\x00\x64");
    for _ in 0..3 {
        sim.run_for(3 * SECOND / 2);
        peer.send(b"x");
    }
    sim.run_until(|| seen.end.get().is_some());
}

#[test]
fn bytes_of_a_layer_are_activity_and_do_not_prolong_the_lingering() {
    let config = || {
        let mut config = Config::default();
        config.idle_timeout = Some(2 * SECOND);
        config
    };
    let sim = Sim::plain();
    let (_server, peer, seen) = through(&sim, config(), Records::default, nothing, nothing);
    trickle(&sim, &peer, &seen);
    let idle = (Reason::IdleTimeout, None);
    assert_eq!((seen.end.get(), sim.now()), (Some(idle), 13 * SECOND / 2));
    // What it sends by itself is activity too, and a turn without bytes is none.
    let again: fn(&mut Context<'_>) = |cx| cx.set_timer(TimerKey(0), SECOND / 2);
    let sim = Sim::plain();
    let (_server, _peer, seen) = through(&sim, config(), Records::default, again, again);
    sim.run_until(|| seen.end.get().is_some());
    assert_eq!((seen.end.get(), sim.now()), (Some(idle), 2 * SECOND));
    // It finishes when the handshake is done.
    let sim = Sim::plain();
    let finish: fn(&mut Context<'_>) = |cx| cx.finish();
    let (_server, peer, seen) = through(&sim, config(), Records::default, finish, nothing);
    peer.send(b"HI\x00\x64");
    for _ in 0..10 {
        sim.run_for(SECOND / 4);
        if seen.end.get().is_none() {
            peer.send(b"x");
        }
    }
    let lingered = Some(Reason::LingerTimeout);
    assert_eq!(seen.end.get().map(|(reason, _)| reason), lingered);
}

#[test]
fn a_handshake_is_read_while_more_output_waits_than_the_limit() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.output_max_bytes = 4;
    let open: fn(&mut Context<'_>) = |cx| cx.write_all(&[b'x'; 10]).unwrap();
    let (_server, peer, _) = through(&sim, config, Records::default, open, nothing);
    sim.run_now();
    peer.send(b"HI");
    sim.run_now();
    // The greeting and a record.
    assert_eq!(peer.received().len(), 2 + 2 + 10);
}

#[test]
fn a_layer_is_reached_by_code_outside_too() {
    let sim = Sim::plain();
    let open: fn(&mut Context<'_>) = |_| {};
    let (server, peer, seen) = through(&sim, Config::default(), || Xor(7), open, nothing);
    peer.send(b"x");
    sim.run_until(|| seen.received.get() == 1);
    let id = server.borrow().snapshot().connections[0].id;
    let code = |_: &mut Stays, cx: &mut Context<'_>| cx.with_layer(|layer: &mut Xor| layer.0);
    assert_eq!(server.borrow_mut().with(id, code), Some(Some(7)));
}
