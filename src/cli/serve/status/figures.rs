//! The figures of the loop, from its events.

use super::last_turn::LastTurn;
use doorkeeper::{Event, Id, ListenerState, Observer};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many times lie in each range. A range ends at four times the end of the one before, and the
/// first at 1 µs.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; Histogram::ENDS_US.len() + 1],
    pub(super) sum: Duration,
}

impl Histogram {
    /// The ends of all ranges but the last, in microseconds.
    pub(super) const ENDS_US: [u64; 11] = [
        1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576,
    ];

    fn add(&mut self, time: Duration) {
        // Rounded up, because a range includes its end.
        let microseconds = time.as_nanos().div_ceil(1000).max(1) as u64;
        // The exponent of the next power of four.
        let range = (microseconds - 1)
            .checked_ilog2()
            .map_or(0, |log| log / 2 + 1);
        self.counts[(range as usize).min(Histogram::ENDS_US.len())] += 1;
        self.sum += time;
    }

    /// The number of times up to the end of each range; the last is the number of all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }
}

/// How long a listener was at the limit of all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Full {
    since: Option<Instant>,
    before: Duration,
}

/// What the events of the loop add up to.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) asleep: Duration,
    pub(super) turns: Histogram,
    pub(super) callbacks: Histogram,
    pub(super) stalls: u64,
    pub(super) is_shutting_down: bool,
    /// Callbacks that take longer are stalls.
    stall: Duration,
    turn_begin: Instant,
    full: HashMap<Id, Full>,
    /// `None` while no live page is open.
    pub(super) last_turn: Option<LastTurn>,
}

impl Figures {
    pub(super) fn new(stall: Duration) -> Figures {
        Figures {
            asleep: Duration::ZERO,
            turns: Histogram::default(),
            callbacks: Histogram::default(),
            stalls: 0,
            is_shutting_down: false,
            stall,
            turn_begin: Instant::now(),
            full: HashMap::new(),
            last_turn: None,
        }
    }

    /// How long a listener accepted nothing because the limit of all connections was reached.
    pub(super) fn full_time(&self, listener: Id) -> Duration {
        let full = self.full.get(&listener).copied().unwrap_or_default();
        full.before + full.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::TurnStart { slept, .. } => {
                self.asleep += slept;
                self.turn_begin = Instant::now();
            }
            Event::TurnEnd { .. } => self.turn_ended(self.turn_begin.elapsed()),
            Event::Callback { took, .. } => {
                self.callbacks.add(took);
                self.stalls += u64::from(took > self.stall);
            }
            Event::ListenerState { id, state } => self.listener_state(id, state),
            _ => {}
        }
        if let Some(last) = &mut self.last_turn {
            last.event(event);
        }
    }

    fn turn_ended(&mut self, took: Duration) {
        self.turns.add(took);
        if let Some(last) = &mut self.last_turn {
            last.ended(took);
        }
    }

    fn listener_state(&mut self, id: Id, state: ListenerState) {
        self.is_shutting_down |= state == ListenerState::ShuttingDown;
        let full = self.full.entry(id).or_default();
        if let Some(since) = full.since.take() {
            full.before += since.elapsed();
        }
        full.since = (state == ListenerState::Full).then(Instant::now);
    }
}

/// The observer that keeps the figures.
#[derive(Debug)]
pub(super) struct Watcher(pub(super) Rc<RefCell<Figures>>);

impl Observer for Watcher {
    fn event(&mut self, event: &Event<'_>) {
        self.0.borrow_mut().event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;
    use std::time::Duration;

    #[test]
    fn a_time_is_counted_in_the_range_that_ends_at_it_or_above() {
        for (range, &end) in Histogram::ENDS_US.iter().enumerate() {
            let end = Duration::from_micros(end);
            let mut histogram = Histogram::default();
            histogram.add(end);
            assert_eq!(histogram.counts[range], 1, "{end:?}");
            histogram.add(end + Duration::from_nanos(1));
            assert_eq!(histogram.counts[range + 1], 1, "{end:?}");
            assert_eq!(histogram.cumulative().last(), Some(2));
        }
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_secs(3600));
        assert_eq!((histogram.counts[0], histogram.counts[11]), (1, 1));
    }
}
