//! Limits, at them and one beyond; times, and when they begin; ends, as the peer sees them; figures.

use crate::running::{Echo, address, echo_server};
use doorkeeper::sim::{Ending, Peer, Sim};
use doorkeeper::{Closed, Config, Context, Handler, Id, Layer, Others, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const RESET: Option<Ending> = Some(Ending::Error(ErrorKind::ConnectionReset));

/// What a connection moved: its reason, and the bytes received, unsent and discarded.
type Ends = Rc<RefCell<Vec<(Reason, u64, u64, u64)>>>;

/// What a callback does.
type Act = fn(&mut Context<'_>);

/// Consumes all input, and does one thing when it is opened and one by its timer.
struct Acting {
    open: Act,
    timer: Act,
    ends: Ends,
}

impl Handler for Acting {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (self.open)(cx);
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        (self.timer)(cx);
        Ok(())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let figures = (closed.received, closed.unsent, closed.discarded);
        let (received, unsent, discarded) = figures;
        let mut ends = self.ends.borrow_mut();
        ends.push((closed.reason, received, unsent, discarded));
    }
}

/// A client of such a handler. `idle` and `linger` are the timeouts in seconds; other limits are small.
fn client_of(
    sim: &Sim,
    (idle, linger): (u32, u32),
    open: Act,
    timer: Act,
) -> (Rc<RefCell<Reactor>>, Peer, Ends) {
    let mut config = Config::default();
    config.idle_timeout = Some(idle * SECOND);
    config.linger_timeout = linger * SECOND;
    config.linger_max_bytes = 100;
    let (server, ends) = (sim.reactor(config).unwrap(), Ends::default());
    let all = Rc::clone(&ends);
    let listening = server.borrow_mut().listen(address(), move |_| {
        let ends = Rc::clone(&all);
        Some(Acting { open, timer, ends })
    });
    listening.unwrap();
    let peer = sim.connect(address());
    (server, peer, ends)
}

fn nothing(_: &mut Context<'_>) {}

#[test]
fn lingering_is_timed_from_when_it_begins_and_not_before_all_is_sent() {
    // It finishes when it was idle for longer than it may linger.
    let sim = Sim::plain();
    let wait: Act = |cx| cx.set_timer(TimerKey(0), 5 * SECOND);
    let (_server, _peer, ends) = client_of(&sim, (20, 1), wait, |cx| cx.finish());
    sim.run_until(|| !ends.borrow().is_empty());
    assert_eq!(ends.borrow()[0].0, Reason::LingerTimeout);
    assert_eq!(sim.now(), 6 * SECOND);
    // It finishes, and the peer takes nothing.
    let sim = Sim::plain();
    sim.set_buffers(1000, 1000);
    let answer: Act = |cx| {
        cx.write(&[7; 5000]);
        cx.finish();
    };
    let (_server, peer, ends) = client_of(&sim, (20, 1), answer, nothing);
    peer.stop_reading();
    sim.run_until(|| !ends.borrow().is_empty());
    let (reason, _, unsent, _) = ends.borrow()[0];
    assert!(reason == Reason::IdleTimeout && unsent > 0);
    assert_eq!(sim.now(), 20 * SECOND);
    // It must not take what it has for the whole answer.
    peer.read_all();
    sim.run_until(|| peer.ending().is_some());
    assert_eq!(peer.ending(), RESET);
}

#[test]
fn as_many_bytes_as_linger_max_bytes_are_thrown_away_and_one_more_ends_it() {
    for (count, reason) in [(100, Reason::Finished), (101, Reason::LingerLimit)] {
        let sim = Sim::plain();
        let (_server, peer, ends) = client_of(&sim, (20, 10), |cx| cx.finish(), nothing);
        sim.run_for(SECOND);
        peer.send(&vec![1; count]);
        peer.half_close();
        sim.run_until(|| !ends.borrow().is_empty());
        let count = count as u64;
        assert_eq!(*ends.borrow(), [(reason, count, 0, count)]);
    }
}

#[test]
fn each_byte_that_moves_is_activity_and_nothing_else_is() {
    // Timers are not activity. Input that arrives beside them is.
    let again: Act = |cx| cx.set_timer(TimerKey(0), SECOND / 2);
    // Input that the handler does not consume yet is activity; the peer's end is not.
    let want: Act = |cx| cx.want(100).unwrap();
    for (open, timer) in [(again, again), (want, nothing)] {
        let sim = Sim::plain();
        let (_server, peer, ends) = client_of(&sim, (2, 1), open, timer);
        for _ in 0..3 {
            sim.run_for(3 * SECOND / 2);
            peer.send(b"x");
        }
        sim.run_for(SECOND);
        peer.half_close();
        sim.run_until(|| !ends.borrow().is_empty());
        assert_eq!(*ends.borrow(), [(Reason::IdleTimeout, 3, 0, 0)]);
        assert_eq!(sim.now(), 13 * SECOND / 2);
    }
}

#[test]
fn an_abort_is_a_reset_and_an_idle_timeout_without_output_is_not() {
    let abort: Act = |cx| cx.abort();
    let cases = [(abort, RESET), (nothing, Some(Ending::Fin))];
    for (open, ending) in cases {
        let sim = Sim::plain();
        let (_server, peer, ends) = client_of(&sim, (2, 1), open, nothing);
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(peer.ending(), ending, "{:?}", ends.borrow());
    }
}

#[test]
fn a_listener_that_is_closed_in_a_loop_at_rest_is_gone() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let listening = server.borrow_mut().listen(address(), |_| None::<Echo>);
    let listener = listening.unwrap();
    sim.run_to_rest();
    assert!(server.borrow_mut().abort(listener));
    sim.run_to_rest();
    assert!(server.borrow().local_addr(listener).is_err());
    let late = sim.connect(address());
    sim.run_until(|| late.ending().is_some());
    let refused = Some(Ending::Error(ErrorKind::ConnectionRefused));
    assert_eq!(late.ending(), refused);
}

#[test]
fn posts_are_counted_and_a_second_stop_does_not_undo_the_first() {
    let sim = Sim::plain();
    let server = echo_server(&sim, Config::default());
    let handle = server.borrow().handle();
    for _ in 0..3 {
        handle.post(|_| {}).unwrap();
    }
    sim.run_to_rest();
    assert_eq!(server.borrow().stats().posts, 3);
    let mut server = server.borrow_mut();
    server.stop();
    handle.stop().unwrap();
    assert!(server.is_done());
    server.turn(Some(Duration::ZERO)).unwrap();
    assert!(server.is_done());
}

/// A turn runs some of the posts. Nothing but those that are left brings the next turn.
#[test]
fn posts_beyond_those_of_a_turn_and_a_stop_reach_a_loop_at_rest() {
    let sim = Sim::plain();
    let mut config = Config::default();
    config.posts_per_turn = 2;
    let server = echo_server(&sim, config);
    sim.run_to_rest();
    let handle = server.borrow().handle();
    for _ in 0..5 {
        handle.post(|_| {}).unwrap();
    }
    sim.run_to_rest();
    assert_eq!(server.borrow().stats().posts, 5);
    handle.stop().unwrap();
    sim.run_until(|| server.borrow().is_done());
}

#[test]
fn a_reactor_that_is_dropped_takes_no_new_source() {
    struct Reconnects(Rc<Cell<Option<bool>>>);
    impl Handler for Reconnects {
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            Ok(input.len())
        }
        fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
            if closed.reason == Reason::ReactorDropped {
                let connecting = others.connect(address(), Echo);
                self.0.set(Some(connecting.is_err()));
            }
        }
    }
    let (sim, refused) = (Sim::plain(), Rc::new(Cell::new(None)));
    let server = echo_server(&sim, Config::default());
    let client = sim.reactor(Config::default()).unwrap();
    let handler = Reconnects(Rc::clone(&refused));
    client.borrow_mut().connect(address(), handler).unwrap();
    sim.run_to_rest();
    drop((client, server));
    assert_eq!(refused.get(), Some(true));
}

/// `on_close`, the drop of the handler and that of its error can panic, alone and together: however many
/// of them panic, one panic and one end are counted.
#[test]
fn an_end_that_panics_more_than_once_is_counted_once() {
    for number in 0..8 {
        let panics = [1, 2, 4].map(|bit| number & bit != 0);
        let sim = Sim::plain();
        sim.allow_panics();
        let server = sim.reactor(Config::default()).unwrap();
        let listening = server.borrow_mut().listen(address(), move |_| {
            Some(Panics {
                in_close: panics[0],
                in_drop: panics[1],
                error: Panicking(panics[2]),
            })
        });
        listening.unwrap();
        let peer = sim.connect(address());
        peer.send(b"x");
        sim.run_until(|| peer.ending().is_some());
        let stats = server.borrow().stats();
        let counted = (stats.panics, stats.closed(Reason::HandlerError));
        assert_eq!(counted, (u64::from(number > 0), 1), "{panics:?}");
    }
}

/// Its drop panics, if it is asked to.
#[derive(Debug)]
struct Panicking(bool);

impl Drop for Panicking {
    fn drop(&mut self) {
        assert!(!self.0, "in a drop, on purpose");
    }
}

impl std::fmt::Display for Panicking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("on purpose")
    }
}

impl std::error::Error for Panicking {}

struct Panics {
    in_close: bool,
    in_drop: bool,
    error: Panicking,
}

impl Handler for Panics {
    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        let error = std::mem::replace(&mut self.error, Panicking(false));
        self.error.0 = self.in_drop;
        Err(io::Error::other(error))
    }
    fn on_close(&mut self, _: &mut Others<'_>, _: &Closed) {
        assert!(!self.in_close, "in on_close, on purpose");
    }
}

/// The kernel refuses what other code sends at once, and the connection's turn, which ends it, is still to
/// come.
#[test]
fn nothing_can_be_written_after_a_send_of_other_code_failed() {
    let sim = Sim::plain();
    let (server, peer, ends) = client_of(&sim, (20, 10), nothing, nothing);
    sim.run_for(SECOND);
    let id = server.borrow().snapshot().connections[0].id;
    peer.reset();
    let mut reactor = server.borrow_mut();
    assert_eq!(reactor.send(id, &[7; 4096]), 4096);
    let written = reactor.with(id, |_: &mut Acting, cx| cx.write_all(b"x"));
    let error = written.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    drop(reactor);
    sim.run_until(|| !ends.borrow().is_empty());
    assert_eq!(*ends.borrow(), [(Reason::Reset, 0, 4096, 0)]);
}

/// Takes input as it is, fails at a `!` and panics at a `?`.
struct Brittle;

impl Layer for Brittle {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        if input.contains(&b'!') {
            return Err(io::Error::other("on purpose"));
        }
        assert!(!input.contains(&b'?'), "on purpose");
        plain.extend(input);
        Ok(input.len())
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }
}

/// Between an abort that other code asks for and the turn that makes it, something else can end the
/// connection.
#[test]
fn an_abort_of_other_code_resets_whatever_ends_the_connection_then() {
    let abort = |reactor: &mut Reactor, id| assert!(reactor.abort(id));
    type Case = (fn(&mut Reactor, Id), &'static [u8], Option<Reason>, u64);
    let nothing_else: fn(&mut Reactor, Id) = |_, _| {};
    let panics: fn(&mut Reactor, Id) = |reactor, id| {
        let lent = reactor.with(id, |_: &mut Acting, _| panic!("on purpose"));
        assert_eq!(lent, None::<()>);
    };
    // What the layer is given, the reason, and the number of panics.
    let cases: [Case; 5] = [
        (nothing_else, b"", Some(Reason::Aborted), 0),
        (panics, b"", Some(Reason::Panic), 1),
        (nothing_else, b"!", Some(Reason::Aborted), 0),
        (nothing_else, b"?", Some(Reason::Aborted), 1),
        // The reactor is dropped.
        (nothing_else, b"", None, 0),
    ];
    for (number, (then, input, reason, panics)) in cases.into_iter().enumerate() {
        let sim = Sim::plain();
        sim.allow_panics();
        let open: Act = |cx| cx.add_layer(Brittle).unwrap();
        let open = if input.is_empty() { nothing } else { open };
        let (server, peer, ends) = client_of(&sim, (20, 10), open, nothing);
        sim.run_for(SECOND);
        let mut reactor = server.borrow_mut();
        let id = reactor.snapshot().connections[0].id;
        peer.send(input);
        abort(&mut reactor, id);
        then(&mut reactor, id);
        drop(reactor);
        if reason.is_none() {
            drop(server);
            sim.run_until(|| peer.ending().is_some());
        } else {
            sim.run_until(|| peer.ending().is_some());
            assert_eq!(server.borrow().stats().panics, panics, "case {number}");
        }
        assert_eq!(peer.ending(), RESET, "case {number}");
        let reason = reason.unwrap_or(Reason::ReactorDropped);
        assert_eq!(ends.borrow()[0].0, reason, "case {number}");
    }
}

/// A handler is woken and aborts in the turn in which its layer fails.
#[test]
fn an_abort_counts_more_than_a_layer_that_fails_in_the_same_turn() {
    struct Aborts(Ends);
    impl Handler for Aborts {
        fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            cx.add_layer(Brittle)
        }
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            Ok(input.len())
        }
        fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            cx.abort();
            Ok(())
        }
        fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
            self.0.borrow_mut().push((closed.reason, 0, 0, 0));
        }
    }
    for (wakes, reason, ending) in [
        (true, Reason::Aborted, RESET),
        (false, Reason::HandlerError, Some(Ending::Fin)),
    ] {
        let (sim, ends) = (Sim::plain(), Ends::default());
        let (server, all) = (sim.reactor(Config::default()).unwrap(), Rc::clone(&ends));
        let listening = server
            .borrow_mut()
            .listen(address(), move |_| Some(Aborts(Rc::clone(&all))));
        listening.unwrap();
        let peer = sim.connect(address());
        sim.run_for(SECOND);
        let id = server.borrow().snapshot().connections[0].id;
        peer.send(b"!");
        assert!(!wakes || server.borrow_mut().wake(id));
        sim.run_until(|| peer.ending().is_some());
        assert_eq!((ends.borrow()[0].0, peer.ending()), (reason, ending));
    }
}
