//! The one send of a turn.

use super::{Endpoint, Pending, Turn};
use crate::closed::End;
use crate::handler::Intent;
use crate::observe::Callback;
use crate::readiness::Readiness;
use std::io::{self, ErrorKind};

impl<E: Endpoint> Turn<'_, E> {
    /// One send of all output, and `on_drain` after it.
    #[inline(always)]
    pub(super) fn send(&mut self) -> Result<(), End> {
        if !self.cx.backlog.output().is_empty() {
            return self.send_held();
        }
        if self.cx.output.is_empty() {
            return Ok(());
        }
        match self.endpoint.write(self.cx.output, self.cx.scope()) {
            Ok(count) if count == self.cx.output.len() => {
                self.cx.output.clear();
                self.sent_all(count)
            }
            result => {
                self.cx.hold_output();
                self.sent_part(result)
            }
        }
    }

    /// Sends held output, with this turn's output behind it.
    #[inline(never)]
    fn send_held(&mut self) -> Result<(), End> {
        self.cx.hold_output();
        if !self.machine.ready.intersects(Readiness::WRITABLE) {
            return Ok(());
        }
        let output = self.cx.backlog.output();
        match self.endpoint.write(output, self.cx.scope()) {
            Ok(count) if count == output.len() => {
                self.cx.backlog.get_or_insert().output.consume(count);
                self.sent_all(count)
            }
            result => self.sent_part(result),
        }
    }

    /// The result of a send that did not take all of the held output. After a short send the kernel's
    /// buffer is full and an edge follows when it has room, so to try again now would only cost a call.
    #[inline(never)]
    fn sent_part(&mut self, result: io::Result<usize>) -> Result<(), End> {
        let count = match result {
            Ok(count) => count,
            // The mark stays, so the next turn tries again.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.machine.ready.remove(Readiness::WRITABLE);
        if count > 0 {
            self.cx.backlog.get_or_insert().output.consume(count);
            self.add_sent(count);
        }
        Ok(())
    }

    /// All output was sent, so held input is offered again. Within the budget `on_drain` is called in
    /// this turn, which saves a turn; what it writes is sent in the next turn, because a turn sends
    /// once. If the budget is spent, `on_drain` is called in the next turn.
    #[inline(always)]
    fn sent_all(&mut self, count: usize) -> Result<(), End> {
        self.add_sent(count);
        if self.machine.discards() {
            return Ok(());
        }
        let config = &self.cx.common.config;
        self.machine.ready.insert(Readiness::WOKEN);
        if count >= config.turn_budget_bytes {
            self.machine.pending = Pending::Drain;
            return Ok(());
        }
        if self.cx.intent == Intent::Stay {
            self.cx.room = config.output_max_bytes;
        }
        self.call_inline(Callback::Drain, |handler, cx| handler.on_drain(cx))?;
        self.cx.hold_output();
        Ok(())
    }

    fn add_sent(&mut self, count: usize) {
        self.machine.sent += count as u64;
        self.machine.active = self.cx.common.now;
        self.cx.common.add_sent(count);
    }
}
