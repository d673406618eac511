//! Sending to another connection: small messages leave together, a large one leaves at once, and every
//! byte is accounted for.

mod common;

use common::{NOW, Receipt, client, listen, pass, reactor, read_exactly, reset, set, turn_until};
use doorkeeper::{
    Call, Closed, Config, Context, Event, Handler, Id, Observer, Others, Reactor, Reason,
};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

/// The length from which on a message leaves at once.
const LARGE: usize = 4096;

/// What became of the connection that is sent to.
#[derive(Default)]
struct Seen {
    id: Cell<Option<Id>>,
    /// The length of each write, in their order.
    writes: RefCell<Vec<usize>>,
    drains: Cell<usize>,
    receipt: RefCell<Option<Receipt>>,
}

struct Target(Rc<Seen>);

impl Handler for Target {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.id.set(Some(cx.id()));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.0.drains.set(self.0.drains.get() + 1);
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        *self.0.receipt.borrow_mut() = Some(Receipt::of(closed));
    }
}

impl Observer for Target {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Call {
            id,
            call: Call::Write { length, .. },
            ..
        } = event
        {
            assert_eq!(Some(*id), self.0.id.get());
            self.0.writes.borrow_mut().push(*length);
        }
    }
}

/// A reactor with one connection, its peer, and what becomes of it.
fn target() -> (Reactor, TcpStream, Id, Rc<Seen>) {
    target_of(reactor())
}

fn target_of(mut reactor: Reactor) -> (Reactor, TcpStream, Id, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    let told = Rc::clone(&seen);
    let address = listen(&mut reactor, move |_| Some(Target(Rc::clone(&told))));
    let peer = client(address);
    turn_until(&mut reactor, |_| seen.id.get().is_some());
    reactor.observe(Box::new(Target(Rc::clone(&seen))));
    let id = seen.id.get().unwrap();
    (reactor, peer, id, seen)
}

/// `count` bytes that tell their place after `start`.
fn pattern(start: usize, count: usize) -> Vec<u8> {
    (start..start + count)
        .map(|place| (place % 251) as u8)
        .collect()
}

/// Sends messages of these lengths in one turn. Returns how long the writes were that took them.
fn writes(lengths: &[usize]) -> Vec<usize> {
    let (mut reactor, mut peer, id, seen) = target();
    let mut total = 0;
    for &length in lengths {
        assert_eq!(reactor.send(id, &pattern(total, length)), length);
        total += length;
    }
    turn_until(&mut reactor, |_| seen.drains.get() > 0);
    assert_eq!(read_exactly(&mut peer, total), pattern(0, total));
    // Nothing is left that would bring another one.
    reactor.turn(NOW).unwrap();
    assert_eq!(seen.drains.get(), 1, "{lengths:?}");
    seen.writes.take()
}

#[test]
fn small_messages_leave_together_and_a_large_one_leaves_at_once() {
    assert_eq!(writes(&[10, 20, 30]), [60]);
    assert_eq!(writes(&[LARGE - 1]), [LARGE - 1]);
    assert_eq!(writes(&[LARGE]), [LARGE]);
    assert_eq!(writes(&[10, LARGE, 20]), [LARGE + 30]);
    assert_eq!(writes(&[LARGE, 10, 20]), [LARGE, 30]);
    assert_eq!(writes(&[LARGE, 10, LARGE]), [LARGE, LARGE + 10]);
}

/// The first is written when it is sent, the second in the target's turn.
#[test]
fn only_one_message_leaves_before_the_target_has_its_turn() {
    let (mut reactor, _peer, id, seen) = target();
    for _ in 0..3 {
        assert_eq!(reactor.send(id, &[0; LARGE]), LARGE);
        assert_eq!(*seen.writes.borrow(), [LARGE]);
    }
    let rest = reactor.room(id);
    assert_eq!(reactor.send(id, &vec![0; 1 << 20]), rest);
    assert_eq!(reactor.send(id, &[0; LARGE]), 0);
    turn_until(&mut reactor, |_| seen.drains.get() > 0);
}

#[test]
fn what_a_peer_does_not_read_is_held_and_arrives_in_order() {
    let (mut reactor, mut peer, id, seen) = target();
    let mut total = 0;
    // Until the kernel takes no more, and the connection holds as much as it may.
    loop {
        let taken = reactor.send(id, &pattern(total, 16 * 1024));
        total += taken;
        if taken == 0 {
            break;
        }
        reactor.turn(NOW).unwrap();
    }
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while received.len() < total {
        let count = peer.read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..count]);
        reactor.turn(NOW).unwrap();
    }
    assert!(received == pattern(0, total));
    let drains = seen.drains.get();
    turn_until(&mut reactor, |reactor| reactor.room(id) == 64 * 1024);
    assert!(drains > 0);
}

/// The reset has arrived, and no turn has read it. The write is the first to meet it; a second one would
/// be told EPIPE, which says less.
#[test]
fn the_error_of_a_send_ends_the_target_in_its_own_turn() {
    let (mut reactor, peer, id, seen) = target();
    reset(peer);
    assert_eq!(reactor.send(id, &[1; LARGE]), LARGE);
    assert!(seen.receipt.borrow().is_none(), "a callback within a send");
    assert_eq!((reactor.room(id), reactor.send(id, &[1; LARGE])), (0, 0));
    turn_until(&mut reactor, |_| seen.receipt.borrow().is_some());
    assert_eq!(seen.writes.take(), [LARGE]);
    let receipt = seen.receipt.take().unwrap();
    assert_eq!(receipt.figures(), (Reason::Reset, 0, 0, LARGE as u64, 0));
    assert_eq!(receipt.error.unwrap().0, ErrorKind::ConnectionReset);
}

/// An abort after a failed send changes nothing. After one that succeeded, what has left cannot be called
/// back.
#[test]
fn an_abort_after_a_large_message() {
    let (mut reactor, peer, id, seen) = target();
    reset(peer);
    assert_eq!(reactor.send(id, &[1; LARGE]), LARGE);
    assert!(reactor.abort(id));
    turn_until(&mut reactor, |_| seen.receipt.borrow().is_some());
    assert_eq!(seen.receipt.take().unwrap().reason, Reason::Reset);

    let (mut reactor, _peer, id, seen) = target();
    assert_eq!(reactor.send(id, &[1; LARGE]), LARGE);
    assert!(reactor.abort(id));
    turn_until(&mut reactor, |_| seen.receipt.borrow().is_some());
    let figures = seen.receipt.take().unwrap().figures();
    assert_eq!(figures, (Reason::Aborted, 0, LARGE as u64, 0, 0));
}

/// The program was elsewhere for longer than the idle timeout, and the time of the last turn is that old.
#[test]
fn a_large_message_between_turns_counts_as_activity() {
    let config = set(|config: &mut Config| config.idle_timeout = Some(Duration::from_secs(1)));
    for length in [1, LARGE, 1 << 20] {
        let (mut reactor, _peer, id, seen) = target_of(Reactor::new(config.clone()).unwrap());
        pass(Duration::from_millis(1100));
        assert!(reactor.send(id, &vec![0; length]) > 0);
        for _ in 0..3 {
            reactor.turn(NOW).unwrap();
        }
        assert!(seen.receipt.borrow().is_none(), "{length}");
    }
}

/// The end that comes first counts, and its error is that of the receipt.
#[test]
fn what_lent_code_does_after_the_error_of_a_send() {
    for (code, panics) in [
        ((|_, cx| cx.abort()) as fn(&mut Target, &mut Context<'_>), 0),
        (|_, cx| cx.finish(), 0),
        (|_, _| panic!("on purpose"), 1),
    ] {
        let (mut reactor, peer, id, seen) = target();
        reset(peer);
        assert_eq!(reactor.send(id, &[1; LARGE]), LARGE);
        reactor.with(id, code);
        turn_until(&mut reactor, |_| seen.receipt.borrow().is_some());
        let receipt = seen.receipt.take().unwrap();
        let broken = receipt.error.map(|error| error.0);
        assert_eq!(receipt.reason == Reason::Reset, broken.is_some());
        assert_eq!(reactor.stats().panics, panics);
    }
}
