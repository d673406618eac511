//! Many timers: what they cost, and how many are called in one turn.

mod common;

use common::{Discard, Echo, NOW, PATIENCE, client, listen, read_exactly, set, turn_until};
use doorkeeper::{Config, Context, Handler, Reactor, TimerKey};
use std::cell::Cell;
use std::io::{self, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Sets this many timers, twice each, and counts the calls.
struct Many {
    timers: u64,
    called: Rc<Cell<u64>>,
}

impl Handler for Many {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for wait in [Duration::from_secs(3600), Duration::ZERO] {
            (0..self.timers).for_each(|key| cx.set_timer(TimerKey(key), wait));
        }
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        // Timers of the same time are called in the order of their keys, and the second time counts.
        assert_eq!(key, TimerKey(self.called.get()));
        self.called.set(self.called.get() + 1);
        Ok(())
    }
}

/// A reactor with a connection whose handler sets this many timers in the next turn.
fn with_timers(config: Config, timers: u64) -> (Reactor, Rc<Cell<u64>>, TcpStream) {
    let (mut reactor, called) = (Reactor::new(config).unwrap(), Rc::new(Cell::new(0)));
    let count = Rc::clone(&called);
    let address = listen(&mut reactor, move |_| {
        let called = Rc::clone(&count);
        Some(Many { timers, called })
    });
    let stream = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
    (reactor, called, stream)
}

/// The time to set the timers, to replace each, and to call all.
fn time(timers: u64) -> Duration {
    let (mut reactor, called, _stream) = with_timers(Config::default(), timers);
    let start = Instant::now();
    turn_until(&mut reactor, |_| called.get() == timers);
    start.elapsed()
}

/// With n log n they take about 45 times as long, with n² 900 times.
#[test]
fn thirty_times_as_many_timers_do_not_take_nine_hundred_times_as_long() {
    let few = (0..5).map(|_| time(1_000)).min().unwrap();
    let many = (0..2).map(|_| time(30_000)).min().unwrap();
    println!("1,000 timers: {few:?}, 30,000: {many:?}");
    assert!(many < 300 * few, "{few:?} and {many:?}");
}

#[test]
fn a_turn_calls_a_budget_of_timers_and_other_connections_have_turns_between() {
    const TIMERS: u64 = 1000;
    let (mut reactor, called, _stream) = with_timers(Config::default(), TIMERS);
    let address = listen(&mut reactor, |_| Some(Echo));
    let mut other = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 2);
    let mut echoed_at = None;
    let mut before = called.get();
    while called.get() < TIMERS {
        if before == 128 {
            other.write_all(b"between").unwrap();
        }
        reactor.turn(NOW).unwrap();
        let calls = called.get() - before;
        assert!(calls <= 64, "{calls} timers in one turn");
        before += calls;
        if reactor.stats().bytes_sent > 0 && echoed_at.is_none() {
            echoed_at = Some(before);
        }
    }
    assert!(echoed_at.is_some_and(|at| at < TIMERS), "{echoed_at:?}");
    assert_eq!(read_exactly(&mut other, 7), b"between");
    // All have been called: nothing is due any more.
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn a_turn_calls_a_budget_of_timers_of_no_connection() {
    for (budget, wait) in [(1, 0), (10, 0), (10, 20), (64, 20)] {
        let config = set(|config: &mut Config| config.timers_per_turn = budget);
        let (mut reactor, called) = (Reactor::new(config).unwrap(), Rc::new(Cell::new(0)));
        for number in 0..200 {
            let called = Rc::clone(&called);
            let run = move |_: &mut Reactor| {
                assert_eq!(
                    called.replace(number + 1),
                    number,
                    "the order of their times"
                );
            };
            reactor.after(Duration::from_millis(wait), run).unwrap();
        }
        let start = Instant::now();
        while called.get() < 200 {
            let before = called.get();
            reactor.turn(Some(PATIENCE)).unwrap();
            let calls = called.get() - before;
            assert!(calls <= budget, "{calls} of {budget}");
            assert!(start.elapsed() < PATIENCE);
        }
    }
}

/// The idle timeouts of many connections pass together.
#[test]
fn more_timeouts_than_the_budget_all_pass() {
    let config = set(|config: &mut Config| {
        config.timers_per_turn = 2;
        config.idle_timeout = Some(Duration::from_millis(50));
    });
    let mut reactor = Reactor::new(config).unwrap();
    let address = listen(&mut reactor, |_| Some(Discard));
    let _streams: Vec<TcpStream> = (0..9).map(|_| client(address)).collect();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 9);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
}
