//! Reaching a handler from outside, changing it, and waiting for a whole message.

mod common;

use common::{
    Echo, NOW, blocking_listener, client, listen, reactor, read_all, read_exactly, set, turn_until,
};
use doorkeeper::{Closed, Config, Context, Handler, Id, Others, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

type Diary = Rc<RefCell<Vec<String>>>;

/// Writes down what it hears. It becomes another after the line "upgrade", and keeps what follows it.
struct Scribe {
    name: &'static str,
    diary: Diary,
    count: u32,
    /// It does not finish at the end of the input.
    stays: bool,
}

impl Scribe {
    fn note(&self, what: &str) {
        self.diary
            .borrow_mut()
            .push(format!("{} {what}", self.name));
    }
}

impl Scribe {
    fn next(&self) -> Scribe {
        Scribe {
            name: "new",
            diary: Rc::clone(&self.diary),
            count: 0,
            stays: false,
        }
    }
}

impl Handler for Scribe {
    fn on_open(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.note("open");
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.note(&format!("data {}", String::from_utf8_lossy(input)));
        if !input.starts_with(b"upgrade\n") || self.name == "new" {
            return Ok(input.len());
        }
        cx.set_timer(TimerKey(1), Duration::ZERO);
        cx.write(b"switching\n");
        cx.become_handler(self.next());
        Ok(8)
    }

    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.note("drain");
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note("eof");
        if !self.stays {
            cx.finish();
        }
        Ok(())
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note("woken");
        cx.become_handler(self.next());
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.note("timer");
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.note(&format!("closed {}", closed.reason));
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.note("dropped");
    }
}

/// A connection with a scribe, and its id.
fn scribe(reactor: &mut Reactor) -> (TcpStream, Id, Diary) {
    let (diary, id) = (Diary::default(), Rc::new(Cell::new(None)));
    let (noted, told) = (Rc::clone(&diary), Rc::clone(&id));
    let address = listen(reactor, move |arrival| {
        told.set(Some(arrival.id));
        Some(Scribe {
            name: "old",
            diary: Rc::clone(&noted),
            count: 0,
            stays: false,
        })
    });
    let stream = client(address);
    turn_until(reactor, |reactor| reactor.stats().open == 1);
    reactor.turn(NOW).unwrap();
    (stream, id.get().unwrap(), diary)
}

#[test]
fn another_handler_has_what_was_not_consumed_and_the_end() {
    let mut reactor = reactor();
    let (mut stream, _, diary) = scribe(&mut reactor);
    stream.write_all(b"upgrade\nthe rest").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(
        *diary.borrow(),
        [
            "old open",
            "old data upgrade\nthe rest",
            "old dropped",
            "new open",
            "new data the rest",
            "new eof",
            "new closed finished",
            "new dropped"
        ]
    );
    assert_eq!(read_all(&mut stream).unwrap(), b"switching\n");
}

/// The new handler hears `on_close` also if the connection ends before its first turn.
#[test]
fn a_handler_that_was_replaced_does_not_hear_the_close() {
    let mut reactor = reactor();
    let (mut stream, id, diary) = scribe(&mut reactor);
    stream.write_all(b"upgrade\n").unwrap();
    turn_until(&mut reactor, |_| {
        diary
            .borrow()
            .iter()
            .any(|line| line.starts_with("old data"))
    });
    assert!(reactor.abort(id));
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    let heard = diary.borrow().join(", ");
    assert_eq!(
        heard,
        "old open, old data upgrade\n, old dropped, new closed aborted, new dropped"
    );
}

#[test]
fn code_outside_is_lent_a_handler_of_its_type() {
    let mut reactor = reactor();
    let (mut stream, id, diary) = scribe(&mut reactor);
    for count in 1..=2 {
        let told = reactor.with(id, |scribe: &mut Scribe, cx| {
            scribe.count += 1;
            assert_eq!((cx.id(), cx.write(b"hello")), (id, 5));
            scribe.count
        });
        assert_eq!(told, Some(count));
    }
    assert_eq!(reactor.with(id, |_: &mut Echo, _| ()), None, "another type");
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 10);
    assert_eq!(read_exactly(&mut stream, 10), b"hellohello");
    // It may change the handler, and end the connection.
    reactor.with(id, |_: &mut Scribe, cx| cx.become_handler(Echo));
    assert_eq!(reactor.with(id, |_: &mut Echo, cx| cx.finish()), Some(()));
    assert_eq!(
        reactor.with(id, |_: &mut Echo, cx| cx.write(b"late")),
        Some(0)
    );
    assert!(diary.borrow().contains(&"old dropped".to_string()));
    stream.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    assert_eq!(reactor.with(id, |_: &mut Echo, _| ()), None, "it is gone");
}

/// Notes the keys of its timers.
struct Timed(Rc<RefCell<Vec<u64>>>);

impl Handler for Timed {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.0.borrow_mut().push(key.0);
        Ok(())
    }
}

/// Before `on_open`: of an adopted connection, of one that was accepted in the last turn, and of a handler
/// that takes over. A timer that its predecessor set is not its own.
#[test]
fn a_timer_that_is_set_before_a_handler_is_opened_comes() {
    let (mut reactor, heard) = (reactor(), Rc::default());
    let timed = |heard: &Rc<RefCell<Vec<u64>>>| Timed(Rc::clone(heard));
    let set = |reactor: &mut Reactor, id: Id, key: u64| {
        reactor.with(id, |_: &mut Timed, cx| {
            cx.set_timer(TimerKey(key), Duration::ZERO);
        })
    };
    let (listener, there) = blocking_listener();
    let stream = TcpStream::connect(there).unwrap();
    let id = reactor.adopt_stream(stream, timed(&heard)).unwrap();
    assert_eq!(set(&mut reactor, id, 1), Some(()));
    turn_until(&mut reactor, |_| *heard.borrow() == [1]);
    reactor.with(id, |_: &mut Timed, cx| {
        cx.set_timer(TimerKey(2), Duration::ZERO);
        cx.become_handler(timed(&heard));
    });
    assert_eq!(set(&mut reactor, id, 3), Some(()));
    turn_until(&mut reactor, |_| !heard.borrow()[1..].is_empty());
    assert_eq!(*heard.borrow(), [1, 3]);
    // After the turn in which the connection is accepted.
    let (accepted, hears) = (Rc::new(Cell::new(None)), Rc::clone(&heard));
    let found = Rc::clone(&accepted);
    let address = listen(&mut reactor, move |arrival| {
        found.set(Some(arrival.id));
        Some(Timed(Rc::clone(&hears)))
    });
    let _client = client(address);
    turn_until(&mut reactor, |_| accepted.get().is_some());
    assert_eq!(set(&mut reactor, accepted.get().unwrap(), 4), Some(()));
    turn_until(&mut reactor, |_| heard.borrow()[2..] == [4]);
    drop(listener);
}

/// The first heard the end already.
#[test]
fn another_handler_is_told_the_end_too() {
    let mut reactor = reactor();
    let (stream, id, diary) = scribe(&mut reactor);
    reactor.with(id, |scribe: &mut Scribe, _| scribe.stays = true);
    stream.shutdown(Shutdown::Write).unwrap();
    let heard = |what: &str| diary.borrow().contains(&what.to_string());
    turn_until(&mut reactor, |_| heard("old eof"));
    let next = Scribe {
        name: "new",
        diary: Rc::clone(&diary),
        count: 0,
        stays: false,
    };
    reactor.with(id, |_: &mut Scribe, cx| cx.become_handler(next));
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert!(heard("new open") && heard("new eof") && heard("new closed finished"));
}

/// It changes in `on_wake`, and the input that is there already is for the other one.
#[test]
fn input_of_the_turn_in_which_the_handler_changes_is_for_the_new_one() {
    let mut reactor = reactor();
    let (mut stream, id, diary) = scribe(&mut reactor);
    stream.write_all(b"input").unwrap();
    reactor.wake(id);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
    for _ in 0..3 {
        reactor.turn(NOW).unwrap();
    }
    assert_eq!(
        *diary.borrow(),
        [
            "old open",
            "old woken",
            "old dropped",
            "new open",
            "new data input"
        ]
    );
}

#[test]
fn a_panic_or_an_abort_of_lent_code_ends_that_connection_only() {
    for (code, reason) in [
        (
            (|_, _| panic!("on purpose")) as fn(&mut Scribe, &mut Context<'_>),
            Reason::Panic,
        ),
        (|_, cx| cx.abort(), Reason::Aborted),
    ] {
        let mut reactor = reactor();
        let (mut stream, id, diary) = scribe(&mut reactor);
        let (_bystander, other, _) = scribe(&mut reactor);
        reactor.send(id, b"not sent");
        reactor.with(id, code);
        assert_eq!(reactor.send(id, b"late"), 0);
        assert!(
            !diary.borrow().iter().any(|line| line.contains("closed")),
            "not yet"
        );
        turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
        assert!(diary.borrow().contains(&format!("old closed {reason}")));
        assert_eq!(
            read_all(&mut stream).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert!(reactor.with(other, |_: &mut Scribe, _| ()).is_some());
    }
}

#[test]
fn an_outgoing_handler_is_lent_before_it_is_established() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Echo));
    let diary = Diary::default();
    let handler = Scribe {
        name: "client",
        diary: Rc::clone(&diary),
        count: 7,
        stays: false,
    };
    let id = reactor.connect(address, handler).unwrap();
    let lent = reactor.with(id, |scribe: &mut Scribe, cx| {
        assert_eq!((cx.room(), cx.write(b"early")), (0, 0));
        scribe.count
    });
    assert_eq!(lent, Some(7));
    turn_until(&mut reactor, |_| {
        diary.borrow().contains(&"client open".to_string())
    });
}

/// Consumes messages of a fixed length, whose bytes tell their place in the stream, and notes what it is
/// offered.
struct Messages {
    length: usize,
    consumed: usize,
    offers: Rc<RefCell<Vec<usize>>>,
}

impl Handler for Messages {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.offers.borrow_mut().push(input.len());
        assert!(input == places(self.consumed, input.len()));
        let consumed = input.len() / self.length * self.length;
        self.consumed += consumed;
        cx.write(&[b'.'; 100][..input.len() / self.length]);
        cx.want(self.length)?;
        Ok(consumed)
    }
}

fn places(start: usize, count: usize) -> Vec<u8> {
    let places = start..start + count;
    places.map(|place| (place % 251) as u8).collect()
}

#[test]
fn a_long_message_is_offered_once_it_is_whole_or_the_peer_has_ended() {
    const LENGTH: usize = 1_000_000;
    let config = set(|config: &mut Config| config.input_max_bytes = 2 * LENGTH);
    let mut reactor = Reactor::new(config).unwrap();
    let offers: Rc<RefCell<Vec<usize>>> = Rc::default();
    let noted = Rc::clone(&offers);
    let address = listen(&mut reactor, move |_| {
        Some(Messages {
            length: LENGTH,
            consumed: 0,
            offers: Rc::clone(&noted),
        })
    });
    let mut stream = client(address);
    let writer = std::thread::spawn(move || {
        stream.write_all(&places(0, 3 * LENGTH + 14)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&mut stream).unwrap()
    });
    turn_until(&mut reactor, |reactor| {
        reactor.stats().open == 0 && reactor.stats().accepted == 1
    });
    assert_eq!(writer.join().unwrap(), b"...");
    let offers = offers.borrow();
    // The first comes before anything is wanted. The last is what is left at the end, which is offered
    // once more after it.
    let whole = offers.iter().filter(|&&length| length >= LENGTH).count();
    assert_eq!((whole, *offers.last().unwrap()), (3, 14), "{offers:?}");
    assert!(offers.len() <= 6, "{offers:?}");
}

/// Wants more than can be held.
struct Greedy;

impl Handler for Greedy {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        assert!(cx.want(64 * 1024).is_ok());
        let error = cx.want(64 * 1024 + 1).unwrap_err();
        cx.write(error.kind().to_string().as_bytes());
        cx.finish();
        Ok(input.len())
    }
}

#[test]
fn more_than_is_ever_held_cannot_be_wanted() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Greedy));
    let mut stream = client(address);
    stream.write_all(b"x").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent > 0);
    stream.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(read_all(&mut stream).unwrap(), b"invalid input parameter");
}

/// Wants three bytes once, and tells each offer.
struct Once(Rc<RefCell<Vec<usize>>>);

impl Handler for Once {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.want(3)
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().push(input.len());
        Ok(input.len())
    }
}

#[test]
fn what_is_wanted_is_forgotten_once_it_was_offered() {
    let mut reactor = reactor();
    let offers: Rc<RefCell<Vec<usize>>> = Rc::default();
    let noted = Rc::clone(&offers);
    let address = listen(&mut reactor, move |_| Some(Once(Rc::clone(&noted))));
    let mut stream = client(address);
    stream.set_nodelay(true).unwrap();
    for received in 1..=5 {
        stream.write_all(b"x").unwrap();
        turn_until(&mut reactor, |reactor| {
            reactor.stats().bytes_received == received
        });
    }
    assert_eq!(*offers.borrow(), [3, 1, 1]);
}

/// Wants more than the peer sends, and counts the shutdowns that it hears of.
struct Waits(Rc<Cell<u32>>);

impl Handler for Waits {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.want(100)
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_shutdown(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

#[test]
fn a_handler_that_wants_more_hears_of_a_shutdown_and_does_not_spin() {
    let mut reactor = reactor();
    let heard = Rc::new(Cell::new(0));
    let noted = Rc::clone(&heard);
    let address = listen(&mut reactor, move |_| Some(Waits(Rc::clone(&noted))));
    let _stream = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    reactor.shutdown(Duration::MAX);
    turn_until(&mut reactor, |_| heard.get() == 1);
    for _ in 0..5 {
        reactor.turn(NOW).unwrap();
    }
    assert_eq!(
        (
            heard.get(),
            reactor
                .next_deadline()
                .is_some_and(|at| at <= std::time::Instant::now())
        ),
        (1, false)
    );
}

#[test]
fn a_timer_that_lent_code_sets_is_not_early() {
    let mut reactor = reactor();
    let (_stream, id, diary) = scribe(&mut reactor);
    common::pass(Duration::from_millis(200));
    let begin = std::time::Instant::now();
    reactor.with(id, |_: &mut Scribe, cx| {
        cx.set_timer(TimerKey(1), Duration::from_millis(150))
    });
    turn_until(&mut reactor, |_| {
        diary.borrow().contains(&"old timer".to_string())
    });
    assert!(
        begin.elapsed() >= Duration::from_millis(150),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_quiet_end_that_was_asked_for_goes_with_the_handler() {
    let mut reactor = reactor();
    let (_stream, id, diary) = scribe(&mut reactor);
    reactor.with(id, |scribe: &mut Scribe, cx| {
        // The timer is under way, so it does not finish yet.
        cx.set_timer(TimerKey(1), Duration::MAX);
        cx.finish_when_quiet();
        scribe.count += 1;
    });
    reactor.with(id, |scribe: &mut Scribe, cx| {
        let next = scribe.next();
        cx.become_handler(next);
    });
    for _ in 0..5 {
        reactor.turn(NOW).unwrap();
    }
    assert!(diary.borrow().contains(&"new open".to_string()));
    assert_eq!(reactor.send(id, b"still open"), 10);
}

#[test]
fn an_abort_is_not_undone_by_another_handler() {
    let mut reactor = reactor();
    let (mut stream, id, diary) = scribe(&mut reactor);
    assert!(reactor.abort(id));
    reactor.with(id, |scribe: &mut Scribe, cx| {
        let next = scribe.next();
        cx.become_handler(next);
    });
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert!(diary.borrow().contains(&"new closed aborted".to_string()));
    assert_eq!(
        read_all(&mut stream).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

/// Becomes a scribe as soon as it is open.
struct Opens(Option<Scribe>);

impl Handler for Opens {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.become_handler(self.0.take().unwrap());
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        panic!("it is another's");
    }

    fn on_wake(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        panic!("it is another's");
    }
}

fn fresh(name: &'static str, diary: &Diary) -> Scribe {
    Scribe {
        name,
        diary: Rc::clone(diary),
        count: 0,
        stays: false,
    }
}

#[test]
fn a_wake_before_the_change_is_heard_by_the_new_handler() {
    let (mut reactor, diary) = (reactor(), Diary::default());
    let echo = listen(&mut reactor, |_| Some(Echo));
    let id = reactor
        .connect(echo, Opens(Some(fresh("first", &diary))))
        .unwrap();
    assert!(reactor.wake(id));
    turn_until(&mut reactor, |_| {
        diary.borrow().contains(&"first woken".to_string())
    });
    assert_eq!(diary.borrow()[0], "first open");
}

#[test]
fn an_outgoing_handler_can_be_changed_before_it_is_established_and_a_panic_ends_it() {
    let (mut reactor, diary) = (reactor(), Diary::default());
    let echo = listen(&mut reactor, |_| Some(Echo));
    let id = reactor.connect(echo, fresh("one", &diary)).unwrap();
    let next = fresh("two", &diary);
    reactor.with(id, |_: &mut Scribe, cx| cx.become_handler(next));
    turn_until(&mut reactor, |_| {
        diary.borrow().contains(&"two open".to_string())
    });
    assert!(!diary.borrow().contains(&"one open".to_string()));
    let id = reactor.connect(echo, fresh("three", &diary)).unwrap();
    reactor.with(id, |_: &mut Scribe, _| panic!("on purpose"));
    turn_until(&mut reactor, |_| {
        diary.borrow().contains(&"three closed closed".to_string())
    });
    assert_eq!(reactor.stats().panics, 1);
    assert!(!reactor.wake(id));
}

/// Sets a timer as soon as it is open.
struct Ticks(Diary);

impl Handler for Ticks {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.borrow_mut().push("ticks open".to_string());
        cx.set_timer(TimerKey(1), Duration::ZERO);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.0.borrow_mut().push("ticks timer".to_string());
        Ok(())
    }
}

#[test]
fn a_handler_that_takes_over_after_the_end_has_no_timers() {
    let mut reactor = reactor();
    let (_stream, id, diary) = scribe(&mut reactor);
    reactor.with(id, |_: &mut Scribe, cx| cx.finish());
    reactor.turn(NOW).unwrap();
    let next = Ticks(Rc::clone(&diary));
    reactor.with(id, |_: &mut Scribe, cx| cx.become_handler(next));
    for _ in 0..5 {
        reactor.turn(NOW).unwrap();
    }
    assert!(diary.borrow().contains(&"ticks open".to_string()));
    assert!(!diary.borrow().contains(&"ticks timer".to_string()));
}

#[test]
fn a_second_shutdown_changes_the_patience_and_tells_nobody_again() {
    let (mut reactor, told) = (reactor(), Rc::new(Cell::new(0)));
    let count = Rc::clone(&told);
    let address = listen(&mut reactor, move |_| Some(Counts(Rc::clone(&count))));
    let _stream = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    for patience in [Duration::from_secs(60), Duration::ZERO] {
        reactor.shutdown(patience);
        for _ in 0..5 {
            reactor.turn(NOW).unwrap();
        }
        assert_eq!((told.get(), reactor.is_done()), (1, patience.is_zero()));
    }
}

/// Counts how often it is told of a shutdown.
struct Counts(Rc<Cell<u32>>);

impl Handler for Counts {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_shutdown(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}
