//! Layers where they meet what is not theirs: bytes from before they begin, ends, other connections.

mod common;

use common::{
    Echo, Panics, Receipt, Records, Running, Speaker, Xor, client, listen, read_all, set,
};
use doorkeeper::{Closed, Config, Context, Handler, Id, Layer, Layered, Others, Reason};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// Runs one closure when it opens, consumes all input, and tells its end.
struct Opens<F>(Option<F>, mpsc::Sender<Receipt>);

impl<F: FnOnce(&mut Context<'_>) -> io::Result<()> + 'static> Handler for Opens<F> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |code| code(cx))
    }
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.1.send(Receipt::of(closed)).unwrap();
    }
}

type OnData = fn(&mut Context<'_>, &[u8]) -> io::Result<usize>;

/// Runs a function when there is input, and tells its end.
struct Hears(OnData, mpsc::Sender<Receipt>);

impl Handler for Hears {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        (self.0)(cx, input)
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.1.send(Receipt::of(closed)).unwrap();
    }
}

/// Both ends of a connection.
fn socket_pair() -> (TcpStream, TcpStream) {
    let (listener, address) = common::blocking_listener();
    let stream = client(address);
    (stream, listener.accept().unwrap().0)
}

/// A record on the wire.
fn record(plain: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Records::default().write(plain, &mut wire).unwrap();
    wire
}

fn greet(cx: &mut Context<'_>) -> io::Result<()> {
    cx.write(b"!");
    Ok(())
}

fn last_words(cx: &mut Context<'_>) -> io::Result<()> {
    cx.write_all(b"good")?;
    cx.half_close();
    Ok(())
}

/// Other code knows the id of a connection before its first turn. What it sends then is not in front of the
/// handshake.
#[test]
fn what_is_sent_before_the_first_turn_goes_through_the_layers_too() {
    for what in ["send", "large", "close"] {
        let (told, ends) = mpsc::channel();
        let sent = vec![b's'; if what == "large" { 20_000 } else { 6 }];
        let (stream, peer) = socket_pair();
        let early = sent.clone();
        let (_running, ()) = Running::start(Config::default(), move |reactor| {
            let opens = Opens(Some(greet as fn(&mut Context<'_>) -> io::Result<()>), told);
            let inner = Layered::new(Xor(7), opens);
            let handler = Layered::new(Records::default(), inner);
            let id = reactor.adopt_stream(peer, handler).unwrap();
            assert_eq!(reactor.send(id, &early), early.len());
            if what == "close" {
                assert!(reactor.close(id));
            }
        });
        let mut speaker = Speaker::new(stream, vec![Box::<Records>::default(), Box::new(Xor(7))]);
        assert!(speaker.read_exactly(sent.len()) == sent, "{what}");
        if what != "close" {
            assert_eq!(speaker.read_exactly(1), b"!");
        }
        speaker.end();
        let (_, ended) = speaker.read_to_end();
        assert!(ended[0]);
        assert_eq!(ends.recv().unwrap().reason, Reason::Finished);
    }
}

/// A handler with a layer that takes over is no first one: what the one before it wrote leaves as it is, also
/// if it is still held.
#[test]
fn what_the_handler_before_wrote_leaves_before_the_layers_of_the_next() {
    let (told, _ends) = mpsc::channel();
    let (_running, address) = Running::serve(Config::default(), move |_| {
        let code: OnData = |cx, input| {
            cx.write_all(&vec![b'p'; 12_000_000])?;
            let opens = Opens(Some(last_words), mpsc::channel().0);
            let inner = Layered::new(Xor(2), opens);
            cx.become_handler(Layered::new(Xor(1), inner));
            Ok(input.len())
        };
        Some(Hears(code, told.clone()))
    });
    let mut stream = client(address);
    stream.write_all(b"x").unwrap();
    let mut heard = read_all(&mut stream).unwrap();
    let last = heard.split_off(12_000_000);
    assert!(heard.iter().all(|&byte| byte == b'p'));
    assert_eq!(last, b"good".map(|byte| byte ^ 3));
}

/// The peer ends by the layer's message alone, which comes with its last bytes, and waits for the end of
/// this side before its FIN.
#[test]
fn an_end_record_that_comes_with_the_last_bytes_is_heard_without_a_fin() {
    let (_running, address) = Running::serve(Config::default(), |_| {
        Some(Layered::new(Records::default(), Echo))
    });
    let mut stream = client(address);
    stream.write_all(b"HI").unwrap();
    assert_eq!(common::read_exactly(&mut stream, 2), b"HI");
    stream.write_all(&record(b"first")).unwrap();
    assert_eq!(common::read_exactly(&mut stream, 7), record(b"first"));
    let mut wire = record(b"tail");
    wire.extend([0, 0]);
    stream.write_all(&wire).unwrap();
    let mut answer = record(b"tail");
    answer.extend([0, 0]);
    assert_eq!(read_all(&mut stream).unwrap(), answer);
}

/// The upper layer has its greeting for the lower one, which waits for its peer.
#[test]
fn a_layer_that_waits_for_the_one_below_it_spins_not() {
    let (running, address) = Running::serve(Config::default(), |_| {
        Some(Layered::new(
            Records::default(),
            Layered::new(Records::default(), Echo),
        ))
    });
    let mut stream = client(address);
    assert_eq!(common::read_exactly(&mut stream, 2), b"HI");
    let before = running.stats().turns;
    common::pass(Duration::from_millis(50));
    let turns = running.stats().turns - before;
    assert!(turns < 10, "{turns} turns");
    drop(stream);
}

/// Much more than the output that is taken without `write_all`: reading stops for that, and must not here.
#[test]
fn output_beyond_its_limit_waits_for_a_handshake_that_goes_on() {
    let (told, _ends) = mpsc::channel();
    let (_running, address) = Running::serve(Config::default(), move |_| {
        let code = |cx: &mut Context<'_>| cx.write_all(&[b'x'; 300_000]);
        Some(Layered::new(
            Records::default(),
            Opens(Some(code), told.clone()),
        ))
    });
    let mut speaker = Speaker::connect(address, vec![Box::<Records>::default()]);
    assert!(speaker.read_exactly(300_000) == [b'x'; 300_000]);
}

/// Sends much to another connection by its id.
struct Sends(Id);

impl Handler for Sends {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        assert_eq!(cx.others.send(self.0, &[b'y'; 20_000]), 20_000);
        cx.write_all(b".")?;
        Ok(input.len())
    }
}

#[test]
fn the_statistics_count_what_a_callback_sends_elsewhere() {
    let (running, plain) = Running::serve(Config::default(), |_| Some(Echo));
    let mut other = client(plain);
    other.write_all(b"a").unwrap();
    other.read_exact(&mut [0]).unwrap();
    let layered = running.ask(|reactor| {
        let id = reactor.snapshot().connections[0].id;
        listen(reactor, move |_| Some(Layered::new(Xor(1), Sends(id))))
    });
    let mut stream = client(layered);
    stream.write_all(b"b").unwrap();
    assert_eq!(common::read_exactly(&mut stream, 1), b"/");
    assert!(common::read_exactly(&mut other, 20_000) == [b'y'; 20_000]);
    let stats = running.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent), (2, 20_002));
}

/// Answers every byte by itself, as a key update is answered.
struct Answers;

impl Layer for Answers {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<usize> {
        plain.extend(input);
        wire.extend(vec![b'a'; input.len()]);
        Ok(input.len())
    }
    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }
    fn end(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        wire.push(b'e');
        Ok(())
    }
}

/// Nothing can follow a FIN, so what a layer answers then is thrown away, and is no error.
#[test]
fn a_layer_that_answers_after_the_end_of_its_side_harms_nobody() {
    let codes: [OnData; 2] = [
        |cx, input| {
            cx.half_close();
            Ok(input.len())
        },
        |cx, input| {
            cx.finish();
            Ok(input.len())
        },
    ];
    for code in codes {
        let (told, ends) = mpsc::channel();
        let (_running, address) = Running::serve(Config::default(), move |_| {
            Some(Layered::new(Answers, Hears(code, told.clone())))
        });
        let mut stream = client(address);
        stream.write_all(b"x").unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"ae");
        stream.write_all(b"more").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!((end.reason, end.error), (Reason::Finished, None));
    }
}

/// The end that is asked for in the callback that adds a layer is that of the layer.
#[test]
fn an_end_in_the_callback_that_adds_a_layer_is_the_layers_end() {
    let codes: [OnData; 3] = [
        |cx, input| {
            cx.write_all(b"go")?;
            cx.add_layer(Records::default())?;
            cx.finish();
            Ok(input.len())
        },
        |cx, input| {
            cx.add_layer(Records::default())?;
            cx.half_close();
            Ok(input.len())
        },
        |cx, input| {
            cx.add_layer(Records::default())?;
            cx.finish_when_quiet();
            Ok(input.len())
        },
    ];
    for (number, code) in codes.into_iter().enumerate() {
        let (told, ends) = mpsc::channel();
        let (_running, address) =
            Running::serve(Config::default(), move |_| Some(Hears(code, told.clone())));
        let mut stream = client(address);
        stream.write_all(b"x").unwrap();
        let said = if number == 0 { &b"goHI"[..] } else { b"HI" };
        assert_eq!(common::read_exactly(&mut stream, said.len()), said);
        stream.write_all(b"HI").unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), [0, 0]);
        stream.write_all(&[0, 0]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!(
            (end.reason, end.error),
            (Reason::Finished, None),
            "{number}"
        );
    }
}

#[test]
fn a_layer_that_panics_when_it_is_asked_ends_its_connection() {
    let (told, ends) = mpsc::channel();
    let (running, address) = Running::serve(Config::default(), move |_| {
        let code: OnData = |cx, input| Ok(cx.write(input));
        Some(Layered::new(Panics::Asked, Hears(code, told.clone())))
    });
    let mut stream = client(address);
    stream.write_all(b"x").unwrap();
    assert_eq!(
        ends.recv_timeout(common::PATIENCE).unwrap().reason,
        Reason::Panic
    );
    assert_eq!(running.stats().panics, 1);
}

/// A second panic while the first one unwinds would end the process.
#[test]
fn two_layers_that_panic_when_they_are_dropped_end_one_connection() {
    let (told, ends) = mpsc::channel();
    let (running, address) = Running::serve(Config::default(), move |_| {
        let code: OnData = |cx, input| Ok(cx.write(input));
        let inner = Layered::new(Panics::Dropped, Hears(code, told.clone()));
        Some(Layered::new(Panics::Dropped, inner))
    });
    let mut stream = client(address);
    stream.write_all(b"x").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"x");
    assert_eq!(ends.recv().unwrap().reason, Reason::Finished);
    assert!(running.stats().panics > 0);
}

/// The wire form of output that waits is longer than the output, and is no answer of the layer.
#[test]
fn the_wire_form_of_output_is_not_counted_as_a_layers_answer() {
    let config = set(|config: &mut Config| {
        config.output_max_bytes = 65_536;
        config.output_hard_max_bytes = 65_536;
    });
    let (told, ends) = mpsc::channel();
    let (running, address) = Running::serve(config, move |_| {
        let code: OnData = |cx, input| {
            cx.write(&vec![b'z'; cx.room()]);
            Ok(input.len())
        };
        Some(Layered::new(Records::default(), Hears(code, told.clone())))
    });
    let mut stream = client(address);
    stream.write_all(b"HI").unwrap();
    // Until the kernel takes no more.
    while running.ask(|reactor| reactor.snapshot().connections[0].pending_out) < 65_536 {
        stream.write_all(&record(b"?")).unwrap();
        common::pass(Duration::from_millis(1));
    }
    stream.write_all(&record(b"?")).unwrap();
    let ended = ends.recv_timeout(Duration::from_millis(100));
    assert!(ended.is_err(), "{ended:?}");
}
