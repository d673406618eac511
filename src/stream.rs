//! One connection as a state machine over any `Read + Write`: no socket, no poller, no clock of its own.
//!
//! [`Stream::turn`] is one bounded turn: tell the handler what is due, read and offer input within the budget, send once.
//! Afterwards [`Stream::wants_turn`] says whether there is anything left that needs no event to go on. It is derived from the
//! state, not kept beside it, so a connection that can move is never left lying.

use crate::config::Config;
use crate::context::{Context, Endpoint, Intent};
use crate::handler::{Callback, Closed, Handler, Reason};
use crate::held::Holding;
use crate::observe::{Budget, Event};
use crate::peer::Peer;
use crate::phase::{Input, Output, Phase};
use crate::readiness::Readiness;
use crate::timers::Tick;
use crate::turn::{End, Scratch, Turn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The machine. 72 bytes, for most of the memory of an idle connection is this.
#[derive(Debug)]
pub(crate) struct Stream {
    received: u64,
    sent: u64,
    opened: Tick,
    /// When a byte last moved.
    active: Tick,
    held: Holding,
    peer: Peer,
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
    pub(crate) fn new(peer: SocketAddr, now: Tick) -> Stream {
        Stream {
            received: 0,
            sent: 0,
            opened: now,
            active: now,
            held: Holding::default(),
            peer: peer.into(),
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
    pub(crate) fn connected(peer: SocketAddr, now: Tick) -> Stream {
        Stream { awaits_writable: true, ..Stream::new(peer, now) }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.into()
    }

    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// How much [`push`](Stream::push) would take.
    pub(crate) fn room(&self, output_max: usize) -> usize {
        match self.output {
            Output::Open => output_max - self.held.output().len(),
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
    pub(crate) fn push(&mut self, bytes: &[u8], output_max: usize) -> usize {
        let taken = bytes.len().min(self.room(output_max));
        if taken > 0 {
            self.held.hold().output.push(&bytes[..taken], output_max);
        }
        taken
    }

    /// One bounded turn.
    pub(crate) fn turn<S>(
        &mut self,
        noted: Readiness,
        io: &mut S,
        handler: &mut dyn Handler,
        turn: &mut Turn<'_>,
    ) -> Result<(), End>
    where
        S: Read + Write + Endpoint,
    {
        let before = self.moved();
        self.absorb(noted);
        self.notify(io, handler, turn)?;
        self.receive(io, handler, turn)?;
        self.tell_eof(io, handler, turn)?;
        if self.send(io, turn)? {
            self.drained(before.1, io, handler, turn)?;
        }
        self.wind_down(io, turn.now)?;
        self.held.release();
        self.check_deadline(before, turn)
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

    /// The callbacks that need no input: opened, timers that are due, all output left.
    fn notify<S: Endpoint>(&mut self, io: &S, handler: &mut dyn Handler, turn: &mut Turn<'_>) -> Result<(), End> {
        if self.phase == Phase::New {
            self.phase = Phase::Open;
            self.call(io, turn, Callback::Open, |cx| handler.on_open(cx))?;
        }
        // Finishing forgets the timers, so this ends with the phase too.
        while let Some(key) = self.held.take_due_alarm(turn.now) {
            self.call(io, turn, Callback::Timer, |cx| handler.on_timer(cx, key))?;
        }
        if self.phase == Phase::Open && std::mem::take(&mut self.drain_due) {
            self.call(io, turn, Callback::Drain, |cx| handler.on_drain(cx))?;
        }
        Ok(())
    }

    /// Runs one callback: catches its panic, and does what it asked for.
    fn call<R>(
        &mut self,
        io: &dyn Endpoint,
        turn: &mut Turn<'_>,
        callback: Callback,
        code: impl FnOnce(&mut Context<'_>) -> io::Result<R>,
    ) -> Result<R, End> {
        let started = turn.eyes.start();
        let mut cx = self.context(io, turn);
        let result = catch_unwind(AssertUnwindSafe(|| code(&mut cx)));
        let intent = cx.intent;
        turn.handled(|| self.peer(), callback, started);
        let Ok(result) = result else { return Err(Reason::Panic.into()) };
        let value = result.map_err(|error| End { reason: Reason::Handler, error: Some(error) })?;
        match intent {
            Intent::Stay => {}
            Intent::HalfClose => self.half_close(),
            Intent::Finish => self.finish(),
            Intent::Abort => return Err(Reason::Aborted.into()),
        }
        Ok(value)
    }

    /// What a callback is given.
    fn context<'a>(&'a mut self, io: &'a dyn Endpoint, turn: &'a mut Turn<'_>) -> Context<'a> {
        Context {
            id: turn.id,
            peer: self.peer,
            epoch: turn.epoch,
            now: turn.now,
            endpoint: io,
            held: &mut self.held,
            gathered: &mut turn.scratch.gathered,
            output_max: if self.output == Output::Open { turn.config.output_max_bytes } else { 0 },
            intent: Intent::Stay,
            others: turn.others,
        }
    }

    /// From here on input has no reader and timers have no listener.
    fn finish(&mut self) {
        self.half_close();
        self.phase = Phase::Finishing;
        if let Some(held) = self.held.get_mut() {
            held.alarms.clear();
            held.discarded += held.input.len() as u64;
            held.input.consume(held.input.len());
        }
    }

    fn receive<S>(&mut self, io: &mut S, handler: &mut dyn Handler, turn: &mut Turn<'_>) -> Result<(), End>
    where
        S: Read + Endpoint,
    {
        if std::mem::take(&mut self.offer) && self.phase == Phase::Open && !self.held.input().is_empty() {
            self.offer_held(io, handler, turn)?;
        }
        let mut budget = turn.config.turn_budget_bytes;
        while budget > 0 && self.may_read(turn.scratch.gathered.len(), turn.config) {
            let room = turn.config.input_max_bytes - self.held.input().len();
            let count = self.read(io, &mut turn.scratch.input[..room.min(budget)])?;
            budget -= count;
            if count > 0 {
                self.deliver(count, io, handler, turn)?;
            }
        }
        if budget == 0 && self.may_read(turn.scratch.gathered.len(), turn.config) {
            turn.eyes.tell(|| Event::Spent { id: turn.id, budget: Budget::Bytes });
        }
        Ok(())
    }

    /// Whether input is known to be there and there is a place for it. `gathered`: output of this turn, not held yet.
    ///
    /// Full output alone does not stop the reading, for a handler may pass its input elsewhere: two such sides that each wait
    /// for the other to read would wait for ever. That input is left lying while output is full does.
    fn may_read(&self, gathered: usize, config: &Config) -> bool {
        let (kept, pending) = (self.held.input().len(), self.held.output().len() + gathered);
        matches!(self.input, Input::Ready | Input::Scattered)
            && (matches!(self.phase, Phase::Finishing | Phase::Lingering)
                || kept == 0
                || kept < config.input_max_bytes && pending < config.output_max_bytes)
    }

    /// One read; 0 says there is no more for now.
    fn read<S: Read>(&mut self, io: &mut S, buffer: &mut [u8]) -> Result<usize, End> {
        loop {
            match io.read(buffer) {
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
    fn deliver<S: Endpoint>(
        &mut self,
        count: usize,
        io: &S,
        handler: &mut dyn Handler,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        if self.phase != Phase::Open {
            let discarded = &mut self.held.hold().discarded;
            *discarded += count as u64;
            return if *discarded > turn.config.linger_max_bytes { Err(Reason::Limit.into()) } else { Ok(()) };
        }
        if !self.held.input().is_empty() {
            let Scratch { input, .. } = &*turn.scratch;
            self.held.hold().input.push(&input[..count], turn.config.input_max_bytes);
            return self.offer_held(io, handler, turn);
        }
        let input = std::mem::take(&mut turn.scratch.input);
        let result = self.offer(&input[..count], io, handler, turn);
        let consumed = result.as_ref().map_or(0, |&consumed| consumed);
        if consumed < count {
            self.keep(&input[consumed..count], turn.config);
        }
        turn.scratch.input = input;
        result.map(|_| ())
    }

    /// Keeps what the handler did not consume, unless nobody will ask for it again.
    fn keep(&mut self, rest: &[u8], config: &Config) {
        let held = self.held.hold();
        if self.phase == Phase::Open {
            held.input.push(rest, config.input_max_bytes);
        } else {
            held.discarded += rest.len() as u64;
        }
    }

    fn offer_held<S: Endpoint>(&mut self, io: &S, handler: &mut dyn Handler, turn: &mut Turn<'_>) -> Result<(), End> {
        let input = std::mem::take(&mut self.held.hold().input);
        let result = self.offer(input.as_slice(), io, handler, turn);
        let held = self.held.hold();
        held.input = input;
        let consumed = result?;
        held.input.consume(consumed);
        if self.phase != Phase::Open {
            self.finish();
        }
        Ok(())
    }

    fn offer<S: Endpoint>(
        &mut self,
        input: &[u8],
        io: &S,
        handler: &mut dyn Handler,
        turn: &mut Turn<'_>,
    ) -> Result<usize, End> {
        let consumed = self.call(io, turn, Callback::Data, |cx| handler.on_data(cx, input))?;
        if consumed > input.len() {
            let message = format!("on_data consumed {consumed} bytes of {}", input.len());
            return Err(End { reason: Reason::Handler, error: Some(io::Error::other(message)) });
        }
        Ok(consumed)
    }

    /// Tells of the peer's end, once everything before it was offered and the handler has had room to answer it: what it
    /// then still leaves lying, it leaves for good.
    fn tell_eof<S: Endpoint>(&mut self, io: &S, handler: &mut dyn Handler, turn: &mut Turn<'_>) -> Result<(), End> {
        let quiet = turn.scratch.gathered.is_empty() && self.held.output().is_empty();
        let heard_out = self.held.input().is_empty() || quiet;
        if self.phase == Phase::Open && self.input == Input::Eof && !self.eof_told && heard_out {
            self.eof_told = true;
            self.call(io, turn, Callback::Eof, |cx| handler.on_eof(cx))?;
        }
        Ok(())
    }

    /// One send of all there is, and says whether all of it left. What the socket refused is held.
    fn send<S: Write>(&mut self, io: &mut S, turn: &mut Turn<'_>) -> Result<bool, End> {
        if !self.held.output().is_empty() {
            self.hold_gathered(turn);
        }
        let held = !self.held.output().is_empty();
        let output = if held { self.held.output() } else { turn.scratch.gathered.as_slice() };
        if self.blocked || output.is_empty() {
            return Ok(false);
        }
        let (count, total) = (write(io, output)?, output.len());
        self.sent += count as u64;
        if held {
            self.held.hold().output.consume(count);
        } else {
            let rest = &turn.scratch.gathered[count..];
            if !rest.is_empty() {
                self.held.hold().output.push(rest, turn.config.output_max_bytes);
            }
            turn.scratch.gathered.clear();
        }
        // A short send filled the socket's buffer, and the kernel has noted that somebody waits for room in it: the edge will
        // come, and trying again now would only cost a call.
        self.blocked = count < total;
        Ok(!self.blocked)
    }

    fn hold_gathered(&mut self, turn: &mut Turn<'_>) {
        if !turn.scratch.gathered.is_empty() {
            self.held.hold().output.push(&turn.scratch.gathered, turn.config.output_max_bytes);
            turn.scratch.gathered.clear();
        }
    }

    /// All output has left: the handler may have more, or consume now what it left over. Within the budget it is told at once,
    /// which spares a turn; what it then writes leaves in the next, for a turn sends once.
    fn drained(&mut self, since: u64, io: &dyn Endpoint, handler: &mut dyn Handler, turn: &mut Turn<'_>) -> Result<(), End> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.offer = !self.held.input().is_empty();
        if self.sent - since >= turn.config.turn_budget_bytes as u64 {
            self.drain_due = true;
            return Ok(());
        }
        self.call(io, turn, Callback::Drain, |cx| handler.on_drain(cx))?;
        self.hold_gathered(turn);
        Ok(())
    }

    /// The end, step by step. Closing with unread input would reset the connection and destroy the answer on its way, so
    /// after the FIN the input is read, and thrown away, until the peer's.
    fn wind_down<S: Endpoint>(&mut self, io: &S, now: Tick) -> Result<(), End> {
        if self.output == Output::Ending && self.held.output().is_empty() {
            // Where all is over, the close that follows sends the FIN.
            if self.input != Input::Eof || self.phase == Phase::Open {
                io.shutdown_write()?;
            }
            self.output = Output::Ended;
        }
        if self.phase == Phase::Finishing && self.output == Output::Ended {
            self.phase = Phase::Lingering;
            self.active = now;
        }
        let heard_out = self.phase == Phase::Lingering || self.eof_told && self.held.input().is_empty();
        if heard_out && self.input == Input::Eof && self.output == Output::Ended {
            return Err(Reason::Finished.into());
        }
        Ok(())
    }

    fn check_deadline(&mut self, before: (u64, u64), turn: &Turn<'_>) -> Result<(), End> {
        if self.phase == Phase::Lingering {
            let over = turn.now >= self.active.after(turn.config.linger_timeout);
            return if over { Err(Reason::Linger.into()) } else { Ok(()) };
        }
        if self.moved() != before {
            self.active = turn.now;
        } else if turn.config.idle_timeout.is_some_and(|wait| turn.now >= self.active.after(wait)) {
            return Err(Reason::Idle.into());
        }
        Ok(())
    }

    /// Whether the next turn can make progress without any event.
    pub(crate) fn wants_turn(&self, config: &Config) -> bool {
        self.phase == Phase::New
            || !self.held.output().is_empty() && !self.blocked
            || self.drain_due
            || self.offer && !self.held.input().is_empty()
            || self.may_read(0, config)
    }

    /// True once: when the poller must be asked for write readiness.
    pub(crate) fn must_await_writable(&mut self) -> bool {
        self.blocked && !std::mem::replace(&mut self.awaits_writable, true)
    }

    /// When the connection next needs a turn at the latest.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Tick> {
        let own = match self.phase {
            Phase::Lingering => Some(self.active.after(config.linger_timeout)),
            _ => config.idle_timeout.map(|wait| self.active.after(wait)),
        };
        own.into_iter().chain(self.held.next_alarm()).min()
    }

    /// What the last callback is given: the loop, and nothing of the connection.
    pub(crate) fn farewell<'a>(&'a mut self, io: &'a dyn Endpoint, turn: &'a mut Turn<'_>) -> Context<'a> {
        self.output = Output::Ended;
        self.context(io, turn)
    }

    /// The receipt. Takes what the last turn gathered but did not send with it.
    pub(crate) fn close(&self, end: End, now: Tick, scratch: &mut Scratch) -> Closed {
        let unsent = self.held.output().len() + scratch.gathered.len();
        scratch.gathered.clear();
        Closed {
            reason: end.reason,
            error: end.error,
            received: self.received,
            sent: self.sent,
            unsent: unsent as u64,
            discarded: self.held.discarded() + self.held.input().len() as u64,
            age: now.since(self.opened),
        }
    }
}

/// One send; 0 if the socket takes nothing now.
fn write<S: Write>(io: &mut S, output: &[u8]) -> io::Result<usize> {
    loop {
        match io.write(output) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

mod view;

#[cfg(test)]
mod tests;
