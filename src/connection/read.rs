//! The first half of a turn: the readiness marks, and one read.

use super::{Endpoint, Input, Machine, Turn};
use crate::buffers::Backlog;
use crate::config::Config;
use crate::observe::{Budget, Event};
use crate::readiness::Readiness;
use std::io::{self, ErrorKind};

impl<'a, E: Endpoint> Turn<'a, E> {
    /// Takes the marks of this turn, and reads once if there may be input and there is space for it.
    #[inline(always)]
    pub(super) fn receive(&mut self, marks: Readiness, buffer: &'a mut [u8]) -> io::Result<()> {
        // The marks of the slot (QUEUED, ARMED) are added too and mean nothing here.
        self.machine.ready.insert(marks);
        if !marks.intersects(Readiness::READABLE) && self.machine.is_over(self.cx.common) {
            // Before a connection times out, it is read and written once more: a turn takes a bounded
            // number of events, so its own event may still be in the poller.
            self.machine
                .ready
                .insert(Readiness::READABLE.union(Readiness::WRITABLE));
        }
        if !self.machine.ready.intersects(Readiness::INPUT) {
            return Ok(());
        }
        let config = &self.cx.common.config;
        match self.cx.backlog.get() {
            None => self.read(buffer),
            Some(held) if self.machine.has_space(held, config) => {
                let most = buffer.len().min(config.input_max_bytes - held.input.len());
                self.read(&mut buffer[..most])
            }
            Some(_) => Ok(()),
        }
    }

    /// One read.
    #[inline(always)]
    fn read(&mut self, buffer: &'a mut [u8]) -> io::Result<()> {
        let (machine, common) = (&mut *self.machine, self.cx.common);
        let count = match self.endpoint.read(buffer, self.cx.scope()) {
            Ok(0) => return machine.read_end(),
            Ok(count) => count,
            Err(error) => return machine.read_error(error),
        };
        machine.received += count as u64;
        common.add_received(count);
        if !machine.lingers() {
            machine.active = common.now;
        }
        if count < buffer.len() {
            // A short read took all there was, so the read that would return WouldBlock is saved. The
            // next bytes make a new edge (epoll(7), question 9).
            machine.ready.remove(Readiness::READABLE);
        } else if count == common.config.turn_budget_bytes {
            let (id, budget) = (self.cx.id, Budget::Bytes);
            common
                .observation
                .notify(|| Event::BudgetSpent { id, budget });
        }
        self.input = &buffer[..count];
        Ok(())
    }
}

impl Machine {
    /// True if there is space for more input.
    ///
    /// Reading stops while output is full and input is unconsumed. Full output alone does not stop it,
    /// because a handler may pass its input on to another connection: if two such connections each
    /// waited until the other reads, both would wait for ever.
    pub(super) fn has_space(&self, held: &Backlog, config: &Config) -> bool {
        let (input, output) = (held.input.len(), held.output.len());
        let fits = input < config.input_max_bytes && output < config.output_max_bytes;
        self.discards() || input == 0 || fits
    }

    /// The peer's FIN was read (recv(2): 0).
    #[cold]
    fn read_end(&mut self) -> io::Result<()> {
        self.ready.remove(Readiness::INPUT);
        self.input = match self.input {
            Input::Open => Input::Ended,
            Input::Discarding => Input::Discarded,
            ended => ended,
        };
        Ok(())
    }

    #[cold]
    fn read_error(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock => self.ready.remove(Readiness::INPUT),
            // The marks stay, so the next turn tries again.
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
        Ok(())
    }
}
