//! Foreign sources: whatever mio can poll and the reactor does not know.

use crate::id::Id;
use crate::net::{EventSource, Poller};
use crate::reactor::Reactor;

/// What a callback of [`Reactor::watch`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To be called when the source becomes ready again, or someone wakes its id. The poller tells of each change once, so
    /// this is right only after the source has said `WouldBlock`.
    Wait,
    /// To be called again in the next turn, after the others have had theirs: there is more than one turn should take.
    Again,
    /// Not to be called any more: the source is deregistered and dropped, and the callback with it.
    Done,
}

/// A source and its callback, without their types.
pub(crate) trait Watched {
    fn turn(&mut self, reactor: &mut Reactor, id: Id) -> Next;
    fn deregister(&mut self, poller: &Poller);
}

pub(crate) struct Pair<S, F> {
    pub(crate) source: S,
    pub(crate) callback: F,
}

impl<S: EventSource, F: FnMut(&mut Reactor, Id, &mut S) -> Next> Watched for Pair<S, F> {
    fn turn(&mut self, reactor: &mut Reactor, id: Id) -> Next {
        (self.callback)(reactor, id, &mut self.source)
    }

    /// Needed here and nowhere else: a foreign source need not own its descriptor, so dropping it need not close it.
    fn deregister(&mut self, poller: &Poller) {
        if let Err(error) = poller.remove(&mut self.source) {
            log::debug!("deregistering a watched source: {error}");
        }
    }
}
