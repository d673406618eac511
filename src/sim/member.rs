//! A reactor as the simulation sees it.

use crate::reactor::Reactor;
use crate::time::Tick;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// A reactor that the simulation gives turns to while the test holds it.
#[derive(Clone)]
pub(super) struct Member {
    reactor: Weak<RefCell<Reactor>>,
    /// Its process in the world.
    pub(super) process: usize,
}

impl Member {
    pub(super) fn new(reactor: &Rc<RefCell<Reactor>>, process: usize) -> Member {
        let reactor = Rc::downgrade(reactor);
        Member { reactor, process }
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
