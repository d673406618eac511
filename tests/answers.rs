//! Answers that are long or late: `write_all`, the default `on_eof`, `on_wake`, `io::Write`.

mod common;

use common::{client, listen, reactor, read_all, set, turn_until};
use doorkeeper::{Closed, Config, Context, Handler, Id, Others, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// Sends one request, half-closes, and reads the answer, while the loop turns.
fn ask(reactor: &mut Reactor, address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = client(address);
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_nonblocking(true)?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 1024 * 1024]);
    loop {
        reactor.turn(Some(Duration::from_millis(1)))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Streams an answer from `on_drain`. Every other method is the trait's own.
struct Streamer(Vec<u8>);

impl Handler for Streamer {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.on_drain(cx)?;
        Ok(input.len())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let taken = cx.write(&self.0);
        self.0.drain(..taken);
        Ok(())
    }
}

#[test]
fn an_answer_that_is_streamed_is_whole_after_the_end_of_the_request() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Streamer(pattern(2_000_000))));
    assert_eq!(
        ask(&mut reactor, address, b"x").unwrap(),
        pattern(2_000_000)
    );
}

/// Answers from a timer, and consumes lines only.
struct Later;

impl Handler for Later {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if input.contains(&b'\n') {
            cx.set_timer(TimerKey(0), Duration::from_millis(20));
            return Ok(input.len());
        }
        Ok(0)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        cx.write(b"answer");
        Ok(())
    }
}

#[test]
fn an_answer_that_a_timer_sends_arrives_and_half_a_request_keeps_nothing_open() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Later));
    assert_eq!(ask(&mut reactor, address, b"line\n").unwrap(), b"answer");
    assert_eq!(ask(&mut reactor, address, b"half a line").unwrap(), b"");
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(reactor.stats().closed(Reason::Finished), 2);
}

/// Answers each byte with as many KiB, however long that is.
struct Long {
    most_held: Rc<Cell<usize>>,
}

impl Handler for Long {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        for &count in input {
            let before = cx.room();
            cx.write_all(&pattern(usize::from(count) * 1024))?;
            assert_eq!(cx.room(), before.saturating_sub(usize::from(count) * 1024));
        }
        self.most_held.set(self.most_held.get().max(input.len()));
        Ok(input.len())
    }
}

#[test]
fn write_all_takes_more_than_there_is_room_for() {
    let mut reactor = reactor();
    let most_held = Rc::new(Cell::new(0));
    let noted = Rc::clone(&most_held);
    let address = listen(&mut reactor, move |_| {
        Some(Long {
            most_held: Rc::clone(&noted),
        })
    });
    let whole: Vec<u8> = [pattern(200 * 1024), pattern(1024), pattern(255 * 1024)].concat();
    assert_eq!(ask(&mut reactor, address, &[200, 1, 255]).unwrap(), whole);
}

/// A peer that asks and does not read: the kernel's buffers fill, then the held output, and then the peer
/// is not read any more.
#[test]
fn a_peer_that_does_not_read_its_answers_is_not_read() {
    let mut reactor = reactor();
    let most_held = Rc::new(Cell::new(0));
    let noted = Rc::clone(&most_held);
    let address = listen(&mut reactor, move |_| {
        Some(Long {
            most_held: Rc::clone(&noted),
        })
    });
    let mut stream = client(address);
    stream.set_nonblocking(true).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut asked, mut answered, mut still) = (0, 0, 0);
    // Until nothing moves for some turns.
    while still < 50 {
        let before = (asked, reactor.stats().bytes_received);
        asked += stream.write(&[100; 1]).unwrap_or(0).min(1);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        still = if reactor.stats().bytes_received == before.1 {
            still + 1
        } else {
            0
        };
        assert!(asked < 200_000, "it is read for ever");
    }
    let view = reactor.snapshot().connections[0].clone();
    let most = 64 * 1024 + 100 * 1024 * most_held.get();
    assert!((64 * 1024..=most).contains(&view.pending_out), "{view:?}");
    // Once it reads, everything comes.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answered += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(answered, asked * 100 * 1024);
}

/// Writes without a bound, and may ignore the error.
struct Endless {
    ignores: bool,
    reasons: Rc<RefCell<Vec<(Reason, String)>>>,
}

impl Handler for Endless {
    fn on_data(&mut self, cx: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        loop {
            if let Err(error) = cx.write_all(&[0; 1000]) {
                assert_eq!((cx.room(), cx.write(b"x")), (0, 0));
                assert!(cx.write_all(b"x").is_err());
                return if self.ignores { Ok(1) } else { Err(error) };
            }
        }
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let error = closed.error.as_ref().map(|error| error.to_string());
        let ended = (closed.reason, error.unwrap_or_default());
        self.reasons.borrow_mut().push(ended);
    }
}

#[test]
fn the_hard_maximum_ends_the_connection() {
    let message = "more than output_hard_max_bytes (100000) would wait to be sent";
    for (ignores, expected) in [
        (false, (Reason::HandlerError, message.to_string())),
        (true, (Reason::Aborted, String::new())),
    ] {
        let config = set(|config: &mut Config| config.output_hard_max_bytes = 100_000);
        let mut reactor = Reactor::new(config).unwrap();
        let reasons = Rc::default();
        let noted = Rc::clone(&reasons);
        let address = listen(&mut reactor, move |_| {
            Some(Endless {
                ignores,
                reasons: Rc::clone(&noted),
            })
        });
        let mut stream = client(address);
        stream.write_all(b"x").unwrap();
        turn_until(&mut reactor, |reactor| {
            reactor.stats().open == 0 && reactor.stats().accepted == 1
        });
        assert_eq!(*reasons.borrow(), [expected]);
        let error = read_all(&mut stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Formats its answers.
struct Formats;

impl Handler for Formats {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        write!(cx, "{} bytes, ", input.len())?;
        let parts = [io::IoSlice::new(b"in "), io::IoSlice::new(b"two parts\n")];
        assert_eq!(cx.write_vectored(&parts)?, 13);
        cx.flush()?;
        cx.finish();
        let error = write!(cx, "late").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        Ok(input.len())
    }
}

#[test]
fn a_context_is_a_writer() {
    let mut reactor = reactor();
    let address = listen(&mut reactor, |_| Some(Formats));
    let answer = ask(&mut reactor, address, b"12345").unwrap();
    assert_eq!(answer, b"5 bytes, in two parts\n");
}

/// Says that it was woken, and consumes only what it held then.
struct Sleeper {
    id: Rc<Cell<Option<Id>>>,
    woken: bool,
}

impl Handler for Sleeper {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.id.set(Some(cx.id()));
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.woken {
            cx.write(b", again");
            return Ok(input.len());
        }
        Ok(0)
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(b"woken");
        self.woken = cx.unread() > 0;
        Ok(())
    }
}

fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 100];
    let count = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into()
}

#[test]
fn a_wake_calls_the_handler_once_and_then_offers_its_input_again() {
    let mut reactor = reactor();
    let id = Rc::new(Cell::new(None));
    let noted = Rc::clone(&id);
    let address = listen(&mut reactor, move |_| {
        Some(Sleeper {
            id: Rc::clone(&noted),
            woken: false,
        })
    });
    let mut stream = client(address);
    turn_until(&mut reactor, |_| id.get().is_some());
    // Twice before its turn, and without input.
    assert!(reactor.wake(id.get().unwrap()) && reactor.wake(id.get().unwrap()));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(read_some(&mut stream), "woken");
    // It leaves the input, and is offered it again after the wake.
    stream.write_all(b"xyz").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 3);
    reactor.wake(id.get().unwrap());
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent >= 17);
    assert_eq!(read_some(&mut stream), "woken, again");
}
