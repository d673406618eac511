//! What holds of the table and the queue between turns. It is checked in simulations only.

use super::{Source, Sources};
use crate::id::Id;
use crate::readiness::Readiness;
use std::collections::BTreeSet;

impl Sources {
    /// In words, the first invariant that does not hold.
    pub(in crate::reactor) fn check(&self) -> Result<(), &'static str> {
        let slots = || self.slab.iter().map(|(_, slot)| slot);
        let queue: BTreeSet<usize> = self.queue.iter().map(|id| id.slot()).collect();
        let listeners = || self.listeners().map(|(id, _)| id);
        let is_connection =
            |source: &Source| matches!(source, Source::Connection(_) | Source::Outgoing(_));
        for (holds, words) in [
            (
                slots().all(|slot| !matches!(slot.source, Source::Away | Source::Closed)),
                "a slot is out or closed between turns",
            ),
            (
                self.closed.is_empty() && (self.round, self.driven) == (0, 0),
                "a turn did not end",
            ),
            (
                queue.len() == self.queue.len() || self.has_stale(),
                "an id is queued twice",
            ),
            (
                self.slab.iter().all(|(index, slot)| {
                    !slot.pending.intersects(Readiness::QUEUED) || queue.contains(&index)
                }),
                "a source is marked as queued, and is not",
            ),
            (
                self.queue.iter().all(|&id| {
                    let marks = self.pending(id);
                    marks.is_none_or(|marks| marks.intersects(Readiness::QUEUED))
                }),
                "a source is queued, and is not marked",
            ),
            (
                self.open == slots().filter(|slot| is_connection(&slot.source)).count(),
                "the number of open connections is wrong",
            ),
            (
                listeners().eq(self.listeners.iter().copied()),
                "the list of listeners has what is none",
            ),
            (
                self.listeners().all(|(id, listener)| {
                    listener.admission.is_listed == self.waiting.contains(&id)
                }),
                "the list of listeners that wait is wrong",
            ),
        ] {
            if !holds {
                return Err(words);
            }
        }
        Ok(())
    }

    /// A source that closed may leave its id in the queue, and the next one in its slot adds its own.
    fn has_stale(&self) -> bool {
        self.queue.iter().any(|&id| self.get(id).is_none())
    }

    /// The marks since the source's last turn.
    pub(in crate::reactor) fn pending(&self, id: Id) -> Option<Readiness> {
        let slot = self.slab.get(id.slot())?;
        (slot.serial == id.serial()).then_some(slot.pending)
    }

    #[cfg(test)]
    pub(in crate::reactor) fn set_next_serial(&mut self, serial: u32) {
        self.next_serial = serial;
    }

    pub(in crate::reactor) fn count(&self) -> usize {
        self.slab.len()
    }
}
