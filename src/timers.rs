//! Deadlines: one for each slot that wants one, ordered, with exact cancellation.

use std::time::Duration;

/// A moment on the reactor's clock: nanoseconds since the reactor was made. Half the size of an
/// [`Instant`](std::time::Instant), and good for 584 years.
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

const NOWHERE: u32 = u32::MAX;

/// A binary heap of deadlines that knows where each slot's entry stands, so that it can be moved or removed in place.
///
/// 16 bytes an armed slot. An ordered set would be shorter, and takes more than twice the memory: a connection with an idle
/// timeout has a deadline all its life.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The heap, in two columns: `deadlines[i]` is the deadline of `slots[i]`.
    deadlines: Vec<Tick>,
    slots: Vec<u32>,
    /// Where in the heap a slot stands.
    places: Vec<u32>,
}

impl Timers {
    pub(crate) fn with_capacity(slots: usize) -> Timers {
        Timers {
            deadlines: Vec::with_capacity(slots),
            slots: Vec::with_capacity(slots),
            places: Vec::with_capacity(slots),
        }
    }

    /// The deadline of a slot.
    pub(crate) fn get(&self, slot: usize) -> Option<Tick> {
        let place = *self.places.get(slot)?;
        self.deadlines.get(place as usize).copied()
    }

    /// How many slots have a deadline.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The earliest deadline of all.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.deadlines.first().copied()
    }

    /// Gives the slot this deadline, in place of any it had.
    pub(crate) fn arm(&mut self, slot: usize, deadline: Tick) {
        if slot >= self.places.len() {
            self.places.resize(slot + 1, NOWHERE);
        }
        if self.places[slot] == NOWHERE {
            self.places[slot] = self.slots.len() as u32;
            self.deadlines.push(deadline);
            self.slots.push(slot as u32);
        }
        let place = self.places[slot] as usize;
        self.deadlines[place] = deadline;
        self.restore(place);
    }

    /// Takes the slot's deadline away, if it has one.
    pub(crate) fn disarm(&mut self, slot: usize) {
        let Some(&place) = self.places.get(slot) else {
            return;
        };
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        self.swap(place, self.slots.len() - 1);
        self.deadlines.pop();
        self.slots.pop();
        self.places[slot] = NOWHERE;
        if place < self.slots.len() {
            self.restore(place);
        }
    }

    /// Removes the earliest deadline if it has passed, and says whose it was.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<usize> {
        if self.next()? > now {
            return None;
        }
        let slot = self.slots[0] as usize;
        self.disarm(slot);
        Some(slot)
    }

    /// Moves the entry at `place` up or down until the heap is one again.
    fn restore(&mut self, mut place: usize) {
        while place > 0 && self.deadlines[place] < self.deadlines[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        while let Some(child) = self.earlier_child(place) {
            if self.deadlines[place] <= self.deadlines[child] {
                break;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn earlier_child(&self, place: usize) -> Option<usize> {
        let children = 2 * place + 1..(2 * place + 3).min(self.slots.len());
        children.min_by_key(|&child| self.deadlines[child])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.deadlines.swap(a, b);
        self.slots.swap(a, b);
        self.places[self.slots[a] as usize] = a as u32;
        self.places[self.slots[b] as usize] = b as u32;
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
            let (mut timers, mut model, mut rest) =
                (Timers::with_capacity(0), BTreeMap::new(), sequence);
            for _ in 0..5 {
                let (slot, at) = actions[rest % actions.len()];
                rest /= actions.len();
                match at {
                    Some(at) => {
                        timers.arm(slot, at);
                        model.insert(slot, at);
                    }
                    None => {
                        timers.disarm(slot);
                        model.remove(&slot);
                    }
                }
                assert_eq!(timers.next(), earliest(&model));
                assert!((0..3).all(|slot| timers.get(slot) == model.get(&slot).copied()));
            }
            while let Some(slot) = timers.pop_due(Tick(2)) {
                let first = earliest(&model);
                assert_eq!(model.remove(&slot), first);
            }
            assert!(model.values().all(|&at| at > Tick(2)));
        }
    }
}
