//! What a connection holds from one turn to the next, apart from its slot.

use super::{ByteQueue, Timers};
use std::any::Any;
use std::ops::Deref;

/// Unsent output, unconsumed input, the handler's timers. (The backlog of listen(2) is another thing.)
/// Most connections have none of these most of the time, so they are behind one pointer that is
/// usually null.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) input: ByteQueue,
    pub(crate) output: ByteQueue,
    pub(crate) timers: Timers,
    /// Input is not offered before this many bytes are held, or the peer has ended.
    pub(crate) wanted: usize,
    /// The handler that takes over. Its type is not known here.
    pub(crate) next_handler: Option<Box<dyn Any>>,
    /// Why a send from outside a turn failed.
    pub(crate) send_error: Option<std::io::Error>,
    /// The layers of the connection; during a turn, those that it adds.
    pub(crate) layers: Option<Box<dyn Any>>,
    /// Received bytes that were thrown away because the handler finished.
    pub(crate) discarded: u64,
    /// How many bytes of output the kernel held when the linger time was last over, if it told.
    pub(crate) undelivered: Option<u32>,
}

impl Backlog {
    const EMPTY: Backlog = Backlog {
        input: ByteQueue::EMPTY,
        output: ByteQueue::EMPTY,
        timers: Timers::EMPTY,
        wanted: 0,
        next_handler: None,
        send_error: None,
        layers: None,
        discarded: 0,
        undelivered: None,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.timers.is_empty()
            && self.wanted == 0
            && self.next_handler.is_none()
            && self.send_error.is_none()
            && self.layers.is_none()
            && self.discarded == 0
            && self.undelivered.is_none()
    }
}

/// A [`Backlog`] that is allocated when it is first needed. Until then an empty one is read.
#[derive(Debug, Default)]
pub(crate) struct LazyBacklog(Option<Box<Backlog>>);

impl Deref for LazyBacklog {
    type Target = Backlog;

    fn deref(&self) -> &Backlog {
        const EMPTY: &Backlog = &Backlog::EMPTY;
        self.0.as_deref().unwrap_or(EMPTY)
    }
}

impl LazyBacklog {
    /// True if there is memory for it.
    #[inline(always)]
    pub(crate) fn is_allocated(&self) -> bool {
        self.0.is_some()
    }

    /// `None` if nothing is held.
    pub(crate) fn get_mut(&mut self) -> Option<&mut Backlog> {
        self.0.as_deref_mut()
    }

    #[inline(never)]
    pub(crate) fn get_or_insert(&mut self) -> &mut Backlog {
        self.0.get_or_insert_with(|| Box::new(Backlog::EMPTY))
    }

    /// Takes the layers out, for a turn.
    pub(crate) fn take_layers(&mut self) -> Option<Box<dyn Any>> {
        self.get_mut()?.layers.take()
    }

    /// Frees the memory if nothing is held any more.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            drop(std::mem::take(self));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Tick, TimerKey};

    #[test]
    fn what_holds_nothing_any_more_has_no_memory() {
        let mut backlog = LazyBacklog::default();
        let timers = &mut backlog.get_or_insert().timers;
        timers.set(Tick(1), TimerKey(1));
        backlog.shrink();
        assert!(backlog.is_allocated());
        assert!(backlog.get_or_insert().timers.remove(TimerKey(1)));
        backlog.shrink();
        assert!(!backlog.is_allocated());
    }
}
