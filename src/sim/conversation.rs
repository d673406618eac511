//! A protocol in one line, checked over what a network and a peer may do to it.

use super::explore::{explore_tests, seeds};
use super::peer::Peer;
use super::run::Sim;
use super::speaker::{Parts, Speaker};
use super::story::shown;
use crate::config::Config;
use crate::handler::Handler;
use crate::layers::Layer;
use crate::reactor::Reactor;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// How many random networks a conversation is also checked on.
const SEEDS: u64 = 100;
/// Input of at most this length is split in every way, longer input at every place and at all places.
const ALL_SPLITS: usize = 10;
/// The most bytes of output that a socket takes at a time.
const MOST_TAKEN: usize = 64;

const HALF_CLOSES: &str = "half-closes";

/// A step of the peer.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    HalfClose,
    ExpectEnd,
}

impl<F> fmt::Debug for Conversation<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}

/// What a peer says to a handler, and what it must answer. Made by [`conversation`].
#[must_use = "nothing is checked before `check`"]
pub struct Conversation<F> {
    make: Rc<F>,
    steps: Vec<Step>,
    config: Config,
    pipelined: bool,
    longest_answer: usize,
    layer: Option<MakeLayer>,
    /// Bytes that the peer sends through the layer in a conversation, known after the first one.
    wire_length: Cell<Option<usize>>,
    connects: bool,
}

type MakeLayer = Box<dyn Fn() -> Box<dyn Layer>>;

/// Begins a conversation with a handler. The closure makes one for each connection.
///
/// ```
/// use doorkeeper::{Context, Handler, sim};
/// use std::io;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
///         Ok(cx.write(input))
///     }
/// }
///
/// sim::conversation(|| Echo).send(b"hello").expect(b"hello").half_close().expect_end().check();
/// ```
pub fn conversation<H: Handler, F: Fn() -> H + 'static>(make: F) -> Conversation<F> {
    Conversation {
        make: Rc::new(make),
        steps: Vec::new(),
        config: Config::default(),
        pipelined: true,
        longest_answer: 0,
        layer: None,
        wire_length: Cell::new(None),
        connects: false,
    }
}

impl<H: Handler, F: Fn() -> H + 'static> Conversation<F> {
    /// The peer sends these bytes.
    pub fn send(mut self, bytes: &[u8]) -> Self {
        self.steps.push(Step::Send(bytes.to_vec()));
        self
    }

    /// The peer waits until it has received these bytes, and no others. One answer of the handler is one
    /// call: a handler whose output has room for the longest must not lose any.
    pub fn expect(mut self, bytes: &[u8]) -> Self {
        self.longest_answer = self.longest_answer.max(bytes.len());
        match self.steps.last_mut() {
            Some(Step::Expect(before)) => before.extend(bytes),
            _ => self.steps.push(Step::Expect(bytes.to_vec())),
        }
        self
    }

    /// The peer ends its output.
    pub fn half_close(mut self) -> Self {
        self.steps.push(Step::HalfClose);
        self
    }

    /// The peer waits for the end of the handler's output, in order (FIN).
    pub fn expect_end(mut self) -> Self {
        self.steps.push(Step::ExpectEnd);
        self
    }

    /// The reactor's limits. Default `Config::default()`.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The longest answer that the handler makes, in bytes, if none of this conversation is as long. A
    /// handler that consumes a request only when there is room for any answer needs that much.
    pub fn answer_max(mut self, bytes: usize) -> Self {
        self.longest_answer = self.longest_answer.max(bytes);
        self
    }

    /// The peer always waits for an answer before it goes on. Without this it may also send all its
    /// input at once, as any TCP peer may.
    pub fn in_turn(mut self) -> Self {
        self.pipelined = false;
        self
    }

    /// The peer speaks through a layer, such as the client's side of TLS. The closure makes one for each
    /// connection. What it sends and expects is plain; what is split, and what an end comes after, are the
    /// bytes on the wire. The layer must make the same number of bytes each time. If the peer's end cuts
    /// them short, it is only checked that the connection ends.
    pub fn through<L: Layer>(mut self, layer: impl Fn() -> L + 'static) -> Self {
        self.layer = Some(Box::new(move || Box::new(layer())));
        self
    }

    /// The handler has a connection that the reactor makes, and the peer accepts it.
    pub fn connecting(mut self) -> Self {
        self.connects = true;
        self
    }

    /// Checks the conversation:
    ///
    /// - with the input split in every way (above ten bytes: at every place, and at all places);
    /// - with a socket that takes 1, 2, 3 … bytes of the output at a time;
    /// - with all input sent at once to a handler whose output has room for one answer, by a peer that
    ///   reads only at the end;
    /// - with the peer's half-close, close and reset after each byte of the input: the connection must
    ///   end, and after a half-close the answers to all that was sent must arrive;
    /// - on a hundred random networks.
    ///
    /// # Panics
    /// If a check fails, as [`explore`](super::explore) does, with the story of the shortest failure.
    #[track_caller]
    pub fn check(self) {
        explore_tests(|sim| self.vary(sim));
        seeds(0..SEEDS, |sim| self.talk(sim, false));
    }

    /// One variation, which the simulation chooses.
    fn vary(&self, sim: &Sim) {
        let early = |sim: &Sim| sim.choose(self.input_length() + 1);
        match sim.choose(if self.pipelined { 7 } else { 6 }) {
            0 => self.talk(sim, false),
            1 => {
                sim.tell("the peer's input arrives in parts");
                self.talk(sim, true);
            }
            2 => {
                let takes = 1 + sim.choose(self.output_length().clamp(1, MOST_TAKEN));
                sim.tell(&format!("the socket takes {takes} bytes at a time"));
                sim.set_buffers(takes, 65_536);
                self.talk(sim, false);
            }
            3 => self.end_early(sim, early(sim), HALF_CLOSES, Peer::half_close),
            4 => self.end_early(sim, early(sim), "closes", Peer::close),
            5 => self.end_early(sim, early(sim), "resets", Peer::reset),
            _ => self.read_late(sim),
        }
    }

    /// The whole conversation.
    fn talk(&self, sim: &Sim, split: bool) {
        let (server, mut peer) = self.begin(sim, self.config.clone());
        if split && self.layer.is_some() {
            let length = self.input_length();
            peer.set_parts(match sim.choose(length) + 1 {
                all if all == length => Parts::Bytes,
                at => Parts::At(at),
            });
        }
        let mut expected = Vec::new();
        for step in &self.steps {
            match step {
                Step::Send(bytes) if split && self.layer.is_none() => {
                    send_split(sim, &peer.peer, bytes)
                }
                Step::Send(bytes) => peer.send(sim, bytes),
                Step::Expect(bytes) => {
                    expected.extend(bytes);
                    expect(sim, &mut peer, &expected);
                }
                Step::HalfClose => peer.half_close(sim),
                Step::ExpectEnd => expect_end(sim, &mut peer, &expected),
            }
        }
        peer.run(sim, Sim::run_now);
        check_output(&peer, &expected);
        self.wire_length.set(Some(peer.sent()));
        peer.peer.close();
        check_closed(sim, &server);
    }

    /// The peer goes after a part of its input. After a half-close it still gets the answers to what it
    /// sent.
    fn end_early(&self, sim: &Sim, after: usize, how: &str, end: impl Fn(&Peer)) {
        let waits = sim.choose(2) == 0;
        if !waits {
            // A handshake is long.
            let takes = if self.layer.is_some() { MOST_TAKEN } else { 1 };
            sim.tell(&format!(
                "the socket takes {takes} bytes at a time, and the end follows the input at once"
            ));
            sim.set_buffers(takes, 65_536);
        }
        let (server, mut peer) = self.begin(sim, self.config.clone());
        let expected = match self.layer {
            None => self.say_some(sim, &mut peer, after, how == HALF_CLOSES),
            Some(_) => self.say_some_through(sim, &mut peer, after),
        };
        if waits {
            peer.run(sim, Sim::run_now);
        }
        sim.tell(&format!("the peer {how} after {after} bytes of input"));
        // The layer says its end before the FIN. If the input is cut short, it has none to say.
        let is_whole = self.layer.is_some() && how == HALF_CLOSES && after == self.input_length();
        if is_whole {
            peer.set_most(usize::MAX);
            peer.half_close(sim);
        }
        end(&peer.peer);
        check_closed(sim, &server);
        if is_whole {
            peer.run(sim, Sim::run_now);
            return check_output(&peer, &self.whole_answer());
        }
        let received = peer.received();
        assert!(
            received.starts_with(&expected),
            "the peer {how} after {after} bytes of input: expected {}, received {}",
            shown(&expected),
            shown(&received)
        );
    }

    /// A part of the input. Returns what must have been answered: if the peer goes on reading, with the
    /// answer to the last input.
    fn say_some(&self, sim: &Sim, peer: &mut Speaker, after: usize, reads: bool) -> Vec<u8> {
        let (mut left, mut expected) = (after, Vec::new());
        let mut steps = self.steps.iter();
        while left > 0 {
            match steps.next() {
                Some(Step::Send(bytes)) => {
                    let part = bytes.len().min(left);
                    peer.send(sim, &bytes[..part]);
                    left -= part;
                    if part < bytes.len() {
                        steps = [].iter();
                    }
                }
                Some(Step::Expect(bytes)) => {
                    expected.extend(bytes);
                    expect(sim, peer, &expected);
                }
                Some(Step::HalfClose | Step::ExpectEnd) | None => break,
            }
        }
        for step in steps.take_while(|_| reads) {
            match step {
                Step::Expect(bytes) => expected.extend(bytes),
                _ => break,
            }
        }
        expected
    }

    /// Sends input until `after` bytes are on the wire. Returns what was answered.
    fn say_some_through(&self, sim: &Sim, peer: &mut Speaker, after: usize) -> Vec<u8> {
        peer.set_most(after);
        peer.run(sim, Sim::run_now);
        let mut expected = 0;
        for step in &self.steps {
            match step {
                Step::Send(bytes) => peer.send(sim, bytes),
                Step::Expect(bytes) => expected += bytes.len(),
                Step::HalfClose => peer.half_close(sim),
                Step::ExpectEnd => {}
            }
            can_reach(sim, peer, |peer| {
                peer.is_silent() || peer.received().len() >= expected
            });
            if peer.is_silent() {
                break;
            }
        }
        peer.received()
    }

    /// All input at once, little room for output, and a peer that reads only when nothing moves.
    fn read_late(&self, sim: &Sim) {
        sim.set_buffers(4, 4);
        let mut config = self.config.clone();
        config.output_max_bytes = config.output_max_bytes.min(self.longest_answer.max(1));
        let room = config.output_max_bytes;
        sim.tell(&format!(
            "the output has room for {room} bytes (see `answer_max`)"
        ));
        sim.tell("the peer sends everything at once, and reads when nothing moves any more");
        let (server, mut peer) = self.begin(sim, config);
        // A handshake is an exchange.
        can_reach(sim, &mut peer, Speaker::is_open);
        peer.peer.stop_reading();
        let mut expected = Vec::new();
        for step in &self.steps {
            match step {
                Step::Send(bytes) => peer.send(sim, bytes),
                Step::Expect(bytes) => expected.extend(bytes),
                Step::HalfClose => peer.half_close(sim),
                Step::ExpectEnd => {}
            }
        }
        peer.run(sim, Sim::run_now);
        peer.peer.read_all();
        expect(sim, &mut peer, &expected);
        peer.run(sim, Sim::run_now);
        check_output(&peer, &expected);
        peer.peer.close();
        check_closed(sim, &server);
    }

    fn begin(&self, sim: &Sim, config: Config) -> (Rc<RefCell<Reactor>>, Speaker) {
        let address = SocketAddr::from(([10, 0, 0, 1], 7));
        let reactor = sim
            .reactor(config)
            .expect("the limits of the config are valid");
        let layer = self.layer.as_ref().map(|layer| layer());
        let peer = if self.connects {
            let listening = sim.listen(address, 1);
            let listening = listening.expect("a simulation begins without a listener");
            let connected = reactor.borrow_mut().connect(address, (self.make)());
            connected.expect("a reactor begins with free slots");
            sim.run_until(|| listening.waiting() > 0);
            listening.accept().expect("a connection waits")
        } else {
            let make = Rc::clone(&self.make);
            let listener = reactor.borrow_mut().listen(address, move |_| Some(make()));
            listener.expect("a simulation begins without a listener");
            sim.connect(address)
        };
        (reactor, Speaker::new(peer, layer))
    }

    /// All that the peer expects.
    fn whole_answer(&self) -> Vec<u8> {
        let answers = self.steps.iter().filter_map(|step| match step {
            Step::Expect(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        answers.flatten().copied().collect()
    }

    /// Bytes of the input: on the wire, if the peer speaks through a layer.
    fn input_length(&self) -> usize {
        if self.layer.is_some() {
            if self.wire_length.get().is_none() {
                self.talk(&Sim::plain(), false);
            }
            return self.wire_length.get().expect("a conversation was held");
        }
        let sent = self.steps.iter().map(|step| match step {
            Step::Send(bytes) => bytes.len(),
            _ => 0,
        });
        sent.sum()
    }

    fn output_length(&self) -> usize {
        match self.layer {
            None => self.whole_answer().len(),
            Some(_) => MOST_TAKEN,
        }
    }
}

/// Between two parts everything that can happen does.
fn send_split(sim: &Sim, peer: &Peer, bytes: &[u8]) {
    let mut rest = bytes;
    for length in parts(sim, bytes.len()) {
        let (part, more) = rest.split_at(length);
        peer.send(part);
        sim.run_now();
        rest = more;
    }
    peer.send(rest);
}

/// The lengths of the parts before the last one. A short input is split in every way.
fn parts(sim: &Sim, length: usize) -> Vec<usize> {
    if length > ALL_SPLITS {
        return match sim.choose(length) + 1 {
            all if all == length => vec![1; length - 1],
            at => vec![at],
        };
    }
    let (mut parts, mut from) = (Vec::new(), 0);
    for at in 1..length {
        if sim.choose(2) == 0 {
            parts.push(at - from);
            from = at;
        }
    }
    parts
}

/// Runs until the condition is true. False if nothing is left to happen before.
#[track_caller]
fn can_reach(sim: &Sim, peer: &mut Speaker, condition: impl Fn(&Speaker) -> bool) -> bool {
    sim.can_reach(|| {
        peer.pump(sim);
        condition(peer)
    })
}

#[track_caller]
fn expect(sim: &Sim, peer: &mut Speaker, expected: &[u8]) {
    let arrived =
        |peer: &Speaker| peer.received().len() >= expected.len() || peer.peer.ending().is_some();
    if !can_reach(sim, peer, arrived) {
        let received = peer.received();
        panic!(
            "expected {}, received {}, and nothing is left to happen; {}",
            shown(expected),
            shown(&received),
            sim.describe()
        );
    }
    peer.pump(sim);
    check_output(peer, expected);
}

#[track_caller]
fn check_output(peer: &Speaker, expected: &[u8]) {
    let received = peer.received();
    assert!(
        received == expected,
        "expected {}, received {}{}",
        shown(expected),
        shown(&received),
        peer.peer
            .ending()
            .map_or(String::new(), |ending| format!(", then {ending:?}"))
    );
}

#[track_caller]
fn expect_end(sim: &Sim, peer: &mut Speaker, expected: &[u8]) {
    if !can_reach(sim, peer, |peer| peer.peer.ending().is_some()) {
        panic!("nothing is left to happen; {}", sim.describe());
    }
    peer.check_end(sim);
    check_output(peer, expected);
}

/// The peer is gone, so the connection must end, by itself or by a timeout.
#[track_caller]
fn check_closed(sim: &Sim, server: &Rc<RefCell<Reactor>>) {
    sim.run_to_rest();
    let open = server.borrow().stats().open;
    assert_eq!(open, 0, "the peer is gone, and the connection stays open");
}
