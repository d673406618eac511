//! The timers of one handler.

use crate::time::{Deadlines, Tick, TimerKey};

/// How many places the table of keys has at first.
const PLACES: usize = 4;

/// A handler's timers, in the order in which they are due: by time, and by key where times are equal.
///
/// Each timer is in a heap, and its slot there is its place in a hash table of the keys (open
/// addressing, linear probing; Knuth, The Art of Computer Programming, volume 3, section 6.4). So a
/// timer is found by its key in constant time, and is set, removed and due in logarithmic time.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The places are its keys. Their number is a power of two, and at least half of them are free.
    heap: Deadlines,
    /// A peer that chooses keys must not know which of them share a place.
    seed: u64,
}

impl Timers {
    /// None are set.
    pub(crate) const EMPTY: Timers = Timers {
        heap: Deadlines::EMPTY,
        seed: 0,
    };

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.heap.next()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.len() == 0
    }

    /// Sets a timer, in place of one with the same key.
    pub(crate) fn set(&mut self, at: Tick, key: TimerKey) {
        if self.heap.len() >= self.heap.keys.len() / 2 {
            self.grow();
        }
        let (Ok(place) | Err(place)) = self.find(key);
        self.put(place, at, key);
    }

    fn put(&mut self, place: usize, at: Tick, key: TimerKey) {
        self.heap.keys[place] = key;
        self.heap.arm(place, at);
    }

    /// True if the timer was set.
    pub(crate) fn remove(&mut self, key: TimerKey) -> bool {
        if self.is_empty() {
            return false;
        }
        let Ok(place) = self.find(key) else {
            return false;
        };
        self.free(place);
        true
    }

    /// Removes the earliest timer if it is due.
    pub(crate) fn take_due(&mut self, now: Tick) -> Option<TimerKey> {
        let place = self.heap.due(now)?;
        let key = self.heap.keys[place];
        self.free(place);
        Some(key)
    }

    fn free(&mut self, mut free: usize) {
        self.heap.disarm(free);
        // The keys behind it may have wanted a place up to this one, and are looked for only up to the
        // first free place.
        let mut place = self.after(free);
        while let Some(at) = self.heap.get(place) {
            let key = self.heap.keys[place];
            if self.distance(self.home(key), place) >= self.distance(free, place) {
                self.heap.disarm(place);
                self.put(free, at, key);
                free = place;
            }
            place = self.after(place);
        }
    }

    fn grow(&mut self) {
        let places = PLACES.max(self.heap.keys.len() * 2);
        let old = std::mem::replace(&mut self.heap, Deadlines::EMPTY);
        self.heap.keys.resize(places, TimerKey(0));
        // The system chooses addresses at random (ASLR). No order of timers depends on it.
        self.seed = std::ptr::from_ref(self).addr() as u64;
        for (place, &key) in old.keys.iter().enumerate() {
            if let Some(at) = old.get(place) {
                self.set(at, key);
            }
        }
    }

    /// The place of a key, or the free place that it would have.
    fn find(&self, key: TimerKey) -> Result<usize, usize> {
        let mut place = self.home(key);
        loop {
            match self.heap.get(place) {
                None => return Err(place),
                Some(_) if self.heap.keys[place] == key => return Ok(place),
                Some(_) => place = self.after(place),
            }
        }
    }

    /// The place where the search for a key begins: Fibonacci hashing (the same section).
    fn home(&self, key: TimerKey) -> usize {
        let product = (key.0 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (product >> 32) as usize & (self.heap.keys.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.heap.keys.len() - 1)
    }

    /// The number of places from one to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.heap.keys.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Long random runs of every operation, over few keys and over many, against a map.
    #[test]
    fn long_random_sequences_match_a_map() {
        for keys in [1, 3, 8, 40, 3000] {
            let (mut timers, mut model) = (Timers::EMPTY, BTreeMap::new());
            let mut random = 88172645463325252u64;
            for step in 0..20_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let (key, at) = (TimerKey(random % keys), Tick(random >> 40 & 63));
                match random >> 32 & 7 {
                    // Many are set in the first half, and few in the second.
                    0..4 if step < 10_000 => {
                        timers.set(at, key);
                        model.insert(key, at);
                    }
                    4 => {
                        let first = model.iter().map(|(&key, &at)| (at, key)).min();
                        let due = first.filter(|&(first, _)| first <= at);
                        assert_eq!(timers.take_due(at), due.map(|(_, key)| key));
                        due.map(|(_, key)| model.remove(&key));
                    }
                    _ => assert_eq!(timers.remove(key), model.remove(&key).is_some()),
                }
                assert_eq!(timers.next(), model.values().min().copied());
                assert_eq!(timers.is_empty(), model.is_empty());
            }
        }
    }
}
