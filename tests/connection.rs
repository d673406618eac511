//! One connection over a real socket: promises 7 to 15.

mod common;

use common::{
    PATIENCE, Receipt, Running, client, echo, listen, loopback, pass, reactor, read_all,
    read_exactly, reset, send_until_full, set, turn_until,
};
use doorkeeper::{
    Arrival, Closed, Config, Context, Handler, Id, ListenOptions, Others, Reactor, Reason, TimerKey,
};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What a handler does in a callback.
type Act = fn(&mut Context<'_>, &[u8]) -> io::Result<usize>;

/// Does `open` in `on_open`, `data` in `on_data` and `on_timer`, and sends its receipt to the test.
struct Acting {
    open: Act,
    data: Act,
    receipts: Sender<Receipt>,
}

impl Handler for Acting {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        (self.open)(cx, b"").map(|_| ())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        (self.data)(cx, input)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _key: TimerKey) -> io::Result<()> {
        (self.data)(cx, b"").map(|_| ())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.receipts.send(Receipt::of(closed)).unwrap();
    }
}

const NOTHING: Act = |_, _| Ok(0);
const ECHO: Act = |cx, input| Ok(cx.write(input));
const TAKE: Act = |_, input| Ok(input.len());

/// A service of [`Acting`] handlers, and where their receipts arrive.
fn acting(
    open: Act,
    data: Act,
) -> (
    impl FnMut(&mut Arrival<'_>) -> Option<Acting>,
    Receiver<Receipt>,
) {
    let (receipts, receiver) = channel();
    let service = move |_: &mut Arrival<'_>| {
        let receipts = receipts.clone();
        Some(Acting {
            open,
            data,
            receipts,
        })
    };
    (service, receiver)
}

fn serve(config: Config, open: Act, data: Act) -> (Running, SocketAddr, Receiver<Receipt>) {
    let (service, receiver) = acting(open, data);
    let (running, address) = Running::serve(config, service);
    (running, address, receiver)
}

fn receipt(receipts: &Receiver<Receipt>) -> Receipt {
    receipts.recv_timeout(PATIENCE).unwrap()
}

/// Turns the loop until a connection has closed.
fn turn_until_closed(reactor: &mut Reactor, receipts: &Receiver<Receipt>) -> Receipt {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "never: {:?}", reactor.stats());
        reactor.turn(Some(PATIENCE)).unwrap();
        if let Ok(closed) = receipts.try_recv() {
            return closed;
        }
    }
}

/// Limits of a few bytes.
fn small() -> Config {
    set(|config: &mut Config| {
        config.turn_budget_bytes = 7;
        config.input_max_bytes = 16;
        config.output_max_bytes = 5;
    })
}

/// Bytes in which any loss, repetition or change of order shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
        .collect()
}

/// Reads to the end and compares with the pattern. Sleeps after every `pause` bytes. Returns how
/// many bytes came.
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

/// Sends `total` bytes, half-closes, and reads the echo slowly.
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
        receipt(&receipts).figures(),
        (Reason::Finished, total, total, 0, 0)
    );
}

#[test]
fn half_close_still_gets_the_whole_echo() {
    half_close(Config::default(), 100_000_000);
}

/// Writes `pieces` whenever all output is sent. Then finishes.
struct Pieces {
    at: usize,
    pieces: &'static [u8],
}

impl Pieces {
    fn fill(&mut self, cx: &mut Context<'_>) {
        while cx.room() > 0 && self.at < self.pieces.len() {
            let rest = &self.pieces[self.at..];
            let piece = &rest[..rest.len().min(10_000)];
            self.at += cx.write(piece);
        }
        if self.at == self.pieces.len() {
            cx.finish();
        }
    }
}

impl Handler for Pieces {
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
fn pieces_arrive_whole_and_in_order_however_slowly_they_are_read() {
    const TOTAL: usize = 8_000_000;
    let pieces: &'static [u8] = pattern(TOTAL).leak();
    for config in [
        Config::default(),
        set(|config: &mut Config| config.output_max_bytes = 3000),
    ] {
        let service = move |_: &mut Arrival<'_>| Some(Pieces { at: 0, pieces });
        let (_running, address) = Running::serve(config, service);
        assert_eq!(read_pattern(client(address), 1_000_000), TOTAL);
    }
}

#[test]
fn tiny_buffers_and_budgets_lose_nothing() {
    half_close(small(), 100_000);
}

/// The urgent byte divides the stream: `ab` and `cd` are two short reads after one edge-triggered
/// event.
#[test]
fn bytes_after_urgent_data_are_still_read() {
    for _ in 0..50 {
        let (running, address, _receipts) = serve(Config::default(), NOTHING, ECHO);
        let mut stream = client(address);
        running.await_stats(|stats| stats.open == 1);
        // The loop waits for this closure, so all three arrive in one event.
        let urgent = stream.try_clone().unwrap();
        running.ask(move |_| {
            (&urgent).write_all(b"ab").unwrap();
            SockRef::from(&urgent).send_out_of_band(b"!").unwrap();
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

/// No new event comes when reading resumes, so the loop must resume it by itself.
#[test]
fn a_client_that_does_not_read_holds_full_buffers_and_gets_every_byte_later() {
    let (running, address, _receipts) = serve(Config::default(), NOTHING, ECHO);
    let mut mute: Vec<TcpStream> = (0..8).map(|_| client(address)).collect();
    let block = pattern(1 << 24);
    let fill = |stream: &mut TcpStream| send_until_full(stream, &block);
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

#[test]
fn an_idle_connection_ends_in_time_and_a_busy_one_does_not() {
    let idle_timeout = Duration::from_millis(300);
    let config = set(|config: &mut Config| config.idle_timeout = Some(idle_timeout));
    let (_running, address, receipts) = serve(config, NOTHING, ECHO);
    let mut stream = client(address);
    let start = Instant::now();
    // The time before the last echo, which is before the last byte moved.
    let mut quiet = start;
    while start.elapsed() < 2 * idle_timeout {
        quiet = Instant::now();
        assert_eq!(echo(&mut stream, b"busy"), b"busy");
    }
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
fn a_peer_that_never_closes_is_closed_after_linger_timeout() {
    let config = set(|config: &mut Config| config.linger_timeout = Duration::from_millis(50));
    let bye: Act = |cx, _| {
        cx.write(b"bye");
        cx.finish();
        Ok(0)
    };
    let (_running, address, receipts) = serve(config, bye, TAKE);
    let mut stream = client(address);
    assert_eq!(read_all(&mut stream).unwrap(), b"bye");
    let closed = receipt(&receipts);
    assert_eq!(closed.figures(), (Reason::LingerTimeout, 0, 3, 0, 0));
    // The peer has all of it, so the time does not begin again.
    assert_eq!(closed.undelivered, Some(0));
    assert!(closed.age >= Duration::from_millis(50));
}

/// A client that keeps its side open gets the answer and its end, from a close and not from shutdown(2).
#[test]
fn with_close_when_sent_a_finished_connection_does_not_wait_for_the_peer() {
    let config = set(|config: &mut Config| {
        config.close_when_sent = true;
        config.linger_timeout = 2 * PATIENCE;
    });
    let (_running, address, receipts) = serve(config, NOTHING, |cx, input| {
        cx.write(b"answer");
        cx.finish();
        Ok(input.len())
    });
    let mut stream = client(address);
    stream.write_all(b"request").unwrap();
    let closed = receipt(&receipts);
    assert_eq!(closed.figures(), (Reason::Finished, 7, 6, 0, 0));
    assert_eq!(read_all(&mut stream).unwrap(), b"answer");
}

/// A close with unread input would reset the connection, and destroy the answer. Here most of the
/// input has arrived and is not read when the handler finishes.
#[test]
fn with_close_when_sent_input_that_has_arrived_is_read_before_the_close() {
    let config = set(|config: &mut Config| {
        config.close_when_sent = true;
        config.output_max_bytes = ANSWER;
        config.linger_timeout = 2 * PATIENCE;
    });
    let (service, receipts) = acting(NOTHING, |cx, input| {
        cx.write(&pattern(ANSWER));
        cx.finish();
        Ok(input.len())
    });
    let mut reactor = Reactor::new(config).unwrap();
    let options = set(|options: &mut ListenOptions| options.receive_buffer_bytes = Some(1 << 20));
    let id = reactor.listen_with(loopback(), &options, service);
    let mut stream = client(reactor.local_addr(id.unwrap()).unwrap());
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    stream.write_all(&[7; 200_000]).unwrap();
    let closed = turn_until_closed(&mut reactor, &receipts);
    let read = (closed.reason, closed.received, closed.sent);
    assert_eq!(read, (Reason::Finished, 200_000, ANSWER as u64));
    assert!(read_all(&mut stream).unwrap() == pattern(ANSWER));
}

/// An answer of this many bytes, most of which the kernel holds when the handler has finished.
const ANSWER: usize = 600_000;

/// A server that sends the answer and finishes, and a client with a receive buffer so small that what
/// it reads is soon acknowledged.
fn serve_answer(linger_timeout: Duration) -> (Running, TcpStream, Receiver<Receipt>) {
    let config = set(|config: &mut Config| {
        config.linger_timeout = linger_timeout;
        config.output_max_bytes = ANSWER;
        config.turn_budget_bytes = ANSWER;
    });
    let answer: Act = |cx, _| {
        assert_eq!(cx.write(&pattern(ANSWER)), ANSWER);
        cx.finish();
        Ok(0)
    };
    let (running, address, receipts) = serve(config, answer, TAKE);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(30_000).unwrap();
    socket.connect(&address.into()).unwrap();
    (running, common::limited(socket.into()), receipts)
}

/// It takes four times the linger time, and sends a byte meanwhile, which the kernel answers with a
/// reset once the connection is closed.
#[test]
fn a_slow_reader_gets_all_of_a_finished_answer() {
    let linger = Duration::from_millis(300);
    let (_running, mut stream, receipts) = serve_answer(linger);
    let (mut answer, mut buffer, mut late) = (Vec::new(), [0; 15_000], false);
    let start = Instant::now();
    while answer.len() < ANSWER {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{} of {ANSWER} bytes", answer.len());
        answer.extend_from_slice(&buffer[..count]);
        pass(linger / 10);
        if start.elapsed() > 2 * linger && !late {
            stream.write_all(b"late").unwrap();
            late = true;
        }
    }
    assert!(late && answer == pattern(ANSWER));
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    drop(stream);
    // If the client is late with its end, lingering is over, because it has taken everything.
    let closed = receipt(&receipts);
    let (reason, received, sent, unsent, _) = closed.figures();
    assert_eq!((received, sent, unsent), (4, ANSWER as u64, 0));
    let undelivered = (reason == Reason::LingerTimeout).then_some(0);
    assert_eq!(closed.undelivered, undelivered, "{reason}");
    assert!(closed.age > 3 * linger, "{:?}", closed.age);
}

#[test]
fn a_peer_that_takes_nothing_is_closed_after_two_linger_timeouts_and_the_receipt_says_what_is_left()
{
    let linger = Duration::from_millis(50);
    let (_running, mut stream, receipts) = serve_answer(linger);
    let closed = receipt(&receipts);
    let figures = (Reason::LingerTimeout, 0, ANSWER as u64, 0, 0);
    assert_eq!(closed.figures(), figures);
    assert!(closed.age >= 2 * linger, "{:?}", closed.age);
    let left = closed.undelivered.unwrap();
    assert!((1..ANSWER as u64).contains(&left), "{left}");
    // The kernel still delivers it, because this client sends nothing.
    assert!(read_all(&mut stream).unwrap() == pattern(ANSWER));
}

#[test]
fn a_peer_that_keeps_sending_is_closed_after_linger_max_bytes() {
    let config = set(|config: &mut Config| config.linger_max_bytes = 1 << 20);
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
    reset(stream);
    let closed = receipt(&receipts);
    assert_eq!(closed.figures(), (Reason::Reset, 2, 2, 0, 0));
    assert_eq!(closed.error.unwrap().0, ErrorKind::ConnectionReset);
    assert_eq!(echo(&mut other, b"still"), b"still");
    assert_eq!(running.stats().open, 1);
}

/// Keeps its own side open after the peer's end and writes nothing. It says when the end comes.
struct Listening(Sender<Receipt>, Sender<()>);

impl Handler for Listening {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.1.send(()).unwrap();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.0.send(Receipt::of(closed)).unwrap();
    }
}

/// After the FIN a read returns 0 as before, and only SO_ERROR tells (measured on Linux 6.18).
#[test]
fn a_reset_after_the_peers_end_ends_a_connection_that_only_listens() {
    for at_once in [false, true] {
        let ((receipts, receipt), (ends, end)) = (channel(), channel());
        let mut reactor = reactor();
        let service = move |_: &mut Arrival<'_>| Some(Listening(receipts.clone(), ends.clone()));
        let mut stream = client(listen(&mut reactor, service));
        stream.write_all(b"hello").unwrap();
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
        stream.write_all(b"!").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        if !at_once {
            turn_until(&mut reactor, |_| end.try_recv().is_ok());
        }
        reset(stream);
        let closed = turn_until_closed(&mut reactor, &receipt);
        assert_eq!(closed.figures(), (Reason::Reset, 6, 0, 0, 0), "{at_once}");
        assert_eq!(closed.error.unwrap().0, ErrorKind::BrokenPipe);
        assert_eq!(reactor.stats().open, 0);
    }
}

#[test]
fn abort_resets_and_the_receipt_counts_unsent_bytes() {
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
    assert_eq!(receipt(&receipts).figures(), (Reason::Aborted, 1, 0, 5, 1));
}

/// The peer must not take a part of an answer for all of it, so the connection ends in a reset.
#[test]
fn a_handler_error_or_panic_resets_its_own_connection_only() {
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
        assert_eq!(closed.figures(), (reason, 1, 0, 4, 1));
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
fn consuming_more_than_was_offered_is_a_handler_error() {
    let (_running, address, receipts) =
        serve(Config::default(), NOTHING, |_, input| Ok(input.len() + 1));
    let mut stream = client(address);
    stream.write_all(b"abc").unwrap();
    let closed = receipt(&receipts);
    assert_eq!(closed.figures(), (Reason::HandlerError, 3, 0, 0, 3));
    assert_eq!(closed.error.unwrap().1, "on_data consumed 4 bytes of 3");
}

#[test]
fn written_bytes_count_as_unsent_after_a_reset() {
    let (service, receipts) = acting(|cx, _| Ok(cx.write(b"hello")), TAKE);
    let mut reactor = reactor();
    let stream = client(listen(&mut reactor, service));
    // Accepted, and `on_open` has not been called.
    while reactor.stats().accepted == 0 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    reset(stream);
    let closed = turn_until_closed(&mut reactor, &receipts);
    assert_eq!(closed.figures(), (Reason::Reset, 0, 0, 5, 0));
}

/// The first turn reads before it calls `on_open`.
#[test]
fn input_counts_as_discarded_when_on_open_fails() {
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
        let (service, receipts) = acting(open, TAKE);
        let mut reactor = reactor();
        let mut stream = client(listen(&mut reactor, service));
        stream.write_all(b"abc").unwrap();
        let closed = turn_until_closed(&mut reactor, &receipts);
        assert_eq!(closed.figures(), (reason, 3, 0, 0, 3));
    }
}

#[test]
fn the_receipt_tells_an_abort_by_id_from_a_dropped_reactor() {
    let (running, address, receipts) = serve(Config::default(), NOTHING, |cx, input| {
        let id: Id = cx.id();
        assert!(cx.others.abort(id) && !cx.others.close(id));
        Ok(input.len())
    });
    let mut first = client(address);
    first.write_all(b"x").unwrap();
    let error = read_all(&mut first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(receipt(&receipts).figures(), (Reason::Aborted, 1, 0, 0, 1));
    let mut second = client(address);
    running.await_stats(|stats| stats.open == 1);
    running.stop();
    assert_eq!(read_all(&mut second).unwrap(), b"");
    assert_eq!(
        receipt(&receipts).figures(),
        (Reason::ReactorDropped, 0, 0, 0, 0)
    );
}

#[test]
fn unconsumed_input_is_offered_again_before_new_input() {
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
        receipt(&receipts).figures(),
        (Reason::Finished, 23, 19, 0, 4)
    );
}

#[test]
fn a_write_after_finish_takes_nothing() {
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
    assert_eq!(receipt(&receipts).figures(), (Reason::Finished, 1, 6, 0, 0));
}
