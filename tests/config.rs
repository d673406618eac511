//! The limits of a reactor, at their bounds and beyond: a wrong one is an error, never an abort.

mod common;

use common::{Discard, Echo, NOW, client, listen, read_exactly, set, turn_until};
use doorkeeper::{Config, MinRate, Reactor};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// A limit: its name, its field, and the bounds.
type Limit = (&'static str, fn(&mut Config) -> &mut usize, usize, usize);

const SOURCES: usize = (1 << (usize::BITS / 2)) - 1;
const MOVED: usize = 0x7fff_f000;
const HELD: usize = isize::MAX as usize;
const EVENTS: usize = 134_217_727;

const POSTS: usize = isize::MAX as usize / (2 * size_of::<usize>());

const LIMITS: [Limit; 11] = [
    (
        "max_connections",
        |config| &mut config.max_connections,
        1,
        SOURCES,
    ),
    (
        "accept_budget",
        |config| &mut config.accept_budget,
        1,
        SOURCES,
    ),
    (
        "turn_budget_bytes",
        |config| &mut config.turn_budget_bytes,
        1,
        MOVED,
    ),
    (
        "input_max_bytes",
        |config| &mut config.input_max_bytes,
        1,
        HELD,
    ),
    (
        "output_max_bytes",
        |config| &mut config.output_max_bytes,
        1,
        HELD,
    ),
    (
        "output_hard_max_bytes",
        |config| &mut config.output_hard_max_bytes,
        1,
        HELD,
    ),
    (
        "observed_bytes",
        |config| &mut config.observed_bytes,
        0,
        MOVED,
    ),
    (
        "events_per_turn",
        |config| &mut config.events_per_turn,
        1,
        EVENTS,
    ),
    (
        "timers_per_turn",
        |config| &mut config.timers_per_turn,
        1,
        SOURCES,
    ),
    (
        "posts_per_turn",
        |config| &mut config.posts_per_turn,
        1,
        POSTS,
    ),
    ("posts_max", |config| &mut config.posts_max, 1, POSTS),
];

/// Has a message echoed.
fn serve(mut reactor: Reactor) {
    let mut stream = client(listen(&mut reactor, |_| Some(Echo)));
    stream.write_all(b"echo").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 4);
    assert_eq!(read_exactly(&mut stream, 4), b"echo");
}

#[test]
fn a_reactor_works_with_each_limit_at_its_bounds() {
    for (name, field, least, most) in LIMITS {
        for value in [least, most] {
            match Reactor::new(set(|config| *field(config) = value)) {
                Ok(reactor) => serve(reactor),
                // A gigabyte and a half of address space.
                Err(error) => assert_eq!(
                    (name, value, error.kind()),
                    ("events_per_turn", EVENTS, ErrorKind::OutOfMemory)
                ),
            }
        }
    }
}

#[test]
fn a_limit_beyond_its_bounds_is_refused_and_named() {
    for (name, field, least, most) in LIMITS {
        let below = least.checked_sub(1);
        for value in below
            .into_iter()
            .chain([most + 1, usize::MAX - 1, usize::MAX])
        {
            let config = set(|config| *field(config) = value);
            let message = format!("{name} is {value}; it must be from {least} to {most}");
            for error in [
                config.check().unwrap_err(),
                Reactor::new(config).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), message);
            }
        }
    }
}

/// The test above knows every limit that is a number of things.
#[test]
fn every_limit_is_tested_at_its_bounds() {
    let shown = format!("{:?}", Config::default());
    let numbers = shown.split(['{', ',']).filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        let value = value.trim_matches([' ', '}']);
        value.parse::<u64>().ok().map(|_| name.trim())
    });
    let tested = LIMITS.map(|limit| limit.0);
    let missing: Vec<&str> = numbers.filter(|name| !tested.contains(name)).collect();
    // It has no bounds: a u64 counts the bytes.
    assert_eq!(missing, ["linger_max_bytes"], "{shown}");
}

#[test]
fn the_longest_times_and_the_largest_count_are_for_ever() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::MAX);
        config.connect_timeout = Duration::MAX;
        config.linger_timeout = Duration::MAX;
        config.stall_warning = Some(Duration::MAX);
        config.linger_max_bytes = u64::MAX;
    });
    let mut reactor = Reactor::new(config.clone()).unwrap();
    let address = listen(&mut reactor, |_| Some(Discard));
    reactor.connect(address, Discard).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 2);
    (0..5).for_each(|_| reactor.turn(NOW).unwrap());
    let year = Duration::from_secs(365 * 24 * 3600);
    let next = reactor.next_deadline().unwrap();
    assert!(next > Instant::now() + year, "{next:?}");
    reactor.shutdown(Duration::MAX);
    (0..5).for_each(|_| reactor.turn(NOW).unwrap());
    assert!(!reactor.is_done());
    serve(Reactor::new(config).unwrap());
}

#[test]
fn a_time_of_zero_is_refused_where_nothing_could_happen_in_it() {
    let refused = |change: fn(&mut Config)| Reactor::new(set(change)).unwrap_err().to_string();
    assert_eq!(
        refused(|config| config.connect_timeout = Duration::ZERO),
        "connect_timeout is 0; it must be longer, or Duration::MAX to leave it to the kernel"
    );
    assert_eq!(
        refused(|config| config.idle_timeout = Some(Duration::ZERO)),
        "idle_timeout is 0; it must be longer, or Duration::MAX for no limit"
    );
    assert_eq!(
        refused(|config| config.max_lifetime = Some(Duration::ZERO)),
        "max_lifetime is 0; it must be longer, or Duration::MAX for no limit"
    );
    assert_eq!(
        refused(|config| {
            let span = Duration::ZERO;
            config.min_rate = Some(MinRate { bytes: 0, span });
        }),
        "min_rate.span is 0; it must be longer, or Duration::MAX for no limit"
    );
    assert!(
        Reactor::new(set(
            |config: &mut Config| config.linger_timeout = Duration::ZERO
        ))
        .is_ok()
    );
}
