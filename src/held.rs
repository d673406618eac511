//! What a connection owns beyond its slot, while it must.

use crate::buffer::Buffer;
use crate::handler::TimerKey;
use crate::timers::Tick;

/// Unsent output, unconsumed input, a handler's timers. Most connections, most of the time, have none of these, so all of it
/// stands behind one pointer that is usually empty.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) input: Buffer,
    pub(crate) output: Buffer,
    pub(crate) alarms: Vec<(Tick, TimerKey)>,
    pub(crate) discarded: u64,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.alarms.is_empty()
            && self.discarded == 0
    }
}

/// The pointer to it.
#[derive(Debug, Default)]
pub(crate) struct Holding(Option<Box<Held>>);

impl Holding {
    pub(crate) fn get(&self) -> Option<&Held> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Held> {
        self.0.as_deref_mut()
    }

    pub(crate) fn hold(&mut self) -> &mut Held {
        self.0.get_or_insert_default()
    }

    /// Gives the memory back if nothing is held any more.
    pub(crate) fn release(&mut self) {
        if self.get().is_some_and(Held::is_empty) {
            self.0 = None;
        }
    }

    pub(crate) fn input(&self) -> &[u8] {
        self.get().map_or(&[], |held| held.input.as_slice())
    }

    pub(crate) fn output(&self) -> &[u8] {
        self.get().map_or(&[], |held| held.output.as_slice())
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.get().map_or(0, |held| held.discarded)
    }

    /// The handler's earliest timer.
    pub(crate) fn next_alarm(&self) -> Option<Tick> {
        self.get()?.alarms.iter().map(|&(at, _)| at).min()
    }

    /// Removes the earliest timer if it is due.
    pub(crate) fn take_due_alarm(&mut self, now: Tick) -> Option<TimerKey> {
        let alarms = &mut self.get_mut()?.alarms;
        let first = (0..alarms.len()).min_by_key(|&i| alarms[i])?;
        (alarms[first].0 <= now).then(|| alarms.remove(first).1)
    }

    pub(crate) fn remove_alarm(&mut self, key: TimerKey) -> bool {
        let Some(held) = self.get_mut() else {
            return false;
        };
        let before = held.alarms.len();
        held.alarms.retain(|&(_, other)| other != key);
        held.alarms.len() < before
    }
}
