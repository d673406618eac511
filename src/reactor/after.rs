//! A timer that belongs to no connection.

use super::Reactor;
use super::sources::Source;
use crate::guard::discard;
use crate::handler::{LoopOps, Others};
use crate::id::Id;
use crate::readiness::Readiness;
use crate::time::Tick;
use std::any::Any;
use std::io;
use std::time::Duration;

type Code = Box<dyn FnOnce(&mut Reactor)>;

pub(super) struct After {
    at: Tick,
    code: Code,
}

impl After {
    /// `code` is a [`Code`] without its type: the handlers that pass it on do not know the reactor.
    pub(super) fn new(at: Tick, code: Box<dyn Any>) -> Option<After> {
        let code = *code.downcast().ok()?;
        Some(After { at, code })
    }
}

impl Reactor {
    /// Runs a closure once `wait` has passed: not earlier, and later only while the loop is busy. It
    /// runs in phase 4 and is given the reactor. [`close`](Reactor::close) with the returned id cancels
    /// it. A reactor that is dropped drops it. A panic in it is caught, logged and counted.
    ///
    /// # Errors
    /// As for [`connect`](Reactor::connect). The closure is then dropped.
    pub fn after(
        &mut self,
        wait: Duration,
        code: impl FnOnce(&mut Reactor) + 'static,
    ) -> io::Result<Id> {
        let at = self.common.clock.now().after(wait);
        self.sources.after(at, Box::new(Box::new(code) as Code))
    }

    /// A timer's turn. The first arms its deadline, also if it has passed: phase 3 has the budget.
    pub(super) fn after_turn(&mut self, id: Id, marks: Readiness, after: Box<After>) {
        if marks.intersects(Readiness::WOKEN) {
            self.deadlines.arm(id.slot(), after.at);
            return self.sources.check_in(id, Source::After(after));
        }
        self.retire(id);
        if self.lend(after.code).is_none() {
            self.count_panic("a timer");
        }
    }

    pub(super) fn close_after(&mut self, id: Id, after: Box<After>) {
        self.retire(id);
        if !discard(after) {
            self.count_panic("a timer");
        }
    }
}

impl Others<'_> {
    /// Runs a closure later; see [`Reactor::after`]. The time counts from this turn. It outlives the
    /// connection, so `on_close` can use it to connect again after a pause.
    ///
    /// # Errors
    /// As for [`Reactor::connect`].
    pub fn after(
        &mut self,
        wait: Duration,
        code: impl FnOnce(&mut Reactor) + 'static,
    ) -> io::Result<Id> {
        let at = self.at(wait);
        self.ops.after(at, Box::new(Box::new(code) as Code))
    }
}
