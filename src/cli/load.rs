//! The connections that load a server.

use doorkeeper::{Closed, ConnectOptions, Context, Handler, Reason, TimerKey};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The most that is written, or compared, at once.
const CHUNK: usize = 64 * 1024;

/// After how many bytes what is sent repeats itself: a prime number of cache lines. So no request looks like the one before, and those
/// of a round size begin where a cache line does, from where the kernel copies them faster.
const PERIOD: usize = 64 * 251;

const WRONG_BYTES: &str = "other bytes came back than were sent";

/// What is counted, for connections of one kind. Latencies are nanoseconds.
#[derive(Debug)]
pub(crate) struct Book {
    /// Whether what happens now counts.
    pub(crate) counting: Cell<bool>,
    /// It is over: that connections end is no error any more.
    pub(crate) over: Cell<bool>,
    pub(crate) requests: Cell<u64>,
    /// Bytes that came back.
    pub(crate) bytes: Cell<u64>,
    pub(crate) latencies: RefCell<Histogram<u64>>,
    /// Requests that were due, and had no answer at the end. Their latencies are what they waited until then.
    pub(crate) unanswered: Cell<u64>,
    pub(crate) errors: RefCell<BTreeMap<String, u64>>,
    /// Connections that were asked for and are neither established nor failed.
    pub(crate) dialing: Cell<usize>,
    /// Connections that have ended and are not tried again.
    pub(crate) ended: Cell<usize>,
    /// What is sent, over and over: so many bytes, repeated for at least a chunk more.
    period: usize,
    pattern: &'static [u8],
}

/// So many bytes that look like no others near them.
fn noise() -> Vec<u8> {
    // The linear congruence of Numerical Recipes; its high bits look random enough.
    let next = |last: &u32| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next).take(PERIOD).map(|number| (number >> 24) as u8).collect()
}

/// A line of so many bytes: letters, and a newline.
pub(crate) fn line(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size - 1).chain([b'\n']).collect()
}

impl Book {
    pub(crate) fn new() -> Rc<Book> {
        Book::of(&noise())
    }

    /// Connections of this kind send `text`, over and over.
    pub(crate) fn of(text: &[u8]) -> Rc<Book> {
        // Three digits, from a nanosecond to an hour: bounds that are always right.
        let latencies = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap_or_else(|_| unreachable!());
        Rc::new(Book {
            counting: Cell::new(false),
            over: Cell::new(false),
            requests: Cell::new(0),
            bytes: Cell::new(0),
            latencies: RefCell::new(latencies),
            unanswered: Cell::new(0),
            errors: RefCell::default(),
            dialing: Cell::new(0),
            ended: Cell::new(0),
            period: text.len(),
            // There are three books, for as long as the program runs.
            pattern: text.iter().copied().cycle().take(CHUNK + text.len()).collect::<Vec<u8>>().leak(),
        })
    }

    /// What a connection sends from here on, and its echo must be; at most a chunk.
    fn expected(&self, offset: u64, length: usize) -> &'static [u8] {
        let start = (offset % self.period as u64) as usize;
        &self.pattern[start..start + length.min(CHUNK)]
    }

    /// Compares by whole periods, so that it looks at the same part of the pattern again and again, which then stays in the nearest
    /// cache.
    fn is_echo(&self, mut offset: u64, input: &[u8]) -> bool {
        input.chunks(self.period.min(CHUNK)).all(|chunk| {
            let same = chunk == self.expected(offset, chunk.len());
            offset += chunk.len() as u64;
            same
        })
    }

    fn answered(&self, since: Instant, now: Instant) {
        if self.counting.get() {
            self.requests.set(self.requests.get() + 1);
            self.latencies.borrow_mut().saturating_record((now - since).as_nanos() as u64);
        }
    }

    fn came(&self, bytes: usize) {
        if self.counting.get() {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    fn dialed(&self) {
        self.dialing.set(self.dialing.get() - 1);
    }

    /// A connection has ended although it should not have.
    fn ended(&self, closed: &Closed) {
        let kind = match (&closed.reason, &closed.error) {
            (Reason::Handler, Some(error)) => error.to_string(),
            (reason, _) => reason.to_string(),
        };
        self.failed(kind);
    }

    fn failed(&self, kind: String) {
        if !self.over.get() {
            *self.errors.borrow_mut().entry(kind).or_default() += 1;
            self.ended.set(self.ended.get() + 1);
        }
    }
}

/// When the requests of a connection are due.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// When the first is, after the connection is established.
    pub(crate) first: Duration,
    pub(crate) every: Duration,
}

/// Sends requests, and compares what comes back.
#[derive(Debug)]
pub(crate) struct Pinger {
    book: Rc<Book>,
    size: u64,
    pipeline: u64,
    /// How many requests there will ever be.
    most: u64,
    schedule: Option<Schedule>,
    next_due: Option<Instant>,
    /// When each request that has no answer was sent, or due.
    since: VecDeque<Instant>,
    asked: u64,
    answered: u64,
    sent: u64,
    received: u64,
    opened: bool,
}

const DUE: TimerKey = TimerKey(0);

impl Pinger {
    pub(crate) fn new(book: &Rc<Book>, size: usize, pipeline: usize, most: u64, schedule: Option<Schedule>) -> Pinger {
        Pinger {
            book: Rc::clone(book),
            size: size as u64,
            pipeline: pipeline as u64,
            most,
            schedule,
            next_due: None,
            since: VecDeque::new(),
            asked: 0,
            answered: 0,
            sent: 0,
            received: 0,
            opened: false,
        }
    }

    /// Asks as much as may be asked now.
    fn ask(&mut self, now: Instant, cx: &mut Context<'_>) {
        while self.asked - self.answered < self.pipeline && self.asked < self.most {
            if self.schedule.is_none() {
                self.since.push_back(now);
            } else if self.asked - self.answered == self.since.len() as u64 {
                break;
            }
            self.asked += 1;
        }
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let owed = self.asked * self.size;
        while self.sent < owed {
            let length = usize::try_from(owed - self.sent).unwrap_or(CHUNK);
            let count = cx.write_static(self.book.expected(self.sent, length));
            self.sent += count as u64;
            if count == 0 {
                break;
            }
        }
    }

    /// Notes what is due by now, and wakes up for the next.
    fn note_due(&mut self, cx: &mut Context<'_>) {
        let (Some(schedule), Some(mut due)) = (&self.schedule, self.next_due) else { return };
        let now = Instant::now();
        while due <= now {
            self.since.push_back(due);
            due += schedule.every;
        }
        self.next_due = Some(due);
        cx.set_timer(DUE, due - cx.now());
        self.ask(now, cx);
    }
}

impl Handler for Pinger {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.opened = true;
        self.book.dialed();
        match &self.schedule {
            Some(schedule) => {
                self.next_due = Some(cx.now() + schedule.first);
                self.note_due(cx);
            }
            None => self.ask(Instant::now(), cx),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.note_due(cx);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.received + input.len() as u64 > self.sent || !self.book.is_echo(self.received, input) {
            return Err(io::Error::other(WRONG_BYTES));
        }
        self.received += input.len() as u64;
        self.book.came(input.len());
        let answered = self.received / self.size;
        if answered > self.answered {
            let now = Instant::now();
            for since in self.since.drain(..(answered - self.answered) as usize) {
                self.book.answered(since, now);
            }
            self.answered = answered;
            self.ask(now, cx);
        }
        Ok(input.len())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.write(cx);
        Ok(())
    }

    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Err(io::Error::other("the server closed"))
    }

    fn on_close(&mut self, _: &mut Context<'_>, closed: &Closed) {
        if !self.opened {
            self.book.dialed();
        }
        if self.book.counting.get() && self.schedule.is_some() {
            let now = Instant::now();
            self.book.unanswered.set(self.book.unanswered.get() + self.since.len() as u64);
            let mut latencies = self.book.latencies.borrow_mut();
            self.since.drain(..).for_each(|since| latencies.saturating_record((now - since).as_nanos() as u64));
        }
        self.book.ended(closed);
    }
}

/// Sends without end, and reads nothing.
#[derive(Debug)]
pub(crate) struct Mute {
    book: Rc<Book>,
    opened: bool,
}

impl Mute {
    pub(crate) fn new(book: &Rc<Book>) -> Mute {
        Mute { book: Rc::clone(book), opened: false }
    }
}

impl Handler for Mute {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.opened = true;
        self.book.dialed();
        self.on_drain(cx)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while cx.write_static(self.book.expected(0, cx.room())) > 0 {}
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn on_close(&mut self, _: &mut Context<'_>, closed: &Closed) {
        if !self.opened {
            self.book.dialed();
        }
        self.book.ended(closed);
    }
}

/// Connects, sends one request or none, hears the answer out, closes; and again, until it fails.
#[derive(Debug)]
pub(crate) struct Caller {
    book: Rc<Book>,
    to: Target,
    /// How long the request is. Without one the server speaks, and closes.
    request: Option<usize>,
    since: Instant,
    sent: usize,
    received: usize,
    opened: bool,
}

/// Where to, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
}

impl Caller {
    pub(crate) fn new(book: &Rc<Book>, to: Target, request: Option<usize>) -> Caller {
        let book = Rc::clone(book);
        Caller { book, to, request, since: Instant::now(), sent: 0, received: 0, opened: false }
    }
}

impl Handler for Caller {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.opened = true;
        self.book.dialed();
        self.on_drain(cx)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let size = self.request.unwrap_or(0);
        if self.sent < size {
            self.sent += cx.write_static(self.book.expected(self.sent as u64, size - self.sent));
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.request.is_some() {
            if self.received + input.len() > self.sent || !self.book.is_echo(self.received as u64, input) {
                return Err(io::Error::other(WRONG_BYTES));
            }
            if Some(self.received + input.len()) == self.request {
                cx.finish();
            }
        }
        self.received += input.len();
        self.book.came(input.len());
        Ok(input.len())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        if !self.opened {
            self.book.dialed();
        }
        let complete = self.request.is_none_or(|size| self.received == size);
        if closed.reason != Reason::Finished || !complete {
            return self.book.ended(closed);
        }
        self.book.answered(self.since, Instant::now());
        let next = Caller::new(&self.book, self.to.clone(), self.request);
        self.book.dialing.set(self.book.dialing.get() + 1);
        if let Err(error) = cx.connect_with(self.to.address, &self.to.options, next) {
            self.book.dialed();
            self.book.failed(error.to_string());
        }
    }
}
