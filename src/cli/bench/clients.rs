//! The connections that load a server.

use super::counters::Counters;
use super::pattern::Pattern;
use doorkeeper::{Closed, ConnectOptions, Context, Handler, Reason, TimerKey};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

const WRONG_BYTES: &str = "other bytes came back than were sent";

/// The requests of all connections of one kind.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) counters: Rc<Counters>,
    pub(crate) pattern: Pattern,
    /// Bytes of a request.
    pub(crate) size: usize,
    /// Limit of the requests of one connection that are sent and not answered.
    pub(crate) pipeline: usize,
    /// Limit of the requests of one connection in all.
    pub(crate) most: u64,
    pub(crate) schedule: Option<Schedule>,
}

/// When requests are due: `rate` a second, one connection after the other.
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

/// Sends requests and compares the echo.
#[derive(Debug)]
pub(crate) struct Pinger {
    requests: Rc<Requests>,
    number: usize,
    /// The offset of its first byte in the pattern.
    origin: u64,
    sent: u64,
    received: u64,
    /// The time of each request that has no answer: when it was sent, or with a rate when it was
    /// due.
    since: VecDeque<Instant>,
    next_due: Option<Instant>,
    settled: bool,
}

const DUE: TimerKey = TimerKey(0);

impl Pinger {
    pub(crate) fn new(requests: &Rc<Requests>, number: usize) -> Pinger {
        Pinger {
            requests: Rc::clone(requests),
            number,
            origin: requests.pattern.origin(number),
            sent: 0,
            received: 0,
            since: VecDeque::new(),
            next_due: None,
            settled: false,
        }
    }

    fn answered(&self) -> u64 {
        self.received / self.requests.size as u64
    }

    /// Sends as many requests as are allowed now.
    fn request(&mut self, now: Instant, cx: &mut Context<'_>) {
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
            pattern,
            size,
            pipeline,
            ..
        } = &*self.requests;
        let allowed = self.answered() + self.since.len().min(*pipeline) as u64;
        let end = allowed * *size as u64;
        while self.sent < end {
            let length = usize::try_from(end - self.sent).unwrap_or(usize::MAX);
            let count = cx.write(pattern.at(self.origin + self.sent, length));
            self.sent += count as u64;
            if count == 0 {
                break;
            }
        }
    }

    /// Adds the requests that are due by now, and sets the timer for the next.
    fn add_due(&mut self, cx: &mut Context<'_>) {
        let (Some(schedule), Some(mut due)) = (&self.requests.schedule, self.next_due) else {
            return;
        };
        let now = Instant::now();
        let delay = now.saturating_duration_since(due);
        self.requests.counters.delayed(delay);
        let interval = schedule.time_of(schedule.connections);
        while due <= now {
            self.since.push_back(due);
            due += interval;
        }
        self.next_due = Some(due);
        cx.set_timer(DUE, due - cx.now());
        self.request(now, cx);
    }
}

impl Handler for Pinger {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.requests.counters.settled(&mut self.settled);
        match &self.requests.schedule {
            // The first requests of the connections are spread over one interval, as all later ones
            // are.
            Some(schedule) => {
                self.next_due = Some(cx.now() + schedule.time_of(self.number));
                self.add_due(cx);
            }
            None => self.request(Instant::now(), cx),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.add_due(cx);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let Requests {
            counters, pattern, ..
        } = &*self.requests;
        if self.received + input.len() as u64 > self.sent
            || !pattern.matches(self.origin + self.received, input)
        {
            return Err(io::Error::other(WRONG_BYTES));
        }
        counters.received(input.len());
        let before = self.answered();
        self.received += input.len() as u64;
        let answers = (self.answered() - before) as usize;
        if answers > 0 {
            let now = Instant::now();
            for since in self.since.drain(..answers) {
                self.requests.counters.answered(since, now);
            }
            self.request(now, cx);
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
        let Requests {
            counters, schedule, ..
        } = &*self.requests;
        counters.settled(&mut self.settled);
        counters.unanswered(self.since.drain(..), schedule.is_some());
        counters.closed(closed);
    }
}

/// Sends without end and never reads.
#[derive(Debug)]
pub(crate) struct Mute {
    counters: Rc<Counters>,
    pattern: Pattern,
    settled: bool,
}

impl Mute {
    pub(crate) fn new(counters: &Rc<Counters>, pattern: Pattern) -> Mute {
        Mute {
            counters: Rc::clone(counters),
            pattern,
            settled: false,
        }
    }
}

impl Handler for Mute {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.counters.settled(&mut self.settled);
        self.on_drain(cx)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while cx.write(self.pattern.at(0, cx.room())) > 0 {}
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn on_close(&mut self, _: &mut Context<'_>, closed: &Closed) {
        self.counters.settled(&mut self.settled);
        self.counters.closed(closed);
    }
}

/// Connects, sends one request or none, reads the answer and closes, over and over until a failure.
#[derive(Debug)]
pub(crate) struct Reconnector {
    counters: Rc<Counters>,
    pattern: Pattern,
    target: Target,
    /// The offset of its first byte in the pattern.
    origin: u64,
    /// Bytes of the request. `None`: it sends nothing, and the server sends and closes.
    request: Option<usize>,
    since: Instant,
    sent: usize,
    received: usize,
    settled: bool,
}

/// The server's address, and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
}

impl Reconnector {
    pub(crate) fn new(
        requests: &Requests,
        number: usize,
        target: Target,
        request: Option<usize>,
    ) -> Reconnector {
        Reconnector {
            counters: Rc::clone(&requests.counters),
            pattern: requests.pattern,
            target,
            origin: requests.pattern.origin(number),
            request,
            since: Instant::now(),
            sent: 0,
            received: 0,
            settled: false,
        }
    }

    /// What is wrong with the answer of a connection that has ended.
    fn fault(&self) -> Option<&'static str> {
        match self.request {
            Some(size) if self.received < size => {
                Some("the server closed before the echo was complete")
            }
            None if self.received == 0 => Some("the server closed without an answer"),
            _ => None,
        }
    }
}

impl Handler for Reconnector {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.counters.settled(&mut self.settled);
        self.on_drain(cx)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let size = self.request.unwrap_or(0);
        if self.sent < size {
            let offset = self.origin + self.sent as u64;
            self.sent += cx.write(self.pattern.at(offset, size - self.sent));
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.request.is_some() {
            let offset = self.origin + self.received as u64;
            if self.received + input.len() > self.sent || !self.pattern.matches(offset, input) {
                return Err(io::Error::other(WRONG_BYTES));
            }
            if Some(self.received + input.len()) == self.request {
                cx.finish();
            }
        }
        self.received += input.len();
        self.counters.received(input.len());
        Ok(input.len())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        self.counters.settled(&mut self.settled);
        if closed.reason != Reason::Finished {
            self.counters.unanswered([self.since], false);
            return self.counters.closed(closed);
        }
        if let Some(fault) = self.fault() {
            return self.counters.fail(fault.to_string());
        }
        self.counters.answered(self.since, Instant::now());
        // It replaces this connection, which is settled, so it does not count as connecting.
        let next = Reconnector {
            since: Instant::now(),
            sent: 0,
            received: 0,
            target: self.target.clone(),
            counters: Rc::clone(&self.counters),
            ..*self
        };
        if let Err(error) = cx.connect_with(self.target.address, &self.target.options, next) {
            self.counters.fail(error.to_string());
        }
    }
}
