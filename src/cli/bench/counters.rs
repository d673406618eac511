//! What a bench counts.

use doorkeeper::{Closed, Reason};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The longest latency that is recorded exactly: an hour, in nanoseconds.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// The requests of a connection with a rate that have no answer when it ends, and those that are
/// due after it.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// When the first of them was due.
    pub(crate) first: Instant,
    pub(crate) interval: Duration,
    pub(crate) last_answer: Option<Instant>,
    /// When the connection ended.
    pub(crate) closed: Instant,
}

impl Backlog {
    /// When the first that counts was due, and how many count. If the connection failed before the
    /// measurement, those that were due before it do not.
    fn measured(&self, begin: Instant, end: Instant) -> (Instant, u64) {
        let intervals = |time: Duration| (time.as_nanos() / self.interval.as_nanos().max(1)) as u64;
        let mut first = self.first;
        if self.closed < begin && first < begin {
            let skipped = intervals(begin - first) + 1;
            first += Duration::from_nanos(self.interval.as_nanos() as u64 * skipped);
        }
        let count = end
            .checked_duration_since(first)
            .map_or(0, |time| intervals(time) + 1);
        (first, count)
    }

    /// Whether the connection was open to the end without an answer during the measurement. A
    /// request that has waited for less than half of it may be under way.
    fn is_mute(&self, begin: Instant, end: Instant) -> bool {
        let waited = end.saturating_duration_since(self.first.max(begin));
        self.closed >= end
            && self.last_answer.is_none_or(|last| last < begin)
            && waited > (end - begin) / 2
    }
}

/// The counters of all connections of one kind.
#[derive(Debug)]
pub(crate) struct Counters {
    /// The begin of the measurement, while it runs.
    pub(crate) begin: Cell<Option<Instant>>,
    /// The end of the measurement. From then on a connection that ends is no failure.
    pub(crate) end: Cell<Option<Instant>>,
    /// Answers during the measurement.
    pub(crate) requests: Cell<u64>,
    /// Bytes received during the measurement.
    pub(crate) bytes: Cell<u64>,
    /// In nanoseconds.
    pub(crate) latencies: RefCell<Histogram<u64>>,
    /// Requests that should have had an answer and had none. Their latencies are the time they
    /// waited.
    pub(crate) unanswered: Cell<u64>,
    /// Connections with a rate that had no answer during the measurement.
    pub(crate) mute: Cell<u64>,
    backlogs: RefCell<Vec<Backlog>>,
    /// The longest time that the load did not look at its sockets or at what is due: its own delay,
    /// and not the server's.
    pub(crate) delay: Cell<Duration>,
    /// Failed connections, by the reason.
    pub(crate) errors: RefCell<BTreeMap<String, u64>>,
    /// Connections that are being established.
    pub(crate) connecting: Cell<usize>,
    /// Connections that have failed. Only --reconnect replaces them.
    pub(crate) failed: Cell<usize>,
}

impl Counters {
    pub(crate) fn new() -> Rc<Counters> {
        // Three significant digits. The bounds are constant and valid.
        let latencies =
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).unwrap_or_else(|_| unreachable!());
        Rc::new(Counters {
            begin: Cell::new(None),
            end: Cell::new(None),
            requests: Cell::new(0),
            bytes: Cell::new(0),
            latencies: RefCell::new(latencies),
            unanswered: Cell::new(0),
            mute: Cell::new(0),
            backlogs: RefCell::default(),
            delay: Cell::new(Duration::ZERO),
            errors: RefCell::default(),
            connecting: Cell::new(0),
            failed: Cell::new(0),
        })
    }

    fn record(&self, since: Instant, now: Instant) {
        self.latencies
            .borrow_mut()
            .saturating_record((now - since).as_nanos() as u64);
    }

    pub(crate) fn answered(&self, since: Instant, now: Instant) {
        if self.begin.get().is_some() {
            self.requests.set(self.requests.get() + 1);
            self.record(since, now);
        }
    }

    /// Counts the requests that a connection without a rate still waited for at its end. Requests
    /// are always under way at the end, so only those sent before the measurement began count.
    pub(crate) fn unanswered(&self, since: impl IntoIterator<Item = Instant>) {
        let (Some(begin), Some(end)) = (self.begin.get(), self.end.get()) else {
            return;
        };
        for since in since.into_iter().filter(|&at| at < begin) {
            self.unanswered.set(self.unanswered.get() + 1);
            self.record(since, end);
        }
    }

    /// Remembers the requests of a connection with a rate that have no answer when it ends.
    pub(crate) fn unanswered_from(&self, backlog: Backlog) {
        self.backlogs.borrow_mut().push(backlog);
    }

    /// Counts all requests that were due by the end of the measurement and have no answer, also
    /// those that were due after their connection had failed.
    pub(crate) fn finish(&self, begin: Instant, end: Instant) {
        for backlog in self.backlogs.take() {
            if backlog.is_mute(begin, end) {
                self.mute.set(self.mute.get() + 1);
            }
            let (first, count) = backlog.measured(begin, end);
            self.unanswered.set(self.unanswered.get() + count);
            let longest = end.saturating_duration_since(first);
            self.record_evenly(longest, backlog.interval, count);
        }
    }

    /// Records a latency and `count - 1` more, each shorter than the one before by `step`.
    fn record_evenly(&self, longest: Duration, step: Duration, count: u64) {
        let mut latencies = self.latencies.borrow_mut();
        let (mut latency, mut left) = (longest.as_nanos() as u64, count);
        let step = (step.as_nanos() as u64).max(1);
        while left > 0 {
            let lowest = latencies.lowest_equivalent(latency);
            let alike = alike(latency, lowest, step).min(left);
            latencies.saturating_record_n(latency, alike);
            latency = latency.saturating_sub(alike * step);
            left -= alike;
        }
    }

    pub(crate) fn delayed(&self, by: Duration) {
        if self.begin.get().is_some() {
            self.delay.set(self.delay.get().max(by));
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        if self.begin.get().is_some() {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    /// A connection is established or failed. Only the first call of a connection counts.
    pub(crate) fn settled(&self, before: &mut bool) {
        if !std::mem::replace(before, true) {
            self.connecting.set(self.connecting.get() - 1);
        }
    }

    /// A connection ended that should have stayed open.
    pub(crate) fn closed(&self, closed: &Closed) {
        self.fail(match (&closed.reason, &closed.error) {
            (Reason::HandlerError | Reason::Io, Some(error)) => error.to_string(),
            (reason, _) => reason.to_string(),
        });
    }

    pub(crate) fn fail(&self, reason: String) {
        if self.end.get().is_none() {
            *self.errors.borrow_mut().entry(reason).or_default() += 1;
            self.failed.set(self.failed.get() + 1);
        }
    }
}

/// How many latencies, each shorter than the one before by `step`, are no shorter than `lowest`. So
/// the time to record them grows with the size of the histogram, and not with their number.
fn alike(latency: u64, lowest: u64, step: u64) -> u64 {
    (latency - lowest) / step + 1
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Counters, alike};
    use std::time::{Duration, Instant};

    /// Of requests due each three seconds, those within a measurement from 10 s to 20 s.
    #[test]
    fn what_was_due_before_the_measurement_counts_if_the_connection_was_open_then() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (first, closed, counted_from, count) in [
            (0, 5, 12, 3),
            (2, 5, 11, 4),
            (9, 5, 12, 3),
            (10, 5, 10, 4),
            (0, 10, 0, 7),
            (0, 20, 0, 7),
            (20, 20, 20, 1),
            (21, 22, 21, 0),
        ] {
            let backlog = Backlog {
                first: at(first),
                interval: Duration::from_secs(3),
                last_answer: None,
                closed: at(closed),
            };
            let measured = backlog.measured(at(10), at(20));
            assert_eq!(measured, (at(counted_from), count), "{first} {closed}");
        }
    }

    #[test]
    fn a_connection_is_mute_if_it_had_half_of_the_time_for_an_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (first, last_answer, closed, is_mute) in [
            (0, None, 20, true),
            (0, None, 19, false),
            (0, Some(9), 20, true),
            (0, Some(10), 20, false),
            (14, None, 20, true),
            (15, None, 20, false),
        ] {
            let backlog = Backlog {
                first: at(first),
                interval: Duration::from_secs(3),
                last_answer: last_answer.map(at),
                closed: at(closed),
            };
            assert_eq!(backlog.is_mute(at(10), at(20)), is_mute, "{backlog:?}");
        }
    }

    #[test]
    fn latencies_in_even_steps_are_recorded_as_if_one_by_one() {
        for (longest, step, count) in [
            (0, 1, 1),
            (999, 1, 1000),
            (999, 10, 100),
            (999, 10, 50),
            (5_000_000, 1000, 5000),
            (5_000_000, 7, 100),
            (5_000_000, 7_000_000, 1),
            (5_000_000, 0, 3),
        ] {
            let [evenly, each] = [(); 2].map(|()| Counters::new());
            let [longest, step] = [longest, step].map(Duration::from_nanos);
            evenly.record_evenly(longest, step, count);
            let step = step.max(Duration::from_nanos(1));
            for nth in 0..count as u32 {
                let latency = (longest - step * nth).as_nanos() as u64;
                each.latencies.borrow_mut().record(latency).unwrap();
            }
            assert_eq!(evenly.latencies, each.latencies, "{longest:?} {step:?}");
        }
    }

    #[test]
    fn latencies_down_to_the_lowest_are_alike() {
        for (latency, lowest, step, count) in [
            (100, 100, 1, 1),
            (100, 99, 1, 2),
            (100, 90, 5, 3),
            (100, 91, 5, 2),
            (100, 0, 1000, 1),
        ] {
            assert_eq!(
                alike(latency, lowest, step),
                count,
                "{latency} {lowest} {step}"
            );
        }
    }
}
