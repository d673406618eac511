//! One connection over a real socket: promises 7 to 15.

mod common;

use common::{PATIENCE, Running, client, echo, read_all, read_exactly, set};
use doorkeeper::{Closed, Config, Context, Handler, Id, Reactor, Reason, TimerKey};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What a handler under test does.
type Act = fn(&mut Context<'_>, &[u8]) -> io::Result<usize>;

/// A handler that sends its receipt away.
struct Told {
    open: Act,
    data: Act,
    receipts: Sender<Receipt>,
}

impl Handler for Told {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (self.open)(cx, b"").map(|_| ())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        (self.data)(cx, input)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _key: TimerKey) -> io::Result<()> {
        (self.data)(cx, b"").map(|_| ())
    }

    fn on_close(&mut self, _: &mut Context<'_>, closed: &Closed) {
        let &Closed {
            reason,
            received,
            sent,
            unsent,
            discarded,
            age,
            ..
        } = closed;
        let error = closed
            .error
            .as_ref()
            .map(|error| (error.kind(), error.to_string()));
        self.receipts
            .send(Receipt {
                reason,
                error,
                received,
                sent,
                unsent,
                discarded,
                age,
            })
            .unwrap();
    }
}

/// A receipt that outlives the callback.
struct Receipt {
    reason: Reason,
    error: Option<(ErrorKind, String)>,
    received: u64,
    sent: u64,
    unsent: u64,
    discarded: u64,
    age: Duration,
}

const NOTHING: Act = |_, _| Ok(0);
const ECHO: Act = |cx, input| Ok(cx.write(input));
const TAKE: Act = |_, input| Ok(input.len());

fn serve(config: Config, open: Act, data: Act) -> (Running, SocketAddr, Receiver<Receipt>) {
    let (receipts, receiver) = channel();
    let (running, address) = Running::start(config, move |reactor| {
        let service = move |_| {
            Some(Told {
                open,
                data,
                receipts: receipts.clone(),
            })
        };
        let id = reactor
            .listen("127.0.0.1:0".parse().unwrap(), service)
            .unwrap();
        reactor.local_addr(id).unwrap()
    });
    (running, address, receiver)
}

fn receipt(receipts: &Receiver<Receipt>) -> Receipt {
    receipts.recv_timeout(PATIENCE).unwrap()
}

/// The figures of a receipt, for one assertion.
fn figures(closed: &Receipt) -> (Reason, u64, u64, u64, u64) {
    (
        closed.reason,
        closed.received,
        closed.sent,
        closed.unsent,
        closed.discarded,
    )
}

fn small() -> Config {
    set(|config: &mut Config| {
        config.turn_budget_bytes = 7;
        config.input_max_bytes = 16;
        config.output_max_bytes = 5;
    })
}

/// Bytes that show any loss, repetition or change of order.
fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
        .collect()
}

/// Reads to the end, checking against the pattern, with a rest after every `pause` bytes.
fn read_pattern(mut stream: impl Read, pause: usize) -> usize {
    let (mut buffer, mut total, mut next_rest) = (vec![0; 1 << 16], 0, pause);
    let wanted = pattern(1 << 24);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return total;
        }
        let from = total % (1 << 24);
        let first = count.min((1 << 24) - from);
        assert!(
            buffer[..first] == wanted[from..from + first],
            "differs after byte {total}"
        );
        assert!(buffer[first..count] == wanted[..count - first]);
        total += count;
        if total >= next_rest {
            next_rest += pause;
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Sends a hundred million bytes, half-closes, reads slowly.
fn half_close(config: Config, total: usize) {
    let (_running, address, receipts) = serve(config, NOTHING, ECHO);
    let stream = client(address);
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let block = pattern(1 << 24);
        let mut left = total;
        while left > 0 {
            let count = left.min(block.len());
            sender.write_all(&block[..count]).unwrap();
            left -= count;
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(read_pattern(stream, 10_000_000), total);
    sending.join().unwrap();
    let total = total as u64;
    assert_eq!(
        figures(&receipt(&receipts)),
        (Reason::Finished, total, total, 0, 0)
    );
}

#[test]
fn half_close_still_gets_the_whole_echo() {
    half_close(Config::default(), 100_000_000);
}

/// Writes eight million bytes that live as long as the program, some copied in between, whenever all has left; then finishes.
struct Library {
    at: usize,
    pieces: &'static [u8],
}

impl Library {
    fn fill(&mut self, cx: &mut Context<'_>) {
        while cx.room() > 0 && self.at < self.pieces.len() {
            let rest = &self.pieces[self.at..];
            let piece = &rest[..rest.len().min(10_000)];
            self.at += if self.at / 10_000 % 7 == 3 {
                cx.write(piece)
            } else {
                cx.write_static(piece)
            };
        }
        if self.at == self.pieces.len() {
            cx.finish();
        }
    }
}

impl Handler for Library {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[test]
fn static_bytes_arrive_whole_and_in_order_however_slowly_they_are_read() {
    const TOTAL: usize = 8_000_000;
    let pieces: &'static [u8] = pattern(TOTAL).leak();
    for config in [
        Config::default(),
        set(|config: &mut Config| {
            config.output_max_bytes = 3000;
        }),
    ] {
        let (_running, address) = Running::start(config, move |reactor| {
            let service = move |_| Some(Library { at: 0, pieces });
            let id = reactor
                .listen("127.0.0.1:0".parse().unwrap(), service)
                .unwrap();
            reactor.local_addr(id).unwrap()
        });
        assert_eq!(read_pattern(client(address), 1_000_000), TOTAL);
    }
}

#[test]
fn tiny_buffers_and_budgets_lose_nothing() {
    half_close(small(), 100_000);
}

/// The urgent byte cuts the stream: `ab` and `cd` come in two short reads, with one edge.
#[test]
fn urgent_data_does_not_strand_what_follows_it() {
    for _ in 0..50 {
        let (running, address, _receipts) = serve(Config::default(), NOTHING, ECHO);
        let mut stream = client(address);
        running.await_stats(|stats| stats.open == 1);
        // The loop is held while all three are sent, so that they come in one event.
        let urgent = stream.try_clone().unwrap();
        running.ask(move |_| {
            (&urgent).write_all(b"ab").unwrap();
            socket2::SockRef::from(&urgent)
                .send_out_of_band(b"!")
                .unwrap();
            (&urgent).write_all(b"cd").unwrap();
        });
        assert_eq!(read_exactly(&mut stream, 4), b"abcd");
    }
}

#[test]
fn an_answer_survives_a_client_that_keeps_sending() {
    let answer: Act = |cx, _| {
        cx.write(&[b'a'; 60_000]);
        cx.finish();
        Ok(0)
    };
    let (_running, address, receipts) = serve(Config::default(), NOTHING, answer);
    for _ in 0..20 {
        let mut stream = client(address);
        let mut sender = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let mut sent = 0;
            while sent < 32 << 20 && sender.write_all(&[b'x'; 4096]).is_ok() {
                sent += 4096;
            }
            let _ = sender.shutdown(Shutdown::Write);
        });
        assert_eq!(read_all(&mut stream).unwrap(), vec![b'a'; 60_000]);
        sending.join().unwrap();
        let closed = receipt(&receipts);
        assert_eq!(
            (closed.reason, closed.sent, closed.discarded),
            (Reason::Finished, 60_000, closed.received)
        );
    }
}

/// No new edge comes when a connection that was not read is read again, so the loop must do so by itself.
#[test]
fn a_mute_client_costs_its_buffers_and_gets_every_byte_when_it_reads() {
    let (running, address, _receipts) = serve(Config::default(), NOTHING, ECHO);
    let mut mute: Vec<TcpStream> = (0..8).map(|_| client(address)).collect();
    let sent: Vec<usize> = mute.iter_mut().map(fill).collect();
    let mut other = client(address);
    for _ in 0..100 {
        assert_eq!(echo(&mut other, b"ping"), b"ping");
    }
    let stats = running.stats();
    assert!(
        sent.iter().sum::<usize>() as u64 > stats.bytes_received,
        "the server read everything: {stats:?}"
    );
    for (mut stream, sent) in mute.into_iter().zip(sent) {
        stream.set_nonblocking(false).unwrap();
        let reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || read_pattern(reader, usize::MAX));
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reading.join().unwrap(), sent);
        stream.flush().unwrap();
    }
}

/// Sends the pattern until nothing more is taken, for a while.
fn fill(stream: &mut TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (block, mut sent, mut refused) = (pattern(1 << 24), 0, 0);
    while refused < 20 {
        match stream.write(&block[sent % block.len()..]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn an_idle_connection_ends_in_time_and_a_busy_one_does_not() {
    let idle_timeout = Duration::from_millis(300);
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(idle_timeout);
    });
    let (_running, address, receipts) = serve(config, NOTHING, ECHO);
    let mut stream = client(address);
    let start = Instant::now();
    while start.elapsed() < 2 * idle_timeout {
        assert_eq!(echo(&mut stream, b"busy"), b"busy");
    }
    let quiet = Instant::now();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    assert!(
        quiet.elapsed() >= idle_timeout - Duration::from_millis(5),
        "{:?}",
        quiet.elapsed()
    );
    let closed = receipt(&receipts);
    assert_eq!(closed.reason, Reason::IdleTimeout);
    assert!(closed.age >= 2 * idle_timeout, "{:?}", closed.age);
}

#[test]
fn a_peer_that_never_closes_is_left_after_linger_timeout() {
    let config = set(|config: &mut Config| {
        config.linger_timeout = Duration::from_millis(50);
    });
    let bye: Act = |cx, _| {
        cx.write(b"bye");
        cx.finish();
        Ok(0)
    };
    let (_running, address, receipts) = serve(config, bye, TAKE);
    let mut stream = client(address);
    assert_eq!(read_all(&mut stream).unwrap(), b"bye");
    let closed = receipt(&receipts);
    assert_eq!(figures(&closed), (Reason::LingerTimeout, 0, 3, 0, 0));
    assert!(closed.age >= Duration::from_millis(50));
}

#[test]
fn a_peer_that_sends_on_and_on_is_left_after_linger_max() {
    let config = set(|config: &mut Config| {
        config.linger_max_bytes = 1 << 20;
    });
    let (_running, address, receipts) = serve(
        config,
        |cx, _| {
            cx.finish();
            Ok(0)
        },
        TAKE,
    );
    let mut stream = client(address);
    let error = (0..)
        .find_map(|_| stream.write_all(&[0; 65_536]).err())
        .unwrap();
    assert!(
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()),
        "{error}"
    );
    let closed = receipt(&receipts);
    assert_eq!(closed.reason, Reason::LingerLimit);
    assert!(
        (1 << 20..(1 << 20) + 70_000).contains(&closed.discarded),
        "{}",
        closed.discarded
    );
    assert_eq!(closed.discarded, closed.received);
}

#[test]
fn a_reset_ends_one_connection_and_no_other() {
    let (running, address, receipts) = serve(Config::default(), NOTHING, ECHO);
    let mut other = client(address);
    let mut stream = client(address);
    assert_eq!(echo(&mut stream, b"hi"), b"hi");
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let closed = receipt(&receipts);
    assert_eq!(figures(&closed), (Reason::Reset, 2, 2, 0, 0));
    assert_eq!(closed.error.unwrap().0, ErrorKind::ConnectionReset);
    assert_eq!(echo(&mut other, b"still"), b"still");
    assert_eq!(running.stats().open, 1);
}

#[test]
fn abort_resets_and_the_receipt_says_what_never_left() {
    let abort: Act = |cx, input| {
        cx.write(b"never");
        cx.abort();
        Ok(input.len())
    };
    let (_running, address, receipts) = serve(Config::default(), NOTHING, abort);
    let mut stream = client(address);
    stream.write_all(b"x").unwrap();
    assert_eq!(
        read_all(&mut stream).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(figures(&receipt(&receipts)), (Reason::Aborted, 1, 0, 5, 1));
}

/// A part must never be taken for the whole: what is cut off ends in a reset.
#[test]
fn a_handler_error_and_a_panic_cut_off_their_own_connection_visibly() {
    let fail: Act = |cx, _| {
        cx.write(b"half");
        Err(io::Error::other("no such thing"))
    };
    let panic: Act = |cx, _| {
        cx.write(b"half");
        panic!("on purpose")
    };
    for (act, reason) in [(fail, Reason::HandlerError), (panic, Reason::Panic)] {
        let (running, address, receipts) = serve(Config::default(), NOTHING, act);
        let mut stream = client(address);
        stream.write_all(b"x").unwrap();
        assert_eq!(
            read_all(&mut stream).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        let closed = receipt(&receipts);
        assert_eq!(figures(&closed), (reason, 1, 0, 4, 1));
        assert_eq!(
            closed.error.map(|error| error.1),
            (reason == Reason::HandlerError).then(|| "no such thing".into())
        );
        let stats = running.stats();
        assert_eq!(
            (stats.closed(reason), stats.panics),
            (1, u64::from(reason == Reason::Panic))
        );
    }
}

#[test]
fn a_handler_that_claims_too_much_is_told_so() {
    let (_running, address, receipts) =
        serve(Config::default(), NOTHING, |_, input| Ok(input.len() + 1));
    let mut stream = client(address);
    stream.write_all(b"abc").unwrap();
    let closed = receipt(&receipts);
    assert_eq!(figures(&closed), (Reason::HandlerError, 3, 0, 0, 3));
    assert_eq!(closed.error.unwrap().1, "on_data consumed 4 bytes of 3");
}

#[test]
fn static_bytes_that_never_left_are_on_the_receipt_of_a_reset() {
    let (receipts, receiver) = channel();
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let open: Act = |cx, _| Ok(cx.write_static(b"hello"));
    let service = move |_| {
        Some(Told {
            open,
            data: TAKE,
            receipts: receipts.clone(),
        })
    };
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), service)
        .unwrap();
    let stream = client(reactor.local_addr(id).unwrap());
    // Let in, but not yet spoken to.
    while reactor.stats().accepted == 0 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let closed = loop {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
        if let Ok(closed) = receiver.try_recv() {
            break closed;
        }
    };
    assert_eq!(figures(&closed), (Reason::Reset, 0, 0, 5, 0));
}

/// The first turn has read by the time it calls `on_open`.
#[test]
fn input_that_a_failing_on_open_never_saw_is_on_the_receipt() {
    let fails: [(Reason, Act); 3] = [
        (Reason::HandlerError, |_, _| {
            Err(io::Error::other("on purpose"))
        }),
        (Reason::Panic, |_, _| panic!("on purpose")),
        (Reason::Aborted, |cx, _| {
            cx.abort();
            Ok(0)
        }),
    ];
    for (reason, open) in fails {
        let (receipts, receiver) = channel();
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let service = move |_| {
            Some(Told {
                open,
                data: TAKE,
                receipts: receipts.clone(),
            })
        };
        let id = reactor
            .listen("127.0.0.1:0".parse().unwrap(), service)
            .unwrap();
        let mut stream = client(reactor.local_addr(id).unwrap());
        stream.write_all(b"abc").unwrap();
        let closed = loop {
            reactor.turn(Some(Duration::from_millis(10))).unwrap();
            if let Ok(closed) = receiver.try_recv() {
                break closed;
            }
        };
        assert_eq!(figures(&closed), (reason, 3, 0, 0, 3));
    }
}

#[test]
fn closed_by_id_and_stopped_with_the_reactor_are_told_apart() {
    let (running, address, receipts) = serve(Config::default(), NOTHING, |cx, input| {
        let id: Id = cx.id();
        assert!(cx.close(id));
        Ok(input.len())
    });
    let mut first = client(address);
    first.write_all(b"x").unwrap();
    assert_eq!(read_all(&mut first).unwrap(), b"");
    assert_eq!(figures(&receipt(&receipts)), (Reason::Closed, 1, 0, 0, 0));
    let mut second = client(address);
    running.await_stats(|stats| stats.open == 1);
    running.stop();
    assert_eq!(read_all(&mut second).unwrap(), b"");
    assert_eq!(
        figures(&receipt(&receipts)),
        (Reason::ReactorDropped, 0, 0, 0, 0)
    );
}

#[test]
fn input_that_is_not_consumed_is_offered_again_in_front_of_the_new() {
    let lines: Act = |cx, input| {
        let whole = input
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        cx.write(&input[..whole]);
        Ok(whole)
    };
    let (_running, address, receipts) = serve(Config::default(), NOTHING, lines);
    let mut stream = client(address);
    for piece in [&b"o"[..], b"ne\ntw", b"o\n", b"three\nfour\n", b"rest"] {
        stream.write_all(piece).unwrap();
    }
    assert_eq!(read_exactly(&mut stream, 19), b"one\ntwo\nthree\nfour\n");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    assert_eq!(
        figures(&receipt(&receipts)),
        (Reason::Finished, 23, 19, 0, 4)
    );
}

#[test]
fn what_is_written_after_finish_goes_nowhere() {
    let (_running, address, receipts) = serve(Config::default(), NOTHING, |cx, input| {
        cx.write(b"answer");
        cx.finish();
        assert_eq!((cx.room(), cx.write(b"late")), (0, 0));
        Ok(input.len())
    });
    let mut stream = client(address);
    stream.write_all(b"?").unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"answer");
    drop(stream);
    assert_eq!(figures(&receipt(&receipts)), (Reason::Finished, 1, 6, 0, 0));
}
