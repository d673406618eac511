//! A foreign source's turn: any mio source that the reactor does not know.

use super::Reactor;
use super::sources::Source;
use crate::guard::{discard, guard};
use crate::id::Id;
use crate::observe::CallScope;
use crate::readiness::Readiness;
use crate::sys::{EventSource, Poller};

/// What a callback of [`Reactor::watch`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call again when the source becomes ready, or when other code wakes its id. The poller reports
    /// each change once, so this is right only after the source returned `WouldBlock`.
    Wait,
    /// Call again in the next turn, after the others had theirs: there is more than one turn should
    /// do.
    Again,
    /// Do not call again. The source is deregistered and dropped, and so is the callback.
    Done,
}

/// A source and its callback, without their types.
pub(super) trait Watched {
    fn turn(&mut self, reactor: &mut Reactor, id: Id) -> Next;
    fn deregister(&mut self, poller: &Poller, scope: CallScope<'_>);
    /// Drops the source and the callback. False if either panicked.
    fn discard(self: Box<Self>) -> bool;
}

pub(super) struct Pair<S, F> {
    pub(super) source: S,
    pub(super) callback: F,
}

impl<S: EventSource, F: FnMut(&mut Reactor, Id, &mut S) -> Next> Watched for Pair<S, F> {
    fn turn(&mut self, reactor: &mut Reactor, id: Id) -> Next {
        (self.callback)(reactor, id, &mut self.source)
    }

    /// Only a foreign source needs this: it may not own its descriptor, so dropping it may not close
    /// it.
    fn deregister(&mut self, poller: &Poller, scope: CallScope<'_>) {
        if let Err(error) = poller.remove(&mut self.source, scope) {
            log::debug!("deregistering a watched source: {error}");
        }
    }

    fn discard(self: Box<Self>) -> bool {
        let Pair { source, callback } = *self;
        discard(source) & discard(callback)
    }
}

impl Reactor {
    pub(super) fn run_watch(&mut self, id: Id, mut watched: Box<dyn Watched>) {
        match self.lend(|reactor| watched.turn(reactor, id)) {
            Some(Next::Done) => self.unwatch(id, watched),
            Some(next) => {
                self.sources.check_in(id, Source::Watch(watched));
                if next == Next::Again {
                    self.sources.enqueue(id, Readiness::default());
                }
            }
            None => {
                self.count_panic("the callback of a watched source");
                self.unwatch(id, watched);
            }
        }
    }

    pub(super) fn unwatch(&mut self, id: Id, mut watched: Box<dyn Watched>) {
        let scope = self.common.scope(id);
        let deregistered = guard(|| watched.deregister(&self.poller, scope)).is_some();
        let done = deregistered & watched.discard();
        self.retire(id);
        if !done {
            self.count_panic("a watched source");
        }
    }
}
