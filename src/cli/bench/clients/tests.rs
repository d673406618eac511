//! The connections without a load around them: what is due, what is sent, and what is recorded.

use super::super::answer::Answer;
use super::super::counters::Counters;
use super::super::pattern::Pattern;
use super::{Pinger, Requests, Schedule, Timing};
use doorkeeper::{Config, Reactor};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longer than any step takes, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn requests(size: usize, pipeline: usize, schedule: Option<Schedule>) -> Rc<Requests> {
    Rc::new(Requests {
        counters: Counters::new(),
        pattern: Pattern::of_noise(),
        answer: Answer::Echo,
        size,
        pipeline,
        most: u64::MAX,
        schedule,
    })
}

/// The second of two connections that have ten requests a second: its own are due after 0.1 s, 0.3 s,
/// 0.5 s.
fn second_of_two(start: Instant) -> Pinger {
    let schedule = Schedule {
        rate: 10,
        connections: 2,
    };
    let mut pinger = Pinger::new(&requests(64, 8, Some(schedule)), 1, None);
    pinger.timing = Timing::Due {
        start: Some(start),
        count: 0,
    };
    pinger.requests.counters.begin.set(Some(start));
    pinger
}

#[test]
fn requests_are_due_one_connection_after_the_other() {
    let schedule = Schedule {
        rate: 100,
        connections: 5,
    };
    let due = |connection, request| schedule.due(connection, request).as_millis();
    assert_eq!([0, 1, 4].map(|connection| due(connection, 0)), [0, 10, 40]);
    assert_eq!([1, 2].map(|request| due(1, request)), [60, 110]);
    assert_eq!(schedule.interval(), Duration::from_millis(50));
    let count = |connection, at| schedule.count(connection, Duration::from_millis(at));
    assert_eq!(
        [0, 9, 10, 59, 60, 109, 110].map(|at| count(1, at)),
        [0, 0, 1, 1, 2, 2, 3]
    );
}

#[test]
fn what_is_due_by_now_is_added_and_the_delay_is_that_of_the_first() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut pinger = second_of_two(start);
    for (now, waiting, next, delay) in [
        (0, 0, 100, 0),
        (99, 0, 100, 0),
        (100, 1, 300, 0),
        (550, 3, 700, 250),
        (551, 3, 700, 250),
        (700, 4, 900, 250),
        (1151, 6, 1300, 251),
    ] {
        assert_eq!(pinger.add_due(at(now)), Some(at(next)), "{now}");
        assert_eq!(pinger.waiting(), waiting, "{now}");
        let own_delay = pinger.requests.counters.delay.get();
        assert_eq!(own_delay, Duration::from_millis(delay), "{now}");
    }
    // Without a rate nothing is due.
    let mut pinger = Pinger::new(&requests(64, 8, None), 1, None);
    assert_eq!((pinger.add_due(start), pinger.waiting()), (None, 0));
}

/// The latencies so far, in milliseconds, in their order.
fn latencies(pinger: &Pinger) -> Vec<u64> {
    let latencies = pinger.requests.counters.latencies.borrow();
    let recorded = latencies.iter_recorded();
    let each = recorded.flat_map(|step| {
        let nanoseconds = step.value_iterated_to();
        vec![nanoseconds / 1_000_000; step.count_at_value() as usize]
    });
    each.collect()
}

#[test]
fn a_latency_begins_when_its_request_was_due_or_was_sent() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut pinger = second_of_two(start);
    pinger.add_due(at(550));
    pinger.reading.answers = 2;
    pinger.record(0, at(600));
    assert_eq!(latencies(&pinger), [300, 500]);
    pinger.reading.answers = 3;
    pinger.record(2, at(610));
    assert_eq!(latencies(&pinger), [110, 300, 500]);
    assert_eq!((pinger.waiting(), pinger.last_answer), (0, Some(at(610))));

    let mut pinger = Pinger::new(&requests(64, 8, None), 1, None);
    pinger.requests.counters.begin.set(Some(start));
    pinger.timing = Timing::Sent([0, 10, 20].map(at).into());
    pinger.reading.answers = 5;
    pinger.record(3, at(40));
    assert_eq!(latencies(&pinger), [30, 40]);
    assert_eq!((pinger.waiting(), pinger.last_answer), (1, Some(at(40))));
}

/// Runs a connection with a server that echoes the first `echoed` bytes of what it gets. Returns how
/// many it gets, `wanted` at least, until the connection has nothing more to do.
fn bytes_sent(requests: &Rc<Requests>, echoed: usize, wanted: usize) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let Counters {
        connecting,
        begin,
        bytes,
        ..
    } = &*requests.counters;
    connecting.set(1);
    begin.set(Some(Instant::now()));
    bytes.set(0);
    let pinger = Pinger::new(requests, 0, None);
    let address = listener.local_addr().unwrap();
    reactor.connect(address, pinger).unwrap();
    let (start, mut server, mut sent) = (Instant::now(), None, 0);
    // To close with unread input would reset the connection.
    while sent < wanted || bytes.get() < echoed as u64 {
        assert!(start.elapsed() < PATIENCE, "{sent} of {wanted}");
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
        server = server.or_else(|| Some(listener.accept().ok()?.0));
        if let Some(server) = &mut server {
            server.set_nonblocking(true).unwrap();
            sent += serve(server, echoed.saturating_sub(sent));
        }
    }
    // The end follows what else was sent.
    drop(reactor);
    let mut server = server.unwrap();
    server.set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    sent + rest.len()
}

/// Reads once and echoes up to this many bytes. Returns how many it has read.
fn serve(server: &mut TcpStream, echoed: usize) -> usize {
    let mut buffer = [0; 4096];
    match server.read(&mut buffer) {
        Ok(count) => {
            server.write_all(&buffer[..count.min(echoed)]).unwrap();
            count
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn as_many_requests_are_sent_as_may_be_without_an_answer() {
    let fast = || Schedule {
        rate: 1_000_000,
        connections: 1,
    };
    for schedule in [None, Some(fast())] {
        let requests = requests(1000, 3, schedule);
        assert_eq!(bytes_sent(&requests, 0, 3000), 3000);
        assert_eq!(bytes_sent(&requests, 999, 3000), 3000);
        assert_eq!(bytes_sent(&requests, 1000, 4000), 4000);
        assert_eq!(bytes_sent(&requests, 5000, 8000), 8000);
    }
    // Of two a second, one is due at once and the next in half an hour.
    let slow = Schedule {
        rate: 1,
        connections: 1800,
    };
    assert_eq!(bytes_sent(&requests(1000, 3, Some(slow)), 1000, 1000), 1000);
}

/// The output of a connection has a limit.
#[test]
fn the_rest_of_a_long_request_follows_when_there_is_room() {
    const SIZE: usize = 3_000_000;
    assert!(Config::default().output_max_bytes < SIZE);
    assert_eq!(bytes_sent(&requests(SIZE, 2, None), 0, 2 * SIZE), 2 * SIZE);
}
