//! The connections that load a server.

use super::answer::{Answer, Reading, WRONG_BYTES};
use super::counters::{Backlog, Counters};
use super::pattern::Pattern;
use super::target::Target;
use doorkeeper::{Closed, Context, Handler, Others, Reason, TimerKey};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The requests of all connections of one kind.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) counters: Rc<Counters>,
    pub(crate) pattern: Pattern,
    pub(crate) answer: Answer,
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

const SECOND_NS: u128 = 1_000_000_000;

impl Schedule {
    /// The time of so many requests of all connections together.
    fn time_of(&self, requests: u64) -> Duration {
        let nanoseconds = u128::from(requests) * SECOND_NS / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The time from the start of a connection to its request of this number. The first requests
    /// of the connections are spread over one interval, as all later ones are.
    fn due(&self, connection: usize, request: u64) -> Duration {
        self.time_of(connection as u64 + request * self.connections as u64)
    }

    /// How many requests of a connection are due this time after its start.
    fn count(&self, connection: usize, elapsed: Duration) -> u64 {
        let Some(elapsed) = elapsed.checked_sub(self.due(connection, 0)) else {
            return 0;
        };
        let all = elapsed.as_nanos() * u128::from(self.rate) / SECOND_NS;
        (all / self.connections as u128) as u64 + 1
    }

    fn interval(&self) -> Duration {
        self.time_of(self.connections as u64)
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
    reading: Reading,
    timing: Timing,
    last_answer: Option<Instant>,
    settled: bool,
    /// With --reconnect.
    again: Option<Box<Target>>,
}

/// The times of the requests that have no answer.
#[derive(Debug)]
enum Timing {
    /// Without a rate: when each was sent, at most `pipeline` of them.
    Sent(VecDeque<Instant>),
    /// With a rate, which says when each is due. So they take no memory, however many the server
    /// has not answered.
    Due {
        start: Option<Instant>,
        /// Requests due so far, answered or not.
        count: u64,
    },
}

const DUE: TimerKey = TimerKey(0);

impl Pinger {
    pub(crate) fn new(requests: &Rc<Requests>, number: usize, again: Option<Target>) -> Pinger {
        let timing = match requests.schedule {
            None => Timing::Sent(VecDeque::new()),
            Some(_) => Timing::Due {
                start: None,
                count: 0,
            },
        };
        Pinger {
            requests: Rc::clone(requests),
            number,
            origin: requests.pattern.origin(number),
            sent: 0,
            reading: Reading::default(),
            timing,
            last_answer: None,
            settled: false,
            again: again.map(Box::new),
        }
    }

    fn answered(&self) -> u64 {
        self.reading.answers
    }

    /// Requests that are sent or due, and have no answer.
    fn waiting(&self) -> u64 {
        match &self.timing {
            Timing::Sent(times) => times.len() as u64,
            Timing::Due { count, .. } => count - self.answered(),
        }
    }

    /// Sends as many requests as are allowed now.
    fn request(&mut self, now: Instant, cx: &mut Context<'_>) {
        let answered = self.answered();
        let Requests { pipeline, most, .. } = &*self.requests;
        if let Timing::Sent(times) = &mut self.timing {
            while times.len() < *pipeline && answered + (times.len() as u64) < *most {
                times.push_back(now);
            }
        }
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let Requests { size, pipeline, .. } = *self.requests;
        let allowed = self.answered() + self.waiting().min(pipeline as u64);
        let end = allowed * size as u64;
        while self.sent < end {
            let length = usize::try_from(end - self.sent).unwrap_or(usize::MAX);
            let pattern = &self.requests.pattern;
            let count = cx.write(pattern.at(self.origin + self.sent, length));
            self.sent += count as u64;
            if count == 0 {
                break;
            }
        }
    }

    /// Adds the requests that are due by now. Returns when the next one is; `None` without a rate.
    fn add_due(&mut self, now: Instant) -> Option<Instant> {
        let Timing::Due {
            start: Some(start),
            count,
        } = &mut self.timing
        else {
            return None;
        };
        let schedule = self.requests.schedule.as_ref()?;
        let next = *start + schedule.due(self.number, *count);
        let delay = now.saturating_duration_since(next);
        self.requests.counters.delayed(delay);
        *count = schedule.count(self.number, now.saturating_duration_since(*start));
        Some(*start + schedule.due(self.number, *count))
    }

    /// Sends the requests that are due by now, and sets the timer for the next.
    fn request_due(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        if let Some(next) = self.add_due(now) {
            cx.set_timer(DUE, next.saturating_duration_since(cx.now()));
            self.request(now, cx);
        }
    }

    /// Records the answers that have come since there were `before`.
    fn record(&mut self, before: u64, now: Instant) {
        let (answered, counters) = (self.answered(), &self.requests.counters);
        match (&mut self.timing, &self.requests.schedule) {
            (Timing::Sent(times), _) => {
                let answers = times.drain(..(answered - before) as usize);
                answers.for_each(|since| counters.answered(since, now));
            }
            (
                Timing::Due {
                    start: Some(start), ..
                },
                Some(schedule),
            ) => {
                let due = |request| *start + schedule.due(self.number, request);
                (before..answered).for_each(|request| counters.answered(due(request), now));
            }
            _ => {}
        }
        self.last_answer = Some(now);
    }

    /// Counts the requests without an answer when the connection ends.
    fn record_unanswered(&mut self) {
        let (answered, counters) = (self.answered(), &self.requests.counters);
        match (&mut self.timing, &self.requests.schedule) {
            (Timing::Sent(times), _) => counters.unanswered(times.drain(..)),
            (
                Timing::Due {
                    start: Some(start), ..
                },
                Some(schedule),
            ) => counters.unanswered_from(Backlog {
                first: *start + schedule.due(self.number, answered),
                interval: schedule.interval(),
                last_answer: self.last_answer,
                closed: Instant::now(),
            }),
            _ => {}
        }
    }
}

impl Handler for Pinger {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.requests.counters.settled(&mut self.settled);
        if let Timing::Due { start, .. } = &mut self.timing {
            *start = Some(cx.now());
            self.request_due(cx);
        } else {
            self.request(Instant::now(), cx);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.request_due(cx);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let Requests {
            counters,
            pattern,
            answer,
            size,
            ..
        } = &*self.requests;
        let before = self.answered();
        let (request, begun) = (
            (pattern, self.origin, *size),
            self.sent.div_ceil(*size as u64),
        );
        self.reading
            .read(answer, request, begun, self.sent, input)
            .map_err(io::Error::other)?;
        counters.received(input.len());
        if self.answered() > before {
            let now = Instant::now();
            self.record(before, now);
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

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        self.requests.counters.settled(&mut self.settled);
        self.record_unanswered();
        self.requests.counters.closed(closed);
        if let Some(target) = self.again.take() {
            let mut next = Pinger::new(&self.requests, self.number, Some(Target::clone(&target)));
            // It replaces this connection, which is settled.
            next.settled = true;
            target.connect_again(others, &self.requests.counters, next);
        }
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

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
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
    /// Go on after a failure: --reconnect.
    persists: bool,
}

impl Reconnector {
    pub(crate) fn new(
        requests: &Requests,
        number: usize,
        target: Target,
        request: Option<usize>,
        persists: bool,
    ) -> Reconnector {
        Reconnector {
            counters: Rc::clone(&requests.counters),
            pattern: requests.pattern.clone(),
            target,
            origin: requests.pattern.origin(number),
            request,
            since: Instant::now(),
            sent: 0,
            received: 0,
            settled: false,
            persists,
        }
    }

    /// The connection that replaces this one, which is settled, so it does not count as connecting.
    fn next(&self) -> Reconnector {
        Reconnector {
            since: Instant::now(),
            sent: 0,
            received: 0,
            target: self.target.clone(),
            counters: Rc::clone(&self.counters),
            pattern: self.pattern.clone(),
            ..*self
        }
    }

    fn fail(&self, others: &mut Others<'_>, closed: &Closed) {
        match self.fault() {
            Some(fault) if closed.reason == Reason::Finished => {
                self.counters.fail(fault.to_string());
            }
            _ => {
                self.counters.unanswered([self.since]);
                self.counters.closed(closed);
            }
        }
        if self.persists {
            self.target
                .connect_again(others, &self.counters, self.next());
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

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        self.counters.settled(&mut self.settled);
        if closed.reason != Reason::Finished || self.fault().is_some() {
            return self.fail(others, closed);
        }
        self.counters.answered(self.since, Instant::now());
        let Target { address, options } = &self.target;
        if let Err(error) = others.connect_with(*address, options, self.next()) {
            self.counters.fail(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
