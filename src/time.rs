//! Time: moments, the clock, timer keys, and the heap of deadlines.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// A moment on the reactor's clock: nanoseconds since the reactor was made. It is half as large as
/// an [`Instant`], and lasts 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    pub(crate) fn after(self, wait: Duration) -> Tick {
        Tick(
            self.0
                .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    pub(crate) fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The monotonic clock.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: Instant,
    /// The time of a simulation, which moves when the simulation says so.
    #[cfg(feature = "sim")]
    simulated: Option<std::rc::Rc<std::cell::Cell<Tick>>>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            epoch: Instant::now(),
            #[cfg(feature = "sim")]
            simulated: None,
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(time: std::rc::Rc<std::cell::Cell<Tick>>) -> Clock {
        let simulated = Some(time);
        Clock {
            simulated,
            ..Clock::new()
        }
    }

    pub(crate) fn now(&self) -> Tick {
        #[cfg(feature = "sim")]
        if let Some(time) = &self.simulated {
            return time.get();
        }
        let elapsed = self.epoch.elapsed();
        Tick(elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()))
    }

    /// The moment as an embedder sees it.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.epoch + tick.since(Tick::default())
    }
}

/// A handler's own name for one of its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(pub u64);

/// The heap index of a slot that has no deadline.
const NOWHERE: u32 = u32::MAX;

/// The deadlines of all slots: a binary heap that knows the index of each slot's entry, so that an
/// entry can be moved or removed where it is.
///
/// It takes 16 bytes for each armed slot. An ordered set would be shorter code, but takes more than
/// twice the memory, and with an idle timeout every connection always has a deadline.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// The heap in two columns: `ticks[i]` is the deadline of `slots[i]`.
    ticks: Vec<Tick>,
    slots: Vec<u32>,
    /// The heap index of each slot, or `NOWHERE`.
    indexes: Vec<u32>,
    /// The key of each slot, which orders equal deadlines. It is empty where that order does not matter.
    pub(crate) keys: Vec<TimerKey>,
}

impl Deadlines {
    pub(crate) const EMPTY: Deadlines = Deadlines {
        ticks: Vec::new(),
        slots: Vec::new(),
        indexes: Vec::new(),
        keys: Vec::new(),
    };

    pub(crate) fn with_capacity(slots: usize) -> Deadlines {
        Deadlines {
            ticks: Vec::with_capacity(slots),
            slots: Vec::with_capacity(slots),
            indexes: Vec::with_capacity(slots),
            keys: Vec::new(),
        }
    }

    /// The deadline of a slot.
    pub(crate) fn get(&self, slot: usize) -> Option<Tick> {
        let index = *self.indexes.get(slot)?;
        self.ticks.get(index as usize).copied()
    }

    /// The number of slots that have a deadline.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.ticks.first().copied()
    }

    /// The slot of the earliest deadline, if that has passed.
    pub(crate) fn due(&self, now: Tick) -> Option<usize> {
        self.next().filter(|&next| next <= now)?;
        self.slots.first().map(|&slot| slot as usize)
    }

    /// Removes the earliest deadline if it has passed, and returns its slot.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<usize> {
        let slot = self.due(now)?;
        self.disarm(slot);
        Some(slot)
    }

    /// Sets the deadline of a slot, in place of the one it had.
    pub(crate) fn arm(&mut self, slot: usize, deadline: Tick) {
        if slot >= self.indexes.len() {
            self.indexes.resize(slot + 1, NOWHERE);
        }
        if self.indexes[slot] == NOWHERE {
            self.indexes[slot] = self.slots.len() as u32;
            self.ticks.push(deadline);
            self.slots.push(slot as u32);
        }
        let index = self.indexes[slot] as usize;
        self.ticks[index] = deadline;
        self.restore(index);
    }

    /// Removes the deadline of a slot, if it has one.
    #[inline(never)]
    pub(crate) fn disarm(&mut self, slot: usize) {
        let index = self.indexes.get(slot).map_or(NOWHERE, |&index| index) as usize;
        if index >= self.slots.len() {
            return;
        }
        self.swap(index, self.slots.len() - 1);
        self.ticks.pop();
        self.slots.pop();
        self.indexes[slot] = NOWHERE;
        if index < self.slots.len() {
            self.restore(index);
        }
    }

    /// Moves the entry at `index` up or down until the heap is in order.
    fn restore(&mut self, mut index: usize) {
        while index > 0 && self.is_before(index, (index - 1) / 2) {
            self.swap(index, (index - 1) / 2);
            index = (index - 1) / 2;
        }
        while let Some(child) = self.first_child(index) {
            if !self.is_before(child, index) {
                break;
            }
            self.swap(index, child);
            index = child;
        }
    }

    /// The child that is due first, if there is any.
    fn first_child(&self, index: usize) -> Option<usize> {
        let (left, right) = (2 * index + 1, 2 * index + 2);
        let has_right = right < self.slots.len();
        match has_right && self.is_before(right, left) {
            true => Some(right),
            false => Some(left).filter(|&left| left < self.slots.len()),
        }
    }

    /// True if the entry at index `a` is due before the one at index `b`.
    #[inline(never)]
    fn is_before(&self, a: usize, b: usize) -> bool {
        let key = |index: usize| self.keys.get(self.slots[index] as usize);
        match self.ticks[a].cmp(&self.ticks[b]) {
            Ordering::Equal => key(a) < key(b),
            order => order.is_lt(),
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.ticks.swap(a, b);
        self.slots.swap(a, b);
        self.indexes[self.slots[a] as usize] = a as u32;
        self.indexes[self.slots[b] as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn earliest(model: &BTreeMap<usize, Tick>) -> Option<Tick> {
        model.values().min().copied()
    }

    /// Every sequence of six arms, disarms and expiries over three slots, against a map.
    #[test]
    fn every_short_sequence_matches_a_map() {
        let mut actions = Vec::new();
        for slot in 0..3 {
            actions.extend((1..4).map(|at| (slot, Some(Tick(at)))));
            actions.push((slot, None));
        }
        for sequence in 0..actions.len().pow(5) {
            let (mut deadlines, mut model, mut rest) =
                (Deadlines::EMPTY, BTreeMap::new(), sequence);
            for _ in 0..5 {
                let (slot, at) = actions[rest % actions.len()];
                rest /= actions.len();
                match at {
                    Some(at) => {
                        deadlines.arm(slot, at);
                        model.insert(slot, at);
                    }
                    None => {
                        deadlines.disarm(slot);
                        model.remove(&slot);
                    }
                }
                assert_eq!(deadlines.next(), earliest(&model));
                assert!((0..3).all(|slot| deadlines.get(slot) == model.get(&slot).copied()));
            }
            while let Some(slot) = deadlines.pop_due(Tick(2)) {
                let first = earliest(&model);
                assert_eq!(model.remove(&slot), first);
            }
            assert!(model.values().all(|&at| at > Tick(2)));
        }
    }

    #[test]
    fn the_clock_counts_the_time_since_its_epoch() {
        let mut clock = Clock::new();
        let started = Instant::now();
        clock.epoch = started.checked_sub(Duration::from_millis(2500)).unwrap();
        let before = Tick(2_500_000_000);
        assert!(before <= clock.now());
        assert!(clock.now().since(before) <= started.elapsed());
        assert_eq!(clock.instant(before), started);
    }
}
