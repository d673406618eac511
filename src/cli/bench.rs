//! `doorkeeper bench`: a load on the client half of the reactor.

use super::Failure;
use super::bench_args::{Bench, Mode};
use super::descriptors;
use super::load::{Book, Caller, Mute, Pinger, Schedule, Target, line};
use super::report::Report;
use doorkeeper::{Config, ConnectOptions, Handler, Reactor};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many connections are being established at once: fewer than most waiting rooms hold.
const DIALING: usize = 128;

/// How long a request of a flooder is.
const FLOOD: usize = 64 * 1024;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What a poller's time limit is rounded to. Whatever is due sooner is waited for awake, or it would be late.
const POLLER_STEP: Duration = Duration::from_millis(1);

/// A connection that is to be made: one of the measured ones, by its number, or one beside them.
#[derive(Clone, Copy)]
enum Planned {
    Measured(usize),
    Flooder,
    Mute,
}

struct Load<'a> {
    options: &'a Bench,
    address: SocketAddr,
    reactor: Reactor,
    measured: Rc<Book>,
    flood: Rc<Book>,
    mutes: Rc<Book>,
    planned: Vec<Planned>,
}

pub(crate) fn run(options: &Bench) -> Result<(), Failure> {
    let address = options.address()?;
    let wanted = options.connections + options.flooders + options.mutes;
    let most = descriptors::connections(descriptors::raise(), 0);
    if wanted > most {
        return Err(Failure::failed(format_args!("the limit on open files allows {most} connections, not {wanted}")));
    }
    let config = Config { max_connections: wanted, ..Config::default() };
    let reactor = Reactor::new(config).map_err(|error| Failure::failed(format_args!("cannot start the loop: {error}")))?;
    let beside = [(Planned::Mute, options.mutes), (Planned::Flooder, options.flooders)];
    let beside = beside.into_iter().flat_map(|(planned, count)| std::iter::repeat_n(planned, count));
    let planned = beside.chain((0..options.connections).rev().map(Planned::Measured)).collect();
    let measured = if options.lines { Book::of(&line(options.size)) } else { Book::new() };
    let mut load = Load { options, address, reactor, measured, flood: Book::new(), mutes: Book::new(), planned };
    let report = load.run()?;
    report.write()
}

impl Load<'_> {
    fn run(&mut self) -> Result<Report, Failure> {
        let start = Instant::now();
        while !self.planned.is_empty() || self.dialing() > 0 {
            self.dial()?;
            self.turn(Duration::from_millis(100))?;
        }
        if self.is_lost() {
            let why = self.measured.errors.borrow().keys().next().cloned().unwrap_or_default();
            return Err(Failure::failed(format_args!("cannot load {}: {why}", self.address)));
        }
        let connected = start.elapsed();
        self.pass(self.options.warm_up, "warming up")?;
        if self.options.json {
            super::print("{\"counting\":true}\n")?;
        }
        let (cpu, begin) = (own_cpu(), Instant::now());
        self.count(true);
        self.pass(self.options.duration, "counting")?;
        let took = begin.elapsed();
        let cpu = own_cpu().zip(cpu).map(|(after, before)| after - before);
        if self.options.json {
            // Before the connections close, for that is the server's work too.
            super::print("{\"counted\":true}\n")?;
        }
        [&self.measured, &self.flood, &self.mutes].into_iter().for_each(|book| book.over.set(true));
        // What was due and is unanswered is counted by those who wait for it, when they are closed.
        let idle = Reactor::new(Config::default()).map_err(poller_failed)?;
        drop(std::mem::replace(&mut self.reactor, idle));
        self.count(false);
        let (measured, flood) = (Rc::clone(&self.measured), Rc::clone(&self.flood));
        Ok(Report { options: self.options.clone(), address: self.address, measured, flood, connected, took, cpu })
    }

    fn count(&self, on: bool) {
        self.measured.counting.set(on);
        self.flood.counting.set(on);
    }

    fn dialing(&self) -> usize {
        [&self.measured, &self.flood, &self.mutes].into_iter().map(|book| book.dialing.get()).sum()
    }

    /// Whether no measured connection is left.
    fn is_lost(&self) -> bool {
        self.measured.ended.get() >= self.options.connections
    }

    /// Asks for some more of the connections.
    fn dial(&mut self) -> Result<(), Failure> {
        while self.dialing() < DIALING {
            let Some(planned) = self.planned.pop() else { break };
            match planned {
                Planned::Measured(number) => self.dial_measured(number)?,
                Planned::Flooder => {
                    let pinger = Pinger::new(&self.flood, FLOOD, 1, u64::MAX, None);
                    self.connect(0, &Rc::clone(&self.flood), pinger)?;
                }
                Planned::Mute => self.connect(0, &Rc::clone(&self.mutes), Mute::new(&self.mutes))?,
            }
        }
        Ok(())
    }

    fn dial_measured(&mut self, number: usize) -> Result<(), Failure> {
        let (options, book) = (self.options, Rc::clone(&self.measured));
        match options.mode {
            Mode::Echo => {
                // Each has its own moment, so that what is due is spread over the time between two requests of one.
                let schedule = options.rate.map(|rate| {
                    let step = Duration::from_secs(1) / rate;
                    Schedule { first: step * number as u32, every: step * options.connections as u32 }
                });
                self.connect(number, &book, Pinger::new(&book, options.size, options.pipeline, u64::MAX, schedule))
            }
            Mode::Idle => self.connect(number, &book, Pinger::new(&book, options.size, 1, 1, None)),
            Mode::Connect => self.connect(number, &book, Caller::new(&book, self.target(number), Some(options.size))),
            Mode::Read => self.connect(number, &book, Caller::new(&book, self.target(number), None)),
        }
    }

    fn target(&self, number: usize) -> Target {
        let sources = &self.options.sources;
        let local = (!sources.is_empty()).then(|| SocketAddr::new(sources[number % sources.len()], 0));
        Target { address: self.address, options: ConnectOptions { local, ..ConnectOptions::default() } }
    }

    fn connect(&mut self, number: usize, book: &Book, handler: impl Handler + 'static) -> Result<(), Failure> {
        let Target { address, options } = self.target(number);
        book.dialing.set(book.dialing.get() + 1);
        let asked = self.reactor.connect_with(address, &options, handler);
        asked.map(drop).map_err(|error| Failure::failed(format_args!("cannot connect to {address}: {error}")))
    }

    /// Goes on for this long, or until nobody is left.
    fn pass(&mut self, time: Duration, what: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        let end = begin + time;
        let mut show = io::stderr().is_terminal().then_some(begin);
        loop {
            let now = Instant::now();
            if now >= end || self.is_lost() {
                break;
            }
            if let Some(due) = show.filter(|&due| due <= now) {
                self.show(what, now - begin);
                show = Some(due + SHOW_EVERY);
            }
            self.turn(end.min(show.unwrap_or(end)) - now)?;
        }
        if show.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        Ok(())
    }

    fn turn(&mut self, limit: Duration) -> Result<(), Failure> {
        let awake = self.options.rate.is_some()
            && self.reactor.next_deadline().is_some_and(|due| due < Instant::now() + 2 * POLLER_STEP);
        self.reactor.turn(Some(if awake { Duration::ZERO } else { limit })).map_err(poller_failed)
    }

    /// A line on a terminal, written over the one before.
    fn show(&self, what: &str, so_far: Duration) {
        let requests = self.measured.requests.get();
        let p99 = self.measured.latencies.borrow().value_at_quantile(0.99) as f64 / 1e6;
        let failed = self.measured.ended.get();
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{what} {:.1} s: {requests} requests, p99 {p99:.3} ms, {failed} failed",
            so_far.as_secs_f64()
        );
    }
}

fn poller_failed(error: io::Error) -> Failure {
    Failure::failed(format_args!("the poller failed: {error}"))
}

/// The time this thread has had a processor, in nanoseconds, where the system tells (Linux).
fn own_cpu() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
