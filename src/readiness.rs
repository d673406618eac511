//! Which operations on a source may succeed, as a set of marks.

/// A set of marks. Marks are only added until the source's turn takes them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    /// A read may return bytes, or accept a connection. A short read clears it.
    pub(crate) const READABLE: Readiness = Readiness(1);
    /// The peer ended, or there is urgent data, or an error: read until `WouldBlock`, because here a
    /// short read does not mean that the socket is drained.
    pub(crate) const UNDRAINED: Readiness = Readiness(2);
    /// A write may take bytes, or a connection attempt has a result.
    pub(crate) const WRITABLE: Readiness = Readiness(4);
    /// A handler, a timer or a freed slot asked for a turn.
    pub(crate) const WOKEN: Readiness = Readiness(8);
    /// The id is in the queue.
    pub(crate) const QUEUED: Readiness = Readiness(16);
    /// The slot has a deadline. It is kept here too, so that a turn need not look it up.
    pub(crate) const ARMED: Readiness = Readiness(32);
    /// Either reason to read.
    pub(crate) const INPUT: Readiness = Readiness::READABLE.union(Readiness::UNDRAINED);

    /// True if any of `marks` is set.
    pub(crate) fn intersects(self, marks: Readiness) -> bool {
        self.0 & marks.0 != 0
    }

    pub(crate) const fn union(self, marks: Readiness) -> Readiness {
        Readiness(self.0 | marks.0)
    }

    pub(crate) fn intersection(self, marks: Readiness) -> Readiness {
        Readiness(self.0 & marks.0)
    }

    /// Adds the marks. True if any of them is new.
    pub(crate) fn insert(&mut self, marks: Readiness) -> bool {
        let before = self.0;
        self.0 |= marks.0;
        self.0 != before
    }

    pub(crate) fn remove(&mut self, marks: Readiness) {
        self.0 &= !marks.0;
    }

    /// Takes the pending marks for this turn; ARMED stays set.
    pub(crate) fn take(&mut self) -> Readiness {
        std::mem::replace(self, self.intersection(Readiness::ARMED))
    }
}
