//! The one send of a turn.

use super::Stream;
use crate::common::Common;
use crate::context::{Context, Intent};
use crate::end::End;
use crate::handler::{Callback, Handler};
use crate::phase::{Due, Phase};
use crate::readiness::Readiness;
use crate::stream::Endpoint;
use std::io::{self, ErrorKind};

/// What became of the output of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// So many bytes have left, and more are to.
    Part(usize),
    /// So many bytes have left, and none are left over.
    All(usize),
}

impl Sent {
    fn count(self) -> usize {
        match self {
            Sent::Nothing => 0,
            Sent::Part(count) | Sent::All(count) => count,
        }
    }
}

impl Stream {
    /// One send, in a plain turn; and word of it to the handler. Says whether any bytes left.
    #[inline(always)]
    pub(super) fn send_plainly(
        &mut self,
        endpoint: &impl Endpoint,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        let common = cx.common;
        let sent = self.send(endpoint, common, cx)?;
        if let Sent::All(count) = sent {
            if self.is_drained(count, common) {
                cx.room = common.config.output_max_bytes;
                if common.eyes.are_timing() {
                    self.tell(Callback::Drain, handler, cx)?;
                } else {
                    self.call(cx, |cx| handler.on_drain(cx))?;
                }
                cx.hold_gathered();
            }
        }
        Ok(sent != Sent::Nothing)
    }

    /// One send of all that was written. What the socket refused is held.
    #[inline(always)]
    fn send(
        &mut self,
        endpoint: &impl Endpoint,
        common: &Common,
        cx: &mut Context<'_>,
    ) -> Result<Sent, End> {
        let output = cx.gathered.as_slice();
        if output.is_empty() {
            return Ok(Sent::Nothing);
        }
        match endpoint.write(output, common.told(cx.id)) {
            Ok(count) if count == output.len() => {
                self.count_sent(count, common);
                cx.gathered.clear();
                Ok(Sent::All(count))
            }
            result => self.sent_in_part(result, cx),
        }
    }

    /// The rest is held. A short send filled the socket's buffer, and the kernel has noted that somebody waits for room in it: the
    /// edge will come, and trying again now would only cost a call.
    #[cold]
    fn sent_in_part(
        &mut self,
        result: io::Result<usize>,
        cx: &mut Context<'_>,
    ) -> Result<Sent, End> {
        let sent = self.took(result, cx.common)?;
        let rest = &cx.gathered.as_slice()[sent.count()..];
        cx.held
            .hold()
            .output
            .push(rest, cx.common.config.output_max_bytes);
        cx.gathered.clear();
        Ok(sent)
    }

    fn count_sent(&mut self, count: usize, common: &Common) {
        self.sent += count as u64;
        common.add_sent(count);
    }

    /// How much the socket took, where it did not take all.
    #[inline(never)]
    fn took(&mut self, result: io::Result<usize>, common: &Common) -> io::Result<Sent> {
        let count = match result {
            Ok(count) => count,
            // The mark stays, so there is another try in the next turn.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Sent::Nothing),
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.can.remove(Readiness::WRITABLE);
        self.count_sent(count, common);
        Ok(if count > 0 {
            Sent::Part(count)
        } else {
            Sent::Nothing
        })
    }

    /// One send where the turn is no plain one: what is held goes first.
    #[inline(never)]
    pub(super) fn send_behind(
        &mut self,
        endpoint: &impl Endpoint,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        self.tell_eof(handler, cx)?;
        let sent = if cx.held.output().is_empty() {
            self.send(endpoint, cx.common, cx)?
        } else {
            self.send_held(endpoint, cx)?
        };
        if let (Sent::All(count), Phase::Open) = (sent, self.phase) {
            if self.is_drained(count, cx.common) {
                cx.room = if cx.intent == Intent::Stay {
                    cx.common.config.output_max_bytes
                } else {
                    0
                };
                self.tell(Callback::Drain, handler, cx)?;
                cx.hold_gathered();
            }
        }
        Ok(sent != Sent::Nothing)
    }

    #[inline(never)]
    fn send_held(&mut self, endpoint: &impl Endpoint, cx: &mut Context<'_>) -> Result<Sent, End> {
        cx.hold_gathered();
        if !self.can.has(Readiness::WRITABLE) {
            return Ok(Sent::Nothing);
        }
        let output = &mut cx.held.hold().output;
        let total = output.len();
        let sent = match endpoint.write(output.as_slice(), cx.common.told(cx.id)) {
            Ok(count) if count == total => {
                self.count_sent(count, cx.common);
                Sent::All(count)
            }
            result => self.took(result, cx.common)?,
        };
        output.consume(sent.count());
        Ok(sent)
    }

    /// All output has left, so much of it in this turn: the handler may have more, or consume now what it left over. Within the budget
    /// it is told at once, which spares a turn; what it then writes leaves in the next, for a turn sends once.
    fn is_drained(&mut self, sent: usize, common: &Common) -> bool {
        self.can.add(Readiness::WOKEN);
        let now = sent < common.config.turn_budget_bytes;
        if !now {
            self.due = Due::Drain;
        }
        now
    }
}
