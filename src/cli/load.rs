//! The connections that load a server.

use super::book::Book;
use doorkeeper::{Closed, ConnectOptions, Context, Handler, Reason, TimerKey};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

const WRONG_BYTES: &str = "other bytes came back than were sent";

/// What the connections of one kind ask for, and where it is counted.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) book: Rc<Book>,
    /// Of how many bytes each is.
    pub(crate) size: usize,
    /// How many of one connection may wait for their echo.
    pub(crate) pipeline: usize,
    /// How many of one connection there will ever be.
    pub(crate) most: u64,
    pub(crate) schedule: Option<Schedule>,
}

/// When requests are due: so many a second, of so many connections in turns.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) rate: u32,
    pub(crate) connections: usize,
}

impl Schedule {
    fn time_of(&self, requests: usize) -> Duration {
        Duration::from_nanos(requests as u64 * 1_000_000_000 / u64::from(self.rate))
    }
}

/// Sends requests, and compares what comes back. It holds nothing that can be worked out from the rest.
#[derive(Debug)]
pub(crate) struct Pinger {
    requests: Rc<Requests>,
    number: usize,
    origin: u64,
    sent: u64,
    received: u64,
    /// When each request that has no answer was sent, or due.
    since: VecDeque<Instant>,
    next_due: Option<Instant>,
    dialed: bool,
}

const DUE: TimerKey = TimerKey(0);

impl Pinger {
    pub(crate) fn new(requests: &Rc<Requests>, number: usize) -> Pinger {
        let (requests, origin) = (Rc::clone(requests), requests.book.origin(number));
        Pinger {
            requests,
            number,
            origin,
            sent: 0,
            received: 0,
            since: VecDeque::new(),
            next_due: None,
            dialed: false,
        }
    }

    fn answered(&self) -> u64 {
        self.received / self.requests.size as u64
    }

    /// Asks as much as may be asked now.
    fn ask(&mut self, now: Instant, cx: &mut Context<'_>) {
        let Requests {
            pipeline,
            most,
            schedule,
            ..
        } = &*self.requests;
        let answered = self.answered();
        while schedule.is_none()
            && self.since.len() < *pipeline
            && answered + (self.since.len() as u64) < *most
        {
            self.since.push_back(now);
        }
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let Requests {
            book,
            size,
            pipeline,
            ..
        } = &*self.requests;
        let asked = self.answered() + self.since.len().min(*pipeline) as u64;
        let owed = asked * *size as u64;
        while self.sent < owed {
            let length = usize::try_from(owed - self.sent).unwrap_or(usize::MAX);
            let count = cx.write_static(book.expected(self.origin + self.sent, length));
            self.sent += count as u64;
            if count == 0 {
                break;
            }
        }
    }

    /// Notes what is due by now, and wakes up for the next.
    fn note_due(&mut self, cx: &mut Context<'_>) {
        let (Some(schedule), Some(mut due)) = (&self.requests.schedule, self.next_due) else {
            return;
        };
        let now = Instant::now();
        self.requests
            .book
            .was_late(now.saturating_duration_since(due));
        let every = schedule.time_of(schedule.connections);
        while due <= now {
            self.since.push_back(due);
            due += every;
        }
        self.next_due = Some(due);
        cx.set_timer(DUE, due - cx.now());
        self.ask(now, cx);
    }
}

impl Handler for Pinger {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.requests.book.dialed(&mut self.dialed);
        match &self.requests.schedule {
            // Each has its own moment, so that what is due is spread over the time between two requests of one.
            Some(schedule) => {
                self.next_due = Some(cx.now() + schedule.time_of(self.number));
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
        let book = &self.requests.book;
        if self.received + input.len() as u64 > self.sent
            || !book.is_echo(self.origin + self.received, input)
        {
            return Err(io::Error::other(WRONG_BYTES));
        }
        book.came(input.len());
        let before = self.answered();
        self.received += input.len() as u64;
        let answers = (self.answered() - before) as usize;
        if answers > 0 {
            let now = Instant::now();
            for since in self.since.drain(..answers) {
                self.requests.book.answered(since, now);
            }
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
        let Requests { book, schedule, .. } = &*self.requests;
        book.dialed(&mut self.dialed);
        book.waited(self.since.drain(..), schedule.is_some());
        book.ended(closed);
    }
}

/// Sends without end, and reads nothing.
#[derive(Debug)]
pub(crate) struct Mute {
    book: Rc<Book>,
    dialed: bool,
}

impl Mute {
    pub(crate) fn new(book: &Rc<Book>) -> Mute {
        Mute {
            book: Rc::clone(book),
            dialed: false,
        }
    }
}

impl Handler for Mute {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.book.dialed(&mut self.dialed);
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
        self.book.dialed(&mut self.dialed);
        self.book.ended(closed);
    }
}

/// Connects, sends one request or none, hears the answer out, closes; and again, until it fails.
#[derive(Debug)]
pub(crate) struct Caller {
    book: Rc<Book>,
    to: Target,
    origin: u64,
    /// How long the request is. Without one the server speaks, and closes.
    request: Option<usize>,
    since: Instant,
    sent: usize,
    received: usize,
    dialed: bool,
}

/// Where to, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
}

impl Caller {
    pub(crate) fn new(
        book: &Rc<Book>,
        number: usize,
        to: Target,
        request: Option<usize>,
    ) -> Caller {
        let (origin, book) = (book.origin(number), Rc::clone(book));
        Caller {
            book,
            to,
            origin,
            request,
            since: Instant::now(),
            sent: 0,
            received: 0,
            dialed: false,
        }
    }

    /// What is wrong with an answer that is over.
    fn fault(&self) -> Option<&'static str> {
        match self.request {
            Some(size) if self.received < size => {
                Some("the server closed before the echo was whole")
            }
            None if self.received == 0 => Some("the server closed without an answer"),
            _ => None,
        }
    }
}

impl Handler for Caller {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.book.dialed(&mut self.dialed);
        self.on_drain(cx)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let size = self.request.unwrap_or(0);
        if self.sent < size {
            self.sent += cx.write_static(
                self.book
                    .expected(self.origin + self.sent as u64, size - self.sent),
            );
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.request.is_some() {
            let offset = self.origin + self.received as u64;
            if self.received + input.len() > self.sent || !self.book.is_echo(offset, input) {
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
        self.book.dialed(&mut self.dialed);
        if closed.reason != Reason::Finished {
            self.book.waited([self.since], false);
            return self.book.ended(closed);
        }
        if let Some(fault) = self.fault() {
            return self.book.failed(fault.to_string());
        }
        self.book.answered(self.since, Instant::now());
        // It goes on for the one that is through, so it is not waited for anew.
        let next = Caller {
            since: Instant::now(),
            sent: 0,
            received: 0,
            to: self.to.clone(),
            book: Rc::clone(&self.book),
            ..*self
        };
        if let Err(error) = cx.connect_with(self.to.address, &self.to.options, next) {
            self.book.failed(error.to_string());
        }
    }
}
