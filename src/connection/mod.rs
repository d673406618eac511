//! One connection as a state machine: it knows no socket, no poller and no clock.
//!
//! # A turn
//! A turn reads once (`read.rs`), makes the callbacks (`callbacks.rs`), and sends once (`send.rs`).
//! [`Machine::run`] is the turn of a plain connection, in one piece; whatever is not plain takes a
//! detour through [`Turn`]. Afterwards [`Machine::wants_turn`] derives from the state whether the next
//! turn can make progress without an event. Nothing stores that, so it cannot be wrong.
//!
//! # States
//! The state is a pair: what the peer may still send ([`Input`]) and what this side may still send
//! ([`Output`]). These pairs are legal between turns; a debug assertion checks them after each turn.
//! `next` lists what one step leads to. A step is: the FIN is read, `on_eof` is called, the handler
//! half-closes, finishes or asks to finish when it is quiet, all is sent. One turn can take several: with
//! the default `on_eof`, a connection with nothing under way goes from 1 to the end in the turn that reads
//! the FIN.
//!
//! | | input | output | RFC 9293, section 3.3.2 | the peer sees | next |
//! |---|---|---|---|---|---|
//! | 1 | Open | Open | ESTABLISHED | an open connection | 2 4 10 13 |
//! | 2 | Ended | Open | CLOSE-WAIT; `on_eof` is not called yet, because input is held and output waits | open, after its FIN | 3 5 11 14 |
//! | 3 | Reported | Open | CLOSE-WAIT; `on_eof` was called | the same | 6 11 15 |
//! | 4 | Open | Ending | ESTABLISHED; CLOSE is queued behind output (section 3.10.4) | output | 5 7 10 |
//! | 5 | Ended | Ending | CLOSE-WAIT; as 2, with CLOSE queued | output | 6 8 11 |
//! | 6 | Reported | Ending | CLOSE-WAIT; as 3, with CLOSE queued | output | 9 11, end |
//! | 7 | Open | Ended | FIN-WAIT-1, FIN-WAIT-2 | EOF, and it can still send | 8 12 |
//! | 8 | Ended | Ended | LAST-ACK or CLOSING; a turn is queued, in which held input is offered | EOF | 9, end |
//! | 9 | Reported | Ended | as 8; input is held until the handler consumes it | EOF | end |
//! | 10 | Discarding | Ending | ESTABLISHED; the handler finished | output | 11 12 |
//! | 11 | Discarded | Ending | CLOSE-WAIT; the handler finished | output | end |
//! | 12 | Discarding | Ended | FIN-WAIT-1, FIN-WAIT-2: lingering | EOF; what it sends is thrown away | end |
//! | 13 | Open | UntilQuiet | ESTABLISHED; as 1, and the handler finishes once nothing is under way | an open connection | 4 10 14 |
//! | 14 | Ended | UntilQuiet | CLOSE-WAIT; as 2, and so | the same as 2 | 5 11 15 |
//! | 15 | Reported | UntilQuiet | CLOSE-WAIT; as 3, and so | the same as 3 | 6 11 |
//!
//! ```text
//!   input    Open ──FIN read──▶ Ended ──on_eof──▶ Reported          output   Open ──finish_when_quiet──▶ UntilQuiet
//!              │                  │                  │                        │ half_close, finish             │ quiet, or the
//!            finish             finish             finish                     ▼                                │ same as Open
//!              ▼                  ▼                  ▼                       Ending ◀────────────────────────┘
//!          Discarding ──FIN read──▶ Discarded ◀──────┘                        │ all is sent: FIN
//!                                                                             ▼
//!   end: output Ended, and input Discarded, or Reported with none held      Ended
//! ```
//!
//! The end that is drawn is [`Reason::Finished`]. Every pair can also end by a reset or another socket
//! error, an idle timeout, `max_lifetime`, `min_rate`, an error or a panic of a callback or of a layer, and
//! `abort`. In 12 the linger timeout takes the place of the idle timeout and of `min_rate`. 10 and 12 also end
//! at the linger limit, and, with `close_when_sent`, once all is sent and nothing is unread.
//!
//! # Why input is discarded until the peer ends
//! Linux resets a connection that is closed with unread input (RFC 1122, section 4.2.2.13; RFC 2525,
//! section 2.17), and the reset destroys the part of the answer that the peer has not read. So after
//! `finish` the machine sends all output and the FIN, and then reads and throws away input until the
//! peer's FIN.

mod callbacks;
mod clock;
#[cfg(feature = "sim")]
pub(crate) mod invariants;
mod outside;
mod read;
mod send;
#[cfg(test)]
mod tests;

use crate::buffers::LazyBacklog;
use crate::closed::{Closed, End, Reason};
use crate::config::Config;
use crate::handler::{Context, Handler, Intent, LocalAddr};
use crate::id::Id;
use crate::observe::{CallScope, ConnectionState, ConnectionView};
use crate::readiness::Readiness;
use crate::time::Tick;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What the machine needs of a socket.
pub(crate) trait Endpoint: LocalAddr {
    fn read(&self, buffer: &mut [u8], scope: CallScope<'_>) -> io::Result<usize>;
    fn write(&self, bytes: &[u8], scope: CallScope<'_>) -> io::Result<usize>;
    /// The socket's pending error, which is cleared (SO_ERROR, socket(7)).
    fn take_error(&self, scope: CallScope<'_>) -> io::Result<()>;
    /// How many bytes the kernel holds of what was written: not sent, or not acknowledged by the peer. A
    /// FIN does not count. `None` if that is not known.
    fn undelivered(&self) -> Option<u32> {
        None
    }
    /// Sends the FIN. `WouldBlock` if something must leave before it: it is called again in a later turn.
    fn shutdown_write(&self, scope: CallScope<'_>) -> io::Result<()>;
    /// True if the output must end with [`shutdown_write`](Endpoint::shutdown_write), because a layer has an
    /// end of its own, and a close sends only a FIN.
    fn has_end(&self) -> bool {
        false
    }
    /// True if the last read may have left something although it was short.
    fn has_more(&self) -> bool {
        false
    }
    /// True if bytes moved in this turn that may not show in a result, such as those of a handshake.
    fn has_moved(&self) -> bool {
        false
    }
}

/// What the peer may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The peer's FIN was read.
    Ended,
    /// And `on_eof` was called.
    Reported,
    /// The handler finished: input is thrown away until the FIN.
    Discarding,
    /// The handler finished, and the FIN was read.
    Discarded,
}

/// What this side may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The same, and the handler finishes once nothing is under way.
    UntilQuiet,
    /// No more is taken; the FIN follows what is held.
    Ending,
    /// The FIN was sent.
    Ended,
}

/// The callback that the next turn starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    /// `on_open`.
    Open,
    /// `on_drain`: all output was sent in a turn whose budget was spent, or from outside a turn.
    Drain,
    /// None: other code ended the connection, or could not send to it, and the next turn closes it before
    /// it sends anything.
    End(Reason),
}

/// The machine. Held input and output are kept beside it, in the backlog, where callbacks reach them.
#[derive(Debug)]
pub(crate) struct Machine {
    received: u64,
    sent: u64,
    opened: Tick,
    /// When a byte last moved; while lingering, when that began.
    active: Tick,
    input: Input,
    output: Output,
    pending: Pending,
    /// Operations that may succeed. READABLE is cleared by a short read, UNDRAINED only by
    /// WouldBlock. WRITABLE is cleared by a short write. WOKEN says that held input must be offered
    /// again; while none is held it means nothing.
    ready: Readiness,
    /// The poller was asked for write readiness.
    awaits_writable: bool,
}

impl Machine {
    /// `awaits_writable`: the poller was asked for write readiness, as it is to connect.
    pub(crate) fn new(now: Tick, awaits_writable: bool) -> Machine {
        Machine {
            received: 0,
            sent: 0,
            opened: now,
            active: now,
            input: Input::Open,
            output: Output::Open,
            pending: Pending::Open,
            ready: Readiness::WRITABLE,
            awaits_writable,
        }
    }

    /// An outgoing connection is established: from now on its times count.
    pub(crate) fn establish(&mut self, now: Tick) {
        (self.opened, self.active) = (now, now);
    }

    /// The handler finished.
    pub(crate) fn discards(&self) -> bool {
        matches!(self.input, Input::Discarding | Input::Discarded)
    }

    /// The handler is told what happens: it was opened, it has not finished, and no other takes over after
    /// the turn.
    fn hears(&self) -> bool {
        self.pending != Pending::Open && !self.discards()
    }

    /// The handler finished and the FIN was sent: only the peer's FIN is missing.
    fn lingers(&self) -> bool {
        self.output == Output::Ended && self.discards()
    }

    /// Lingering is timed from when it begins.
    fn note_lingering(&mut self, now: Tick) {
        if self.lingers() {
            self.active = now;
        }
    }

    /// True if nothing is held or pending and both sides are open. Most connections are in this state
    /// most of the time.
    #[inline(always)]
    fn is_plain(&self, backlog: &LazyBacklog) -> bool {
        self.input == Input::Open
            && self.output == Output::Open
            && self.pending == Pending::Nothing
            && !backlog.is_allocated()
    }

    /// True if a plain connection can do nothing before an event: there is nothing to read, and output
    /// can be sent.
    #[inline(always)]
    fn waits(&self) -> bool {
        let marks = Readiness::INPUT.union(Readiness::WRITABLE);
        let marks = marks.union(Readiness::SHUTDOWN);
        self.ready.intersection(marks) == Readiness::WRITABLE
    }

    /// How much output can be taken now.
    pub(crate) fn room(&self, backlog: &LazyBacklog, output_max: usize) -> usize {
        match self.output {
            Output::Open | Output::UntilQuiet => output_max.saturating_sub(backlog.output.len()),
            Output::Ending | Output::Ended => 0,
        }
    }

    /// Takes no more output; the FIN follows what is held.
    pub(crate) fn half_close(&mut self) {
        if matches!(self.output, Output::Open | Output::UntilQuiet) {
            self.output = Output::Ending;
        }
    }

    /// True if the handler has nothing to do any more that the machine knows of. WOKEN says that held
    /// input is to be offered again.
    fn is_quiet(&self, backlog: &LazyBacklog) -> bool {
        let given_up = self.input == Input::Reported && !self.ready.intersects(Readiness::WOKEN);
        self.pending == Pending::Nothing
            && backlog.output.is_empty()
            && backlog.timers.is_empty()
            && (backlog.input.is_empty() || given_up)
    }

    /// True if the next turn can make progress without an event.
    pub(crate) fn wants_turn(&self, held: &LazyBacklog, config: &Config) -> bool {
        let (can_read, can_write) = (Readiness::INPUT, Readiness::WRITABLE);
        // With too much output nothing is offered, so `on_shutdown` waits too.
        let choked = held.output.len() > config.output_max_bytes;
        self.pending != Pending::Nothing
            || self.must_report_shutdown() && !choked
            || self.space(held, config) > 0 && self.ready.intersects(can_read)
            || !held.output.is_empty() && self.ready.intersects(can_write)
            || !held.input.is_empty()
                && self.ready.intersects(Readiness::WOKEN)
                && !choked
                && !self.awaits_more(held.input.len(), held.wanted)
    }

    /// True if the handler wants more input than there is, and the peer can still send it.
    fn awaits_more(&self, input: usize, wanted: usize) -> bool {
        input < wanted && self.input == Input::Open
    }

    /// True if `on_shutdown` is due: all input that has arrived was read.
    fn must_report_shutdown(&self) -> bool {
        let marks = Readiness::INPUT.union(Readiness::SHUTDOWN);
        self.ready.intersection(marks) == Readiness::SHUTDOWN && !self.discards()
    }

    /// True once: when the poller must be asked for write readiness.
    pub(crate) fn must_await_writable(&mut self) -> bool {
        let writable = self.ready.intersects(Readiness::WRITABLE);
        !writable && !std::mem::replace(&mut self.awaits_writable, true)
    }

    /// The receipt. `unsent` is what the last turn wrote and did not send.
    pub(crate) fn receipt(
        &self,
        end: End,
        (id, peer): (Id, SocketAddr),
        now: Tick,
        held: &LazyBacklog,
        unsent: usize,
    ) -> Closed {
        let mut closed = end.receipt(id, peer, now.since(self.opened));
        (closed.received, closed.sent) = (self.received, self.sent);
        closed.unsent = (held.output.len() + unsent) as u64;
        closed.discarded = held.discarded + held.input.len() as u64;
        // It was asked for in this turn, if the linger time is over.
        let lingered = closed.reason == Reason::LingerTimeout;
        closed.undelivered = held.undelivered.filter(|_| lingered).map(u64::from);
        closed
    }

    /// Fills in what the machine knows; `view` is that of a connection on which nothing moved.
    pub(crate) fn view(&self, view: &mut ConnectionView, held: &LazyBacklog, now: Tick) {
        view.state = match (self.input, self.output) {
            (Input::Discarding | Input::Discarded, _) => ConnectionState::Finishing,
            (_, Output::Ending | Output::Ended) => ConnectionState::HalfClosed,
            (Input::Ended | Input::Reported, _) => ConnectionState::PeerEnded,
            (Input::Open, _) => ConnectionState::Open,
        };
        view.readable = self.ready.intersects(Readiness::INPUT);
        view.writable = self.ready.intersects(Readiness::WRITABLE);
        (view.pending_in, view.pending_out) = (held.input.len(), held.output.len());
        (view.received, view.sent) = (self.received, self.sent);
        (view.age, view.idle) = (now.since(self.opened), now.since(self.active));
    }

    /// True if the state is in the table of this module.
    fn is_legal(&self, cx: &Context<'_>) -> bool {
        match (self.input, self.output) {
            (Input::Discarding | Input::Discarded, Output::Open | Output::UntilQuiet) => false,
            (_, Output::UntilQuiet) => !self.is_quiet(cx.backlog),
            (Input::Discarded, Output::Ended) => false,
            (Input::Ended, Output::Ended) => self.wants_turn(cx.backlog, &cx.others.common.config),
            (Input::Reported, Output::Ended) => !cx.backlog.input.is_empty(),
            _ => true,
        }
    }
}

impl Machine {
    /// One turn: one read into `buffer`, which is no longer than the budget, the callbacks, and one
    /// send. True if the next turn needs an event, or the deadline that is armed. If false, ask
    /// [`must_await_writable`](Machine::must_await_writable), [`wants_turn`](Machine::wants_turn) and
    /// [`deadline`](Machine::deadline).
    ///
    /// Every message takes this path, so it contains only what a plain connection needs. Each test that
    /// fails leaves it at once, and [`Turn::respond`] does the rest of the turn. A turn that is made by
    /// `respond` alone gives the same conversation, only slower.
    #[inline(always)]
    pub(crate) fn run<E: Endpoint>(
        &mut self,
        marks: Readiness,
        buffer: &mut [u8],
        endpoint: &E,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        let (common, mut input) = (cx.others.common, &[][..]);
        let (detour, result) = 'plain: {
            match self.receive(marks, buffer, endpoint, cx) {
                Ok(count) => input = &buffer[..count],
                Err(error) => break 'plain (Detour::Read, Err(error.into())),
            }
            let is_called = self.ready.intersects(Readiness::CALLED);
            let is_plain = self.is_plain(cx.backlog) && !common.observation.is_timed();
            if input.is_empty() || is_called || !is_plain {
                break 'plain (Detour::Read, Ok(0));
            }
            self.ready.remove(Readiness::WOKEN);
            let outcome = catch_unwind(AssertUnwindSafe(|| handler.on_data(cx, input)));
            let consumed = match self.value(outcome, cx) {
                Ok(consumed) => consumed,
                Err(end) => break 'plain (Detour::Data, Err(end)),
            };
            // `buffer` is shared by all connections, so the rest must be copied into the backlog.
            if consumed != input.len() || cx.others.intent != Intent::Stay {
                break 'plain (Detour::Data, Ok(consumed));
            }
            // WRITABLE need not be tested: while it is clear, unsent output is in the backlog.
            if !cx.others.output.is_empty() {
                let total = cx.others.output.len();
                let count = match endpoint.write(cx.others.output, cx.scope()) {
                    Ok(count) if count == total => count,
                    result => break 'plain (Detour::Sent, self.note_write(result, total, common)),
                };
                cx.others.output.clear();
                self.add_sent(count, common);
                if self.sent_all(count, common) {
                    cx.others.room = common.config.output_max_bytes;
                    let outcome = catch_unwind(AssertUnwindSafe(|| handler.on_drain(cx)));
                    self.value(outcome, cx)?;
                }
            }
            // The next turn sends what `on_drain` wrote.
            if cx.others.output.is_empty() && self.is_plain(cx.backlog) {
                // An event must come first if no read may succeed and all output is sent.
                return Ok(self.waits());
            }
            (Detour::End, Ok(0))
        };
        Turn {
            machine: self,
            input,
            endpoint,
            handler,
            cx,
        }
        .respond(detour, result)
    }
}

/// What a callback returned, or the payload of its panic.
type Outcome<R> = std::thread::Result<io::Result<R>>;

/// The step after which a turn leaves the plain path.
enum Detour {
    /// The read: it failed, the connection is not plain, nothing was read, or callbacks are timed, which
    /// [`Turn::call`] does.
    Read,
    /// `on_data`: it did not consume everything, it asked for an end, or it failed.
    Data,
    /// The send: the kernel did not take everything, or it failed.
    Sent,
    /// All steps: the connection is not plain any more, because a callback set a timer, `on_drain` wrote
    /// or asked for an end, or a spent budget leaves `on_drain` to the next turn.
    End,
}

/// A turn that is not plain, in any state, and what it works with.
struct Turn<'a, 'c, E> {
    machine: &'a mut Machine,
    /// What this turn read.
    input: &'a [u8],
    endpoint: &'a E,
    handler: &'a mut dyn Handler,
    cx: &'a mut Context<'c>,
}

impl<E: Endpoint> Turn<'_, '_, E> {
    /// Does the rest of a turn after a step that had this result: callbacks, send, orderly end. Always
    /// false or an error, see [`Machine::run`].
    #[inline(never)]
    fn respond(&mut self, detour: Detour, result: Result<usize, End>) -> Result<bool, End> {
        match (detour, result) {
            (Detour::Read, Err(end)) => {
                // Callbacks that were due before the error are made. If one of them ends the connection,
                // its reason counts.
                self.machine.limit_room(self.cx);
                return Err(self.call_pending().err().unwrap_or(end));
            }
            (Detour::Read, Ok(_)) => {
                self.catch_up()?;
                self.send()?;
            }
            (Detour::Data, result) => {
                self.hold_rest(result)?;
                self.send()?;
            }
            (Detour::Sent, result) => self.sent(result?)?,
            (Detour::End, _) => {}
        }
        // The output buffer is shared by all connections, so what is unsent moves to the backlog.
        self.cx.hold_output();
        self.close_in_order()?;
        debug_assert!(self.machine.is_legal(self.cx), "{:?}", self.machine);
        Ok(self.machine.is_plain(self.cx.backlog) && self.machine.waits())
    }

    /// Sends the FIN once all output is sent, and ends the connection once the peer ended too, or a
    /// timeout passed.
    fn close_in_order(&mut self) -> Result<(), End> {
        let (machine, cx) = (&mut *self.machine, &mut *self.cx);
        machine.remove_timers(cx.backlog);
        // An idle connection owns no buffer.
        cx.backlog.shrink();
        if machine.output == Output::UntilQuiet && machine.is_quiet(cx.backlog) {
            machine.finish(cx.backlog, cx.others.common.now);
        }
        let unread = machine.ready.intersects(Readiness::INPUT);
        // `Ended` is not enough: held input is still to be offered, and then `on_eof` to be called.
        let peer_done = match machine.input {
            Input::Open | Input::Ended => false,
            Input::Discarding => cx.others.common.config.close_when_sent && !unread,
            Input::Reported => cx.backlog.input.is_empty(),
            Input::Discarded => true,
        };
        let may_end = cx.backlog.output.is_empty() && cx.backlog.layers.is_none();
        if machine.output == Output::Ending && may_end {
            // If the peer is done, the close that follows sends the FIN.
            let ended = match !peer_done || self.endpoint.has_end() {
                true => self.endpoint.shutdown_write(cx.scope()),
                false => Ok(()),
            };
            match ended {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                ended => {
                    ended?;
                    machine.output = Output::Ended;
                    machine.note_lingering(cx.others.common.now);
                }
            }
        }
        if peer_done && machine.output == Output::Ended {
            return Err(Reason::Finished.into());
        }
        // Last, because what this turn read or sent counts as activity.
        if self.endpoint.has_moved() && !machine.lingers() {
            machine.active = cx.others.common.now;
        }
        match machine.overdue(cx.others.id, cx.others.common) {
            None => Ok(()),
            Some(Reason::LingerTimeout) if self.peer_takes_bytes() => {
                self.machine.active = self.cx.others.common.now;
                Ok(())
            }
            Some(reason) => Err(reason.into()),
        }
    }

    /// Whether the peer still takes output that the kernel holds, of which a close and then a late byte
    /// of the peer would destroy the rest. The kernel is asked only when the linger time is over,
    /// because that costs more than a message. The first time, there is no earlier figure to compare
    /// with, so any output that is left counts.
    #[cold]
    fn peer_takes_bytes(&mut self) -> bool {
        let undelivered = match self.cx.others.common.config.linger_timeout {
            Duration::ZERO => None,
            _ => self.endpoint.undelivered(),
        };
        let last = &mut self.cx.backlog.get_or_insert().undelivered;
        let before = std::mem::replace(last, undelivered);
        undelivered.is_some_and(|left| left > 0 && before.is_none_or(|before| left < before))
    }
}
