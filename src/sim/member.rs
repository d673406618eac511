//! A reactor as the simulation sees it.

use crate::reactor::Reactor;
use crate::time::Tick;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// A reactor that the simulation gives turns to while the test holds it.
#[derive(Clone)]
pub(super) struct Member {
    reactor: Weak<RefCell<Reactor>>,
    /// Its process in the world.
    pub(super) process: usize,
    /// The turns since all its sources were checked.
    unchecked: Rc<Cell<usize>>,
}

/// A reactor with at most this many sources is checked as a whole after every turn. One with twice as
/// many has such a check after every second turn, and so on.
const ALWAYS_CHECKED: usize = 64;

impl Member {
    pub(super) fn new(reactor: &Rc<RefCell<Reactor>>, process: usize) -> Member {
        let reactor = Rc::downgrade(reactor);
        Member {
            reactor,
            process,
            unchecked: Rc::default(),
        }
    }

    /// Called after each turn. True if all its sources are to be checked now.
    pub(super) fn owes_check(&self, sources: usize) -> bool {
        let turns = self.unchecked.get() + 1;
        let owes = turns * ALWAYS_CHECKED >= sources;
        self.unchecked.set(if owes { 0 } else { turns });
        owes
    }

    /// The reactor, unless the test dropped it, or it has stopped.
    pub(super) fn running(&self) -> Option<Rc<RefCell<Reactor>>> {
        let reactor = self.reactor.upgrade()?;
        let done = reactor.borrow().is_done();
        (!done).then_some(reactor)
    }

    /// The time by which it needs a turn without an event.
    pub(super) fn next_turn(&self) -> Option<Tick> {
        self.running()?.borrow().next_turn()
    }
}
