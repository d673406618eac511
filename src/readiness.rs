//! What is known about a source since its last turn.

/// A set of marks. They only add up until the source's turn takes them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    /// Input, or someone in the waiting room.
    pub(crate) const READABLE: Readiness = Readiness(1);
    /// Input that may lie in several pieces (the peer closed, urgent data, an error): a short read proves nothing.
    pub(crate) const SCATTERED: Readiness = Readiness(2);
    pub(crate) const WRITABLE: Readiness = Readiness(4);
    /// Someone asked for a turn: a handler, a timer, a slot that became free.
    pub(crate) const WOKEN: Readiness = Readiness(8);
    /// The id is in the queue already.
    pub(crate) const QUEUED: Readiness = Readiness(16);
    /// Whatever asks for a read.
    pub(crate) const INPUT: Readiness = Readiness::READABLE.and(Readiness::SCATTERED);
    /// A deadline is armed: it stands here too, so that a turn need not look among the timers.
    pub(crate) const ARMED: Readiness = Readiness(32);

    pub(crate) fn has(self, marks: Readiness) -> bool {
        self.0 & marks.0 != 0
    }

    /// Adds the marks and says whether any of them is new.
    pub(crate) fn add(&mut self, marks: Readiness) -> bool {
        let before = self.0;
        self.0 |= marks.0;
        self.0 != before
    }

    pub(crate) const fn and(self, marks: Readiness) -> Readiness {
        Readiness(self.0 | marks.0)
    }

    /// Those of these marks that are set.
    pub(crate) fn of(self, marks: Readiness) -> Readiness {
        Readiness(self.0 & marks.0)
    }

    pub(crate) fn remove(&mut self, marks: Readiness) {
        self.0 &= !marks.0;
    }

    /// Takes what was noted for a turn. What is armed stays so.
    pub(crate) fn take(&mut self) -> Readiness {
        std::mem::replace(self, Readiness(self.0 & Readiness::ARMED.0))
    }
}
