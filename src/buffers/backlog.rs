//! What a connection holds from one turn to the next, apart from its slot.

use super::{ByteQueue, Timers};
use crate::time::{Tick, TimerKey};
use std::any::Any;

/// Unsent output, unconsumed input, the handler's timers. (The backlog of listen(2) is another thing.)
/// Most connections have none of these most of the time, so they are behind one pointer that is
/// usually null.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) input: ByteQueue,
    pub(crate) output: ByteQueue,
    pub(crate) timers: Option<Box<Timers>>,
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
    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.timers.as_ref().is_none_or(|timers| timers.is_empty())
            && self.wanted == 0
            && self.next_handler.is_none()
            && self.send_error.is_none()
            && self.layers.is_none()
            && self.discarded == 0
            && self.undelivered.is_none()
    }
}

#[cold]
#[inline(never)]
fn new_backlog() -> Box<Backlog> {
    Box::default()
}

/// A [`Backlog`] that is allocated when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct LazyBacklog(Option<Box<Backlog>>);

impl LazyBacklog {
    pub(crate) fn get(&self) -> Option<&Backlog> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Backlog> {
        self.0.as_deref_mut()
    }

    pub(crate) fn get_or_insert(&mut self) -> &mut Backlog {
        self.0.get_or_insert_with(new_backlog)
    }

    /// Frees the memory if nothing is held any more.
    pub(crate) fn shrink(&mut self) {
        if self.get().is_some_and(Backlog::is_empty) {
            self.0 = None;
        }
    }

    pub(crate) fn input(&self) -> &[u8] {
        self.get().map_or(&[], |backlog| backlog.input.as_slice())
    }

    pub(crate) fn output(&self) -> &[u8] {
        self.get().map_or(&[], |backlog| backlog.output.as_slice())
    }

    /// True if layers are there, or are added after the turn.
    pub(crate) fn has_layers(&self) -> bool {
        self.get().is_some_and(|held| held.layers.is_some())
    }

    /// Takes the layers out, for a turn.
    pub(crate) fn take_layers(&mut self) -> Option<Box<dyn Any>> {
        self.get_mut()?.layers.take()
    }

    /// The time of the handler's earliest timer.
    pub(crate) fn next_timer(&self) -> Option<Tick> {
        self.get()?.timers.as_ref()?.next()
    }

    /// Removes the earliest timer if it is due.
    pub(crate) fn take_due_timer(&mut self, now: Tick) -> Option<TimerKey> {
        self.get_mut()?.timers.as_mut()?.take_due(now)
    }

    /// Sets a timer, in place of one with the same key.
    pub(crate) fn set_timer(&mut self, at: Tick, key: TimerKey) {
        let timers = &mut self.get_or_insert().timers;
        timers.get_or_insert_default().set(at, key);
    }

    /// True if the timer was set.
    pub(crate) fn remove_timer(&mut self, key: TimerKey) -> bool {
        let timers = self.get_mut().and_then(|backlog| backlog.timers.as_mut());
        timers.is_some_and(|timers| timers.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_nothing_any_more_has_no_memory() {
        let mut backlog = LazyBacklog::default();
        backlog.set_timer(Tick(1), TimerKey(1));
        backlog.shrink();
        assert!(backlog.get().is_some());
        assert!(backlog.remove_timer(TimerKey(1)));
        backlog.shrink();
        assert!(backlog.get().is_none());
    }
}
