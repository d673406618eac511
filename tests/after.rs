//! `after`: timers that belong to no connection.

mod common;

use common::{Echo, PATIENCE, client, echo, listen, loopback, reactor, turn_until};
use doorkeeper::{Closed, Context, Handler, Id, Others, Reactor, Reason};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

/// Turns until the closure says so, sleeping in between as a program would.
fn run_until(reactor: &mut Reactor, mut done: impl FnMut(&Reactor) -> bool) {
    let start = Instant::now();
    while !done(reactor) {
        assert!(start.elapsed() < PATIENCE, "it never happens");
        reactor.turn(Some(PATIENCE)).unwrap();
    }
}

#[test]
fn a_timer_runs_once_after_its_time_and_timers_run_in_the_order_of_their_times() {
    let mut reactor = reactor();
    let (start, order) = (Instant::now(), Rc::new(RefCell::new(Vec::new())));
    for (name, wait) in [
        ("second", 2 * SHORT),
        ("first", SHORT),
        ("at once", Duration::ZERO),
    ] {
        let order = Rc::clone(&order);
        let run = move |_: &mut Reactor| {
            assert!(start.elapsed() >= wait, "{name} is early");
            order.borrow_mut().push(name);
        };
        reactor.after(wait, run).unwrap();
    }
    run_until(&mut reactor, |_| order.borrow().len() == 3);
    assert_eq!(*order.borrow(), ["at once", "first", "second"]);
    // None is left: nothing would wake the loop.
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn a_closed_timer_does_not_run_even_in_the_turn_in_which_it_is_due() {
    let mut reactor = reactor();
    let (second, ran) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
    let (found, running) = (Rc::clone(&second), Rc::clone(&ran));
    let first = move |reactor: &mut Reactor| {
        running.set(running.get() + 1);
        let id: Id = found.get().unwrap();
        assert!(reactor.close(id));
    };
    reactor.after(Duration::ZERO, first).unwrap();
    let running = Rc::clone(&ran);
    let id = reactor.after(Duration::ZERO, move |_| running.set(running.get() + 10));
    second.set(Some(id.unwrap()));
    run_until(&mut reactor, |reactor| reactor.next_deadline().is_none());
    assert_eq!(ran.get(), 1);
    assert!(!reactor.close(second.get().unwrap()), "its id is stale");
}

#[test]
fn a_timer_that_panics_is_counted_and_the_loop_goes_on() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Echo));
    reactor
        .after(Duration::ZERO, |_| panic!("on purpose"))
        .unwrap();
    run_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    let client = std::thread::spawn(move || echo(&mut client(address), b"alive"));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(client.join().unwrap(), b"alive");
}

#[test]
fn a_dropped_reactor_drops_its_timers_uncalled() {
    let mut reactor = reactor();
    let held = Rc::new(());
    let inner = Rc::clone(&held);
    reactor
        .after(LONG, move |_| unreachable!("{inner:?}"))
        .unwrap();
    assert_eq!(Rc::strong_count(&held), 2);
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
}

/// Connects again a while after each failure, until it is connected.
struct Persistent {
    address: SocketAddr,
    attempts: Rc<Cell<u32>>,
}

impl Handler for Persistent {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        if closed.reason != Reason::Refused {
            return;
        }
        let (address, attempts) = (self.address, Rc::clone(&self.attempts));
        let again = move |reactor: &mut Reactor| connect(reactor, address, attempts);
        others.after(SHORT, again).unwrap();
    }
}

fn connect(reactor: &mut Reactor, address: SocketAddr, attempts: Rc<Cell<u32>>) {
    attempts.set(attempts.get() + 1);
    reactor
        .connect(address, Persistent { address, attempts })
        .unwrap();
}

#[test]
fn a_client_connects_again_after_a_pause() {
    // A port that is free now: its listener is closed, and never had a connection.
    let address = TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let (mut reactor, attempts) = (reactor(), Rc::new(Cell::new(0)));
    let start = Instant::now();
    connect(&mut reactor, address, Rc::clone(&attempts));
    run_until(&mut reactor, |_| attempts.get() == 4);
    assert!(start.elapsed() >= 3 * SHORT, "{:?}", start.elapsed());
    let listener = TcpListener::bind(address).unwrap();
    run_until(&mut reactor, |reactor| reactor.stats().connected == 1);
    listener.accept().unwrap();
}
