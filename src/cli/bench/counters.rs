//! What a bench counts.

use doorkeeper::{Closed, Reason};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An hour, in nanoseconds: the longest latency that is told apart.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

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
    /// The longest delay between the time that a request was due and the time that the bench
    /// noticed it: the load's own delay, and not the server's.
    pub(crate) delay: Cell<Duration>,
    /// Failed connections, by the reason.
    pub(crate) errors: RefCell<BTreeMap<String, u64>>,
    /// Connections that are being established.
    pub(crate) connecting: Cell<usize>,
    /// Connections that have failed. They are not tried again.
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

    /// Counts the requests that a connection still waited for at its end. With a rate (`is_due`)
    /// each of them should have had an answer. Without a rate, requests are always under way at the
    /// end; only those sent before the measurement began count.
    pub(crate) fn unanswered(&self, since: impl IntoIterator<Item = Instant>, is_due: bool) {
        let Some(begin) = self.begin.get() else {
            return;
        };
        let end = match self.end.get() {
            Some(end) => end,
            None if is_due => Instant::now(),
            None => return,
        };
        for since in since.into_iter().filter(|&at| is_due || at < begin) {
            self.unanswered.set(self.unanswered.get() + 1);
            self.record(since, end);
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
