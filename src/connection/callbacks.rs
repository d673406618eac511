//! The second step of a turn: the callbacks, and what they asked for.

use super::{Endpoint, Input, Machine, Outcome, Output, Pending, Turn};
use crate::buffers::{Backlog, LazyBacklog, Timers};
use crate::closed::{End, Reason};
use crate::guard::discard_payload;
use crate::handler::{Context, Handler, Intent};
use crate::observe::{Callback, Returned};
use crate::readiness::Readiness;
use crate::time::{Tick, TimerKey};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A callback that is due, and what it is given.
#[derive(Clone, Copy)]
pub(super) enum Due<'a> {
    Open,
    Wake,
    Timer(TimerKey),
    Drain,
    Data(&'a [u8]),
    Eof,
    Shutdown,
}

impl Due<'_> {
    /// The bytes that `on_data` consumed, or 0.
    fn call(self, handler: &mut dyn Handler, cx: &mut Context<'_>) -> io::Result<usize> {
        let done = match self {
            Due::Data(input) => return handler.on_data(cx, input),
            Due::Open => handler.on_open(cx),
            Due::Wake => handler.on_wake(cx),
            Due::Timer(key) => handler.on_timer(cx, key),
            Due::Drain => handler.on_drain(cx),
            Due::Eof => handler.on_eof(cx),
            Due::Shutdown => handler.on_shutdown(cx),
        };
        done.map(|()| 0)
    }

    fn callback(self) -> Callback {
        match self {
            Due::Open => Callback::Open,
            Due::Wake => Callback::Wake,
            Due::Timer(_) => Callback::Timer,
            Due::Drain => Callback::Drain,
            Due::Data(_) => Callback::Data,
            Due::Eof => Callback::Eof,
            Due::Shutdown => Callback::Shutdown,
        }
    }
}

impl<E: Endpoint> Turn<'_, '_, E> {
    /// The callbacks of a turn that is not plain: those that are due, then `on_data` with held and new
    /// input, then `on_eof`.
    pub(super) fn catch_up(&mut self) -> Result<(), End> {
        self.machine.limit_room(self.cx);
        if let Err(end) = self.call_pending() {
            // No callback was offered this turn's input, so it counts as discarded in the receipt.
            return self.hold_rest(Err(end));
        }
        // Not before: the callbacks that were due may have finished.
        if self.machine.discards() {
            return self.discard();
        }
        // Another handler takes over, and is told in the next turn, after its `on_open`; or too much output
        // waits, and input is offered when it is sent; or the handler wants more, and the peer can send it.
        let is_choked = self.cx.is_choked();
        let wanted = self.cx.backlog.wanted;
        let received = self.cx.backlog.input.len() + self.input.len();
        if !self.machine.hears() || is_choked {
            self.hold_rest(Ok(0))?;
        } else if self.machine.awaits_more(received, wanted) {
            self.machine.ready.insert(Readiness::WOKEN);
            self.hold_rest(Ok(0))?;
        } else {
            self.offer()?;
        }
        self.report_eof()?;
        // All input that has arrived was read and offered.
        let reports = self.machine.hears() && self.machine.must_report_shutdown();
        if reports && !is_choked {
            self.machine.ready.remove(Readiness::SHUTDOWN);
            self.call(Due::Shutdown)?;
        }
        Ok(())
    }

    /// The callbacks that need no input: `on_open`, `on_wake`, timers that are due, a late `on_drain`.
    pub(super) fn call_pending(&mut self) -> Result<(), End> {
        let pending = std::mem::take(&mut self.machine.pending);
        if let Pending::End(reason) = pending {
            let held = self.cx.backlog.get_mut();
            let error = held.and_then(|held| held.send_error.take());
            return Err(End { reason, error });
        }
        if pending == Pending::Open {
            self.call(Due::Open)?;
        }
        if self.machine.hears() && self.machine.ready.remove(Readiness::CALLED) {
            self.call(Due::Wake)?;
        }
        // Timers beyond the budget leave a deadline that has passed, which brings the next turn.
        for _ in 0..self.cx.others.common.config.timers_per_turn {
            let (now, held) = (self.cx.others.common.now, self.cx.backlog.get_mut());
            match held.and_then(|held| held.timers.take_due(now)) {
                Some(key) if self.machine.hears() => self.call(Due::Timer(key))?,
                _ => break,
            };
        }
        // What other code has written since then is sent first.
        let is_drained = pending == Pending::Drain && !self.cx.has_output();
        if is_drained && self.machine.hears() {
            self.call(Due::Drain)?;
        }
        Ok(())
    }

    /// Runs one callback: catches its panic, times it if callbacks are timed, and does what it asked
    /// for.
    #[inline(never)]
    pub(super) fn call(&mut self, due: Due<'_>) -> Result<usize, End> {
        let started = self.cx.others.common.observation.start();
        let result = catch_unwind(AssertUnwindSafe(|| due.call(self.handler, self.cx)));
        self.returned(started, due.callback());
        self.machine.value(result, self.cx)
    }

    /// Reports that a callback returned, if callbacks are timed.
    fn returned(&self, started: Option<Instant>, callback: Callback) {
        let (id, peer, queued) = (self.cx.id(), self.cx.peer(), self.cx.others.ops.queued());
        let returned = || Returned {
            id,
            peer,
            callback,
            queued,
        };
        self.cx
            .others
            .common
            .observation
            .returned(started, returned);
    }

    /// Offers held input, followed by new input. Held input alone is offered only for a reason, or a handler
    /// that waits would be called in every turn.
    fn offer(&mut self) -> Result<(), End> {
        let is_woken = self.machine.ready.remove(Readiness::WOKEN);
        let is_held = !self.cx.backlog.input.is_empty();
        if self.input.is_empty() && !(is_held && is_woken) {
            return Ok(());
        }
        if let Some(held) = self.cx.backlog.get_mut() {
            held.wanted = 0;
        }
        if !is_held {
            let result = self.call(Due::Data(self.input));
            return self.hold_rest(result);
        }
        let common = self.cx.others.common;
        // Out of the backlog during the call, because the context borrows the backlog.
        let mut held = std::mem::take(&mut self.cx.backlog.get_or_insert().input);
        held.push(self.input, common.config.input_max_bytes);
        let input = held.as_slice();
        let result = self.call(Due::Data(input));
        let result = result.and_then(|consumed| check_consumed(consumed, input.len()));
        match *result.as_ref().unwrap_or(&0) {
            consumed if consumed == input.len() => held.clear(&common.places),
            consumed => held.consume(consumed),
        }
        self.cx.backlog.get_or_insert().input = held;
        // If the callback finished, `finish` found no held input to throw away: it was out.
        let discards = self.machine.discards() && self.cx.backlog.layers.is_none();
        if result.is_ok() && discards {
            self.machine.finish(self.cx.backlog, common.now);
        }
        result.map(|_| ())
    }

    /// Throws new input away, because the handler finished.
    fn discard(&mut self) -> Result<(), End> {
        self.hold_rest(Ok(0))?;
        let discarded = self.cx.backlog.discarded;
        let is_over = discarded > self.cx.others.common.config.linger_max_bytes;
        if is_over && !self.input.is_empty() && self.cx.backlog.layers.is_none() {
            return Err(Reason::LingerLimit.into());
        }
        Ok(())
    }

    /// Holds the new input that the handler did not consume, or counts it as discarded. For a layer that is
    /// added in this turn it is held: it may be its handshake.
    pub(super) fn hold_rest(&mut self, result: Result<usize, End>) -> Result<(), End> {
        let result = result.and_then(|consumed| check_consumed(consumed, self.input.len()));
        let rest = &self.input[*result.as_ref().unwrap_or(&0)..];
        if !rest.is_empty() {
            let backlog = self.cx.backlog.get_or_insert();
            if self.machine.discards() && backlog.layers.is_none() {
                backlog.discarded += rest.len() as u64;
            } else {
                let common = self.cx.others.common;
                backlog.input.make_place(backlog.wanted, &common.places);
                backlog.input.push(rest, common.config.input_max_bytes);
            }
        }
        result.map(|_| ())
    }

    /// Calls `on_eof` once all input was offered and the handler had room to answer it. Input that it
    /// does not consume even then stays until a drain or a wake.
    fn report_eof(&mut self) -> Result<(), End> {
        let offered = self.cx.backlog.input.is_empty() || !self.cx.has_output();
        if self.machine.input == Input::Ended && offered && self.machine.hears() {
            self.machine.input = Input::Reported;
            self.call(Due::Eof)?;
            // What is left is offered once more before it counts as given up, also if it was asked for a
            // quiet end before.
            if self.machine.output == Output::UntilQuiet {
                self.machine.ready.insert(Readiness::WOKEN);
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Held output leaves less room, and ended output leaves none.
    pub(super) fn limit_room(&self, cx: &mut Context<'_>) {
        if matches!(self.output, Output::Ending | Output::Ended) {
            cx.half_close();
        }
        cx.others.room = self.room(cx.backlog, cx.others.common.config.output_max_bytes);
    }

    /// A handler that has finished has no timers, and none go over to another handler.
    pub(super) fn remove_timers(&self, backlog: &mut LazyBacklog) {
        let is_over = |held: &&mut Backlog| self.discards() || held.next_handler.is_some();
        if let Some(held) = backlog.get_mut().filter(is_over) {
            held.timers = Timers::EMPTY;
        }
    }

    /// Another handler takes over, if the callback asked for it: as if the connection were new, but with
    /// what is held.
    fn change_handler(&mut self, cx: &mut Context<'_>) {
        let Some(held) = cx
            .backlog
            .get_mut()
            .filter(|held| held.next_handler.is_some())
        else {
            return;
        };
        held.wanted = 0;
        // Other code may have ended the connection meanwhile.
        if !matches!(self.pending, Pending::End(_)) {
            self.pending = Pending::Open;
        }
        // The one that asked for a quiet end is gone.
        if self.output == Output::UntilQuiet {
            self.output = Output::Open;
        }
        self.ready.insert(Readiness::WOKEN);
        if self.input == Input::Reported {
            self.input = Input::Ended;
        }
    }

    /// Makes a value or an end out of the outcome of a callback, and does what the callback asked for.
    #[inline(always)]
    pub(super) fn value<R>(&mut self, outcome: Outcome<R>, cx: &mut Context<'_>) -> Result<R, End> {
        let end = match outcome {
            Ok(Ok(value)) => {
                if cx.others.intent != Intent::Stay {
                    self.resolve(cx)?;
                }
                return Ok(value);
            }
            Ok(Err(error)) => End::new(Reason::HandlerError, error),
            Err(payload) => {
                discard_payload(payload);
                Reason::Panic.into()
            }
        };
        // An abort that was asked for resets, whatever the callback did then.
        if cx.others.intent == Intent::Abort {
            self.ready.insert(Readiness::ABORTED);
        }
        Err(end)
    }

    /// Does what a callback asked for. The intent stays set for the rest of the turn, so this must do no
    /// harm if it is called again.
    #[inline(never)]
    fn resolve(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.change_handler(cx);
        match cx.others.intent {
            Intent::Stay | Intent::Become => {}
            Intent::WhenQuiet => self.finish_when_quiet(),
            Intent::HalfClose => self.half_close(),
            Intent::Finish => self.finish(cx.backlog, cx.others.common.now),
            Intent::Abort => {
                self.ready.insert(Readiness::ABORTED);
                return Err(Reason::Aborted.into());
            }
        }
        Ok(())
    }

    /// The handler finishes once nothing is under way. Held input is offered once more before.
    fn finish_when_quiet(&mut self) {
        if self.output == Output::Open {
            self.output = Output::UntilQuiet;
            self.ready.insert(Readiness::WOKEN);
        }
    }

    /// The handler finished: from here on no callback but `on_close` is made. A second call throws
    /// away what was held meanwhile.
    pub(crate) fn finish(&mut self, backlog: &mut LazyBacklog, now: Tick) {
        self.half_close();
        self.input = match self.input {
            Input::Open | Input::Discarding => Input::Discarding,
            Input::Ended | Input::Reported | Input::Discarded => Input::Discarded,
        };
        self.note_lingering(now);
        if let Some(backlog) = backlog.get_mut() {
            backlog.discarded += backlog.input.len() as u64;
            backlog.input.consume(backlog.input.len());
        }
    }
}

/// A count beyond the input is an error of the handler, not a panic of the loop.
fn check_consumed(consumed: usize, offered: usize) -> Result<usize, End> {
    if consumed <= offered {
        return Ok(consumed);
    }
    let message = format!("on_data consumed {consumed} bytes of {offered}");
    Err(End::new(Reason::HandlerError, io::Error::other(message)))
}
