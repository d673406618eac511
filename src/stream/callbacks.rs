//! The handler: what it is told, how it is called, and what it asks for.

use super::Stream;
use crate::context::{Context, Intent};
use crate::end::End;
use crate::handler::{Callback, Handler, Reason};
use crate::phase::{Due, Input, Output, Phase};
use crate::readiness::Readiness;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Stream {
    /// What comes before and with new input, where the turn is no plain one.
    #[inline(never)]
    pub(super) fn catch_up(
        &mut self,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.begin(cx);
        if let Err(end) = self.notify(handler, cx) {
            return self.keep(cx.gathered.input(), Err(end), cx);
        }
        if self.phase != Phase::Open {
            return self.discard(cx);
        }
        let offer = self.can.has(Readiness::WOKEN);
        self.can.remove(Readiness::WOKEN);
        if !cx.held.input().is_empty() {
            return if offer || !cx.gathered.input().is_empty() {
                self.offer_held(handler, cx)
            } else {
                Ok(())
            };
        }
        match cx.gathered.input() {
            [] => Ok(()),
            input => {
                let result = self.offer(input, handler, cx);
                self.keep(input, result, cx)
            }
        }
    }

    /// A connection that holds output has less room for more, and one whose output has ended has none.
    pub(super) fn begin(&self, cx: &mut Context<'_>) {
        if self.output != Output::Open {
            cx.half_close();
        }
        cx.room = self.room(cx.held, cx.common.config.output_max_bytes);
    }

    /// The callbacks that need no input: opened, timers that are due, all output left.
    #[inline(never)]
    pub(super) fn notify(
        &mut self,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        let due = std::mem::take(&mut self.due);
        if due == Due::Open {
            self.tell(Callback::Open, handler, cx)?;
        }
        // Finishing forgets the timers, so this ends with the phase too.
        while let Some(key) = cx.held.take_due_alarm(cx.common.now) {
            self.call_apart(Callback::Timer, cx, |cx| handler.on_timer(cx, key))?;
        }
        if due == Due::Drain && self.phase == Phase::Open {
            self.tell(Callback::Drain, handler, cx)?;
        }
        Ok(())
    }

    /// A callback that says all by its name, where it is not the usual `on_drain`.
    #[inline(never)]
    pub(super) fn tell(
        &mut self,
        what: Callback,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.call_apart(what, cx, |cx| match what {
            Callback::Open => handler.on_open(cx),
            Callback::Drain => handler.on_drain(cx),
            _ => handler.on_eof(cx),
        })
    }

    /// Runs one callback: catches its panic, and does what it asked for.
    #[inline(always)]
    pub(super) fn call<'a, R>(
        &mut self,
        cx: &mut Context<'a>,
        code: impl FnOnce(&mut Context<'a>) -> io::Result<R>,
    ) -> Result<R, End> {
        match catch_unwind(AssertUnwindSafe(|| code(cx))) {
            Ok(Ok(value)) if cx.intent == Intent::Stay => Ok(value),
            result => self.called(result, cx),
        }
    }

    /// The same with an eye on the time it takes, if anyone wants to know.
    fn call_apart<'a, R>(
        &mut self,
        callback: Callback,
        cx: &mut Context<'a>,
        code: impl FnOnce(&mut Context<'a>) -> io::Result<R>,
    ) -> Result<R, End> {
        let started = cx.common.eyes.start();
        let result = catch_unwind(AssertUnwindSafe(|| code(cx)));
        cx.handled(started, callback);
        self.called(result, cx)
    }

    /// What became of a callback; and does what it asked for.
    fn called<R>(
        &mut self,
        result: std::thread::Result<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Result<R, End> {
        let Ok(result) = result else {
            return Err(Reason::Panic.into());
        };
        let value = result.map_err(|error| End {
            reason: Reason::HandlerError,
            error: Some(error),
        })?;
        match cx.intent {
            Intent::Stay => {}
            Intent::HalfClose => self.half_close(),
            Intent::Finish => self.finish(cx),
            Intent::Abort => return Err(Reason::Aborted.into()),
        }
        Ok(value)
    }

    /// From here on input has no reader and timers have no listener.
    fn finish(&mut self, cx: &mut Context<'_>) {
        self.half_close();
        self.phase = Phase::Finishing;
        if let Some(held) = cx.held.get_mut() {
            held.alarms.clear();
            held.discarded += held.input.len() as u64;
            held.input.consume(held.input.len());
        }
    }

    /// Offers what was just read.
    #[inline(always)]
    pub(super) fn offer_new(
        &mut self,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.can.remove(Readiness::WOKEN);
        let input = cx.gathered.input();
        if input.is_empty() {
            return Ok(());
        }
        if cx.common.eyes.are_timing() {
            let result = self.offer(input, handler, cx);
            return self.keep(input, result, cx);
        }
        match self.call(cx, |cx| handler.on_data(cx, input)) {
            Ok(consumed) if consumed == input.len() => Ok(()),
            Ok(consumed) if consumed > input.len() => {
                self.keep(input, Err(consumed_more(consumed, input.len())), cx)
            }
            result => self.keep(input, result, cx),
        }
    }

    /// Offers what was left over, and behind it what was just read.
    fn offer_held(&mut self, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        let held = cx.held.hold();
        held.input
            .push(cx.gathered.input(), cx.common.config.input_max_bytes);
        let input = std::mem::take(&mut held.input);
        let result = self.offer(input.as_slice(), handler, cx);
        cx.held.hold().input = input;
        cx.held.hold().input.consume(result?);
        if self.phase != Phase::Open {
            self.finish(cx);
        }
        Ok(())
    }

    /// What was just read has no reader any more.
    fn discard(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let input = cx.gathered.input();
        if input.is_empty() {
            return Ok(());
        }
        let discarded = &mut cx.held.hold().discarded;
        *discarded += input.len() as u64;
        if *discarded > cx.common.config.linger_max_bytes {
            Err(Reason::LingerLimit.into())
        } else {
            Ok(())
        }
    }

    /// Keeps what the handler did not consume, unless nobody will ask for it again.
    #[inline(never)]
    fn keep(
        &self,
        input: &[u8],
        result: Result<usize, End>,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        let rest = &input[*result.as_ref().unwrap_or(&0)..];
        if !rest.is_empty() {
            let held = cx.held.hold();
            if self.phase == Phase::Open {
                held.input.push(rest, cx.common.config.input_max_bytes);
            } else {
                held.discarded += rest.len() as u64;
            }
        }
        result.map(|_| ())
    }

    #[inline(never)]
    fn offer(
        &mut self,
        input: &[u8],
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<usize, End> {
        let consumed = self.call_apart(Callback::Data, cx, |cx| handler.on_data(cx, input))?;
        if consumed > input.len() {
            Err(consumed_more(consumed, input.len()))
        } else {
            Ok(consumed)
        }
    }

    /// Tells of the peer's end, once everything before it was offered and the handler has had room to answer it: what it
    /// then still leaves lying, it leaves for good.
    pub(super) fn tell_eof(
        &mut self,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        if self.phase != Phase::Open || self.input != Input::Ended {
            return Ok(());
        }
        if cx.held.input().is_empty() || !cx.has_output() {
            self.input = Input::Told;
            self.tell(Callback::Eof, handler, cx)?;
        }
        Ok(())
    }
}

#[cold]
fn consumed_more(consumed: usize, offered: usize) -> End {
    let message = format!("on_data consumed {consumed} bytes of {offered}");
    End {
        reason: Reason::HandlerError,
        error: Some(io::Error::other(message)),
    }
}
