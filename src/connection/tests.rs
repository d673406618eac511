//! The machine without sockets: every sequence of what a peer and a kernel can do, up to four steps, with every handler and
//! every size of buffers below, over a memory socket that tells of each edge once; and up to three steps through a layer.

use super::*;
use crate::common::Common;
use crate::handler::Others;
use crate::layers::{Layer, Layers, Level, LevelLimits};
use crate::time::TimerKey;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::time::Duration;

/// What can happen between turns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The peer sends so many bytes in one piece.
    Data(usize),
    /// Two bytes that come in two pieces with one edge, as around urgent data.
    Split,
    Fin,
    Reset,
    /// The peer takes so many bytes out of the socket's buffer.
    Take(usize),
    /// Somebody wakes the connection, or its next timer is due.
    Wake,
    Later,
    /// Other code closes the connection in good order.
    Close,
    /// Other code sends so many bytes.
    Send(usize),
}

/// The last two in shorter sequences only.
const STEPS: [Step; 12] = [
    Step::Data(1),
    Step::Data(3),
    Step::Split,
    Step::Fin,
    Step::Reset,
    Step::Take(1),
    Step::Take(9),
    Step::Wake,
    Step::Later,
    Step::Close,
    Step::Send(1),
    Step::Send(3),
];
const LENGTH: u32 = 4;
const FEWER: usize = 10;

/// What the socket's own buffer takes.
const SOCKET_ROOM: usize = 2;

/// A socket in memory. It marks an edge when something arrives, and when there is room again after a refusal.
#[derive(Default)]
struct Memory {
    pieces: VecDeque<VecDeque<u8>>,
    fin: bool,
    reset: bool,
    /// SO_ERROR, which reports the reset once.
    error: bool,
    wire: Vec<u8>,
    taken: usize,
    refused: bool,
    awaited: bool,
    shut: bool,
    reads: usize,
    writes: usize,
    /// Whether the last read may have left something: it filled its buffer, or input comes in pieces.
    more: bool,
    scattered: bool,
    /// Whether a signal interrupts every second call.
    interrupting: bool,
    interrupted: bool,
}

impl Memory {
    fn interrupt(&mut self) -> io::Result<()> {
        self.interrupted = self.interrupting && !self.interrupted;
        if self.interrupted {
            Err(ErrorKind::Interrupted.into())
        } else {
            Ok(())
        }
    }

    fn room(&self) -> usize {
        SOCKET_ROOM - (self.wire.len() - self.taken)
    }

    /// The peer takes bytes; an edge only if a write was refused before. An event tells all there is to tell, a FIN of long ago too.
    fn free(&mut self, count: usize) -> Readiness {
        let count = count.min(self.wire.len() - self.taken);
        self.taken += count;
        if count == 0 || !self.awaited || !std::mem::take(&mut self.refused) {
            return Readiness::default();
        }
        if self.fin {
            Readiness::WRITABLE.union(Readiness::INPUT)
        } else {
            Readiness::WRITABLE
        }
    }
}

impl Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of no bytes looks like the end");
        self.interrupt()?;
        // After the FIN a read returns what has arrived and then 0, and never the reset: only
        // SO_ERROR and a write tell.
        if self.reset && !self.fin {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let Some(piece) = self.pieces.front_mut() else {
            assert!(
                self.fin || self.more || self.scattered,
                "a read for nothing"
            );
            return if self.fin {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        };
        let count = buffer.len().min(piece.len());
        buffer
            .iter_mut()
            .zip(piece.drain(..count))
            .for_each(|(place, byte)| *place = byte);
        self.pieces.retain(|piece| !piece.is_empty());
        self.reads += count;
        self.more = count == buffer.len();
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.shut, "written after the FIN");
        assert!(
            !self.refused || self.reset,
            "written again before there was room"
        );
        self.interrupt()?;
        self.writes += 1;
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.room());
        self.wire.extend(&bytes[..count]);
        self.refused |= count < bytes.len();
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }
}

impl LocalAddr for RefCell<Memory> {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(ErrorKind::NotConnected.into())
    }
}

impl Endpoint for RefCell<Memory> {
    fn read(&self, buffer: &mut [u8], _: CallScope<'_>) -> io::Result<usize> {
        self.borrow_mut().read(buffer)
    }

    fn write(&self, bytes: &[u8], _: CallScope<'_>) -> io::Result<usize> {
        self.borrow_mut().write(bytes)
    }

    fn take_error(&self, _: CallScope<'_>) -> io::Result<()> {
        match std::mem::take(&mut self.borrow_mut().error) {
            true => Err(ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    fn shutdown_write(&self, _: CallScope<'_>) -> io::Result<()> {
        assert!(
            !std::mem::replace(&mut self.borrow_mut().shut, true),
            "two FINs"
        );
        Ok(())
    }
}

/// A layer that changes every length: a byte is two on the wire, of which the first alone says nothing, and its output has an end.
struct Wide;

const END: u8 = 0xee;

impl Layer for Wide {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        let [byte, inverse, ..] = *input else {
            return Ok(0);
        };
        assert_eq!(inverse, !byte, "bytes in are those of the peer, in order");
        plain.push(byte);
        Ok(2)
    }

    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(widened(plain));
        Ok(())
    }

    fn end(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        wire.push(END);
        Ok(())
    }
}

fn widened(plain: &[u8]) -> Vec<u8> {
    plain.iter().flat_map(|&byte| [byte, !byte]).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    /// Consumes what it can send back.
    Echo,
    /// Consumes and echoes pairs, never half of one.
    Pairs,
    /// Refuses every second offer.
    Moody,
    /// Greets, and writes one byte more at each of the first drains.
    Chatty,
    /// Echoes, and adds a byte when the echo has left.
    Encore,
    /// Answers and finishes once it has two bytes.
    Short,
    /// Finishes by a timer, some time after the peer's end.
    Late,
    /// Finishes from the callback that says all has left.
    Drained,
    /// Fails at the second offer.
    Failing,
    /// Echoes two bytes, half-closes, and goes on listening; never finishes.
    Half,
    /// Greets, and passes what it hears elsewhere: consumes all, whatever becomes of its own output.
    Relaying,
    /// Consumes one byte at a time and echoes it six times, whatever room there is.
    Flood,
    /// Echoes, adds a byte when the echo has left, and three bytes some time after the first input. It
    /// finishes when nothing is under way.
    Quiet,
    /// Wants messages of three bytes, or of as many as fit, and answers each with a byte.
    Wanting,
}

/// How long the messages of `Wanting` are.
fn message_length(config: &Config) -> usize {
    config.input_max_bytes.min(3)
}

const STYLES: [Style; 14] = [
    Style::Echo,
    Style::Pairs,
    Style::Moody,
    Style::Chatty,
    Style::Encore,
    Style::Short,
    Style::Late,
    Style::Drained,
    Style::Failing,
    Style::Half,
    Style::Relaying,
    Style::Flood,
    Style::Quiet,
    Style::Wanting,
];

/// The handler under the machine. It keeps the books that the machine is checked against.
struct Probe {
    style: Style,
    sent_by_peer: Vec<u8>,
    consumed: usize,
    written: Vec<u8>,
    offers: usize,
    drains: usize,
    opened: usize,
    eofs: usize,
    finished: bool,
    half_closed: bool,
    encore: bool,
    wakes: usize,
    /// Input was left at the peer's end, after so many offers.
    left_at_eof: Option<usize>,
    /// Quiet: its timer is set.
    waits: bool,
    /// How much was written when it was last told that all had left.
    drained_at: usize,
    /// How much was written, and what room there was, when it was last offered something, and the length
    /// of that.
    offered_at: (usize, usize),
    offered: usize,
    /// Other code sent something.
    is_sent_to: bool,
}

impl Probe {
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        let (room, taken) = (cx.room(), cx.write(bytes));
        assert_eq!(taken, bytes.len().min(room));
        self.written.extend(&bytes[..taken]);
        taken
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        cx.finish();
        assert_eq!(cx.write(b"late"), 0);
        self.finished = true;
    }

    fn half_close(&mut self, cx: &mut Context<'_>) {
        cx.half_close();
        assert_eq!(cx.write(b"late"), 0);
        self.half_closed = true;
    }
}

impl Handler for Probe {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.opened += 1;
        if matches!(self.style, Style::Chatty | Style::Drained | Style::Relaying) {
            self.write(cx, b"hey");
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        assert!(self.opened == 1 && !self.finished && !input.is_empty());
        assert_eq!(
            input,
            &self.sent_by_peer[self.consumed..self.consumed + input.len()],
            "lost or offered twice"
        );
        self.offers += 1;
        self.offered_at = (self.written.len(), cx.room());
        self.offered = input.len();
        let count = match self.style {
            Style::Pairs => {
                let pairs = input.len().min(cx.room()) / 2 * 2;
                self.write(cx, &input[..pairs])
            }
            Style::Moody if self.offers % 2 == 0 => 0,
            Style::Short if self.consumed + input.len() >= 2 => {
                self.write(cx, b"ok");
                self.finish(cx);
                1
            }
            Style::Failing if self.offers == 2 => return Err(io::Error::other("on purpose")),
            Style::Short => 0,
            Style::Flood => {
                let answer = [input[0]; 6];
                cx.write_all(&answer)?;
                self.written.extend(answer);
                1
            }
            Style::Quiet if self.consumed == 0 => {
                self.waits = true;
                cx.set_timer(TimerKey(7), Duration::from_nanos(5));
                self.write(cx, input)
            }
            Style::Wanting => {
                let length = message_length(&cx.others.common.config);
                let count = input.len().min(cx.room() * length) / length;
                self.write(cx, &input[..count]);
                cx.want(length)?;
                count * length
            }
            Style::Half if self.half_closed => input.len(),
            Style::Relaying => input.len(),
            Style::Half => {
                let count = self.write(cx, input);
                if self.consumed + count >= 2 {
                    self.half_close(cx);
                }
                count
            }
            _ => self.write(cx, input),
        };
        self.encore = count > 0;
        self.consumed += count;
        Ok(count)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert!(!self.finished);
        self.drains += 1;
        self.drained_at = self.written.len();
        if self.half_closed {
            assert_eq!(cx.write(b"late"), 0);
        }
        match self.style {
            Style::Encore | Style::Quiet if std::mem::take(&mut self.encore) => {
                self.write(cx, b"!");
            }
            Style::Chatty if self.drains <= 3 => drop(self.write(cx, b"!")),
            Style::Drained => {
                self.write(cx, b"bye");
                self.finish(cx);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert!(!self.finished);
        self.eofs += 1;
        assert_eq!(self.eofs, 1);
        match self.style {
            Style::Late => cx.set_timer(TimerKey(7), Duration::from_nanos(5)),
            Style::Half => self.half_close(cx),
            Style::Pairs | Style::Quiet => {
                self.left_at_eof = (cx.unread() > 0).then_some(self.offers);
                cx.finish_when_quiet();
            }
            _ => self.finish(cx),
        }
        Ok(())
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert!(self.opened == 1 && !self.finished);
        self.wakes += 1;
        if self.style == Style::Pairs {
            cx.finish_when_quiet();
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        assert_eq!(key, TimerKey(7));
        if self.style == Style::Quiet {
            assert!(std::mem::take(&mut self.waits));
            self.write(cx, b"end");
        } else {
            self.finish(cx);
        }
        Ok(())
    }
}

/// The machine with everything around it.
struct Rig {
    machine: Machine,
    pending: Readiness,
    backlog: LazyBacklog,
    memory: RefCell<Memory>,
    probe: Probe,
    common: Common,
    buffer: Vec<u8>,
    output: Vec<u8>,
    end: Option<Reason>,
    /// Other code closed it.
    closed: bool,
    /// `Wide`, between the machine and the socket.
    layers: Option<Layers>,
    /// Bytes that the peer sent on the wire.
    arrived: usize,
}

impl Rig {
    fn new(style: Style, config: Config) -> Rig {
        let probe = Probe {
            style,
            sent_by_peer: Vec::new(),
            consumed: 0,
            written: Vec::new(),
            offers: 0,
            drains: 0,
            opened: 0,
            eofs: 0,
            finished: false,
            half_closed: false,
            encore: false,
            wakes: 0,
            left_at_eof: None,
            waits: false,
            drained_at: 0,
            offered_at: (0, 0),
            offered: 0,
            is_sent_to: false,
        };
        Rig {
            machine: Machine::new(Tick(0), false),
            pending: Readiness::default(),
            backlog: LazyBacklog::default(),
            memory: RefCell::default(),
            probe,
            buffer: vec![0; config.input_max_bytes.min(config.turn_budget_bytes)],
            output: Vec::new(),
            common: Common::new(config),
            end: None,
            closed: false,
            layers: None,
            arrived: 0,
        }
    }

    /// The same through a layer, which it has from the beginning.
    fn layered(mut self) -> Rig {
        let config = &self.common.config;
        let limits = LevelLimits {
            input: config.input_max_bytes,
            wire: config.output_max_bytes,
        };
        let (input, before, ended) = self.machine.add_layer(&mut self.backlog);
        let level = Level::new(Box::new(Wide), limits, input, before, ended);
        let mut layers = Layers::default();
        layers.push(level, true);
        self.layers = Some(layers);
        // Its presence is all that the machine is told.
        self.backlog.get_or_insert().layers = Some(Box::new(()));
        // It begins with a read, because a layer may be added at any time, and reads once more after one
        // that gave no whole byte.
        self.memory.borrow_mut().scattered = true;
        self
    }

    /// What this side has to put on the wire, if all of it leaves.
    fn wire(&self) -> Vec<u8> {
        let mut wire = self.probe.written.clone();
        if self.layers.is_some() {
            wire = widened(&wire);
            wire.push(END);
        }
        wire
    }

    /// The layer has bytes that the socket may take.
    fn layer_waits(&self) -> bool {
        let layers = self.layers.as_ref();
        layers.is_some_and(|layers| layers.is_writable() && layers.has_wire())
    }

    /// Lets a step happen, and the connection have every turn that it then has coming.
    fn step(&mut self, step: Step) {
        let edge = self.happen(step);
        let wakes = self.probe.wakes + usize::from(step == Step::Wake && !self.probe.finished);
        let mut due = self
            .machine
            .deadline(&self.backlog, Id::new(0, 0), &self.common)
            .is_some_and(|at| at <= self.common.now);
        // Other code queues the connection.
        due |= matches!(step, Step::Close | Step::Send(_));
        self.pending.insert(edge);
        let mut turns = 0;
        while self.end.is_none()
            && (due
                || self.pending != Readiness::default()
                || self.layer_waits()
                || self.machine.wants_turn(&self.backlog, &self.common.config))
        {
            due = false;
            self.turn();
            turns += 1;
            assert!(turns < 60, "spins");
        }
        assert!(
            self.end.is_some() || self.probe.wakes == wakes,
            "a wake is one on_wake"
        );
        self.check_at_rest();
    }

    fn happen(&mut self, step: Step) -> Readiness {
        let broken = self.memory.borrow().fin || self.memory.borrow().reset;
        let mut marks = Readiness::default();
        match step {
            Step::Data(count) if !broken => marks.insert(self.arrive(count)),
            Step::Split if !broken => {
                self.memory.borrow_mut().scattered = true;
                self.arrive(1);
                self.memory.borrow_mut().pieces.push_back(VecDeque::new());
                marks.insert(self.arrive(1)) | marks.insert(Readiness::UNDRAINED)
            }
            Step::Fin if !broken => {
                self.memory.borrow_mut().fin = true;
                marks.insert(Readiness::READABLE) | marks.insert(Readiness::UNDRAINED)
            }
            Step::Reset if !self.memory.borrow().reset => {
                self.memory.borrow_mut().reset = true;
                self.memory.borrow_mut().error = true;
                let both = Readiness::UNDRAINED.union(Readiness::WRITABLE);
                marks.insert(both.union(Readiness::ERROR))
            }
            Step::Take(count) => marks.insert(self.memory.borrow_mut().free(count)),
            Step::Wake => marks.insert(Readiness::WOKEN.union(Readiness::CALLED)),
            Step::Close => {
                (self.closed, self.probe.finished) = (true, true);
                self.machine.finish(&mut self.backlog, self.common.now);
                false
            }
            Step::Send(count) => {
                self.send_from_outside(&b"out"[..count]);
                false
            }
            Step::Later => {
                self.common.now = self.common.now.after(Duration::from_nanos(10));
                false
            }
            _ => false,
        };
        marks
    }

    fn send_from_outside(&mut self, bytes: &[u8]) {
        let scope = self.common.scope(Id::new(0, 0));
        let (machine, backlog) = (&mut self.machine, &mut self.backlog);
        let output_max = self.common.config.output_max_bytes;
        let room = machine.room(backlog, output_max);
        let taken = machine.push(
            bytes,
            backlog,
            Some(&self.memory),
            scope,
            &self.common,
            output_max,
        );
        assert_eq!(taken, bytes.len().min(room));
        self.probe.written.extend(&bytes[..taken]);
        self.probe.is_sent_to |= taken > 0;
    }

    fn arrive(&mut self, count: usize) -> Readiness {
        let range = self.arrived..self.arrived + count;
        self.arrived = range.end;
        let (all, wire): (Vec<u8>, Vec<u8>) = match &self.layers {
            None => {
                let all: Vec<u8> = (0..range.end).map(|at| at as u8).collect();
                (all.clone(), all)
            }
            // The peer sends halves of bytes too.
            Some(_) => {
                let all: Vec<u8> = (0..range.end.div_ceil(2)).map(|at| at as u8).collect();
                (all[..range.end / 2].to_vec(), widened(&all))
            }
        };
        self.probe.sent_by_peer = all;
        let bytes = wire[range].iter().copied();
        let pieces = &mut self.memory.borrow_mut().pieces;
        match pieces.back_mut() {
            Some(piece) => piece.extend(bytes),
            None => pieces.push_back(bytes.collect()),
        }
        Readiness::READABLE
    }

    fn turn(&mut self) {
        let (reads, writes) = (self.memory.borrow().reads, self.memory.borrow().writes);
        let full = self.backlog.output.len() == self.common.config.output_max_bytes;
        let choked =
            self.backlog.output.len() > self.common.config.output_max_bytes && !self.probe.finished;
        let stuck = full
            && !self.backlog.input.is_empty()
            && !self.probe.finished
            && !self.probe.half_closed;
        let wanted = self.backlog.wanted;
        let marks = self.pending.take();
        let (offers, ready) = (self.probe.offers, self.machine.ready);
        let offerable = marks.union(ready).intersects(Readiness::WOKEN);
        let was_open = !self.machine.discards();
        let received = self.machine.received;
        let result = self.run(marks);
        // It finished by itself, because nothing was under way.
        let by_itself = matches!(self.probe.style, Style::Pairs | Style::Quiet);
        if was_open && self.machine.discards() && by_itself {
            let discarded = self.backlog.discarded;
            let (left, offers) = (self.probe.left_at_eof, self.probe.offers);
            assert!(
                discarded == 0 || left.is_some_and(|before| offers > before),
                "finished while a request was under way"
            );
            self.probe.finished = true;
        }
        let unsent = self.output.drain(..).len();
        assert!(
            unsent == 0 || result.is_err(),
            "left for another connection to send"
        );
        assert!(
            self.memory.borrow().reads - reads <= self.common.config.turn_budget_bytes,
            "over the budget"
        );
        assert!(
            !stuck || self.memory.borrow().reads == reads,
            "read while output was full and input lay unconsumed"
        );
        assert!(
            !choked || self.memory.borrow().reads == reads && self.probe.offers == offers,
            "read or offered while too much output waited"
        );
        assert!(
            self.memory.borrow().writes - writes <= 1,
            "a turn sends once"
        );
        let is_bounded = self.backlog.output.len() <= self.common.config.output_max_bytes;
        assert!(is_bounded || self.probe.style == Style::Flood);
        assert!(self.backlog.input.len() <= self.common.config.input_max_bytes);
        let new = self.machine.received > received;
        // The end is a reason to offer what is less than is wanted.
        let ends = wanted > 0 && self.machine.input != Input::Open;
        assert!(
            self.probe.offers == offers || new || offerable || ends,
            "offered again for nothing"
        );
        assert!(
            self.probe.offers == offers
                || self.probe.offered >= wanted
                || self.machine.input != Input::Open,
            "offered less than is wanted"
        );
        let rests = !self.machine.wants_turn(&self.backlog, &self.common.config)
            && self.machine.ready.intersects(Readiness::WRITABLE);
        let layered = self.layers.is_some();
        assert!(
            rests || layered || !matches!(result, Ok(true)),
            "left lying"
        );
        if let Err(end) = result {
            self.end = Some(end.reason);
            self.check_receipt(end, unsent);
        } else {
            assert!(
                self.output.is_empty(),
                "left for another connection to send"
            );
            if self.machine.must_await_writable() {
                // Asking reports present readiness too.
                self.memory.borrow_mut().awaited = true;
                if self.memory.borrow().room() > 0 {
                    self.memory.borrow_mut().refused = false;
                    self.pending.insert(Readiness::WRITABLE);
                }
            }
        }
        assert!(
            self.wire().starts_with(&self.memory.borrow().wire),
            "bytes out are those written, in order"
        );
    }

    /// One turn of the machine, over the layer if there is one, as the reactor makes it.
    fn run(&mut self, mut marks: Readiness) -> Result<bool, End> {
        let present = self.backlog.take_layers();
        let (id, common, memory) = (Id::new(0, 0), &self.common, &self.memory);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let (output, mut ops) = (&mut self.output, ());
        let mut cx = Context {
            others: Others::new(id, common, output, &mut ops),
            peer: &peer,
            socket: None,
            backlog: &mut self.backlog,
        };
        let (machine, probe, buffer) = (&mut self.machine, &mut self.probe, &mut self.buffer[..]);
        let Some(layers) = &self.layers else {
            return machine.run(marks, buffer, memory, probe, &mut cx);
        };
        let writable = marks.intersects(Readiness::WRITABLE);
        let readable = marks.intersects(Readiness::INPUT);
        layers.begin(readable, writable, machine.discards());
        machine.set_writable(layers.is_writable(), layers.are_open());
        marks.remove(Readiness::WRITABLE);
        let stack = layers.over(memory);
        let result = machine.run(marks, buffer, &stack, probe, &mut cx);
        let result = result.and_then(|rests| {
            stack.flush(common.scope(id))?;
            Ok(rests)
        });
        machine.set_writable(layers.is_writable(), layers.are_open());
        self.backlog.get_or_insert().layers = present;
        layers.failed.take().map_or(result, Err)
    }

    fn check_receipt(&mut self, end: End, unsent: usize) {
        let who = (Id::new(0, 0), SocketAddr::from(([127, 0, 0, 1], 1)));
        let closed = self
            .machine
            .receipt(end, who, self.common.now, &self.backlog, unsent);
        let (wire, reads) = (self.memory.borrow().wire.len(), self.memory.borrow().reads);
        match self.layers {
            None => assert_eq!((closed.sent, closed.received), (wire as u64, reads as u64)),
            Some(_) => {
                assert!(2 * closed.sent <= wire as u64 && 2 * closed.received <= reads as u64)
            }
        }
        assert_eq!(
            (closed.sent + closed.unsent) as usize,
            self.probe.written.len()
        );
        assert_eq!(
            closed.discarded as usize,
            closed.received as usize - self.probe.consumed
        );
    }

    /// Nothing is queued any more: then nothing may be possible either.
    fn check_at_rest(&self) {
        if self.end.is_some() {
            return;
        }
        let (output, input) = (self.backlog.output.len(), self.backlog.input.len());
        let has_wire = self.layers.as_ref().is_some_and(Layers::has_wire);
        if output > 0 || has_wire {
            assert!(
                self.memory.borrow().room() == 0
                    && self.memory.borrow().awaited
                    && self.memory.borrow().refused,
                "output lies still"
            );
        }
        let unread = !self.memory.borrow().pieces.is_empty()
            || self.memory.borrow().fin && self.machine.input == Input::Open;
        if unread || self.memory.borrow().reset {
            let full = output == self.common.config.output_max_bytes && input > 0
                || output > self.common.config.output_max_bytes
                || input == self.common.config.input_max_bytes;
            // A reset is found by the next read or write; only a handler that will not consume leaves none to make.
            let found = !self.memory.borrow().reset || input > 0;
            assert!(full && found && !self.probe.finished, "input lies still");
        }
        if output == 0 && !self.probe.finished {
            assert_eq!(
                self.probe.drained_at,
                self.probe.written.len(),
                "not told that all has left"
            );
            let wanted = self.backlog.wanted;
            let heard = input == 0
                || input < wanted && self.machine.input == Input::Open
                || self.probe.offered_at
                    == (
                        self.probe.written.len(),
                        self.common.config.output_max_bytes,
                    );
            assert!(heard, "not offered again when all had left");
        }
        if self.machine.input != Input::Open && input == 0 {
            assert_eq!(
                self.probe.eofs + usize::from(self.probe.finished && self.probe.eofs == 0),
                1,
                "the end is not told"
            );
        }
    }

    /// A peer that reads everything and closes: whatever happened before, this must come to its end.
    fn conclude(&mut self) {
        for _ in 0..60 {
            [
                Step::Take(9),
                Step::Fin,
                Step::Take(9),
                Step::Wake,
                Step::Later,
            ]
            .into_iter()
            .for_each(|step| self.step(step));
        }
        let style = self.probe.style;
        let end = self.end.unwrap_or_else(|| panic!("never ends"));
        match end {
            Reason::Finished => {
                assert_eq!(
                    self.memory.borrow().wire,
                    self.wire(),
                    "the answer is whole"
                );
                assert!(
                    self.memory.borrow().fin && self.memory.borrow().pieces.is_empty(),
                    "closed with unread input"
                );
                let heard_out = self.closed
                    || style != Style::Half
                    || self.probe.consumed == self.probe.sent_by_peer.len();
                assert!(heard_out, "closed before all was consumed");
            }
            Reason::Reset => assert!(self.memory.borrow().reset),
            // A layer is not content with half of a byte before the end.
            Reason::HandlerError => {
                let half = self.layers.is_some() && self.arrived % 2 == 1;
                assert!(style == Style::Failing || half);
            }
            other => panic!("{other}"),
        }
        if style == Style::Quiet && end == Reason::Finished && !self.closed {
            assert!(!self.probe.waits, "ended before its timer");
            assert_eq!(self.probe.consumed, self.probe.sent_by_peer.len());
        }
        if style == Style::Wanting && end == Reason::Finished && !self.closed {
            let length = message_length(&self.common.config);
            let messages = self.probe.sent_by_peer.len() / length;
            assert_eq!(self.probe.consumed, messages * length, "every message");
        }
        let alone = !self.closed && !self.probe.is_sent_to;
        if style == Style::Echo && end == Reason::Finished && alone {
            assert_eq!(
                self.probe.written, self.probe.sent_by_peer,
                "the echo is whole"
            );
        }
    }
}

/// Each step has turns of its own in the conversations below, so this is a case beside them.
#[test]
fn a_wake_and_input_in_one_turn_are_both_told() {
    let mut rig = Rig::new(Style::Echo, Config::default());
    rig.turn();
    let marks = rig.happen(Step::Data(1)).union(rig.happen(Step::Wake));
    rig.pending.insert(marks);
    rig.turn();
    assert_eq!((rig.probe.wakes, rig.probe.written.len()), (1, 1));
}

/// Sizes so small that every limit is met within a few bytes.
fn sizes() -> Vec<Config> {
    let size = |input_max_bytes, output_max_bytes, turn_budget_bytes| Config {
        input_max_bytes,
        output_max_bytes,
        turn_budget_bytes,
        linger_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    vec![size(2, 1, 1), size(4, 3, 2), size(3, 4, 9)]
}

/// 10⁴ sequences, fourteen handlers, three sizes: 410,000 conversations, each checked after every turn and
/// brought to its end; those of three steps once more, with interruptions; and of three steps with sends from
/// outside.
#[test]
fn every_short_conversation_keeps_every_byte_and_never_lies_still() {
    every_conversation(&STEPS[..FEWER], LENGTH, false, |rig| rig);
    every_conversation(&STEPS[..FEWER], LENGTH - 1, true, |rig| rig);
    every_conversation(&STEPS, LENGTH - 1, false, |rig| rig);
    every_conversation(&STEPS, LENGTH - 2, true, |rig| rig);
}

/// The same through a layer that changes every length: three steps, and two with interruptions.
#[test]
fn every_shorter_conversation_does_so_through_a_layer() {
    every_conversation(&STEPS, LENGTH - 1, false, Rig::layered);
    every_conversation(&STEPS, LENGTH - 2, true, Rig::layered);
}

fn every_conversation(steps: &[Step], length: u32, interrupting: bool, with: fn(Rig) -> Rig) {
    for config in sizes() {
        // A pair must fit, or it can never be answered.
        for style in STYLES
            .into_iter()
            .filter(|&style| style != Style::Pairs || config.output_max_bytes >= 2)
        {
            for number in 0..steps.len().pow(length) {
                let steps: Vec<Step> = (0..length)
                    .map(|at| steps[number / steps.len().pow(at) % steps.len()])
                    .collect();
                converse(with, style, &steps, &config, interrupting);
            }
        }
    }
}

fn converse(
    with: fn(Rig) -> Rig,
    style: Style,
    steps: &[Step],
    config: &Config,
    interrupting: bool,
) {
    let told = catch_unwind(|| {
        let mut rig = with(Rig::new(style, config.clone()));
        rig.memory.borrow_mut().interrupting = interrupting;
        rig.turn();
        steps.iter().for_each(|&step| rig.step(step));
        rig.conclude();
    });
    assert!(
        told.is_ok(),
        "{style:?} {steps:?} {config:?}, interrupted: {interrupting}"
    );
}
