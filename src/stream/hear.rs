//! The first half of a turn: what was noted, and one read.

use super::Stream;
use crate::common::Common;
use crate::config::Config;
use crate::held::{Held, Holding};
use crate::id::Id;
use crate::observe::{Budget, Event};
use crate::phase::{Input, Phase};
use crate::readiness::Readiness;
use crate::stream::Endpoint;
use std::io::{self, ErrorKind};

impl Stream {
    /// The first half of a turn: takes in what was noted, and reads once, into a buffer of at most the budget, where there is
    /// something to read and a place for it. Says how many bytes came.
    pub(crate) fn hear(
        &mut self,
        noted: Readiness,
        endpoint: &impl Endpoint,
        id: Id,
        held: &Holding,
        common: &Common,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        // The marks that are the slot's own come along, and mean nothing here.
        self.can.add(noted);
        if !noted.has(Readiness::READABLE) && self.is_over(common) {
            // A turn takes so many events and no more, so input, or room for output, may be there and not be noted: the kernel is
            // asked before a connection is given up.
            self.can.add(Readiness::READABLE.and(Readiness::WRITABLE));
        }
        if !self.can.has(Readiness::INPUT) {
            return Ok(0);
        }
        match held.get() {
            None => self.read(buffer, endpoint, id, common),
            Some(held) if self.has_place(held, &common.config) => {
                let most = buffer
                    .len()
                    .min(common.config.input_max_bytes - held.input.len());
                self.read(&mut buffer[..most], endpoint, id, common)
            }
            Some(_) => Ok(0),
        }
    }

    /// Whether there is a place for input.
    ///
    /// Full output alone does not stop the reading, for a handler may pass its input elsewhere: two such sides that each wait
    /// for the other to read would wait for ever. That input is left lying while output is full does.
    pub(super) fn has_place(&self, held: &Held, config: &Config) -> bool {
        matches!(self.phase, Phase::Finishing | Phase::Lingering)
            || held.input.is_empty()
            || held.input.len() < config.input_max_bytes
                && held.output.len() < config.output_max_bytes
    }

    /// One read; 0 says there is no more for now.
    fn read(
        &mut self,
        buffer: &mut [u8],
        endpoint: &impl Endpoint,
        id: Id,
        common: &Common,
    ) -> io::Result<usize> {
        match endpoint.read(buffer, common.told(id)) {
            Ok(0) => Ok(self.heard_the_end()),
            Ok(count) => {
                self.received += count as u64;
                common.received.set(common.received.get() + count as u64);
                if count == buffer.len() {
                    self.filled(count, id, common);
                } else {
                    self.can.remove(Readiness::READABLE);
                }
                Ok(count)
            }
            Err(error) => self.heard_nothing(error),
        }
    }

    #[cold]
    fn filled(&self, count: usize, id: Id, common: &Common) {
        if count == common.config.turn_budget_bytes {
            common.eyes.tell(|| Event::BudgetSpent {
                id,
                budget: Budget::Bytes,
            });
        }
    }

    #[cold]
    fn heard_the_end(&mut self) -> usize {
        self.can.remove(Readiness::INPUT);
        if self.input == Input::Open {
            self.input = Input::Ended;
        }
        0
    }

    #[cold]
    fn heard_nothing(&mut self, error: io::Error) -> io::Result<usize> {
        match error.kind() {
            ErrorKind::WouldBlock => self.can.remove(Readiness::INPUT),
            // The marks stay, so there is another try in the next turn.
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
        Ok(0)
    }
}
