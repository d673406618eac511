//! Observation of the loop: the story, the trace, or both, and the loop run for them.

mod calls;
mod narrate;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use calls::{
    Words, is_of_the_loop, meaning, outcome, readiness, with_arguments, with_descriptor,
};
use narrate::At;
pub(crate) use narrate::{Form, Narrator};

use super::Failure;
use super::output;
use super::writer::Writer;
use doorkeeper::{AcceptQueue, Event, Id, Observer, Reactor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trace::{TraceFile, Tracer};

/// The options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) narrate: Option<Form>,
    /// The narration shows the poller's calls too.
    pub(crate) narrate_loop: bool,
    pub(crate) trace: Option<PathBuf>,
    /// Limit of the trace's size, in bytes.
    pub(crate) trace_max: Option<u64>,
}

/// The default limit of a trace's size: 64 MiB.
const TRACE_MAX: u64 = 64 << 20;

/// Least time between two sums of pending output: each takes a look at every connection.
const SUM_INTERVAL: Duration = Duration::from_millis(10);

/// The share of a processor that samples may take, and the time of it that they may take at once after
/// a pause, in seconds. So a quiet loop is sampled exactly, and a busy one is not slowed down.
const SHARE: f64 = 0.02;
const BURST: f64 = 0.05;

/// How much processor time samples may take. Time passed adds to it, and samples use it.
struct Budget {
    seconds: f64,
    updated: Instant,
}

impl Budget {
    fn new() -> Budget {
        Budget {
            seconds: BURST,
            updated: Instant::now(),
        }
    }

    /// When there is time for a sample; now or some time past if there is.
    fn due(&self) -> Instant {
        let missing = (-self.seconds / SHARE).max(0.0);
        self.updated + Duration::from_secs_f64(missing)
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.due()
    }

    /// A sample has taken the time from `begin`, which [`processor_seconds`] returned, until now.
    fn spend(&mut self, begin: f64) {
        let now = Instant::now();
        let earned = (now - self.updated).as_secs_f64() * SHARE;
        self.seconds = (self.seconds + earned).min(BURST) - (processor_seconds() - begin);
        self.updated = now;
    }
}

/// The processor time of this thread. It does not count the time of other programs that run
/// meanwhile, which would take samples away from a loop on a busy machine.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The observers of a loop.
pub(crate) struct Observers {
    start: Instant,
    narrator: Option<(Form, &'static Writer)>,
    tracer: Option<Writer>,
    /// The accept queues as last seen.
    queues: BTreeMap<Id, AcceptQueue>,
    budget: Budget,
    /// When pending output is summed next.
    sum_at: Instant,
}

/// Notifies several observers.
struct All(Vec<Box<dyn Observer>>);

impl Observer for All {
    fn event(&mut self, event: &Event<'_>) {
        self.0.iter_mut().for_each(|observer| observer.event(event));
    }
}

impl Observation {
    /// True if an option asks for an observer. The loop is then run by [`run`].
    pub(crate) fn is_asked_for(&self) -> bool {
        self.narrate.is_some() || self.trace.is_some()
    }

    /// Registers the observers with the reactor, and `other` with them; `None` if no option asks
    /// for one.
    pub(crate) fn start(
        &self,
        reactor: &mut Reactor,
        other: Option<Box<dyn Observer>>,
    ) -> Result<Option<Observers>, Failure> {
        let (mut narrator, mut tracer) = (None, None);
        if !self.is_asked_for() {
            other.into_iter().for_each(|one| reactor.observe(one));
            return Ok(None);
        }
        let mut all: Vec<Box<dyn Observer>> = other.into_iter().collect();
        let start = Instant::now();
        if self.narrate_loop && self.narrate.is_none() {
            return Err(Failure::usage("--loop belongs to --narrate"));
        }
        if let Some(form) = self.narrate {
            let no_thread = || Failure::thread(Errno::AGAIN.into());
            let writer = output::stderr().ok_or_else(no_thread)?;
            writer.set_left_out_line(form.left_out());
            all.push(Box::new(Narrator::new(
                writer,
                form,
                self.narrate_loop,
                start,
            )));
            narrator = Some((form, writer));
        }
        if let Some(path) = &self.trace {
            let max_bytes = self.trace_max.unwrap_or(TRACE_MAX);
            let file = TraceFile::create(path, max_bytes).map_err(|error| {
                Failure::failed(format_args!("--trace {}: {error}", path.display()))
            })?;
            let writer = Writer::start(file, trace::left_out).map_err(Failure::thread)?;
            all.push(Box::new(Tracer::new(&writer, start)));
            tracer = Some(writer);
        }
        reactor.observe(Box::new(All(all)));
        Ok(Some(Observers {
            start,
            narrator,
            tracer,
            queues: BTreeMap::new(),
            budget: Budget::new(),
            sum_at: start,
        }))
    }
}

/// Runs the loop until it is stopped, or until this time.
pub(crate) fn run(
    reactor: &mut Reactor,
    observers: &mut Option<Observers>,
    listeners: &[(Id, SocketAddr)],
    until: Option<Instant>,
) -> Result<(), Failure> {
    let ran = match (observers, until) {
        (Some(observers), until) => observers.run(reactor, listeners, until),
        (None, None) => reactor.run(),
        (None, Some(until)) => run_until(reactor, until),
    };
    ran.map_err(Failure::poller)
}

fn run_until(reactor: &mut Reactor, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if reactor.is_done() || left.is_zero() {
            return consume_stop(reactor);
        }
        reactor.turn(Some(left))?;
    }
}

/// Waits until the reactor has an event, or until this time.
fn wait(reactor: &Reactor, due: Option<Instant>) -> io::Result<()> {
    let left = due.map(|due| due.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut [PollFd::new(reactor, PollFlags::IN)], left.as_ref()) {
        Err(error) if error != Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}

/// Consumes a stop as `Reactor::run` does at its end, so that it does not stop a later run.
fn consume_stop(reactor: &mut Reactor) -> io::Result<()> {
    if reactor.is_done() {
        reactor.run()
    } else {
        Ok(())
    }
}

impl Observers {
    /// Runs the loop until it is stopped, or until this time, as a host would: poll(2), then a
    /// turn. The accept queues are sampled between the two, because the turn that learns of a
    /// newcomer also accepts it: seen from within the loop, the queue is always empty.
    fn run(
        &mut self,
        reactor: &mut Reactor,
        listeners: &[(Id, SocketAddr)],
        until: Option<Instant>,
    ) -> io::Result<()> {
        // The last sample may be out of date.
        let mut is_stale = true;
        while !reactor.is_done() && until.is_none_or(|until| Instant::now() < until) {
            let sample_at = is_stale.then(|| self.budget.due());
            let due = reactor.next_deadline().into_iter().chain(until);
            wait(reactor, due.chain(sample_at).min())?;
            // After a change the turn makes another one, so the next sample comes without an event.
            is_stale = !self.budget.is_due() || self.sample_queues(reactor, listeners);
            let events = reactor.stats().events;
            reactor.turn(Some(Duration::ZERO))?;
            // The turn may have taken the event of a change that came after the sample.
            is_stale |= reactor.stats().events != events;
            self.sum_pending_output(reactor);
        }
        consume_stop(reactor)
    }

    /// True if a queue has changed since the last sample.
    fn sample_queues(&mut self, reactor: &Reactor, listeners: &[(Id, SocketAddr)]) -> bool {
        let (begin, mut has_changed) = (processor_seconds(), false);
        let queues: BTreeMap<Id, AcceptQueue> = reactor.accept_queues().into_iter().collect();
        for &(id, address) in listeners {
            if let Some(&queue) = queues.get(&id) {
                has_changed |= self.sample_queue(id, address, queue);
            }
        }
        self.budget.spend(begin);
        has_changed
    }

    fn sample_queue(&mut self, id: Id, address: SocketAddr, queue: AcceptQueue) -> bool {
        let before = self.queues.insert(id, queue);
        if before == Some(queue) {
            return false;
        }
        if let (Some((form, writer)), Some(_)) = (&self.narrator, before) {
            let at = At(self.start.elapsed());
            writer.write_soon(&form.accept_queue(at, id, address, queue));
        }
        if let Some(writer) = &self.tracer {
            let name = format!("accept queue of {address}");
            trace::counter(writer, self.start, &name, queue.depth.into());
        }
        true
    }

    fn sum_pending_output(&mut self, reactor: &Reactor) {
        let now = Instant::now();
        let is_due = now >= self.sum_at && self.budget.is_due();
        let Some(writer) = self.tracer.as_ref().filter(|_| is_due) else {
            return;
        };
        let begin = processor_seconds();
        let snapshot = reactor.snapshot();
        let pending: usize = snapshot.connections.iter().map(|one| one.pending_out).sum();
        trace::counter(writer, self.start, "pending output", pending as u64);
        self.sum_at = now + SUM_INTERVAL;
        self.budget.spend(begin);
    }
}

/// Waits until the trace is written, within limits.
impl Drop for Observers {
    fn drop(&mut self) {
        if let Some(writer) = &self.tracer {
            writer.finish();
        }
    }
}
