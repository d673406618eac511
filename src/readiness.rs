//! What is known of a source between its turns, as a set of marks: which operations may succeed, what it is
//! to be told, and whether it is queued, has a deadline, layers, or limits of its own.

/// A set of marks.
///
/// A slot has one (`Slot::pending`): events add to it, and the source's turn takes it. A connection
/// has another (`Machine::ready`): its turn adds the marks that it took, and a mark stays until a read
/// or a write shows that the operation does not succeed any more. So no edge is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u16);

impl Readiness {
    /// A read may return bytes, or accept a connection. A short read clears it.
    pub(crate) const READABLE: Readiness = Readiness(1);
    /// The peer ended, or there is urgent data, or an error: read until `WouldBlock`, because here a
    /// short read does not mean that the socket is drained.
    pub(crate) const UNDRAINED: Readiness = Readiness(2);
    /// A write may take bytes, or a connection attempt has a result.
    pub(crate) const WRITABLE: Readiness = Readiness(4);
    /// A turn was asked for without an event: the source is new, a handler or the program woke its id,
    /// or a slot became free for a listener. For a connection: held input is offered again.
    pub(crate) const WOKEN: Readiness = Readiness(8);
    /// The id is in the queue. Of the slot only; in a connection's own set it means nothing.
    pub(crate) const QUEUED: Readiness = Readiness(16);
    /// The slot of a connection has a deadline. It is kept here too, so that a turn need not look it
    /// up. Of the slot only, as QUEUED.
    pub(crate) const ARMED: Readiness = Readiness(32);
    /// The poller reported an error: a read that returns 0 does not tell which.
    pub(crate) const ERROR: Readiness = Readiness(64);
    /// The loop shuts down, and `on_shutdown` was not called yet. Of a connection.
    pub(crate) const SHUTDOWN: Readiness = Readiness(128);
    /// Other code woke the id of a connection: `on_wake` is called.
    pub(crate) const CALLED: Readiness = Readiness(256);
    /// The connection has layers, which are in its backlog. Of the slot only, and as ARMED it stays.
    pub(crate) const LAYERED: Readiness = Readiness(512);
    /// A layer takes no output before it has read more. Of a connection's own set only.
    pub(crate) const HANDSHAKE: Readiness = Readiness(1024);
    /// The connection has limits of its own, which are not in force: in its turn the mark is away. Of the
    /// slot only; `take` leaves it.
    pub(crate) const LIMITED: Readiness = Readiness(2048);
    /// An abort was asked for, by the handler or by other code. Of a connection's own set only.
    pub(crate) const ABORTED: Readiness = Readiness(4096);
    /// Other code closed the source, which is not an open connection: it has no turn any more, and phase 5
    /// ends it.
    pub(crate) const CLOSING: Readiness = Readiness(8192);
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

    /// Removes the marks. True if any of them was set.
    pub(crate) fn remove(&mut self, marks: Readiness) -> bool {
        let was_set = self.intersects(marks);
        self.0 &= !marks.0;
        was_set
    }

    /// Takes the pending marks for this turn; ARMED, LAYERED and LIMITED stay set.
    pub(crate) fn take(&mut self) -> Readiness {
        let stay = Readiness::ARMED.union(Readiness::LAYERED);
        let stay = stay.union(Readiness::LIMITED);
        std::mem::replace(self, self.intersection(stay))
    }
}
