//! The third step of a turn: one send, and `on_drain` after it.

use super::callbacks::Due;
use super::{Endpoint, Machine, Pending, Turn};
use crate::buffers::LazyBacklog;
use crate::closed::End;
use crate::common::Common;
use crate::handler::Intent;
use crate::observe::CallScope;
use crate::readiness::Readiness;
use std::io::{self, ErrorKind};

impl<E: Endpoint> Turn<'_, '_, E> {
    /// One send of all output, and `on_drain` after it. Held output goes first.
    pub(super) fn send(&mut self) -> Result<(), End> {
        // One send takes one slice, so the output of this turn is moved behind held output.
        if !self.cx.backlog.output.is_empty() {
            self.cx.hold_output();
        }
        let held = &self.cx.backlog.output;
        let output = if held.is_empty() {
            &self.cx.others.output[..]
        } else {
            held.as_slice()
        };
        // What is added in this turn may be a layer that takes all output from the beginning.
        if self.cx.backlog.layers.is_some() {
            return Ok(());
        }
        // Without WRITABLE the kernel's buffer is full, and an edge follows when it has room.
        if output.is_empty() || !self.machine.ready.intersects(Readiness::WRITABLE) {
            return Ok(());
        }
        let result = self.endpoint.write(output, self.cx.scope());
        let common = self.cx.others.common;
        let count = self.machine.note_write(result, output.len(), common)?;
        self.sent(count)
    }

    /// The kernel took so many bytes in a send of all output.
    pub(super) fn sent(&mut self, count: usize) -> Result<(), End> {
        // Much output is not moved byte by byte.
        if self.cx.is_choked() {
            self.cx.hold_output();
        }
        // `send` sent held output if there is any, and otherwise that of this turn.
        match self.cx.backlog.get_mut() {
            Some(held) if !held.output.is_empty() => held.output.consume(count),
            _ => drop(self.cx.others.output.drain(..count)),
        }
        let is_drained = !self.cx.has_output() && self.machine.hears();
        if is_drained && self.machine.sent_all(count, self.cx.others.common) {
            // All room is free again, unless this turn's callbacks asked for an end.
            if self.cx.others.intent <= Intent::WhenQuiet {
                self.cx.others.room = self.cx.others.common.config.output_max_bytes;
            }
            self.call(Due::Drain)?;
        }
        Ok(())
    }
}

/// From how many bytes on it costs less to send at once than to copy them and send them later, when they
/// have left the processor's cache. The short conversations of the tests have that case too.
const SEND_AT_ONCE: usize = if cfg!(test) { 2 } else { 4096 };

impl Machine {
    /// Takes output from outside a turn, and returns how much. The next turn sends it, so that small
    /// messages leave together. A large one leaves at once if nothing is held in front of it; at most
    /// one before the next turn, so that a loop of sends ends. A connection that is not established has no
    /// endpoint yet.
    pub(crate) fn push<E: Endpoint>(
        &mut self,
        bytes: &[u8],
        backlog: &mut LazyBacklog,
        endpoint: Option<&E>,
        scope: CallScope<'_>,
        common: &Common,
        output_max: usize,
    ) -> usize {
        let taken = bytes.len().min(self.room(backlog, output_max));
        let mut rest = &bytes[..taken];
        let is_free = self.pending == Pending::Nothing && backlog.output.is_empty();
        // What layers make of it is sent in the turn.
        let is_free = is_free && backlog.layers.is_none();
        let is_free = is_free && self.ready.intersects(Readiness::WRITABLE);
        if let Some(endpoint) = endpoint.filter(|_| taken >= SEND_AT_ONCE && is_free) {
            let result = endpoint.write(rest, scope);
            // The next turn does the rest: it calls `on_drain`, asks the poller for write readiness, or
            // ends the connection.
            match self.note_write(result, taken, common) {
                Ok(count) => rest = &rest[count..],
                Err(end) => {
                    backlog.get_or_insert().send_error = end.error;
                    self.end(end.reason);
                }
            }
            if rest.is_empty() {
                self.ready.insert(Readiness::WOKEN);
                self.pending = Pending::Drain;
            }
        }
        if !rest.is_empty() {
            backlog.get_or_insert().output.push(rest, output_max);
        }
        taken
    }

    /// Draws the consequences of a write of `total` bytes, and returns how many the kernel took. After a
    /// short write its buffer is full and an edge follows when it has room, so to try again now would
    /// only cost a call.
    #[inline(never)]
    pub(super) fn note_write(
        &mut self,
        result: io::Result<usize>,
        total: usize,
        common: &Common,
    ) -> Result<usize, End> {
        let count = match result {
            Ok(count) => count,
            // The mark stays, so the next turn tries again.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        if count > 0 {
            self.add_sent(count, common);
            self.active = common.now;
        }
        if count < total {
            self.ready.remove(Readiness::WRITABLE);
        }
        Ok(count)
    }

    #[inline(always)]
    pub(super) fn add_sent(&mut self, count: usize, common: &Common) {
        self.sent += count as u64;
        common.add_sent(count);
    }

    /// All output was sent, so held input is offered again. True if `on_drain` is called in this turn:
    /// within the budget, which saves a turn. What it writes is sent in the next turn, because a turn
    /// sends once. If the budget is spent, `on_drain` is called in the next turn.
    #[inline(always)]
    pub(super) fn sent_all(&mut self, count: usize, common: &Common) -> bool {
        self.ready.insert(Readiness::WOKEN);
        let within_budget = count < common.config.turn_budget_bytes;
        if !within_budget {
            self.pending = Pending::Drain;
        }
        within_budget
    }
}
