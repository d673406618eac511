//! One connection as a state machine over any [`Endpoint`]: no poller, no clock of its own.
//!
//! A turn has two halves. [`Stream::hear`] takes in what was noted and reads once; [`Stream::answer`] calls the handler with what is
//! due and what was read, and sends once. Afterwards [`Stream::wants_turn`] says whether there is anything left that needs no event
//! to go on. It is derived from the state, not kept beside it, so a connection that can move is never left lying.

use crate::common::Common;
use crate::config::Config;
use crate::context::Context;
use crate::end::End;
use crate::handler::{Closed, Handler, Reason};
use crate::held::{Held, Holding};
use crate::net::{TcpStream, Told};
use crate::phase::{Due, Input, Output, Phase};
use crate::readiness::Readiness;
use crate::timers::Tick;
use std::io;

/// What the machine needs of a socket.
pub(crate) trait Endpoint {
    fn read(&self, buffer: &mut [u8], told: Told<'_>) -> io::Result<usize>;
    fn write(&self, bytes: &[u8], told: Told<'_>) -> io::Result<usize>;
    /// Sends the FIN.
    fn shutdown_write(&self, told: Told<'_>) -> io::Result<()>;
}

impl Endpoint for TcpStream {
    fn read(&self, buffer: &mut [u8], told: Told<'_>) -> io::Result<usize> {
        self.read(buffer, told)
    }

    fn write(&self, bytes: &[u8], told: Told<'_>) -> io::Result<usize> {
        self.write(bytes, told)
    }

    fn shutdown_write(&self, told: Told<'_>) -> io::Result<()> {
        self.shutdown_write(told)
    }
}

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
    due: Due,
    /// What can be done: offer unconsumed input again (WOKEN), until that was done; read and write, until it was tried in vain. Of input,
    /// READABLE goes with a short read, for that took all there was, and spares the read that would say WouldBlock; SCATTERED stays
    /// until WouldBlock, for there is input in pieces, and no further edge to come.
    can: Readiness,
    /// The poller was asked for write readiness.
    awaits_writable: bool,
}

/// What [`Stream::is_plain`] compares with: one comparison, for it is made several times in the turn of every message.
const PLAIN: u32 = u32::from_ne_bytes([
    Phase::Open as u8,
    Input::Open as u8,
    Output::Open as u8,
    Due::Nothing as u8,
]);

impl Stream {
    pub(crate) fn new(now: Tick) -> Stream {
        Stream {
            received: 0,
            sent: 0,
            opened: now,
            active: now,
            phase: Phase::Open,
            input: Input::Open,
            output: Output::Open,
            due: Due::Open,
            can: Readiness::WRITABLE,
            awaits_writable: false,
        }
    }

    /// One that this side established. The poller was asked for write readiness, for it is what told of that.
    pub(crate) fn connected(now: Tick) -> Stream {
        Stream {
            awaits_writable: true,
            ..Stream::new(now)
        }
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

    /// Whether nothing is held, due, or at an end: so are most connections, most of the time. What a turn does for all others stands
    /// out of its way.
    fn is_plain(&self, held: &Holding) -> bool {
        let all = [
            self.phase as u8,
            self.input as u8,
            self.output as u8,
            self.due as u8,
        ];
        u32::from_ne_bytes(all) == PLAIN && held.get().is_none()
    }

    /// The second half: the callbacks, and one send. What the first half read is the context's input. True if only an event can
    /// bring anything more about; where it is false, [`wants_turn`](Stream::wants_turn) and its kin may know better.
    pub(crate) fn answer(
        &mut self,
        endpoint: &impl Endpoint,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        if self.is_plain(cx.held) {
            self.offer_new(handler, cx)?;
        } else {
            self.catch_up(handler, cx)?;
        }
        let sent = if self.is_plain(cx.held) {
            self.send_plainly(endpoint, handler, cx)?
        } else {
            self.send_behind(endpoint, handler, cx)?
        };
        let moved = sent || !cx.gathered.input().is_empty();
        if moved && self.is_plain(cx.held) {
            self.active = cx.common.now;
            return Ok(
                self.can.of(Readiness::INPUT.and(Readiness::WRITABLE)) == Readiness::WRITABLE
            );
        }
        self.wind_down(moved, endpoint, cx)?;
        Ok(false)
    }

    /// The second half where the first failed.
    #[cold]
    pub(crate) fn fail(
        &mut self,
        error: io::Error,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> End {
        self.begin(cx);
        self.notify(handler, cx)
            .err()
            .unwrap_or_else(|| error.into())
    }

    /// The end, step by step. Closing with unread input would reset the connection and destroy the answer on its way, so
    /// after the FIN the input is read, and thrown away, until the peer's.
    #[inline(never)]
    fn wind_down(
        &mut self,
        moved: bool,
        endpoint: &impl Endpoint,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        cx.held.release();
        if self.output == Output::Ending && cx.held.output().is_empty() {
            // Where all is over, the close that follows sends the FIN.
            if self.input == Input::Open || self.phase == Phase::Open {
                endpoint.shutdown_write(cx.told())?;
            }
            self.output = Output::Ended;
        }
        if self.phase == Phase::Finishing && self.output == Output::Ended {
            self.phase = Phase::Lingering;
            self.active = cx.common.now;
        }
        let heard_out = match self.input {
            Input::Open => false,
            Input::Ended => self.phase == Phase::Lingering,
            Input::Told => self.phase == Phase::Lingering || cx.held.input().is_empty(),
        };
        if heard_out && self.output == Output::Ended {
            return Err(Reason::Finished.into());
        }
        let lingers = self.phase == Phase::Lingering;
        if moved && !lingers {
            self.active = cx.common.now;
        } else if self.is_over(cx.common) {
            return Err(if lingers {
                Reason::LingerTimeout
            } else {
                Reason::IdleTimeout
            }
            .into());
        }
        Ok(())
    }

    /// Whether it has waited for its peer as long as it may.
    fn is_over(&self, common: &Common) -> bool {
        let Config {
            linger_timeout,
            idle_timeout,
            ..
        } = common.config;
        let wait = if self.phase == Phase::Lingering {
            Some(linger_timeout)
        } else {
            idle_timeout
        };
        wait.is_some_and(|wait| common.is_over(wait, self.active))
    }

    /// Whether the next turn can make progress without any event.
    pub(crate) fn wants_turn(&self, held: &Holding, config: &Config) -> bool {
        let can_move = |held: &Held| {
            !held.output.is_empty() && self.can.has(Readiness::WRITABLE)
                || !held.input.is_empty() && self.can.has(Readiness::WOKEN)
        };
        let can_read = self.can.has(Readiness::INPUT)
            && held.get().is_none_or(|held| self.has_place(held, config));
        self.due != Due::Nothing || can_read || held.get().is_some_and(can_move)
    }

    /// True once: when the poller must be asked for write readiness.
    pub(crate) fn must_await_writable(&mut self) -> bool {
        !self.can.has(Readiness::WRITABLE) && !std::mem::replace(&mut self.awaits_writable, true)
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
    pub(crate) fn close(
        &self,
        end: End,
        now: Tick,
        held: &Holding,
        gathered: &mut Vec<u8>,
    ) -> Closed {
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

mod callbacks;
mod hear;
mod send;
mod view;

#[cfg(test)]
mod tests;
