//! `doorkeeper bench`: a load, made of the client half of the reactor.

mod answer;
pub(crate) mod args;
mod clients;
mod counters;
mod pattern;
mod plot;
mod probe;
mod report;
mod target;
#[cfg(test)]
mod tests;

use super::{Failure, descriptors, output, print, signals};
use answer::{Answer, Delimiter};
use args::{Bench, Expected, Mode};
use clients::{Mute, Pinger, Reconnector, Requests, Schedule};
use counters::Counters;
use doorkeeper::{Config, ConnectOptions, Handler, Reactor};
use pattern::Pattern;
use plot::Plot;
use probe::find_address;
use report::Report;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use target::Target;

/// Limit of the connections that are being established at once: fewer than the limit of most accept
/// queues.
const CONNECTING_MAX: usize = 128;

/// Longest turn while connections are made: --ramp makes more of them as time passes.
const CONNECT_TURN: Duration = Duration::from_millis(10);

/// Bytes of a flooder's request.
const FLOOD_BYTES: usize = 64 * 1024;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// With a rate, the longest sleep: so a load that was stopped for longer learns of it. The poller
/// rounds its time limit up to whole milliseconds.
const NAP: Duration = Duration::from_millis(1);

/// With a rate, the load does not sleep from this time before a request is due.
const AWAKE: Duration = Duration::from_millis(2);

/// A connection to be made.
#[derive(Clone, Copy)]
enum Planned {
    /// With its number.
    Measured(usize),
    Flooder(usize),
    Mute,
}

struct Load<'a> {
    options: &'a Bench,
    address: SocketAddr,
    reactor: Reactor,
    /// The requests of the measured connections.
    measured: Rc<Requests>,
    flood: Rc<Requests>,
    mutes: Rc<Counters>,
    /// The last is made first.
    planned: Vec<Planned>,
    /// SIGINT or SIGTERM has come.
    interrupted: Rc<Cell<bool>>,
    /// When progress is shown next; `None` without a terminal.
    show_at: Option<Instant>,
}

pub(crate) fn run(options: &Bench) -> Result<(), Failure> {
    let plot = options.plot.as_deref().map(Plot::create).transpose()?;
    let mut load = Load::new(options)?;
    let report = load.run();
    load.clear_progress();
    report?.write(plot)
}

fn check_descriptors(wanted: usize, allowed: usize) -> Result<usize, Failure> {
    if wanted > allowed {
        return Err(Failure::failed(format_args!(
            "the limit on open files allows {allowed} connections, not {wanted}"
        )));
    }
    Ok(wanted)
}

fn measured_requests(options: &Bench) -> Requests {
    let Bench {
        size,
        pipeline,
        connections,
        ..
    } = *options;
    let pattern = match &options.exchange {
        Some(exchange) => Pattern::of_text(&exchange.send),
        None if options.lines => Pattern::of_lines(size),
        None => Pattern::of_noise(),
    };
    let answer = match &options.exchange {
        None => Answer::Echo,
        Some(exchange) => match &exchange.answer {
            Expected::Text(text) => Answer::Text(Pattern::of_text(text), text.len()),
            Expected::Bytes(size) => Answer::Bytes(*size),
            Expected::Until(bytes) => Answer::Until(Delimiter::new(bytes.clone())),
        },
    };
    let most = if options.mode == Mode::Idle {
        1
    } else {
        u64::MAX
    };
    let schedule = options.rate.map(|rate| Schedule { rate, connections });
    Requests {
        counters: Counters::new(),
        pattern,
        answer,
        size,
        pipeline,
        most,
        schedule,
    }
}

fn flood_requests() -> Requests {
    Requests {
        counters: Counters::new(),
        pattern: Pattern::of_noise(),
        answer: Answer::Echo,
        size: FLOOD_BYTES,
        pipeline: 1,
        most: u64::MAX,
        schedule: None,
    }
}

impl Load<'_> {
    fn new(options: &Bench) -> Result<Load<'_>, Failure> {
        let address = find_address(options)?;
        let mut config = Config::default();
        let allowed = descriptors::connections(descriptors::raise(), descriptors::open());
        config.max_connections = check_descriptors(options.all_connections(), allowed)?;
        let mut reactor = Reactor::new(config).map_err(Failure::start)?;
        let interrupted = Rc::new(Cell::new(false));
        let seen = Rc::clone(&interrupted);
        signals::watch(&mut reactor, &[SIGINT, SIGTERM], move |_, _, _| {
            seen.set(true)
        })
        .map_err(Failure::start)?;
        let others = std::iter::repeat_n(Planned::Mute, options.mutes)
            .chain((0..options.flooders).map(Planned::Flooder));
        let planned = others
            .chain((0..options.connections).rev().map(Planned::Measured))
            .collect();
        Ok(Load {
            options,
            address,
            reactor,
            measured: Rc::new(measured_requests(options)),
            flood: Rc::new(flood_requests()),
            mutes: Counters::new(),
            planned,
            interrupted,
            show_at: io::stderr().is_terminal().then(Instant::now),
        })
    }

    fn run(&mut self) -> Result<Report, Failure> {
        let start = Instant::now();
        self.connect_all(start)?;
        let connected = start.elapsed();
        self.run_for(self.options.warm_up, "warming up")?;
        self.check_interrupted()?;
        if self.options.json {
            print("{\"counting\":true}\n")?;
        }
        let (cpu, begin) = (own_cpu(), Instant::now());
        self.set_begin(Some(begin));
        self.run_for(self.options.duration, "measuring")?;
        let end = Instant::now();
        let cpu = used(cpu, own_cpu());
        if self.options.json {
            // Printed before the connections close, because the server's work of closing them is no
            // part of the measurement.
            print("{\"counted\":true}\n")?;
        }
        self.all_counters()
            .into_iter()
            .for_each(|counters| counters.end.set(Some(end)));
        // Dropping the reactor closes the connections, and each counts the requests that it still
        // waits for.
        let empty = Reactor::new(Config::default()).map_err(Failure::start)?;
        drop(std::mem::replace(&mut self.reactor, empty));
        self.measured.counters.finish(begin, end);
        self.set_begin(None);
        let [measured, flood, mutes] = self.all_counters().map(Rc::clone);
        Ok(Report {
            options: self.options.clone(),
            address: self.address,
            measured,
            flood,
            mutes,
            connected,
            took: end - begin,
            cpu,
        })
    }

    /// Establishes every connection. It fails if no measured connection is left.
    fn connect_all(&mut self, start: Instant) -> Result<(), Failure> {
        while !self.planned.is_empty() || self.connecting() > 0 {
            self.connect_some(start.elapsed())?;
            self.turn(CONNECT_TURN)?;
            self.check_interrupted()?;
            self.show("connecting", start);
        }
        if !self.is_lost() {
            return Ok(());
        }
        let errors = self.measured.counters.errors.borrow();
        let reason = errors.keys().next().cloned().unwrap_or_default();
        Err(Failure::failed(format_args!(
            "cannot load {}: {reason}",
            self.address
        )))
    }

    fn check_interrupted(&self) -> Result<(), Failure> {
        if self.interrupted.get() {
            return Err(Failure::failed("interrupted before the measurement began"));
        }
        Ok(())
    }

    fn all_counters(&self) -> [&Rc<Counters>; 3] {
        [&self.measured.counters, &self.flood.counters, &self.mutes]
    }

    fn set_begin(&self, begin: Option<Instant>) {
        self.measured.counters.begin.set(begin);
        self.flood.counters.begin.set(begin);
    }

    fn connecting(&self) -> usize {
        self.all_counters()
            .into_iter()
            .map(|counters| counters.connecting.get())
            .sum()
    }

    /// Whether every measured connection has failed, and none is replaced.
    fn is_lost(&self) -> bool {
        !self.options.reconnect && self.measured.counters.failed.get() >= self.options.connections
    }

    fn is_done(&self) -> bool {
        let requests = self.measured.counters.requests.get();
        self.options.requests.is_some_and(|most| requests >= most)
    }

    /// How many connections are still to be made at this time, if --ramp spreads them evenly.
    fn left_at(&self, elapsed: Duration) -> usize {
        let all = self.options.all_connections();
        if elapsed >= self.options.ramp {
            return 0;
        }
        let part = elapsed.as_secs_f64() / self.options.ramp.as_secs_f64();
        all - (all as f64 * part) as usize
    }

    /// Starts the planned connections that are due at this time, within the limits.
    fn connect_some(&mut self, elapsed: Duration) -> Result<(), Failure> {
        let left = self.left_at(elapsed);
        while self.connecting() < CONNECTING_MAX && self.planned.len() > left {
            let Some(planned) = self.planned.pop() else {
                break;
            };
            match planned {
                Planned::Measured(number) => self.connect_measured(number)?,
                Planned::Flooder(number) => {
                    let counters = Rc::clone(&self.flood.counters);
                    self.connect(0, &counters, Pinger::new(&self.flood, number, None))?;
                }
                Planned::Mute => {
                    let counters = Rc::clone(&self.mutes);
                    self.connect(
                        0,
                        &counters,
                        Mute::new(&counters, self.flood.pattern.clone()),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn connect_measured(&mut self, number: usize) -> Result<(), Failure> {
        let counters = Rc::clone(&self.measured.counters);
        match self.options.mode {
            Mode::Echo | Mode::Idle => {
                let again = self.options.reconnect.then(|| self.target(number));
                self.connect(
                    number,
                    &counters,
                    Pinger::new(&self.measured, number, again),
                )
            }
            Mode::Connect | Mode::Read => {
                let request = (self.options.mode == Mode::Connect).then_some(self.options.size);
                let target = self.target(number);
                let handler = Reconnector::new(
                    &self.measured,
                    number,
                    target,
                    request,
                    self.options.reconnect,
                );
                self.connect(number, &counters, handler)
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
        counters: &Counters,
        handler: impl Handler + 'static,
    ) -> Result<(), Failure> {
        let Target { address, options } = self.target(number);
        counters.connecting.set(counters.connecting.get() + 1);
        let connected = self.reactor.connect_with(address, &options, handler);
        connected
            .map(drop)
            .map_err(|error| Failure::failed(format_args!("cannot connect to {address}: {error}")))
    }

    /// Runs the loop for this time, until an interruption, until every measured connection has
    /// failed, or until as many requests are answered as were asked for.
    fn run_for(&mut self, time: Duration, phase: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        let end = begin + time;
        loop {
            let now = Instant::now();
            if now >= end || self.is_lost() || self.is_done() || self.interrupted.get() {
                return Ok(());
            }
            self.show(phase, begin);
            let until = end.min(self.show_at.unwrap_or(end));
            self.turn(until.saturating_duration_since(now))?;
        }
    }

    fn turn(&mut self, limit: Duration) -> Result<(), Failure> {
        if self.options.rate.is_none() {
            return self.reactor.turn(Some(limit)).map_err(Failure::poller);
        }
        let now = Instant::now();
        let sleep = sleep_of(now, self.reactor.next_deadline(), limit);
        self.reactor.turn(Some(sleep)).map_err(Failure::poller)?;
        // The rest is the time of the callbacks, or the system had no processor for this thread.
        let delay = now.elapsed().saturating_sub(sleep);
        self.measured.counters.delayed(delay);
        Ok(())
    }

    /// Shows progress on a terminal, in one line that replaces the one before.
    fn show(&mut self, phase: &str, since: Instant) {
        if let Some(line) = self.progress(phase, since, Instant::now()) {
            show_progress(&line);
        }
    }

    /// The line that shows progress, if it is time for one.
    fn progress(&mut self, phase: &str, since: Instant, now: Instant) -> Option<String> {
        self.show_at.filter(|&at| now >= at)?;
        self.show_at = Some(now + PROGRESS_INTERVAL);
        let to_connect = self.planned.len() + self.connecting();
        let counters = &self.measured.counters;
        let (requests, failed) = (counters.requests.get(), counters.failed.get());
        let p99 = counters.latencies.borrow().value_at_quantile(0.99) as f64 / 1e6;
        Some(format!(
            "\r\x1b[K{phase} {:.1} s: {to_connect} to connect, {requests} requests, p99 {p99:.3} ms, {failed} failed",
            (now - since).as_secs_f64()
        ))
    }

    fn clear_progress(&self) {
        if self.show_at.is_some() {
            show_progress("\r\x1b[K");
            // The report follows on standard output.
            if let Some(writer) = output::stderr() {
                writer.flush();
            }
        }
    }
}

/// With a rate: how long a turn may sleep at this time, if its limit is this and the next request is
/// due at `next`.
fn sleep_of(now: Instant, next: Option<Instant>, limit: Duration) -> Duration {
    let left = next.map_or(limit, |next| next.saturating_duration_since(now).min(limit));
    if left > AWAKE { NAP } else { Duration::ZERO }
}

/// A stopped terminal must not hold up the load, so a thread writes.
fn show_progress(text: &str) {
    if let Some(writer) = output::stderr() {
        writer.write_text(text);
    }
}

/// What was used of a processor between two times of it.
fn used(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    before.zip(after).map(|(before, after)| after - before)
}

/// CPU time of this thread in nanoseconds, from /proc/thread-self/schedstat; `None` except on
/// Linux.
fn own_cpu() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
