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
    sum_ns: u64,
}

impl Histogram {
    /// The ends of all ranges but the last, in microseconds.
    pub(super) const ENDS_US: [u64; 11] = [
        1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576,
    ];

    /// Most times are short, so a search from the first range is the fastest.
    fn add(&mut self, time: Duration) {
        // 584 years fit.
        let time = time.as_nanos() as u64;
        let range = Histogram::ENDS_US.iter().position(|end| time <= end * 1000);
        self.counts[range.unwrap_or(Histogram::ENDS_US.len())] += 1;
        self.sum_ns += time;
    }

    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
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
    /// The program sleeps between the turns and not in them (--narrate, --trace).
    sleeps_outside: bool,
    /// When the last turn ended, or the one that runs began to be awake.
    awake_since: Option<Instant>,
    full: HashMap<Id, Full>,
    /// `None` while no live page is open.
    pub(super) last_turn: Option<LastTurn>,
}

impl Figures {
    pub(super) fn new(stall: Duration, sleeps_outside: bool) -> Figures {
        Figures {
            asleep: Duration::ZERO,
            turns: Histogram::default(),
            callbacks: Histogram::default(),
            stalls: 0,
            is_shutting_down: false,
            stall,
            sleeps_outside,
            awake_since: None,
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
            Event::TurnStart { slept, .. } => self.turn_started(slept),
            Event::TurnEnd { .. } => self.turn_ended(),
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

    /// The clock is read only at the end of a turn, because this is called for each.
    fn turn_started(&mut self, slept: Duration) {
        let since = self.awake_since.unwrap_or_else(Instant::now);
        let slept = if self.sleeps_outside {
            since.elapsed()
        } else {
            slept
        };
        self.asleep += slept;
        self.awake_since = Some(since + slept);
    }

    fn turn_ended(&mut self) {
        let now = Instant::now();
        // `None` only before the first turn.
        let since = self.awake_since.replace(now).unwrap_or(now);
        let took = now.saturating_duration_since(since);
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
    use super::{Figures, Histogram};
    use doorkeeper::{Arrival, Callback, Config, Event, ListenerState, Reactor};
    use std::time::Duration;

    #[test]
    fn callbacks_above_the_limit_are_stalls_and_a_shutdown_stays_one() {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let peer = "127.0.0.1:0".parse().unwrap();
        let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
        let id = reactor.listen(peer, service).unwrap();
        let mut figures = Figures::new(Duration::from_millis(100), false);
        for (ms, stalls) in [(99, 0), (100, 0), (101, 1), (2000, 2)] {
            let (callback, took) = (Callback::Data, Duration::from_millis(ms));
            figures.event(&Event::Callback {
                id,
                peer,
                callback,
                took,
            });
            assert_eq!(figures.stalls, stalls, "{ms}");
        }
        for (state, is_shutting_down) in [
            (ListenerState::Full, false),
            (ListenerState::ShuttingDown, true),
            (ListenerState::ShuttingDown, true),
            (ListenerState::Accepting, true),
        ] {
            figures.event(&Event::ListenerState { id, state });
            assert_eq!(figures.is_shutting_down, is_shutting_down, "{state}");
        }
    }

    /// With --narrate the program sleeps between two turns, and a turn begins when it is awake.
    #[test]
    fn each_moment_is_asleep_or_in_a_turn() {
        for sleeps_outside in [false, true] {
            let mut figures = Figures::new(Duration::MAX, sleeps_outside);
            figures.event(&Event::TurnEnd { number: 1 });
            let (since, before) = (figures.awake_since.unwrap(), figures.turns.sum());
            let sleep = Duration::from_millis(20);
            for number in 2..5 {
                std::thread::sleep(sleep);
                // The poller did not sleep.
                let slept = if sleeps_outside {
                    Duration::ZERO
                } else {
                    sleep
                };
                figures.event(&Event::TurnStart {
                    number,
                    slept,
                    events: 1,
                    queued: 0,
                });
                figures.event(&Event::TurnEnd { number });
            }
            assert!(figures.asleep >= 3 * sleep, "{:?}", figures.asleep);
            let all = figures.awake_since.unwrap() - since;
            let awake = figures.turns.sum() - before;
            assert_eq!(figures.asleep + awake, all, "{sleeps_outside}");
        }
    }

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
