//! What handlers may do that others seldom do: limits of a write, another handler, an error, a box, and how
//! things are printed.

use crate::running::{Echo, address};
use doorkeeper::sim::{self, Choice, Ending, Peer, Sim};
use doorkeeper::{
    Arrival, Closed, Config, Context, Handler, Layered, Others, Reactor, Reason, TimerKey,
};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

const RESET: Option<Ending> = Some(Ending::Error(ErrorKind::ConnectionReset));

/// A server whose handlers have this `on_data`, and a client that has sent one byte.
fn client_of(
    sim: &Sim,
    config: Config,
    on_data: fn(&mut Context<'_>) -> io::Result<()>,
) -> (Rc<RefCell<Reactor>>, Peer) {
    struct Once(fn(&mut Context<'_>) -> io::Result<()>);
    impl Handler for Once {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            (self.0)(cx)?;
            Ok(input.len())
        }
    }
    let server = sim.reactor(config).unwrap();
    let service = move |_: &mut Arrival<'_>| Some(Once(on_data));
    server.borrow_mut().listen(address(), service).unwrap();
    let peer = sim.connect(address());
    peer.send(b"x");
    sim.run_now();
    (server, peer)
}

#[test]
fn write_all_takes_as_much_as_the_hard_limit_and_not_one_byte_more() {
    let mut config = Config::default();
    (config.output_max_bytes, config.output_hard_max_bytes) = (4, 10);
    let sim = Sim::plain();
    let (_server, peer) = client_of(&sim, config.clone(), |cx| cx.write_all(&[b'a'; 10]));
    assert_eq!((peer.received().len(), peer.ending()), (10, None));
    let sim = Sim::plain();
    let (server, peer) = client_of(&sim, config, |cx| {
        cx.write_all(&[b'a'; 11]).unwrap_err();
        Ok(())
    });
    assert_eq!((peer.received().len(), peer.ending()), (0, RESET));
    assert_eq!(server.borrow().stats().closed(Reason::Aborted), 1);
}

#[test]
fn another_handler_that_takes_over_forgets_a_quiet_end_that_was_asked_for() {
    let sim = Sim::plain();
    let (_server, peer) = client_of(&sim, Config::default(), |cx| {
        cx.finish_when_quiet();
        cx.become_handler(Echo);
        Ok(())
    });
    peer.send(b"more");
    sim.run_to_rest();
    assert_eq!((&peer.received()[..], peer.ending()), (&b"more"[..], None));
}

#[test]
fn an_error_of_a_handler_resets_only_what_was_aborted_or_not_sent() {
    let cases: [(Act, Option<Ending>); 3] = [
        (|_| {}, Some(Ending::Fin)),
        (|cx| cx.abort(), RESET),
        (|cx| assert_eq!(cx.write(b"x"), 1), RESET),
    ];
    for (act, ending) in cases {
        let sim = Sim::plain();
        let server = sim.reactor(Config::default()).unwrap();
        let service = move |_: &mut Arrival<'_>| Some(Fails(act));
        server.borrow_mut().listen(address(), service).unwrap();
        let peer = sim.connect(address());
        peer.send(b"x");
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(peer.ending(), ending);
    }
}

type Act = fn(&mut Context<'_>);

struct Fails(Act);

impl Handler for Fails {
    fn on_data(&mut self, cx: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        (self.0)(cx);
        Err(io::Error::other("on purpose"))
    }
}

/// Logs all of its callbacks.
#[derive(Clone, Default)]
struct Logs(Rc<RefCell<Vec<&'static str>>>);

impl Logs {
    fn add(&self, name: &'static str) -> io::Result<()> {
        self.0.borrow_mut().push(name);
        Ok(())
    }
}

impl Handler for Logs {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(1), Duration::from_secs(1));
        self.add("open")
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let own = cx.id();
        cx.others.wake(own);
        cx.write(input);
        self.add("data")?;
        Ok(input.len())
    }
    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.add("drain")
    }
    fn on_wake(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.add("wake")
    }
    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.add("timer")
    }
    fn on_shutdown(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.add("shutdown")
    }
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        self.add("eof")
    }
    fn on_close(&mut self, _: &mut Others<'_>, _: &Closed) {
        self.add("close").unwrap();
    }
}

/// Passes every callback on.
struct Wraps<H>(H);

impl<H: Handler> Handler for Wraps<H> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_open(cx)
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.on_data(cx, input)
    }
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_drain(cx)
    }
    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_wake(cx)
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.0.on_timer(cx, key)
    }
    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_shutdown(cx)
    }
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.on_eof(cx)
    }
    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        self.0.on_close(others, closed);
    }
}

#[test]
fn a_handler_in_a_box_hears_every_callback() {
    let (sim, logs) = (Sim::plain(), Logs::default());
    let server = sim.reactor(Config::default()).unwrap();
    let inner = logs.clone();
    let service = move |_: &mut Arrival<'_>| {
        let boxed: Box<dyn Handler> = Box::new(inner.clone());
        Some(Wraps(boxed))
    };
    server.borrow_mut().listen(address(), service).unwrap();
    let peer = sim.connect(address());
    peer.send(b"x");
    sim.run_for(Duration::from_secs(2));
    server.borrow_mut().shutdown(Duration::from_secs(60));
    sim.run_now();
    peer.half_close();
    sim.run_until(|| peer.ending().is_some());
    assert_eq!(peer.received(), b"x");
    let expected = [
        "open", "data", "drain", "wake", "timer", "shutdown", "eof", "close",
    ];
    assert_eq!(*logs.0.borrow(), expected);
}

#[test]
fn what_a_callback_is_given_prints_its_id_and_peer() {
    let (sim, printed) = (Sim::plain(), Rc::new(RefCell::new(Vec::new())));
    let server = sim.reactor(Config::default()).unwrap();
    let shown = Rc::clone(&printed);
    let service = move |arrival: &mut Arrival<'_>| {
        shown.borrow_mut().push(format!("{arrival:?}"));
        Some(Prints(Rc::clone(&shown)))
    };
    server.borrow_mut().listen(address(), service).unwrap();
    let peer = sim.connect(address());
    sim.run_now();
    let printed = printed.borrow();
    let peer = peer.local_addr().unwrap();
    for (text, name) in printed.iter().zip(["Arrival", "Context", "Others"]) {
        let (id, addr) = ("1.1", peer.to_string());
        assert!(text.starts_with(name) && text.contains(id), "{text}");
        assert!(name == "Others" || text.contains(&addr), "{text}");
    }
    assert_eq!(printed.len(), 3);
    let layered = Layered::new(crate::toys::Xor(1), Echo);
    assert_eq!(format!("{layered:?}"), "Layered { .. }");
}

struct Prints(Rc<RefCell<Vec<String>>>);

impl Handler for Prints {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut printed = self.0.borrow_mut();
        printed.push(format!("{cx:?}"));
        printed.push(format!("{:?}", cx.others));
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// ECONNABORTED and EINTR cost nobody a pause; those that say what ran out do.
#[test]
fn an_error_of_accept_that_says_nothing_of_resources_is_no_reason_to_wait() {
    let waits = Cell::new([false; 2]);
    sim::explore(300, |sim| {
        sim.set_most(Choice::AcceptError, 1);
        let server = sim.reactor(Config::default()).unwrap();
        let listening = server.borrow_mut().listen(address(), |_| Some(Echo));
        listening.unwrap();
        sim.connect(address());
        sim.run_to_rest();
        if server.borrow().stats().accept_errors == 1 {
            let mut found = waits.get();
            found[usize::from(sim.now() > Duration::ZERO)] = true;
            waits.set(found);
        }
    });
    assert_eq!(waits.get(), [true; 2]);
}

#[test]
fn a_handler_whose_lent_code_panics_before_it_is_connected_hears_nothing_but_the_end() {
    for panics in [1, 2] {
        let (sim, logs) = (Sim::plain(), Logs::default());
        sim.allow_panics();
        let to = "10.0.0.2:7".parse().unwrap();
        let _listening = sim.listen(to, 5).unwrap();
        let client = sim.reactor(Config::default()).unwrap();
        let mut reactor = client.borrow_mut();
        let id = reactor.connect(to, logs.clone()).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        for _ in 0..panics {
            let lent: Option<()> = reactor.with(id, |_: &mut Logs, _| panic!("on purpose"));
            assert_eq!(lent, None);
        }
        drop(reactor);
        sim.run_now();
        assert_eq!(*logs.0.borrow(), ["close"]);
        assert_eq!(client.borrow().stats().panics, panics);
    }
}
