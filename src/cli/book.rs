//! What a load sends, and what is counted of what comes back.

use doorkeeper::{Closed, Reason};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The most that is written, or compared, at once.
const CHUNK: usize = 64 * 1024;

/// After how many lines of cache what is sent repeats itself: a prime number. So no request looks like the one before, and those of a
/// round size begin where a cache line does, from where the kernel copies them faster.
const PERIOD: usize = 251;

const CACHE_LINE: usize = 64;

/// What is counted, for connections of one kind. Latencies are nanoseconds.
#[derive(Debug)]
pub(crate) struct Book {
    /// Since when what happens counts, while it does.
    pub(crate) counting: Cell<Option<Instant>>,
    /// Since when it is over: that connections end is no error any more.
    pub(crate) over: Cell<Option<Instant>>,
    pub(crate) requests: Cell<u64>,
    /// Bytes that came back.
    pub(crate) bytes: Cell<u64>,
    pub(crate) latencies: RefCell<Histogram<u64>>,
    /// Requests that had no answer at the end, and should have. Their latencies are what they waited until then.
    pub(crate) unanswered: Cell<u64>,
    /// How late at most a request was noted that was due: the load's own fault, and never the server's.
    pub(crate) late: Cell<Duration>,
    pub(crate) errors: RefCell<BTreeMap<String, u64>>,
    /// Connections that were asked for and are neither established nor failed.
    pub(crate) dialing: Cell<usize>,
    /// Connections that have ended and are not tried again.
    pub(crate) ended: Cell<usize>,
    /// What is sent, over and over: so many bytes, repeated for at least a chunk more.
    period: usize,
    /// How far into it each connection begins after the one before, so that a server that mixes them up is found out.
    step: usize,
    pattern: &'static [u8],
}

/// So many bytes that look like no others near them.
fn noise(length: usize) -> Vec<u8> {
    // The linear congruence of Numerical Recipes; its high bits look random enough.
    let next = |last: &u32| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next)
        .take(length)
        .map(|number| (number >> 24) as u8)
        .collect()
}

/// Lines of so many bytes, each with a number, as far as there is room for it: digits, letters, and a newline.
fn lines(size: usize) -> Vec<u8> {
    let line = |number: usize| {
        let letters = number
            .to_string()
            .into_bytes()
            .into_iter()
            .chain((b'a'..=b'z').cycle());
        letters.take(size - 1).chain([b'\n'])
    };
    (0..(CHUNK / size).clamp(8, PERIOD))
        .flat_map(line)
        .collect()
}

impl Book {
    /// Connections of this kind send noise.
    pub(crate) fn of_noise() -> Rc<Book> {
        Book::of(&noise(PERIOD * CACHE_LINE), CACHE_LINE)
    }

    /// Connections of this kind send lines of so many bytes.
    pub(crate) fn of_lines(size: usize) -> Rc<Book> {
        Book::of(&lines(size), size)
    }

    fn of(text: &[u8], step: usize) -> Rc<Book> {
        // Three digits, from a nanosecond to an hour: bounds that are always right.
        let latencies =
            Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap_or_else(|_| unreachable!());
        Rc::new(Book {
            counting: Cell::new(None),
            over: Cell::new(None),
            requests: Cell::new(0),
            bytes: Cell::new(0),
            latencies: RefCell::new(latencies),
            unanswered: Cell::new(0),
            late: Cell::new(Duration::ZERO),
            errors: RefCell::default(),
            dialing: Cell::new(0),
            ended: Cell::new(0),
            period: text.len(),
            step,
            // There are three books, for as long as the program runs.
            pattern: text
                .iter()
                .copied()
                .cycle()
                .take(CHUNK + text.len())
                .collect::<Vec<u8>>()
                .leak(),
        })
    }

    /// Where in the pattern the connection of this number begins.
    pub(crate) fn origin(&self, number: usize) -> u64 {
        (number % self.period * self.step % self.period) as u64
    }

    /// What a connection sends from here on, and its echo must be; at most a chunk.
    pub(crate) fn expected(&self, offset: u64, length: usize) -> &'static [u8] {
        let start = (offset % self.period as u64) as usize;
        &self.pattern[start..start + length.min(CHUNK)]
    }

    /// Compares by whole periods, so that it looks at the same part of the pattern again and again, which then stays in the nearest
    /// cache.
    pub(crate) fn is_echo(&self, mut offset: u64, input: &[u8]) -> bool {
        input.chunks(self.period.min(CHUNK)).all(|chunk| {
            let same = chunk == self.expected(offset, chunk.len());
            offset += chunk.len() as u64;
            same
        })
    }

    pub(crate) fn answered(&self, since: Instant, now: Instant) {
        if self.counting.get().is_some() {
            self.requests.set(self.requests.get() + 1);
            self.latencies
                .borrow_mut()
                .saturating_record((now - since).as_nanos() as u64);
        }
    }

    /// What a connection that ends still waited for. Whatever was `due` should have been answered; what was sent as soon as it could
    /// be is only missed if nothing came all the while that was counted.
    pub(crate) fn waited(&self, since: impl IntoIterator<Item = Instant>, due: bool) {
        let Some(begin) = self.counting.get() else {
            return;
        };
        let end = match self.over.get() {
            Some(end) => end,
            None if due => Instant::now(),
            None => return,
        };
        for since in since.into_iter().filter(|&since| due || since < begin) {
            self.unanswered.set(self.unanswered.get() + 1);
            self.latencies
                .borrow_mut()
                .saturating_record((end - since).as_nanos() as u64);
        }
    }

    pub(crate) fn was_late(&self, by: Duration) {
        if self.counting.get().is_some() {
            self.late.set(self.late.get().max(by));
        }
    }

    pub(crate) fn came(&self, bytes: usize) {
        if self.counting.get().is_some() {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    /// A connection is established, or failed: the first time that it says so.
    pub(crate) fn dialed(&self, before: &mut bool) {
        if !std::mem::replace(before, true) {
            self.dialing.set(self.dialing.get() - 1);
        }
    }

    /// A connection has ended although it should not have.
    pub(crate) fn ended(&self, closed: &Closed) {
        self.failed(match (&closed.reason, &closed.error) {
            (Reason::HandlerError | Reason::Io, Some(error)) => error.to_string(),
            (reason, _) => reason.to_string(),
        });
    }

    pub(crate) fn failed(&self, kind: String) {
        if self.over.get().is_none() {
            *self.errors.borrow_mut().entry(kind).or_default() += 1;
            self.ended.set(self.ended.get() + 1);
        }
    }
}
