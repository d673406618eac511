//! One connection as a state machine over any [`Endpoint`](crate::context::Endpoint): no poller, no clock of its own.
//!
//! [`Stream::turn`] is one bounded turn: tell the handler what is due, read and offer input within the budget, send once.
//! Afterwards [`Stream::wants_turn`] says whether there is anything left that needs no event to go on. It is derived from the
//! state, not kept beside it, so a connection that can move is never left lying.

use crate::config::Config;
use crate::context::{Context, Intent};
use crate::end::End;
use crate::handler::{Callback, Closed, Handler, Reason};
use crate::held::{Held, Holding};
use crate::observe::{Budget, Event};
use crate::phase::{Input, Output, Phase};
use crate::readiness::Readiness;
use crate::timers::Tick;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The machine. What it holds of input and output is kept beside it, where its callbacks reach it too.
#[derive(Debug)]
pub(crate) struct Stream {
    received: u64,
    sent: u64,
    opened: Tick,
    /// When a byte last moved.
    active: Tick,
    phase: Phase,
    input: Input,
    output: Output,
    /// The socket refused output; write readiness will tell when to go on.
    blocked: bool,
    /// The poller was asked for write readiness.
    awaits_writable: bool,
    /// Unconsumed input is to be offered again.
    offer: bool,
    /// The handler has not yet been told that all output left.
    drain_due: bool,
    /// The handler was told of the peer's end.
    eof_told: bool,
}

impl Stream {
    pub(crate) fn new(now: Tick) -> Stream {
        Stream {
            received: 0,
            sent: 0,
            opened: now,
            active: now,
            phase: Phase::New,
            input: Input::Empty,
            output: Output::Open,
            blocked: false,
            awaits_writable: false,
            offer: false,
            drain_due: false,
            eof_told: false,
        }
    }

    /// One that this side established. The poller was asked for write readiness, for it is what told of that.
    pub(crate) fn connected(now: Tick) -> Stream {
        Stream { awaits_writable: true, ..Stream::new(now) }
    }

    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// How much [`push`](Stream::push) would take.
    pub(crate) fn room(&self, held: &Holding, output_max: usize) -> usize {
        match self.output {
            Output::Open => output_max - held.output().len(),
            Output::Ending | Output::Ended => 0,
        }
    }

    /// Takes no more output; a FIN follows what is held.
    pub(crate) fn half_close(&mut self) {
        if self.output == Output::Open {
            self.output = Output::Ending;
        }
    }

    /// Takes output from outside a turn; the turn that follows sends it.
    pub(crate) fn push(&self, held: &mut Holding, bytes: &[u8], output_max: usize) -> usize {
        let taken = bytes.len().min(self.room(held, output_max));
        if taken > 0 {
            held.hold().output.push(&bytes[..taken], output_max);
        }
        taken
    }

    /// With what a turn begins: a connection whose output has ended writes no more.
    pub(crate) fn intent(&self) -> Intent {
        if self.output == Output::Open { Intent::Stay } else { Intent::HalfClose }
    }

    /// One bounded turn. `buffer` is what input is read into.
    pub(crate) fn turn(
        &mut self,
        noted: Readiness,
        handler: &mut dyn Handler,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        let before = self.moved();
        self.absorb(noted);
        if !noted.has(Readiness::READABLE) && self.is_over(cx) {
            self.doubt();
        }
        self.notify(handler, cx)?;
        self.receive(handler, buffer, cx)?;
        self.tell_eof(handler, cx)?;
        if self.send(cx)? {
            self.drained(before.1, handler, cx)?;
        }
        self.wind_down(cx)?;
        cx.held.release();
        self.check_deadline(before, cx)
    }

    /// Turns what was noted into state.
    fn absorb(&mut self, noted: Readiness) {
        if noted.has(Readiness::READABLE) {
            self.input = self.input.max(Input::Ready);
        }
        // After the end too: a peer that has closed can still reset, and only a read tells.
        if noted.has(Readiness::SCATTERED) {
            self.input = Input::Scattered;
        }
        self.blocked &= !noted.has(Readiness::WRITABLE);
        self.offer |= noted.has(Readiness::WOKEN);
    }

    /// A turn takes so many events and no more, so input, or room for output, may be there and not be noted: the kernel is asked
    /// before a connection is given up.
    fn doubt(&mut self) {
        self.input = self.input.max(Input::Ready);
        self.blocked = false;
    }

    /// The callbacks that need no input: opened, timers that are due, all output left.
    fn notify(&mut self, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        if self.phase == Phase::New {
            self.phase = Phase::Open;
            self.tell(Callback::Open, handler, cx)?;
        }
        // Finishing forgets the timers, so this ends with the phase too.
        while let Some(key) = cx.held.take_due_alarm(cx.now) {
            self.call(cx, Callback::Timer, |cx| handler.on_timer(cx, key))?;
        }
        if self.phase == Phase::Open && std::mem::take(&mut self.drain_due) {
            self.tell(Callback::Drain, handler, cx)?;
        }
        Ok(())
    }

    /// A callback that says all by its name.
    #[inline(never)]
    fn tell(&mut self, what: Callback, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        self.call(cx, what, |cx| match what {
            Callback::Open => handler.on_open(cx),
            Callback::Drain => handler.on_drain(cx),
            _ => handler.on_eof(cx),
        })
    }

    /// Runs one callback: catches its panic, and does what it asked for.
    fn call<'a, R>(
        &mut self,
        cx: &mut Context<'a>,
        callback: Callback,
        code: impl FnOnce(&mut Context<'a>) -> io::Result<R>,
    ) -> Result<R, End> {
        let started = cx.eyes.start();
        let result = catch_unwind(AssertUnwindSafe(|| code(cx)));
        cx.handled(started, callback);
        let Ok(result) = result else { return Err(Reason::Panic.into()) };
        let value = result.map_err(|error| End { reason: Reason::Handler, error: Some(error) })?;
        match cx.intent {
            Intent::Stay => {}
            Intent::HalfClose => self.half_close(),
            Intent::Finish => self.finish(cx),
            Intent::Abort => return Err(Reason::Aborted.into()),
        }
        Ok(value)
    }

    /// From here on input has no reader and timers have no listener.
    #[cold]
    fn finish(&mut self, cx: &mut Context<'_>) {
        self.half_close();
        self.phase = Phase::Finishing;
        if let Some(held) = cx.held.get_mut() {
            held.alarms.clear();
            held.discarded += held.input.len() as u64;
            held.input.consume(held.input.len());
        }
    }

    fn receive(&mut self, handler: &mut dyn Handler, buffer: &mut [u8], cx: &mut Context<'_>) -> Result<(), End> {
        if std::mem::take(&mut self.offer) && self.phase == Phase::Open && !cx.held.input().is_empty() {
            self.offer_held(handler, cx)?;
        }
        let mut budget = cx.config.turn_budget_bytes;
        while budget > 0 && self.may_read(cx.held, cx.gathered.len(), cx.config) {
            let room = cx.config.input_max_bytes - cx.held.input().len();
            let count = self.read(&mut buffer[..room.min(budget)], cx)?;
            budget -= count;
            if count > 0 {
                self.deliver(&buffer[..count], handler, cx)?;
            }
        }
        if budget == 0 && self.may_read(cx.held, cx.gathered.len(), cx.config) {
            cx.eyes.tell(|| Event::Spent { id: cx.id, budget: Budget::Bytes });
        }
        Ok(())
    }

    /// Whether input is known to be there and there is a place for it. `gathered`: output of this turn, not held yet.
    fn may_read(&self, held: &Holding, gathered: usize, config: &Config) -> bool {
        matches!(self.input, Input::Ready | Input::Scattered) && self.has_place(held, gathered, config)
    }

    /// Whether there is a place for input.
    ///
    /// Full output alone does not stop the reading, for a handler may pass its input elsewhere: two such sides that each wait
    /// for the other to read would wait for ever. That input is left lying while output is full does.
    fn has_place(&self, held: &Holding, gathered: usize, config: &Config) -> bool {
        let Some(held) = held.get() else { return true };
        let (kept, pending) = (held.input.len(), held.output.len() + gathered);
        matches!(self.phase, Phase::Finishing | Phase::Lingering)
            || kept == 0
            || kept < config.input_max_bytes && pending < config.output_max_bytes
    }

    /// One read; 0 says there is no more for now.
    fn read(&mut self, buffer: &mut [u8], cx: &Context<'_>) -> Result<usize, End> {
        loop {
            match cx.endpoint.read(buffer) {
                Ok(0) => {
                    self.input = Input::Eof;
                    return Ok(0);
                }
                Ok(count) => {
                    self.received += count as u64;
                    if count < buffer.len() && self.input == Input::Ready {
                        self.input = Input::Empty;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.input = Input::Empty;
                    return Ok(0);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the handler what was just read, behind what it had left over.
    fn deliver(&mut self, input: &[u8], handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        if self.phase != Phase::Open {
            let discarded = &mut cx.held.hold().discarded;
            *discarded += input.len() as u64;
            return if *discarded > cx.config.linger_max_bytes { Err(Reason::Limit.into()) } else { Ok(()) };
        }
        if !cx.held.input().is_empty() {
            cx.held.hold().input.push(input, cx.config.input_max_bytes);
            return self.offer_held(handler, cx);
        }
        let result = self.offer(input, handler, cx);
        let consumed = result.as_ref().map_or(0, |&consumed| consumed);
        if consumed < input.len() {
            self.keep(&input[consumed..], cx);
        }
        result.map(|_| ())
    }

    /// Keeps what the handler did not consume, unless nobody will ask for it again.
    #[inline(never)]
    fn keep(&self, rest: &[u8], cx: &mut Context<'_>) {
        let held = cx.held.hold();
        if self.phase == Phase::Open {
            held.input.push(rest, cx.config.input_max_bytes);
        } else {
            held.discarded += rest.len() as u64;
        }
    }

    #[inline(never)]
    fn offer_held(&mut self, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        let input = std::mem::take(&mut cx.held.hold().input);
        let result = self.offer(input.as_slice(), handler, cx);
        cx.held.hold().input = input;
        cx.held.hold().input.consume(result?);
        if self.phase != Phase::Open {
            self.finish(cx);
        }
        Ok(())
    }

    fn offer(&mut self, input: &[u8], handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<usize, End> {
        let consumed = self.call(cx, Callback::Data, |cx| handler.on_data(cx, input))?;
        if consumed > input.len() {
            let message = format!("on_data consumed {consumed} bytes of {}", input.len());
            return Err(End { reason: Reason::Handler, error: Some(io::Error::other(message)) });
        }
        Ok(consumed)
    }

    /// Tells of the peer's end, once everything before it was offered and the handler has had room to answer it: what it
    /// then still leaves lying, it leaves for good.
    fn tell_eof(&mut self, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        if self.phase != Phase::Open || self.input != Input::Eof || self.eof_told {
            return Ok(());
        }
        let quiet = cx.gathered.is_empty() && cx.held.output().is_empty();
        if cx.held.input().is_empty() || quiet {
            self.eof_told = true;
            self.tell(Callback::Eof, handler, cx)?;
        }
        Ok(())
    }

    /// One send of all there is, and says whether all of it left. What the socket refused is held.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let held = !cx.held.output().is_empty();
        if held {
            hold_gathered(cx);
        }
        let output = if held { cx.held.output() } else { cx.gathered.as_slice() };
        if self.blocked || output.is_empty() {
            return Ok(false);
        }
        let (count, total) = (write(output, cx)?, output.len());
        self.sent += count as u64;
        if held {
            cx.held.hold().output.consume(count);
        } else if count < total {
            cx.held.hold().output.push(&cx.gathered[count..], cx.config.output_max_bytes);
        }
        cx.gathered.clear();
        // A short send filled the socket's buffer, and the kernel has noted that somebody waits for room in it: the edge will
        // come, and trying again now would only cost a call.
        self.blocked = count < total;
        Ok(!self.blocked)
    }

    /// All output has left: the handler may have more, or consume now what it left over. Within the budget it is told at once,
    /// which spares a turn; what it then writes leaves in the next, for a turn sends once.
    fn drained(&mut self, since: u64, handler: &mut dyn Handler, cx: &mut Context<'_>) -> Result<(), End> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.offer = !cx.held.input().is_empty();
        if self.sent - since >= cx.config.turn_budget_bytes as u64 {
            self.drain_due = true;
            return Ok(());
        }
        self.call(cx, Callback::Drain, |cx| handler.on_drain(cx))?;
        hold_gathered(cx);
        Ok(())
    }

    /// The end, step by step. Closing with unread input would reset the connection and destroy the answer on its way, so
    /// after the FIN the input is read, and thrown away, until the peer's.
    fn wind_down(&mut self, cx: &Context<'_>) -> Result<(), End> {
        if self.output == Output::Ending && cx.held.output().is_empty() {
            // Where all is over, the close that follows sends the FIN.
            if self.input != Input::Eof || self.phase == Phase::Open {
                cx.endpoint.shutdown_write()?;
            }
            self.output = Output::Ended;
        }
        if self.phase == Phase::Finishing && self.output == Output::Ended {
            self.phase = Phase::Lingering;
            self.active = cx.now;
        }
        let heard_out = self.phase == Phase::Lingering || self.eof_told && cx.held.input().is_empty();
        if heard_out && self.input == Input::Eof && self.output == Output::Ended {
            return Err(Reason::Finished.into());
        }
        Ok(())
    }

    /// Whether it has waited for its peer as long as it may.
    fn is_over(&self, cx: &Context<'_>) -> bool {
        let wait = if self.phase == Phase::Lingering { Some(cx.config.linger_timeout) } else { cx.config.idle_timeout };
        wait.is_some_and(|wait| cx.now >= self.active.after(wait))
    }

    fn check_deadline(&mut self, before: (u64, u64), cx: &Context<'_>) -> Result<(), End> {
        if self.phase == Phase::Lingering {
            return if self.is_over(cx) { Err(Reason::Linger.into()) } else { Ok(()) };
        }
        if self.moved() != before {
            self.active = cx.now;
        } else if self.is_over(cx) {
            return Err(Reason::Idle.into());
        }
        Ok(())
    }

    /// Whether the next turn can make progress without any event.
    pub(crate) fn wants_turn(&self, held: &Holding, config: &Config) -> bool {
        let can_move = |held: &Held| !held.output.is_empty() && !self.blocked || self.offer && !held.input.is_empty();
        self.phase == Phase::New || self.drain_due || self.may_read(held, 0, config) || held.get().is_some_and(can_move)
    }

    /// True once: when the poller must be asked for write readiness.
    pub(crate) fn must_await_writable(&mut self) -> bool {
        self.blocked && !std::mem::replace(&mut self.awaits_writable, true)
    }

    /// Whether its deadline may have come nearer: that of the idle timeout only ever moves away.
    pub(crate) fn has_near_deadline(&self, held: &Holding) -> bool {
        self.phase == Phase::Lingering || held.next_alarm().is_some()
    }

    /// When the connection next needs a turn at the latest.
    pub(crate) fn deadline(&self, held: &Holding, config: &Config) -> Option<Tick> {
        let own = match self.phase {
            Phase::Lingering => Some(self.active.after(config.linger_timeout)),
            _ => config.idle_timeout.map(|wait| self.active.after(wait)),
        };
        own.into_iter().chain(held.next_alarm()).min()
    }

    /// The receipt. Takes what the last turn gathered but did not send with it.
    pub(crate) fn close(&self, end: End, now: Tick, held: &Holding, gathered: &mut Vec<u8>) -> Closed {
        let unsent = held.output().len() + gathered.len();
        gathered.clear();
        Closed {
            reason: end.reason,
            error: end.error,
            received: self.received,
            sent: self.sent,
            unsent: unsent as u64,
            discarded: held.discarded() + held.input().len() as u64,
            age: now.since(self.opened),
        }
    }
}

fn hold_gathered(cx: &mut Context<'_>) {
    if !cx.gathered.is_empty() {
        cx.held.hold().output.push(cx.gathered, cx.config.output_max_bytes);
        cx.gathered.clear();
    }
}

/// One send; 0 if the socket takes nothing now.
fn write(output: &[u8], cx: &Context<'_>) -> io::Result<usize> {
    loop {
        match cx.endpoint.write(output) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

mod view;

#[cfg(test)]
mod tests;
