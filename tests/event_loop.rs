//! The loop: promises 16 to 21, other threads, timers, and connections that reach each other.
//!
//! Most reactors here are turned by hand on the test's own thread, so it is certain what happens in
//! which turn.

mod common;

use common::{
    Echo, NOW, PATIENCE, Running, client, echo, listen, listen_as, pass, reactor, read_all,
    read_exactly, set,
};
use doorkeeper::{
    Arrival, Closed, Config, Context, Handler, Id, Others, PostError, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The callbacks of all connections in their order, as `ID CALLBACK`.
type Diary = Rc<RefCell<Vec<String>>>;
type Act = Rc<dyn Fn(&mut Context<'_>, &str) -> io::Result<()>>;

/// Writes each callback into the diary, and then does what the test wants there.
struct Diarist {
    diary: Diary,
    act: Act,
}

impl Diarist {
    fn note(&self, cx: &mut Context<'_>, what: &str) -> io::Result<()> {
        self.diary.borrow_mut().push(format!("{} {what}", cx.id()));
        (self.act)(cx, what)
    }
}

impl Handler for Diarist {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note(cx, "open")
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.note(cx, &format!("data {}", String::from_utf8_lossy(input)))?;
        Ok(input.len())
    }
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note(cx, "drain")
    }
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note(cx, "eof")?;
        cx.finish();
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.note(cx, &format!("timer {}", key.0))
    }
    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let own = closed.id;
        assert!(!others.wake(own), "a closed connection has no turn coming");
        self.diary
            .borrow_mut()
            .push(format!("closed {}", closed.reason));
    }
}

/// A reactor that is turned by hand, with one listener whose handlers share a diary.
struct Server {
    reactor: Reactor,
    address: SocketAddr,
    listener: Id,
    diary: Diary,
}

impl Server {
    fn new(
        config: Config,
        act: impl Fn(&mut Context<'_>, &str) -> io::Result<()> + 'static,
    ) -> Server {
        let (diary, act): (Diary, Act) = (Rc::default(), Rc::new(act));
        let mut reactor = Reactor::new(config).unwrap();
        let service = {
            let diary = Rc::clone(&diary);
            move |_: &mut Arrival<'_>| {
                Some(Diarist {
                    diary: Rc::clone(&diary),
                    act: Rc::clone(&act),
                })
            }
        };
        let (listener, address) = listen_as(&mut reactor, service);
        Server {
            reactor,
            address,
            listener,
            diary,
        }
    }

    /// Connects, and turns until the connection is accepted.
    fn connect(&mut self) -> TcpStream {
        let (stream, before) = (client(self.address), self.reactor.stats().open);
        self.turn_until(|server| server.reactor.stats().open > before);
        self.settle();
        stream
    }

    fn turn_until(&mut self, wanted: impl Fn(&Server) -> bool) {
        let start = Instant::now();
        while !wanted(self) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.diary);
            self.reactor.turn(Some(Duration::from_millis(5))).unwrap();
        }
    }

    /// Turns until nothing is left to do at once.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.reactor.turn(NOW).unwrap();
        }
    }

    /// True if the diary has an entry that ends so.
    fn wrote(&self, entry: &str) -> bool {
        self.diary.borrow().iter().any(|line| line.ends_with(entry))
    }

    fn count(&self, entry: &str) -> usize {
        self.diary
            .borrow()
            .iter()
            .filter(|line| line.ends_with(entry))
            .count()
    }

    fn take_diary(&mut self) -> Vec<String> {
        std::mem::take(&mut self.diary.borrow_mut())
    }
}

/// A and B are ready in one turn. A closes B, and clients wait for B's slot.
#[test]
fn an_event_of_a_closed_connection_does_not_reach_the_next_one_in_its_slot() {
    for _ in 0..20 {
        let ids: Rc<RefCell<Vec<Id>>> = Rc::default();
        let shared = Rc::clone(&ids);
        let mut server = Server::new(Config::default(), move |cx, what| {
            match what {
                "open" => shared.borrow_mut().push(cx.id()),
                "data close the others" => {
                    let others: Vec<Id> = shared
                        .borrow()
                        .iter()
                        .copied()
                        .filter(|&id| id != cx.id())
                        .collect();
                    others
                        .into_iter()
                        .for_each(|id| assert!(cx.others.abort(id)));
                }
                _ => {}
            }
            Ok(())
        });
        let (mut a, mut b) = (server.connect(), server.connect());
        let _waiting: Vec<TcpStream> = (0..3).map(|_| client(server.address)).collect();
        a.write_all(b"close the others").unwrap();
        b.write_all(b"meant for b").unwrap();
        server.turn_until(|server| {
            server.reactor.stats().open == 4 && server.wrote("closed aborted")
        });
        server.settle();
        let _late = server.connect();
        let newcomers = ids.borrow()[2..].to_vec();
        for entry in server.take_diary() {
            let newcomer = newcomers
                .iter()
                .any(|id| entry.starts_with(&format!("{id} ")));
            assert!(!newcomer || entry.ends_with("open"), "{entry}");
        }
        assert!(
            newcomers.iter().any(|id| id.to_string().starts_with("2.")),
            "no newcomer has the slot: {newcomers:?}"
        );
    }
}

/// Every two of these operations in every callback: no panic, and `on_close` once and last.
#[test]
fn any_two_operations_in_any_callback_lead_to_one_on_close() {
    type Operation = fn(&mut Context<'_>, Id);
    let operations: [(&str, Operation); 10] = [
        ("finish", |cx, _| cx.finish()),
        ("abort", |cx, _| cx.abort()),
        ("close itself", |cx, _| _ = cx.others.close(cx.id())),
        ("abort itself", |cx, _| _ = cx.others.abort(cx.id())),
        ("close the listener", |cx, listener| {
            _ = cx.others.close(listener)
        }),
        ("stop", |cx, _| cx.others.stop()),
        ("write", |cx, _| _ = cx.write(b"x")),
        ("send to itself", |cx, _| _ = cx.others.send(cx.id(), b"y")),
        ("wake itself", |cx, _| _ = cx.others.wake(cx.id())),
        ("set a timer", |cx, _| {
            cx.set_timer(TimerKey(1), Duration::ZERO)
        }),
    ];
    for callback in ["open", "data hi", "drain", "eof", "timer 1"] {
        for (name, first) in operations {
            for (other, second) in operations {
                let listener: Rc<RefCell<Option<Id>>> = Rc::default();
                let shared = Rc::clone(&listener);
                let rounds = std::cell::Cell::new(0);
                let mut server = Server::new(Config::default(), move |cx, what| {
                    if what == "open" && callback == "timer 1" {
                        cx.set_timer(TimerKey(1), Duration::ZERO);
                    }
                    // `on_drain` may write and so be called without end. Two rounds are enough.
                    if what == callback && rounds.get() < 2 {
                        rounds.set(rounds.get() + 1);
                        first(cx, shared.borrow().unwrap());
                        second(cx, shared.borrow().unwrap());
                    }
                    if what == "data hi" {
                        cx.write(b"answer");
                    }
                    Ok(())
                });
                *listener.borrow_mut() = Some(server.listener);
                let mut stream = client(server.address);
                stream.write_all(b"hi").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                server.turn_until(|server| server.reactor.stats().accepted == 1);
                server.turn_until(|server| server.reactor.stats().open == 0);
                server.settle();
                drop(server.reactor);
                let entries = server.diary.borrow();
                let ends: Vec<_> = entries
                    .iter()
                    .filter(|entry| entry.starts_with("closed"))
                    .collect();
                assert!(
                    ends.len() == 1 && entries.last() == Some(ends[0]),
                    "{callback}: {name}, {other}: {entries:?}"
                );
                assert!(
                    !entries.iter().any(|entry| entry.contains("panicked")),
                    "{callback}: {name}, {other}: {entries:?}"
                );
            }
        }
    }
}

#[test]
fn a_panic_in_any_callback_ends_that_connection_only() {
    for callback in ["open", "data hi", "drain", "eof", "timer 1"] {
        let mut server = Server::new(Config::default(), move |cx, what| {
            if what.starts_with("data") {
                cx.write(b"answer");
                cx.set_timer(TimerKey(1), Duration::ZERO);
            }
            let first = cx.id().to_string() == "1.1";
            assert!(!(first && what == callback), "on purpose");
            Ok(())
        });
        let mut bad = server.connect();
        let mut good = server.connect();
        let _ = bad.write_all(b"hi");
        good.write_all(b"hi").unwrap();
        server.turn_until(|server| {
            server.count("data hi") >= 1 && server.reactor.stats().bytes_sent >= 6
        });
        let _ = bad.shutdown(std::net::Shutdown::Write);
        server.turn_until(|server| server.count("closed handler panicked") == 1);
        assert_eq!(read_exactly(&mut good, 6), b"answer");
        let stats = server.reactor.stats();
        assert_eq!(
            (stats.panics, stats.closed(Reason::Panic), stats.open),
            (1, 1, 1),
            "{callback}"
        );
    }
}

#[test]
fn a_panic_in_on_close_is_caught_and_counted() {
    struct Bad;
    impl Handler for Bad {
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            Ok(input.len())
        }
        fn on_close(&mut self, _: &mut Others<'_>, _: &Closed) {
            panic!("on purpose");
        }
    }
    let (running, address) = Running::serve(Config::default(), |_| Some(Bad));
    drop(client(address));
    let stats = running.await_stats(|stats| stats.closed(Reason::Finished) == 1);
    assert_eq!((stats.panics, stats.open), (1, 0));
}

#[test]
fn a_turn_gives_each_connection_its_budget_and_no_more() {
    let config = set(|config: &mut Config| config.turn_budget_bytes = 10);
    let mut server = Server::new(config, |_, _| Ok(()));
    let mut streams = [server.connect(), server.connect(), server.connect()];
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(&[b'x'; 100]).unwrap());
    // Loopback delivers within the call of write, so all three are readable now.
    for turn in 1..=10 {
        server.reactor.turn(NOW).unwrap();
        assert_eq!(server.reactor.stats().bytes_received, 30 * turn);
    }
    assert_eq!(server.count("data xxxxxxxxxx"), 30);
}

#[test]
fn timers_fire_once_in_order_unless_cancelled() {
    let mut server = Server::new(Config::default(), |cx, what| {
        let ms = Duration::from_millis;
        match what {
            "open" => {
                for (key, after) in [(3, 30), (1, 10), (2, 20), (4, 1), (5, 25)] {
                    cx.set_timer(TimerKey(key), ms(after));
                }
                cx.set_timer(TimerKey(4), ms(40));
                assert!(cx.cancel_timer(TimerKey(5)));
                assert!(!cx.cancel_timer(TimerKey(5)));
            }
            "timer 3" => cx.set_timer(TimerKey(6), Duration::ZERO),
            _ => {}
        }
        Ok(())
    });
    let start = Instant::now();
    let _stream = server.connect();
    server.turn_until(|server| server.wrote("timer 4"));
    assert!(start.elapsed() >= Duration::from_millis(40));
    let timers: Vec<String> = server
        .take_diary()
        .into_iter()
        .filter(|entry| entry.contains("timer"))
        .collect();
    assert_eq!(
        timers,
        [
            "1.1 timer 1",
            "1.1 timer 2",
            "1.1 timer 3",
            "1.1 timer 6",
            "1.1 timer 4"
        ]
    );
    assert_eq!(server.reactor.next_deadline(), None);
}

#[test]
fn a_timer_cancelled_in_the_turn_in_which_it_is_due_does_not_fire() {
    let mut server = Server::new(Config::default(), |cx, what| {
        match what {
            "open" => [1, 2]
                .into_iter()
                .for_each(|key| cx.set_timer(TimerKey(key), Duration::from_millis(key))),
            "timer 1" => assert!(cx.cancel_timer(TimerKey(2))),
            _ => {}
        }
        Ok(())
    });
    let _stream = client(server.address);
    server.turn_until(|server| server.wrote("open"));
    // Both are due in the next turn.
    pass(Duration::from_millis(5));
    server.turn_until(|server| server.wrote("timer 1"));
    server.settle();
    assert_eq!(server.count("timer 2"), 0);
}

#[test]
fn a_timer_of_zero_fires_in_the_next_turn_and_not_before() {
    let mut server = Server::new(Config::default(), |cx, what| {
        if what == "open" || what == "timer 1" {
            cx.set_timer(TimerKey(1), Duration::ZERO);
        }
        Ok(())
    });
    let _stream = client(server.address);
    server.turn_until(|server| server.wrote("open"));
    for _ in 0..10 {
        let before = server.count("timer 1");
        server
            .reactor
            .turn(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(server.count("timer 1") <= before + 1);
    }
    assert!(server.count("timer 1") > 1);
}

/// A deadline in an hour is set. A timer of 10 ms and then the linger timeout come before it.
#[test]
fn an_earlier_deadline_does_not_wait_for_a_later_one() {
    let (idle_timeout, linger_timeout) =
        (Some(Duration::from_secs(3600)), Duration::from_millis(20));
    let mut server = Server::new(
        set(|config: &mut Config| {
            config.idle_timeout = idle_timeout;
            config.linger_timeout = linger_timeout;
        }),
        |cx, what| {
            match what {
                "data go" => cx.set_timer(TimerKey(1), Duration::from_millis(10)),
                "data bye" | "timer 1" => cx.finish(),
                _ => {}
            }
            Ok(())
        },
    );
    let (mut stream, mut other) = (server.connect(), server.connect());
    let left = |server: &Server| {
        server
            .reactor
            .next_deadline()
            .unwrap()
            .saturating_duration_since(Instant::now())
    };
    assert!(left(&server) > Duration::from_secs(3500));
    stream.write_all(b"go").unwrap();
    server.turn_until(|server| server.wrote("data go"));
    assert!(left(&server) <= Duration::from_millis(10));
    server.turn_until(|server| server.wrote("timer 1"));
    assert!(left(&server) <= Duration::from_millis(20));
    server.turn_until(|server| server.wrote("closed linger timeout: the peer did not close"));
    assert!(left(&server) > Duration::from_secs(3500));
    other.write_all(b"bye").unwrap();
    server.turn_until(|server| server.count("closed linger timeout: the peer did not close") == 2);
}

/// Five connections are past their idle timeout, and a turn takes one event. Each is read once more
/// before it times out.
#[test]
fn a_connection_with_input_in_the_kernel_does_not_time_out() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::from_millis(100));
        config.events_per_turn = 1;
    });
    let mut server = Server::new(config, |_, _| Ok(()));
    let mut streams: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(b"here").unwrap());
    pass(Duration::from_millis(110));
    server.turn_until(|server| server.count("data here") == 5);
    assert_eq!(server.count("closed idle timeout"), 0);
}

/// A message does not move the deadline in the queue, so the loop wakes for it once a period, not
/// once a message.
#[test]
fn idle_timeouts_wake_the_loop_once_a_period() {
    let config = set(|config: &mut Config| config.idle_timeout = Some(Duration::from_millis(100)));
    let mut server = Server::new(config, |_, _| Ok(()));
    let mut stream = server.connect();
    let (start, turns, mut messages) = (Instant::now(), server.reactor.stats().turns, 0);
    while start.elapsed() < Duration::from_millis(350) {
        stream.write_all(b"m").unwrap();
        messages += 1;
        server.turn_until(|server| server.count("data m") == messages);
    }
    let spent = server.reactor.stats().turns - turns - messages as u64;
    assert!(
        spent <= 6,
        "{spent} turns beside those of {messages} messages"
    );
    server.turn_until(|server| server.wrote("closed idle timeout"));
}

#[test]
fn a_connection_reaches_another_by_id_and_a_stale_id_reaches_none() {
    let ids: Rc<RefCell<Vec<Id>>> = Rc::default();
    let shared = Rc::clone(&ids);
    let config = set(|config: &mut Config| config.output_max_bytes = 8);
    let mut server = Server::new(config, move |cx, what| {
        match what {
            "open" => shared.borrow_mut().push(cx.id()),
            "data tell" => {
                let other = shared.borrow()[1];
                assert_eq!(cx.others.room(other), 8);
                assert_eq!(
                    (
                        cx.others.send(other, b"12345"),
                        cx.others.send(other, b"67890"),
                        cx.others.send(other, b"!")
                    ),
                    (5, 3, 0)
                );
                assert_eq!(cx.others.send(cx.id(), b"me"), 2);
            }
            "data gone" => {
                let other = shared.borrow()[1];
                assert_eq!(cx.others.room(other), 0);
                assert_eq!(
                    (
                        cx.others.send(other, b"x"),
                        cx.others.wake(other),
                        cx.others.close(other)
                    ),
                    (0, false, false)
                );
                cx.write(b"gone");
            }
            _ => {}
        }
        Ok(())
    });
    let (mut a, mut b) = (server.connect(), server.connect());
    a.write_all(b"tell").unwrap();
    server.turn_until(|server| server.reactor.stats().bytes_sent == 10);
    assert_eq!(
        (read_exactly(&mut b, 8), read_exactly(&mut a, 2)),
        (b"12345678".to_vec(), b"me".to_vec())
    );
    drop(b);
    server.turn_until(|server| server.reactor.stats().open == 1);
    // A new connection has the slot. The stale id must not reach it.
    let _c = server.connect();
    assert_eq!(
        ids.borrow()[2].to_string().split('.').next(),
        ids.borrow()[1].to_string().split('.').next()
    );
    a.write_all(b"gone").unwrap();
    server.turn_until(|server| server.wrote("drain") && server.reactor.stats().bytes_sent == 14);
    assert_eq!(read_exactly(&mut a, 4), b"gone");
    assert_eq!(server.reactor.stats().open, 2);
}

#[test]
fn a_wake_offers_unconsumed_input_again() {
    /// Notes its id, and consumes its input at the third offer.
    struct ThirdTime(u32, Rc<RefCell<Option<Id>>>);
    impl Handler for ThirdTime {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            *self.1.borrow_mut() = Some(cx.id());
            self.0 += 1;
            Ok(if self.0 == 3 { cx.write(input) } else { 0 })
        }
    }
    let id: Rc<RefCell<Option<Id>>> = Rc::default();
    let shared = Rc::clone(&id);
    let mut reactor = reactor();
    let service = move |_: &mut Arrival<'_>| Some(ThirdTime(0, Rc::clone(&shared)));
    let mut stream = client(listen(&mut reactor, service));
    stream.write_all(b"left").unwrap();
    while id.borrow().is_none() {
        reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
    let id = id.borrow().unwrap();
    for sent in [0, 4] {
        assert_eq!(reactor.next_deadline(), None);
        assert!(reactor.wake(id));
        reactor.turn(None).unwrap();
        assert_eq!(reactor.stats().bytes_sent, sent);
    }
    assert_eq!(read_exactly(&mut stream, 4), b"left");
}

#[test]
fn stop_works_from_another_thread_before_run_and_from_a_handler() {
    let (running, _) = Running::start(Config::default(), |_| ());
    running.stop();

    let mut reactor = reactor();
    reactor.handle().stop().unwrap();
    reactor.run().unwrap();
    reactor.handle().stop().unwrap();
    reactor.run().unwrap();

    let mut server = Server::new(Config::default(), |cx, what| {
        if what == "data stop" {
            cx.others.stop();
        }
        Ok(())
    });
    let mut stream = server.connect();
    stream.write_all(b"stop").unwrap();
    server.reactor.run().unwrap();
    assert!(server.wrote("data stop") && server.reactor.stats().open == 1);
}

#[test]
fn posts_of_four_threads_all_run_in_their_threads_order() {
    const EACH: usize = 10_000;
    let (running, address) = Running::serve(Config::default(), |_| Some(Echo));
    let (sender, receiver) = channel();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (handle, sender) = (running.handle.clone(), sender.clone());
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let sender = sender.clone();
                    assert!(
                        handle
                            .post(move |_| sender.send((thread, number)).unwrap())
                            .is_ok()
                    );
                }
            })
        })
        .collect();
    let mut stream = client(address);
    let mut next = [0; 4];
    for _ in 0..4 * EACH {
        let (thread, number): (usize, usize) = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(number, next[thread]);
        next[thread] += 1;
        if number % 1000 == 0 {
            assert_eq!(echo(&mut stream, b"busy"), b"busy");
        }
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_post_that_panics_is_counted_and_a_post_after_the_end_is_returned() {
    let (running, _) = Running::start(Config::default(), |_| ());
    assert!(running.handle.post(|_| panic!("on purpose")).is_ok());
    assert_eq!(running.await_stats(|stats| stats.panics == 1).panics, 1);
    let handle = running.handle.clone();
    running.stop();
    let back = handle.post(|_| unreachable!());
    assert!(matches!(back, Err(PostError::Closed(_))));
}

/// Each thread posts for ever, and each post keeps the loop from its sources for a while.
#[test]
fn threads_that_post_for_ever_keep_nobody_from_a_turn() {
    let config = set(|config: &mut Config| {
        config.posts_per_turn = 10;
        config.posts_max = 100;
    });
    let (running, address) = Running::serve(config, |_| Some(Echo));
    let over = Arc::new(AtomicBool::new(false));
    let threads = [(); 3].map(|()| {
        let (handle, over) = (running.handle.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let _ = handle.post(|_| pass(Duration::from_micros(20)));
            }
        })
    });
    let mut stream = client(address);
    for _ in 0..100 {
        assert_eq!(echo(&mut stream, b"ping"), b"ping");
    }
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_full_mailbox_hands_back_and_a_turn_runs_its_budget_without_sleeping() {
    let config = set(|config: &mut Config| {
        config.posts_per_turn = 2;
        config.posts_max = 5;
    });
    let mut reactor = Reactor::new(config).unwrap();
    let (handle, ran) = (reactor.handle(), Arc::new(AtomicUsize::new(0)));
    let post = |number| {
        let ran = Arc::clone(&ran);
        let work = move |_: &mut Reactor| assert_eq!(ran.fetch_add(1, Ordering::Relaxed), number);
        handle.post(work)
    };
    (0..5).for_each(|number| post(number).unwrap());
    assert!(matches!(post(5), Err(PostError::Full(_))));
    // Without a deadline, a turn that slept would never end.
    let mut turn = |total, is_left| {
        reactor.turn(None).unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), total);
        assert_eq!(reactor.next_deadline().is_some(), is_left);
        assert_eq!(reactor.stats().panics, 0);
    };
    turn(2, true);
    // Those that are left count.
    (5..7).for_each(|number| post(number).unwrap());
    assert!(matches!(post(7), Err(PostError::Full(_))));
    for (total, is_left) in [(4, true), (5, true), (7, false)] {
        turn(total, is_left);
    }
    post(7).unwrap();
    turn(8, false);
}

#[test]
fn dropping_the_reactor_closes_everything_and_calls_each_on_close() {
    let mut server = Server::new(Config::default(), |_, _| Ok(()));
    let mut streams = [server.connect(), server.connect(), server.connect()];
    let Server {
        reactor,
        diary,
        address,
        ..
    } = server;
    drop(reactor);
    assert_eq!(
        diary
            .borrow()
            .iter()
            .filter(|entry| *entry == "closed reactor dropped")
            .count(),
        3
    );
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(read_all(stream).unwrap(), b""));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(
        Rc::strong_count(&diary),
        1,
        "a handler or the service is left"
    );
}

#[test]
fn a_turn_of_zero_does_not_sleep_and_next_deadline_is_exact() {
    let mut server = Server::new(
        set(|config: &mut Config| config.idle_timeout = Some(Duration::from_secs(60))),
        |_, _| Ok(()),
    );
    server.settle();
    assert_eq!(server.reactor.next_deadline(), None);
    let before = Instant::now();
    let _stream = server.connect();
    let left = server.reactor.next_deadline().unwrap() - before;
    assert!(
        left >= Duration::from_secs(60) && left < Duration::from_secs(61) + before.elapsed(),
        "{left:?}"
    );
    let (start, turns) = (Instant::now(), 1000);
    (0..turns).for_each(|_| server.reactor.turn(NOW).unwrap());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_limit_of_zero_is_refused_by_name() {
    type Set = fn(&mut Config);
    let limits: [(&str, Set); 7] = [
        ("max_connections", |config| config.max_connections = 0),
        ("accept_budget", |config| config.accept_budget = 0),
        ("turn_budget_bytes", |config| config.turn_budget_bytes = 0),
        ("input_max_bytes", |config| config.input_max_bytes = 0),
        ("output_max_bytes", |config| config.output_max_bytes = 0),
        ("events_per_turn", |config| config.events_per_turn = 0),
        ("idle_timeout", |config| {
            config.idle_timeout = Some(Duration::ZERO)
        }),
    ];
    for (name, zero) in limits {
        let error = Reactor::new(set(zero)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
