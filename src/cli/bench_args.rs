//! What the words after `doorkeeper bench` mean.

use super::Failure;
use super::args::Command;
use super::values::{duration, number, number_up_to, text, value};
use lexopt::{Arg, Parser};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Load a server, and measure how it answers.

Usage: doorkeeper bench [OPTION]... [HOST]:PORT

An echo server, unless --mode says otherwise. Each connection waits for the echo
of what it sent before it sends again; with --rate, requests are due at fixed
times, and latencies count from when each was due, so a server that stalls is
seen to. Every byte of an echo is compared with what was sent.

Options:
  --mode MODE             what a connection does: [echo]
                            echo     requests, over and over
                            idle     one request, and then nothing
                            connect  connect, one request, close, over and over
                            read     connect, read to the end, over and over
  --connections N         how many there are [64]
  --size BYTES            of a request [64]
  --lines                 each request is a line of that size, its newline
                          included, for servers that answer lines
  --pipeline N            requests of a connection that wait for their echo [1]
  --rate N                requests a second, of all connections together
  --flooders N            further connections that echo 64 KiB at a time [0]
  --mutes N               further connections that send and never read [0]
  --warm-up DUR           how long it runs before anything is counted [1s]
  --duration DUR          how long it is counted [5s]
  --source-addresses LIST local addresses to connect from, in turns, as in
                          127.0.0.2,127.0.0.3: each has ports of its own
  --json                  one object when the counting begins, one when it
                          ends, one with the results
  --plot FILE.svg         draw the latencies
  -h, --help              this text

A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min.
It runs on one thread. Where its own cost comes near a whole processor, or with
--rate its own fault near a latency, it is the load that is measured, and not
the server. Ctrl-C ends the counting early.
Load only what is yours to load.
Exit status: 0 done, 1 it could not be done, or connections failed or had no
answer (the report tells how), 2 wrong usage.
";

/// More than one thread can ask for in a second.
const MOST_RATE: u32 = 1_000_000;

const MOST_PIPELINE: u32 = 65_536;

/// A gibibyte.
const MOST_SIZE: u32 = 1 << 30;

/// Of lines, some are kept in memory, each different.
const MOST_LINE: usize = 1 << 20;

/// What waits for its echo is kept in mind, all of it.
const MOST_WAITING: usize = 1 << 24;

/// What a connection does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Echo,
    Idle,
    Connect,
    Read,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Echo, Mode::Idle, Mode::Connect, Mode::Read];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Echo => "echo",
            Mode::Idle => "idle",
            Mode::Connect => "connect",
            Mode::Read => "read",
        }
    }
}

/// Everything `bench` can be told.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// As it was written.
    pub(crate) target: String,
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) lines: bool,
    pub(crate) pipeline: usize,
    /// Requests a second.
    pub(crate) rate: Option<u32>,
    pub(crate) flooders: usize,
    pub(crate) mutes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) json: bool,
    pub(crate) plot: Option<PathBuf>,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut bench = Bench {
        target: String::new(),
        mode: Mode::Echo,
        connections: 64,
        size: 64,
        lines: false,
        pipeline: 1,
        rate: None,
        flooders: 0,
        mutes: 0,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(5),
        sources: Vec::new(),
        json: false,
        plot: None,
    };
    let mut size = None;
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Show(HELP.to_string())),
            Arg::Long("mode") => bench.mode = mode(&value(parser)?)?,
            Arg::Long("connections") => bench.connections = number(parser, "--connections", 1)?,
            Arg::Long("size") => size = Some(number_up_to(parser, "--size", MOST_SIZE)? as usize),
            Arg::Long("lines") => bench.lines = true,
            Arg::Long("pipeline") => {
                bench.pipeline = number_up_to(parser, "--pipeline", MOST_PIPELINE)? as usize
            }
            Arg::Long("rate") => bench.rate = Some(number_up_to(parser, "--rate", MOST_RATE)?),
            Arg::Long("flooders") => bench.flooders = number(parser, "--flooders", 0)?,
            Arg::Long("mutes") => bench.mutes = number(parser, "--mutes", 0)?,
            Arg::Long("warm-up") => bench.warm_up = period(parser, "--warm-up")?,
            Arg::Long("duration") => bench.duration = period(parser, "--duration")?,
            Arg::Long("source-addresses") => bench.sources = sources(&value(parser)?)?,
            Arg::Long("json") => bench.json = true,
            Arg::Long("plot") => bench.plot = Some(parser.value().map_err(Failure::usage)?.into()),
            Arg::Value(word) if bench.target.is_empty() => bench.target = text(word)?,
            other => {
                let problem = other.unexpected();
                return Err(Failure::usage(format_args!(
                    "{problem}; see `doorkeeper bench --help`"
                )));
            }
        }
    }
    if bench.mode == Mode::Read && (size.is_some() || bench.lines) {
        return Err(Failure::usage(
            "--size and --lines tell of requests, and --mode read sends none",
        ));
    }
    bench.size = size.unwrap_or(bench.size);
    bench.check()?;
    Ok(Command::Bench(Box::new(bench)))
}

fn period(parser: &mut Parser, option: &str) -> Result<Duration, Failure> {
    const MOST: Duration = Duration::from_secs(30 * 24 * 3600);
    let word = value(parser)?;
    let period = duration(&word, option)?;
    if period > MOST {
        return Err(Failure::usage(format_args!(
            "{option} {word}: must be at most 30 days"
        )));
    }
    Ok(period)
}

fn mode(word: &str) -> Result<Mode, Failure> {
    let found = Mode::ALL.into_iter().find(|mode| mode.name() == word);
    found.ok_or_else(|| {
        Failure::usage(format_args!(
            "--mode {word}: must be echo, idle, connect or read"
        ))
    })
}

fn sources(list: &str) -> Result<Vec<IpAddr>, Failure> {
    let wrong = || {
        Failure::usage(format_args!(
            "--source-addresses {list}: must be IP addresses with commas between them"
        ))
    };
    list.split(',')
        .map(|word| word.parse().map_err(|_| wrong()))
        .collect()
}

impl Bench {
    fn check(&self) -> Result<(), Failure> {
        let fault = if self.target.is_empty() {
            "HOST:PORT is missing, as in `doorkeeper bench 127.0.0.1:7007`"
        } else if self.duration.is_zero() {
            "--duration 0 would count nothing; it must be longer"
        } else if self.mode != Mode::Echo && (self.rate.is_some() || self.pipeline > 1) {
            "--rate and --pipeline are for --mode echo"
        } else if self.mode == Mode::Idle && self.plot.is_some() {
            "--plot has nothing to draw in --mode idle"
        } else if self.lines && self.size > MOST_LINE {
            "--size with --lines must be at most 1048576"
        } else if self.connections.saturating_mul(self.pipeline) > MOST_WAITING {
            "--connections times --pipeline must be at most 16777216"
        } else {
            return Ok(());
        };
        Err(Failure::usage(fault))
    }
}
