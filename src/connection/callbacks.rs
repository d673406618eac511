//! The second step of a turn: the callbacks, and what they asked for.

use super::{Endpoint, Input, Machine, Outcome, Output, Pending, Turn};
use crate::buffers::LazyBacklog;
use crate::closed::{End, Reason};
use crate::guard::discard_payload;
use crate::handler::{Context, Handler, Intent};
use crate::observe::{Callback, Returned};
use crate::readiness::Readiness;
use crate::time::Tick;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

impl<E: Endpoint> Turn<'_, '_, E> {
    /// The callbacks of a turn that is not plain: those that are due, then `on_data` with held and new
    /// input, then `on_eof`.
    pub(super) fn catch_up(&mut self) -> Result<(), End> {
        self.limit_room();
        if let Err(end) = self.call_pending() {
            // No callback was offered this turn's input, so it counts as discarded in the receipt.
            return self.hold_rest(Err(end));
        }
        // Not before: the callbacks that were due may have finished.
        if self.machine.discards() {
            return self.discard();
        }
        let woken = self.machine.ready.intersects(Readiness::WOKEN);
        self.machine.ready.remove(Readiness::WOKEN);
        // Held input is offered again only for a reason, or a handler that waits would be called in
        // every turn.
        if self.cx.backlog.input().is_empty() {
            self.offer_new()?;
        } else if woken || !self.input.is_empty() {
            self.offer_held()?;
        }
        self.report_eof()?;
        if self.machine.must_report_shutdown() {
            self.machine.ready.remove(Readiness::SHUTDOWN);
            self.call(Callback::Shutdown, &mut |handler, cx| {
                handler.on_shutdown(cx)
            })?;
        }
        Ok(())
    }

    /// Held output leaves less room, and ended output leaves none.
    pub(super) fn limit_room(&mut self) {
        if self.machine.output != Output::Open {
            self.cx.half_close();
        }
        let output_max = self.cx.others.common.config.output_max_bytes;
        self.cx.others.room = self.machine.room(self.cx.backlog, output_max);
    }

    /// The callbacks that need no input: `on_open`, timers that are due, a late `on_drain`.
    pub(super) fn call_pending(&mut self) -> Result<(), End> {
        let pending = std::mem::take(&mut self.machine.pending);
        if pending == Pending::Abort {
            return Err(Reason::Aborted.into());
        }
        if pending == Pending::Open {
            self.call(Callback::Open, &mut |handler, cx| handler.on_open(cx))?;
        }
        // `finish` removes the timers, so this loop ends with the conversation. Timers beyond the budget
        // leave a deadline that has passed, which brings the next turn.
        for _ in 0..self.cx.others.common.config.timers_per_turn {
            let Some(key) = self.cx.backlog.take_due_timer(self.cx.others.common.now) else {
                break;
            };
            self.call(Callback::Timer, &mut |handler, cx| {
                handler.on_timer(cx, key)
            })?;
        }
        if pending == Pending::Drain && !self.machine.discards() {
            self.call(Callback::Drain, &mut |handler, cx| handler.on_drain(cx))?;
        }
        Ok(())
    }

    /// Runs one callback: catches its panic, times it if callbacks are timed, and does what it asked
    /// for. It exists once for all callbacks, which keeps the library small.
    #[inline(never)]
    pub(super) fn call<R>(
        &mut self,
        callback: Callback,
        code: &mut dyn FnMut(&mut dyn Handler, &mut Context<'_>) -> io::Result<R>,
    ) -> Result<R, End> {
        let started = self.cx.others.common.observation.start();
        let result = catch_unwind(AssertUnwindSafe(|| code(self.handler, self.cx)));
        self.returned(started, callback);
        self.machine.resolve(result, self.cx)
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

    /// Offers new input, if there is any.
    fn offer_new(&mut self) -> Result<(), End> {
        let input = self.input;
        if input.is_empty() {
            return Ok(());
        }
        let result = self.call(Callback::Data, &mut |handler, cx| {
            handler.on_data(cx, input)
        });
        self.hold_rest(result)
    }

    /// Offers held input, followed by new input.
    fn offer_held(&mut self) -> Result<(), End> {
        let backlog = self.cx.backlog.get_or_insert();
        backlog
            .input
            .push(self.input, self.cx.others.common.config.input_max_bytes);
        // Out of the backlog during the call, because the context borrows the backlog.
        let mut held = std::mem::take(&mut backlog.input);
        let input = held.as_slice();
        let result = self.call(Callback::Data, &mut |handler, cx| {
            handler.on_data(cx, input)
        });
        let result = result.and_then(|consumed| check_consumed(consumed, input.len()));
        held.consume(*result.as_ref().unwrap_or(&0));
        self.cx.backlog.get_or_insert().input = held;
        // If the callback finished, `finish` found no held input to throw away: it was out.
        if result.is_ok() && self.machine.discards() {
            self.machine
                .finish(self.cx.backlog, self.cx.others.common.now);
        }
        result.map(|_| ())
    }

    /// Throws new input away, because the handler finished.
    fn discard(&mut self) -> Result<(), End> {
        if self.input.is_empty() {
            return Ok(());
        }
        let discarded = &mut self.cx.backlog.get_or_insert().discarded;
        *discarded += self.input.len() as u64;
        let is_over = *discarded > self.cx.others.common.config.linger_max_bytes;
        if is_over {
            Err(Reason::LingerLimit.into())
        } else {
            Ok(())
        }
    }

    /// Holds the new input that the handler did not consume, or counts it as discarded.
    pub(super) fn hold_rest(&mut self, result: Result<usize, End>) -> Result<(), End> {
        let result = result.and_then(|consumed| check_consumed(consumed, self.input.len()));
        let rest = &self.input[*result.as_ref().unwrap_or(&0)..];
        if !rest.is_empty() {
            let backlog = self.cx.backlog.get_or_insert();
            if self.machine.discards() {
                backlog.discarded += rest.len() as u64;
            } else {
                backlog
                    .input
                    .push(rest, self.cx.others.common.config.input_max_bytes);
            }
        }
        result.map(|_| ())
    }

    /// Calls `on_eof` once all input was offered and the handler had room to answer it. Input that it
    /// does not consume even then stays until a drain or a wake.
    fn report_eof(&mut self) -> Result<(), End> {
        let offered = self.cx.backlog.input().is_empty() || !self.cx.has_output();
        if self.machine.input == Input::Ended && offered {
            self.machine.input = Input::Reported;
            self.call(Callback::Eof, &mut |handler, cx| handler.on_eof(cx))?;
        }
        Ok(())
    }
}

impl Machine {
    /// Makes a value or an end out of the outcome of a callback, and does what the callback asked for.
    /// The intent stays set for the rest of the turn, so this must do no harm if it is called again.
    #[inline(never)]
    pub(super) fn resolve<R>(&mut self, outcome: Outcome<R>, cx: &mut Context) -> Result<R, End> {
        let result = outcome.map_err(|payload| {
            discard_payload(payload);
            End::from(Reason::Panic)
        })?;
        let value = result.map_err(|error| End::new(Reason::HandlerError, error))?;
        match cx.others.intent {
            Intent::Stay => {}
            Intent::HalfClose => self.half_close(),
            Intent::Finish => self.finish(cx.backlog, cx.others.common.now),
            Intent::Abort => return Err(Reason::Aborted.into()),
        }
        Ok(value)
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
            backlog.timers = None;
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
