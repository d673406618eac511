//! `doorkeeper bench`: a load on the client half of the reactor.

use super::Failure;
use super::bench_args::{Bench, Mode};
use super::book::Book;
use super::load::{Caller, Mute, Pinger, Requests, Schedule, Target};
use super::report::{Plot, Report};
use super::values::resolve;
use super::{descriptors, signals};
use doorkeeper::{Config, ConnectOptions, Handler, Reactor};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many connections are being established at once: fewer than most waiting rooms hold.
const DIALING: usize = 128;

/// How long a request of a flooder is.
const FLOOD: usize = 64 * 1024;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// How long before a request is due the load stops sleeping: a poller's time limit is rounded up to whole milliseconds.
const AWAKE: Duration = Duration::from_millis(2);

/// How long an address may take to show that somebody listens there, where there are several to choose from.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection that is to be made: one of the measured ones, by its number, or one beside them.
#[derive(Clone, Copy)]
enum Planned {
    Measured(usize),
    Flooder(usize),
    Mute,
}

struct Load<'a> {
    options: &'a Bench,
    address: SocketAddr,
    reactor: Reactor,
    measured: Rc<Book>,
    flood: Rc<Book>,
    mutes: Rc<Book>,
    /// What the measured ask for, and the flooders.
    requests: Rc<Requests>,
    floods: Rc<Requests>,
    planned: Vec<Planned>,
    /// Somebody wants it to end.
    interrupted: Rc<Cell<bool>>,
    /// When progress is shown next, if there is a terminal to show it on.
    show_at: Option<Instant>,
}

/// The book of the connections that are measured.
fn book(options: &Bench) -> Rc<Book> {
    if options.lines {
        Book::of_lines(options.size)
    } else {
        Book::of_noise()
    }
}

pub(crate) fn run(options: &Bench) -> Result<(), Failure> {
    let plot = options.plot.as_deref().map(Plot::create).transpose()?;
    let address = address(options)?;
    let wanted = [options.connections, options.flooders, options.mutes]
        .into_iter()
        .fold(0, usize::saturating_add);
    let most = descriptors::connections(descriptors::raise(), 0);
    if wanted > most {
        return Err(Failure::failed(format_args!(
            "the limit on open files allows {most} connections, not {wanted}"
        )));
    }
    let cannot_start =
        |error: io::Error| Failure::failed(format_args!("cannot start the loop: {error}"));
    let mut config = Config::default();
    config.max_connections = wanted;
    let mut reactor = Reactor::new(config).map_err(cannot_start)?;
    let measured = book(options);
    let (flood, mutes) = (Book::of_noise(), Book::of_noise());
    let requests = Rc::new(requests(options, &measured));
    let floods = Rc::new(Requests {
        book: Rc::clone(&flood),
        size: FLOOD,
        pipeline: 1,
        most: u64::MAX,
        schedule: None,
    });
    let interrupted = Rc::new(Cell::new(false));
    let heard = Rc::clone(&interrupted);
    signals::watch(&mut reactor, &[SIGINT, SIGTERM], move |_, _| {
        heard.set(true)
    })
    .map_err(cannot_start)?;
    // The last is the first to be made.
    let beside = std::iter::repeat_n(Planned::Mute, options.mutes)
        .chain((0..options.flooders).map(Planned::Flooder));
    let planned = beside
        .chain((0..options.connections).rev().map(Planned::Measured))
        .collect();
    let show_at = io::stderr().is_terminal().then(Instant::now);
    let mut load = Load {
        options,
        address,
        reactor,
        measured,
        flood,
        mutes,
        requests,
        floods,
        planned,
        interrupted,
        show_at,
    };
    let report = load.run();
    load.clear_line();
    report?.write(plot)
}

fn requests(options: &Bench, book: &Rc<Book>) -> Requests {
    let Bench {
        size,
        pipeline,
        connections,
        ..
    } = *options;
    let most = if options.mode == Mode::Idle {
        1
    } else {
        u64::MAX
    };
    let schedule = options.rate.map(|rate| Schedule { rate, connections });
    Requests {
        book: Rc::clone(book),
        size,
        pipeline,
        most,
        schedule,
    }
}

/// Whom to load: of the addresses that fit the source addresses, the first where somebody listens.
fn address(options: &Bench) -> Result<SocketAddr, Failure> {
    let fits = |address: &SocketAddr| {
        options
            .sources
            .iter()
            .all(|source| source.is_ipv4() == address.is_ipv4())
    };
    let found: Vec<SocketAddr> = resolve(&options.target, &options.target)?
        .into_iter()
        .filter(fits)
        .collect();
    let listening = |address: &&SocketAddr| TcpStream::connect_timeout(address, PATIENCE).is_ok();
    let chosen = if found.len() > 1 {
        found.iter().find(listening)
    } else {
        None
    };
    chosen.or(found.first()).copied().ok_or_else(|| {
        Failure::failed(format_args!(
            "{} has no address that fits --source-addresses",
            options.target
        ))
    })
}

impl Load<'_> {
    fn run(&mut self) -> Result<Report, Failure> {
        let start = Instant::now();
        while !self.planned.is_empty() || self.dialing() > 0 {
            self.dial()?;
            self.turn(Duration::from_millis(100))?;
            self.unless_interrupted()?;
            self.show("connecting", start);
        }
        if self.is_lost() {
            let why = self
                .measured
                .errors
                .borrow()
                .keys()
                .next()
                .cloned()
                .unwrap_or_default();
            return Err(Failure::failed(format_args!(
                "cannot load {}: {why}",
                self.address
            )));
        }
        let connected = start.elapsed();
        self.pass(self.options.warm_up, "warming up")?;
        self.unless_interrupted()?;
        if self.options.json {
            super::print("{\"counting\":true}\n")?;
        }
        let (cpu, begin) = (own_cpu(), Instant::now());
        self.count(Some(begin));
        self.pass(self.options.duration, "counting")?;
        let end = Instant::now();
        let cpu = own_cpu().zip(cpu).map(|(after, before)| after - before);
        if self.options.json {
            // Before the connections close, for that is the server's work too.
            super::print("{\"counted\":true}\n")?;
        }
        [&self.measured, &self.flood, &self.mutes]
            .into_iter()
            .for_each(|book| book.over.set(Some(end)));
        // What was due and is unanswered is counted by those who wait for it, when they are closed.
        let idle = Reactor::new(Config::default()).map_err(poller_failed)?;
        drop(std::mem::replace(&mut self.reactor, idle));
        self.count(None);
        let [measured, flood, mutes] = [&self.measured, &self.flood, &self.mutes].map(Rc::clone);
        let (options, took) = (self.options.clone(), end - begin);
        Ok(Report {
            options,
            address: self.address,
            measured,
            flood,
            mutes,
            connected,
            took,
            cpu,
        })
    }

    fn unless_interrupted(&self) -> Result<(), Failure> {
        if self.interrupted.get() {
            return Err(Failure::failed("interrupted before anything was counted"));
        }
        Ok(())
    }

    fn count(&self, since: Option<Instant>) {
        self.measured.counting.set(since);
        self.flood.counting.set(since);
    }

    fn dialing(&self) -> usize {
        [&self.measured, &self.flood, &self.mutes]
            .into_iter()
            .map(|book| book.dialing.get())
            .sum()
    }

    /// Whether no measured connection is left.
    fn is_lost(&self) -> bool {
        self.measured.ended.get() >= self.options.connections
    }

    /// Asks for some more of the connections.
    fn dial(&mut self) -> Result<(), Failure> {
        while self.dialing() < DIALING {
            let Some(planned) = self.planned.pop() else {
                break;
            };
            match planned {
                Planned::Measured(number) => self.dial_measured(number)?,
                Planned::Flooder(number) => self.connect(
                    0,
                    &Rc::clone(&self.flood),
                    Pinger::new(&self.floods, number),
                )?,
                Planned::Mute => {
                    self.connect(0, &Rc::clone(&self.mutes), Mute::new(&self.mutes))?
                }
            }
        }
        Ok(())
    }

    fn dial_measured(&mut self, number: usize) -> Result<(), Failure> {
        let book = Rc::clone(&self.measured);
        match self.options.mode {
            Mode::Echo | Mode::Idle => {
                self.connect(number, &book, Pinger::new(&self.requests, number))
            }
            Mode::Connect | Mode::Read => {
                let request = (self.options.mode == Mode::Connect).then_some(self.options.size);
                self.connect(
                    number,
                    &book,
                    Caller::new(&book, number, self.target(number), request),
                )
            }
        }
    }

    fn target(&self, number: usize) -> Target {
        let sources = &self.options.sources;
        let local =
            (!sources.is_empty()).then(|| SocketAddr::new(sources[number % sources.len()], 0));
        let mut options = ConnectOptions::default();
        options.local = local;
        Target {
            address: self.address,
            options,
        }
    }

    fn connect(
        &mut self,
        number: usize,
        book: &Book,
        handler: impl Handler + 'static,
    ) -> Result<(), Failure> {
        let Target { address, options } = self.target(number);
        book.dialing.set(book.dialing.get() + 1);
        let asked = self.reactor.connect_with(address, &options, handler);
        asked
            .map(drop)
            .map_err(|error| Failure::failed(format_args!("cannot connect to {address}: {error}")))
    }

    /// Goes on for this long, or until nobody is left.
    fn pass(&mut self, time: Duration, what: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        let end = begin + time;
        loop {
            let now = Instant::now();
            if now >= end || self.is_lost() || self.interrupted.get() {
                return Ok(());
            }
            self.show(what, begin);
            self.turn(
                end.min(self.show_at.unwrap_or(end))
                    .saturating_duration_since(now),
            )?;
        }
    }

    fn turn(&mut self, limit: Duration) -> Result<(), Failure> {
        let due = self
            .reactor
            .next_deadline()
            .filter(|_| self.options.rate.is_some());
        let sleep = due.map(|due| {
            due.saturating_duration_since(Instant::now())
                .saturating_sub(AWAKE)
        });
        self.reactor
            .turn(Some(sleep.map_or(limit, |sleep| sleep.min(limit))))
            .map_err(poller_failed)
    }

    /// A line on a terminal, now and then, written over the one before.
    fn show(&mut self, what: &str, since: Instant) {
        let now = Instant::now();
        if self.show_at.is_none_or(|at| now < at) {
            return;
        }
        self.show_at = Some(now + SHOW_EVERY);
        let to_come = self.planned.len() + self.dialing();
        let requests = self.measured.requests.get();
        let p99 = self.measured.latencies.borrow().value_at_quantile(0.99) as f64 / 1e6;
        let failed = self.measured.ended.get();
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{what} {:.1} s: {to_come} to connect, {requests} requests, p99 {p99:.3} ms, {failed} failed",
            (now - since).as_secs_f64()
        );
    }

    fn clear_line(&self) {
        if self.show_at.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
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
