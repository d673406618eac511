//! Those who watch the loop: the narrator, the tracer, or both; and the loop run for them.

use super::Failure;
use super::narrate::{Form, Narration, Narrator};
use super::teller::Teller;
use super::trace::{self, TraceFile, Tracer};
use doorkeeper::{AcceptQueue, Event, Id, Observer, Reactor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watching {
    pub(crate) narrate: Option<Form>,
    pub(crate) trace: Option<PathBuf>,
    /// How large the trace may become, in bytes.
    pub(crate) trace_max: Option<u64>,
}

/// How large a trace may become unless the user says otherwise.
const TRACE_MAX: u64 = 64 << 20;

/// How often pending output is added up for the trace: it costs a look at every connection.
const SUM_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Watchers {
    narrator: Option<(Form, Rc<Teller>)>,
    tracer: Option<Rc<Teller>>,
    /// The waiting rooms as last seen.
    rooms: BTreeMap<Id, (u32, u32)>,
    /// When pending output was last added up.
    summed: Option<Instant>,
}

/// Tells several what happens.
struct All(Vec<Box<dyn Observer>>);

impl Observer for All {
    fn event(&mut self, event: &Event<'_>) {
        self.0.iter_mut().for_each(|observer| observer.event(event));
    }
}

impl Watching {
    /// Those who were asked for, if any, at their place.
    pub(crate) fn start(&self, reactor: &mut Reactor) -> Result<Option<Watchers>, Failure> {
        let thread =
            |error: io::Error| Failure::failed(format_args!("cannot start a thread: {error}"));
        let (mut narrator, mut tracer, mut all) = (None, None, Vec::<Box<dyn Observer>>::new());
        if let Some(form) = self.narrate {
            let teller = Rc::new(Teller::new(Narration::new(io::stderr(), form)).map_err(thread)?);
            all.push(Box::new(Narrator::new(&teller, form)));
            narrator = Some((form, teller));
        }
        if let Some(path) = &self.trace {
            let file =
                TraceFile::create(path, self.trace_max.unwrap_or(TRACE_MAX)).map_err(|error| {
                    Failure::failed(format_args!("--trace {}: {error}", path.display()))
                })?;
            let teller = Rc::new(Teller::new(file).map_err(thread)?);
            all.push(Box::new(Tracer::new(&teller)));
            tracer = Some(teller);
        }
        if all.is_empty() {
            return Ok(None);
        }
        reactor.observe(Box::new(All(all)));
        Ok(Some(Watchers {
            narrator,
            tracer,
            rooms: BTreeMap::new(),
            summed: None,
        }))
    }
}

impl Watchers {
    /// Runs the loop as a host would, so that each waiting room can be looked at before the loop lets anyone in, and after.
    pub(crate) fn run(
        &mut self,
        reactor: &mut Reactor,
        listeners: &[(Id, SocketAddr)],
    ) -> io::Result<()> {
        while !reactor.is_done() {
            self.look(reactor, listeners);
            let left = reactor
                .next_deadline()
                .map(|due| due.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&*reactor, PollFlags::IN)], left.as_ref()) {
                Err(error) if error != Errno::INTR => return Err(error.into()),
                _ => {}
            }
            self.look(reactor, listeners);
            reactor.turn(Some(Duration::ZERO))?;
        }
        // What `run` does at its end: a later run is not stopped by this one's.
        reactor.run()
    }

    fn look(&mut self, reactor: &Reactor, listeners: &[(Id, SocketAddr)]) {
        for &(id, address) in listeners {
            let Some(AcceptQueue { depth, limit }) = reactor.accept_queue(id) else {
                continue;
            };
            let before = self.rooms.insert(id, (depth, limit));
            if before == Some((depth, limit)) {
                continue;
            }
            if let (Some((form, teller)), Some(_)) = (&self.narrator, before) {
                teller.tell(form.waiting(teller.seconds(), id, address, depth, limit));
            }
            if let Some(teller) = &self.tracer {
                trace::counter(teller, &format!("waiting room of {address}"), depth.into());
            }
        }
        let due = self
            .summed
            .is_none_or(|summed| summed.elapsed() >= SUM_EVERY);
        if let Some(teller) = self.tracer.as_ref().filter(|_| due) {
            self.summed = Some(Instant::now());
            let pending: usize = reactor
                .snapshot()
                .connections
                .iter()
                .map(|view| view.pending_out)
                .sum();
            trace::counter(teller, "pending output", pending as u64);
        }
    }
}
