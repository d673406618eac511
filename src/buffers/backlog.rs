//! What a connection holds from one turn to the next, apart from its slot.

use super::ByteQueue;
use crate::time::{Tick, TimerKey};

/// Unsent output, unconsumed input, the handler's timers. (The backlog of listen(2) is another thing.)
/// Most connections have none of these most of the time, so they are behind one pointer that is
/// usually null.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) input: ByteQueue,
    pub(crate) output: ByteQueue,
    pub(crate) timers: Vec<(Tick, TimerKey)>,
    /// Received bytes that were thrown away because the handler finished.
    pub(crate) discarded: u64,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.timers.is_empty()
            && self.discarded == 0
    }
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
        self.0.get_or_insert_default()
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

    /// The handler's earliest timer.
    pub(crate) fn next_timer(&self) -> Option<Tick> {
        self.get()?.timers.iter().map(|&(at, _)| at).min()
    }

    /// Removes the earliest timer if it is due.
    pub(crate) fn take_due_timer(&mut self, now: Tick) -> Option<TimerKey> {
        let timers = &mut self.get_mut()?.timers;
        let first = (0..timers.len()).min_by_key(|&i| timers[i])?;
        (timers[first].0 <= now).then(|| timers.remove(first).1)
    }

    pub(crate) fn remove_timer(&mut self, key: TimerKey) -> bool {
        let Some(backlog) = self.get_mut() else {
            return false;
        };
        let before = backlog.timers.len();
        backlog.timers.retain(|&(_, other)| other != key);
        backlog.timers.len() < before
    }
}
