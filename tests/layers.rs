//! Layers: whatever a handler does, and whatever other code does to its connection, goes through them.

mod common;

use common::{
    Echo, Panics, Receipt, Records, Running, Speaker, Xor, client, listen, reactor, read_all,
    refusing_address, set,
};
use doorkeeper::{
    Closed, Config, Context, Handler, Id, Layer, Layered, Others, Reactor, Reason, TimerKey,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The stacks of layers of these tests, the lowest first.
type Stack = fn() -> Vec<Box<dyn Layer>>;

const STACKS: [Stack; 4] = [
    || vec![Box::new(Xor(1))],
    || vec![Box::<Records>::default()],
    || vec![Box::<Records>::default(), Box::new(Xor(7))],
    || vec![Box::<Records>::default(), Box::<Records>::default()],
];

/// A layer in a box, as `impl Layer`.
struct Any(Box<dyn Layer>);

impl Layer for Any {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read(input, plain, wire)
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        self.0.write(plain, wire)
    }
    fn end(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        self.0.end(wire)
    }
    fn on_eof(&mut self) -> io::Result<()> {
        self.0.on_eof()
    }
    fn is_open(&self) -> bool {
        self.0.is_open()
    }
    fn has_ended(&self) -> bool {
        self.0.has_ended()
    }
}

/// Wraps a handler in each layer of a stack.
fn wrapped(stack: Stack, handler: impl Handler) -> Box<dyn Handler> {
    let mut handler: Box<dyn Handler> = Box::new(handler);
    for layer in stack().into_iter().rev() {
        handler = Box::new(Layered::new(Any(layer), handler));
    }
    handler
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The layers that have an end of their own have ended.
fn assert_ended(stack: Stack, ended: &[bool]) {
    let mut layers = stack();
    for (layer, &ended) in layers.iter_mut().zip(ended) {
        assert_eq!(layer.on_eof().is_err(), ended);
    }
}

#[test]
fn an_echo_through_every_stack_is_exact_and_both_ends_are_told() {
    for stack in STACKS {
        let (_running, address) =
            Running::serve(Config::default(), move |_| Some(wrapped(stack, Echo)));
        let mut speaker = Speaker::connect(address, stack());
        for length in [1, 2, 999, 1000, 1001, 70_000] {
            let sent = pattern(length);
            speaker.send(&sent);
            assert!(speaker.read_exactly(length) == sent, "{length}");
        }
        speaker.send(b"tail");
        speaker.end();
        let (tail, ended) = speaker.read_to_end();
        assert_eq!(tail, b"tail");
        assert_ended(stack, &ended);
    }
}

/// Much, from a client that writes all before it reads: more than every buffer on the way.
#[test]
fn an_echo_of_5_mb_waits_for_its_reader_and_is_exact() {
    for stack in [STACKS[0], STACKS[2]] {
        let (_running, address) =
            Running::serve(Config::default(), move |_| Some(wrapped(stack, Echo)));
        let mut speaker = Speaker::connect(address, stack());
        speaker.send(b"!");
        assert_eq!(speaker.read_exactly(1), b"!");
        let writer = speaker.stream.try_clone().unwrap();
        let sent = pattern(5_000_000);
        let mut wire = sent.clone();
        for mut layer in stack().into_iter().rev() {
            let plain = std::mem::take(&mut wire);
            layer.write(&plain, &mut wire).unwrap();
        }
        let thread = std::thread::spawn(move || (&writer).write_all(&wire).unwrap());
        assert!(speaker.read_exactly(sent.len()) == sent);
        thread.join().unwrap();
    }
}

/// Streams from `on_drain`, and tells how much it has written.
struct Endless {
    written: mpsc::Sender<usize>,
}

impl Endless {
    fn fill(&mut self, cx: &mut Context<'_>) {
        let written = cx.write(&vec![b'x'; cx.room()]);
        self.written.send(written).unwrap();
    }
}

impl Handler for Endless {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }
}

/// `on_drain` is the kernel's word, not the layer's: without a reader nothing more is written than the
/// kernel takes and one output holds.
#[test]
fn output_is_sent_when_the_kernel_has_it_and_a_layer_buffers_none() {
    for stack in STACKS {
        let (sender, written) = mpsc::channel();
        let (running, address) = Running::serve(Config::default(), move |_| {
            let written = sender.clone();
            Some(wrapped(stack, Endless { written }))
        });
        let mut speaker = Speaker::connect(address, stack());
        let first = speaker.read_exactly(1);
        assert_eq!(first, b"x");
        // It stops by itself.
        let mut total = 0;
        while let Ok(count) = written.recv_timeout(Duration::from_millis(300)) {
            total += count;
        }
        let view = running.ask(|reactor| reactor.snapshot().connections.remove(0));
        assert_eq!(view.pending_out, 65_536);
        assert_eq!(view.sent as usize, total - view.pending_out);
        // And goes on.
        let more = speaker.read_exactly(total + 1_000_000);
        assert!(more.iter().all(|&byte| byte == b'x'));
    }
}

/// Pushes a line every millisecond, and tells what its callbacks are.
struct Pushing {
    left: u64,
    told: mpsc::Sender<&'static str>,
}

impl Handler for Pushing {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(1), Duration::from_millis(1));
        Ok(())
    }
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.left -= 1;
        writeln!(cx, "push {}", self.left)?;
        match self.left {
            0 => cx.finish(),
            _ => cx.set_timer(TimerKey(1), Duration::from_millis(1)),
        }
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        assert_eq!(closed.reason, Reason::Finished, "{:?}", closed.error);
        self.told.send("closed").unwrap();
    }
}

#[test]
fn a_timer_pushes_and_finishes_through_a_layer() {
    for stack in STACKS {
        let (told, heard) = mpsc::channel();
        let (_running, address) = Running::serve(Config::default(), move |_| {
            let told = told.clone();
            Some(wrapped(stack, Pushing { left: 3, told }))
        });
        let mut speaker = Speaker::connect(address, stack());
        let (all, ended) = speaker.read_to_end();
        assert_eq!(all, b"push 2\npush 1\npush 0\n");
        assert_ended(stack, &ended);
        speaker.end();
        assert_eq!(heard.recv(), Ok("closed"));
    }
}

/// What other code does to a connection by its id, from a callback of another one.
struct Remote(Id);

impl Handler for Remote {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let others = &mut cx.others;
        match input {
            b"room" => assert_eq!(others.room(self.0), 65_536),
            b"half" => assert!(others.half_close(self.0)),
            b"close" => assert!(others.close(self.0)),
            b"abort" => assert!(others.abort(self.0)),
            b"wake" => assert!(others.wake(self.0)),
            text => assert_eq!(others.send(self.0, text), text.len()),
        }
        cx.write_all(b".")?;
        Ok(input.len())
    }
}

/// Echoes, greets when it is woken, and tells its id and its end.
struct Target(mpsc::Sender<Id>, mpsc::Sender<Receipt>);

impl Handler for Target {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.send(cx.id()).unwrap();
        Ok(())
    }
    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write_all(b"awake")
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.1.send(Receipt::of(closed)).unwrap();
    }
}

/// A connection with layers, its id, its end to be, and a plain connection that acts on it.
fn pair(stack: Stack) -> (Running, Speaker, Id, mpsc::Receiver<Receipt>, TcpStream) {
    let (opened, ids) = mpsc::channel();
    let (closed, ends) = mpsc::channel();
    let (running, address) = Running::serve(Config::default(), move |_| {
        Some(wrapped(stack, Target(opened.clone(), closed.clone())))
    });
    let mut speaker = Speaker::connect(address, stack());
    let id = ids.recv().unwrap();
    let remote = running.ask(move |reactor| listen(reactor, move |_| Some(Remote(id))));
    speaker.send(b"+");
    assert_eq!(speaker.read_exactly(1), b"+");
    (running, speaker, id, ends, client(remote))
}

fn act(remote: &mut TcpStream, what: &[u8]) {
    remote.write_all(what).unwrap();
    remote.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_send_and_a_wake_from_elsewhere_go_through_the_layers() {
    for stack in STACKS {
        let (running, mut speaker, id, _ends, mut remote) = pair(stack);
        act(&mut remote, b"room");
        act(&mut remote, b"from a callback");
        assert_eq!(speaker.read_exactly(15), b"from a callback");
        act(&mut remote, b"wake");
        assert_eq!(speaker.read_exactly(5), b"awake");
        let sent = running.ask(move |reactor| reactor.send(id, b"from a post"));
        assert_eq!(
            (sent, speaker.read_exactly(11)),
            (11, b"from a post".to_vec())
        );
        let timer = move |reactor: &mut Reactor| assert_eq!(reactor.send(id, b"from a timer"), 12);
        running.ask(move |reactor| reactor.after(Duration::from_millis(1), timer).unwrap());
        assert_eq!(speaker.read_exactly(12), b"from a timer");
        // A large one would leave at once without layers.
        let sent = running.ask(move |reactor| reactor.send(id, &pattern(20_000)));
        assert_eq!(sent, 20_000);
        assert!(speaker.read_exactly(20_000) == pattern(20_000));
    }
}

#[test]
fn with_finds_the_handler_inside_and_what_it_writes_goes_through_the_layers() {
    for stack in STACKS {
        let (running, mut speaker, id, _ends, _remote) = pair(stack);
        let found = running
            .ask(move |reactor| reactor.with(id, |_: &mut Target, cx| cx.write(b"from with")));
        assert_eq!(
            (found, speaker.read_exactly(9)),
            (Some(9), b"from with".to_vec())
        );
        assert_eq!(
            running.ask(move |reactor| reactor.with(id, |_: &mut Echo, _| ())),
            None
        );
        // A layer may be added from there, too.
        let added = running.ask(move |reactor| {
            reactor.with(id, |_: &mut Target, cx| {
                cx.write(b"before");
                cx.add_layer(Xor(0x20))
            })
        });
        assert!(added.unwrap().is_ok());
        assert_eq!(speaker.read_exactly(6), b"before");
        speaker.send(b"ABC");
        assert_eq!(speaker.read_exactly(3), b"ABC");
        assert_eq!(running.ask(move |reactor| reactor.send(id, b"abc")), 3);
        assert_eq!(speaker.read_exactly(3), b"ABC");
    }
}

#[test]
fn an_end_from_elsewhere_is_one_of_the_layers_too() {
    for stack in STACKS {
        for what in [&b"half"[..], b"close"] {
            let (_running, mut speaker, _, ends, mut remote) = pair(stack);
            act(&mut remote, b"last words");
            act(&mut remote, what);
            let (last, ended) = speaker.read_to_end();
            assert_eq!(last, b"last words");
            assert_ended(stack, &ended);
            speaker.send(b"more");
            speaker.end();
            let end = ends.recv().unwrap();

            assert_eq!(end.figures(), (Reason::Finished, 5, 11, 0, 4));
        }
    }
}

#[test]
fn an_abort_from_elsewhere_is_a_reset_without_an_end() {
    for stack in STACKS {
        let (_running, mut speaker, _, ends, mut remote) = pair(stack);
        act(&mut remote, b"abort");
        let end = speaker.stream.read_to_end(&mut Vec::new());
        assert_eq!(
            end.map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset)
        );
        assert_eq!(ends.recv().unwrap().reason, Reason::Aborted);
    }
}

/// Runs one closure when there is input, and tells its end.
struct Once<F>(Option<F>, mpsc::Sender<Receipt>);

impl<F: FnOnce(&mut Context<'_>, &[u8]) -> io::Result<usize> + 'static> Handler for Once<F> {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        match self.0.take() {
            Some(code) => code(cx, input),
            None => Ok(cx.write(input)),
        }
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.1.send(Receipt::of(closed)).unwrap();
    }
}

/// A server whose connections run the closure when there is input, and the connections' ends.
fn once<F: FnOnce(&mut Context<'_>, &[u8]) -> io::Result<usize> + Clone + Send + 'static>(
    stack: Stack,
    code: F,
) -> (Running, Speaker, mpsc::Receiver<Receipt>) {
    let (told, ends) = mpsc::channel();
    let (running, address) = Running::serve(Config::default(), move |_| {
        Some(wrapped(stack, Once(Some(code.clone()), told.clone())))
    });
    (running, Speaker::connect(address, stack()), ends)
}

#[test]
fn finish_and_half_close_send_the_answer_and_the_ends_of_the_layers() {
    for stack in STACKS {
        for half in [false, true] {
            let (_running, mut speaker, ends) = once(stack, move |cx, input| {
                cx.write_all(b"answer")?;
                if half {
                    cx.half_close()
                } else {
                    cx.finish()
                };
                Ok(input.len())
            });
            speaker.send(b"request");
            let (answer, ended) = speaker.read_to_end();
            assert_eq!(answer, b"answer");
            assert_ended(stack, &ended);
            // The other direction is still open.
            speaker.send(b"much more");
            speaker.end();
            // Nothing is echoed after a half-close, so what is offered then is left: 9 bytes lie there until the end.
            let discarded = if half { None } else { Some(9) };
            let end = if half { None } else { ends.recv().ok() };
            assert_eq!(end.map(|end| end.figures().4), discarded);
        }
    }
}

/// An upgrade inside: the rest of the input, the timers and the input that it wants belong to the next.
#[test]
fn want_and_become_handler_act_inside() {
    struct Wants;
    impl Handler for Wants {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            if input.len() < 5000 {
                cx.want(5000)?;
                return Ok(0);
            }
            assert!(input.len() >= 5000);
            cx.write_all(&input[..5000])?;
            Ok(5000)
        }
    }
    for stack in STACKS {
        let (_running, mut speaker, _ends) = once(stack, |cx, input| {
            cx.set_timer(TimerKey(1), Duration::ZERO);
            cx.write_all(b"upgrading")?;
            cx.become_handler(Wants);
            Ok(input.len().min(3))
        });
        let sent = pattern(10_003);
        for part in sent.chunks(1667) {
            speaker.send(part);
        }
        assert_eq!(speaker.read_exactly(9), b"upgrading");
        assert!(speaker.read_exactly(10_000) == sent[3..]);
    }
}

/// STARTTLS: the answer before it is plain, and so is nothing after it, also what came with the request.
#[test]
fn a_layer_that_is_added_on_the_way_takes_what_was_not_consumed() {
    for stack in STACKS {
        let (_running, mut speaker, _ends) = once(stack, |cx, input| {
            assert_eq!(&input[..6], b"secure");
            cx.write_all(b"go")?;
            cx.add_layer(Records::default())?;
            Ok(6)
        });
        // The greeting and a record of the new layer come with the request.
        let mut request = b"secureHI".to_vec();
        let mut mine = Records::default();
        mine.write(b"hello", &mut request).unwrap();
        speaker.send(&request);
        assert_eq!(speaker.read_exactly(4), b"goHI");
        let mut echo = Vec::new();
        mine.write(b"hello", &mut echo).unwrap();
        assert_eq!(speaker.read_exactly(echo.len()), echo);
    }
}

#[test]
fn no_layer_is_added_to_what_has_ended_or_is_not_established() {
    let (_running, mut speaker, ends) = once(STACKS[0], |cx, input| {
        cx.finish();
        let error = cx.add_layer(Xor(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(error.to_string().contains("established"), "{error}");
        Ok(input.len())
    });
    speaker.send(b"x");
    speaker.end();
    assert_eq!(ends.recv().unwrap().reason, Reason::Finished);
    let mut reactor = reactor();
    let id = reactor.connect(refusing_address(), Echo).unwrap();
    let added = reactor.with(id, |_: &mut Echo, cx| cx.add_layer(Xor(1)));
    assert!(added.unwrap().is_err());
}

/// Cuts are told as such: within a record, before the end record, and within the handshake.
#[test]
fn an_input_that_is_cut_short_is_an_error_that_says_so() {
    let within = "the peer ended within a message of the layer";
    for (sent, message) in [
        (&b""[..], "the peer ended before the layer was open"),
        (b"H", "the peer ended before the layer was open"),
        (b"HI", "no end record"),
        (b"HI\0\x01", within),
        (b"HI\0\x01x", "no end record"),
    ] {
        let (told, ends) = mpsc::channel();
        let (_running, address) = Running::serve(Config::default(), move |_| {
            let once = Once(
                Some(|_: &mut Context<'_>, input: &[u8]| Ok(input.len())),
                told.clone(),
            );
            Some(Layered::new(Records::default(), once))
        });
        let mut stream = client(address);
        stream.write_all(sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let end = ends.recv().unwrap();
        let error = Some((ErrorKind::UnexpectedEof, message.to_string()));
        assert_eq!(
            (end.reason, end.error),
            (Reason::HandlerError, error),
            "{sent:?}"
        );
    }
}

/// After `finish` nobody waits for the rest of the input, so a peer that closes without an end record is one
/// that closes.
#[test]
fn after_finish_an_input_that_is_cut_short_is_an_end() {
    let (_running, mut speaker, ends) = once(STACKS[1], |cx, input| {
        cx.finish();
        Ok(input.len())
    });
    speaker.send(b"x");
    assert_eq!(speaker.read_to_end().1, [true]);
    speaker.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ends.recv().unwrap().reason, Reason::Finished);
}

/// Fails in a way of its own.
#[derive(Clone, Copy)]
enum Failing {
    Read,
    Write,
    End,
    Panic,
    Consumes,
    Keeps,
    Floods,
    Drop,
}

impl Layer for Failing {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<usize> {
        plain.extend(input);
        match self {
            _ if input.is_empty() => Ok(0),
            Failing::Read => {
                wire.extend(b"alert");
                Err(io::Error::other("bad input"))
            }
            Failing::Panic => panic!("on purpose"),
            Failing::Consumes => Ok(input.len() + 1),
            Failing::Keeps => {
                plain.clear();
                Ok(0)
            }
            Failing::Floods => {
                wire.extend(vec![0; 17 * 1024 * 1024]);
                Ok(input.len())
            }
            _ => Ok(input.len()),
        }
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        match self {
            Failing::Write => Err(io::Error::other("bad output")),
            _ => Ok(()),
        }
    }
    fn end(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Failing::End => Err(io::Error::other("bad end")),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_layer_that_fails_ends_its_connection_and_no_other() {
    let failures = [
        (Failing::Read, Reason::HandlerError, "bad input"),
        (Failing::Write, Reason::HandlerError, "bad output"),
        (Failing::End, Reason::HandlerError, "bad end"),
        (Failing::Panic, Reason::Panic, ""),
        (
            Failing::Consumes,
            Reason::HandlerError,
            "a layer consumed 66537 bytes of 66536",
        ),
        (
            Failing::Keeps,
            Reason::HandlerError,
            "a layer left more input than 65536 bytes: 66536",
        ),
        (
            Failing::Floods,
            Reason::HandlerError,
            "the answers of a layer are more than 16777216",
        ),
        (Failing::Drop, Reason::Finished, ""),
    ];
    for (failing, reason, message) in failures {
        let (told, ends) = mpsc::channel();
        let (running, address) = Running::serve(Config::default(), move |_| {
            let code = |cx: &mut Context<'_>, input: &[u8]| {
                cx.write_all(b"answer")?;
                cx.finish();
                Ok(input.len())
            };
            let once = Once(Some(code), told.clone());
            let layer: Box<dyn Layer> = match failing {
                Failing::Drop => Box::new(Panics::Dropped),
                failing => Box::new(failing),
            };
            Some(Layered::new(Xor(0), Layered::new(Any(layer), once)))
        });
        let other = running.ask(|reactor| listen(reactor, |_| Some(Layered::new(Xor(1), Echo))));
        let mut other = Speaker::connect(other, STACKS[0]());
        let mut stream = client(address);
        // More than the limit, in what may be several reads.
        let sent = match failing {
            Failing::Consumes | Failing::Keeps => vec![b'x'; 66_536],
            _ => vec![b'x'; 1],
        };
        // The server may have reset the connection already.
        let _ = stream.write_all(&sent);
        let _ = stream.shutdown(Shutdown::Write);
        let end = ends.recv().unwrap();
        assert_eq!(end.reason, reason, "{message}");
        let error = end.error.map_or(String::new(), |(_, error)| error);
        match failing {
            Failing::Consumes => assert!(error.starts_with("a layer consumed "), "{error}"),
            Failing::Keeps => assert!(error.starts_with("a layer left more "), "{error}"),
            _ => assert!(error.starts_with(message), "{error}"),
        }
        if matches!(failing, Failing::Read) {
            assert_eq!(common::read_exactly(&mut stream, 5), b"alert");
        }
        let panics = running.await_stats(|stats| stats.open == 1).panics;
        let panicked = matches!(failing, Failing::Panic | Failing::Drop);
        assert_eq!(panics, u64::from(panicked));
        other.send(b"still there");
        assert_eq!(other.read_exactly(11), b"still there");
    }
}

/// Sends a request, reads the answer, finishes; tells its end.
struct Client(mpsc::Sender<(Vec<u8>, Receipt)>, Vec<u8>);

impl Handler for Client {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write_all(b"request")?;
        cx.half_close();
        Ok(())
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.1.extend(input);
        Ok(input.len())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let heard = std::mem::take(&mut self.1);
        self.0.send((heard, Receipt::of(closed))).unwrap();
    }
}

#[test]
fn an_outgoing_connection_has_layers_and_with_reaches_the_handler_before_it_is_established() {
    for stack in STACKS {
        let (told, ends) = mpsc::channel();
        let (running, address) =
            Running::serve(Config::default(), move |_| Some(wrapped(stack, Echo)));
        let reached = running.ask(move |reactor| {
            let handler = wrapped(stack, Client(told, Vec::new()));
            let id = reactor.connect(address, handler).unwrap();
            assert_eq!(reactor.send(id, b"early "), 6);
            reactor.with(id, |client: &mut Client, _| client.1.extend(b"before "))
        });
        assert_eq!(reached, Some(()));
        let (heard, end) = ends.recv().unwrap();
        assert_eq!(heard, b"before early request");
        assert_eq!(end.figures(), (Reason::Finished, 13, 13, 0, 0));
    }
}

#[test]
fn a_connection_with_layers_is_closed_in_good_order_before_it_is_established() {
    for stack in STACKS {
        let (told, ends) = mpsc::channel();
        let (running, address) =
            Running::serve(Config::default(), move |_| Some(wrapped(stack, Echo)));
        running.ask(move |reactor| {
            let code = |_: &mut Context<'_>, _: &[u8]| panic!("on_data after the end");
            let handler = wrapped(stack, Once(Some(code), told));
            let id = reactor.connect(address, handler).unwrap();
            assert_eq!(reactor.send(id, b"last words"), 10);
            assert!(reactor.close(id));
        });
        let end = ends.recv().unwrap();
        assert_eq!(end.figures(), (Reason::Finished, 10, 10, 0, 10));
    }
}

/// It takes no output until it has read something, and writes nothing by itself.
struct Second(bool);

impl Layer for Second {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        self.0 |= !input.is_empty();
        plain.extend(input);
        Ok(input.len())
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }
    fn is_open(&self) -> bool {
        self.0
    }
}

/// With a delayed ACK it would accept the connection 200 ms later.
#[test]
fn a_server_that_speaks_first_to_a_layer_does_not_wait_for_the_handshake() {
    let listener = common::blocking_listener();
    let is_fast = (0..5).any(|_| {
        let ((told, _ends), mut reactor) = (mpsc::channel(), reactor());
        let client = Client(told, Vec::new());
        let handler = Layered::new(Second(false), client);
        let id = reactor.connect(listener.1, handler).unwrap();
        assert_eq!(reactor.send(id, b"early"), 5);
        let begun = Instant::now();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let (mut stream, _) = listener.0.accept().unwrap();
        let waited = begun.elapsed();
        stream.write_all(b"!").unwrap();
        common::turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 12);
        assert_eq!(common::read_exactly(&mut stream, 12), b"earlyrequest");
        waited < Duration::from_millis(100)
    });
    assert!(is_fast);
}

#[test]
fn the_handler_inside_hears_that_connecting_failed() {
    let (told, ends) = mpsc::channel();
    let (_running, ()) = Running::start(Config::default(), move |reactor| {
        let handler = wrapped(STACKS[2], Client(told, Vec::new()));
        reactor.connect(refusing_address(), handler).unwrap();
    });
    assert_eq!(ends.recv().unwrap().1.reason, Reason::Refused);
}

#[test]
fn a_layer_is_found_by_its_type() {
    let (told, records) = mpsc::channel();
    let (_running, address) = Running::serve(Config::default(), move |_| {
        let told = told.clone();
        let code = move |cx: &mut Context<'_>, input: &[u8]| {
            let records = cx.with_layer(|layer: &mut Records| layer.records);
            let none = cx.with_layer(|_: &mut Failing| ());
            told.send((records, none, cx.socket().is_some())).unwrap();
            Ok(input.len())
        };
        let once = Once(Some(code), mpsc::channel().0);
        Some(Layered::new(Records::default(), Layered::new(Xor(1), once)))
    });
    let mut speaker = Speaker::connect(address, STACKS[1]());
    speaker.send(&[1; 500]);
    assert_eq!(records.recv(), Ok((Some(1), None, true)));
}

/// The receipt counts the handler's bytes, and the statistics those of the kernel.
#[test]
fn a_receipt_counts_plain_bytes_and_the_statistics_those_of_the_kernel() {
    let (running, mut speaker, ends) = once(STACKS[1], |cx, input| Ok(cx.write(input)));
    speaker.send(b"hello");
    assert_eq!(speaker.read_exactly(5), b"hello");
    speaker.end();
    speaker.read_to_end();
    assert_eq!(
        ends.recv().unwrap().figures(),
        (Reason::Finished, 5, 5, 0, 0)
    );
    let stats = running.stats();
    // The greeting, a record, the end.
    assert_eq!(
        (stats.bytes_received, stats.bytes_sent),
        (2 + 7 + 2, 2 + 7 + 2)
    );
}

/// A peer that begins no handshake, or stops in the middle of a record, is idle.
#[test]
fn an_idle_timeout_ends_a_handshake_that_stops() {
    for sent in [&b""[..], b"H", b"HI\0"] {
        let (told, ends) = mpsc::channel();
        let config =
            set(|config: &mut Config| config.idle_timeout = Some(Duration::from_millis(50)));
        let (_running, address) = Running::serve(config, move |_| {
            let code = |_: &mut Context<'_>, input: &[u8]| Ok(input.len());
            Some(Layered::new(
                Records::default(),
                Once(Some(code), told.clone()),
            ))
        });
        let mut stream = client(address);
        stream.write_all(sent).unwrap();
        assert_eq!(ends.recv().unwrap().reason, Reason::IdleTimeout);
        assert!(read_all(&mut stream).is_ok_and(|heard| heard == b"HI"));
    }
}

/// `finish` in `on_open`, before the handshake: the answer waits for it.
#[test]
fn an_end_before_the_handshake_waits_for_it() {
    for stack in STACKS {
        let (_running, address) = Running::serve(Config::default(), move |_| {
            Some(wrapped(stack, common::Say(b"good day")))
        });
        let mut speaker = Speaker::connect(address, stack());
        let (said, ended) = speaker.read_to_end();
        assert_eq!(said, b"good day");
        assert_ended(stack, &ended);
    }
}
