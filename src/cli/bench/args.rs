//! The arguments of `doorkeeper bench`.

use super::super::Failure;
use super::super::args::{Command, show};
use super::super::describe::{Description, HELP, Opt, Part, Value};
use super::super::values::{duration, number, number_up_to, path, server_word, value};
use lexopt::{Arg, Parser};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const DESCRIPTION: Description = Description {
    command: "bench",
    about: "Load a server and measure its answers.",
    usage: &["[OPTION]... [HOST]:PORT", "[OPTION]... HOST PORT"],
    before: &[Part::Text(
        "The server is an echo server, unless --mode says otherwise. Each connection waits for the \
         echo of its request before it sends the next one. With --rate, requests are due at fixed \
         times, and a latency begins when its request is due, so the requests that a stalled server \
         delays are measured too. Every byte of an echo is compared with what was sent.",
    )],
    options: &[OPTIONS, &[HELP]],
    after: &[
        Part::Text("A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min."),
        Part::Text(
            "The load runs on one thread. If its own CPU is near a whole processor, or with --rate \
             its own delay is near a latency, the result is a limit of the load and not of the \
             server. Ctrl-C ends the measurement early. Load only servers that you may load.",
        ),
    ],
    exit_status: "0 done; 1 it failed, connections failed, or requests had no answer (the report \
                  says which); 2 wrong usage.",
    operands: &[],
};

const OPTIONS: &[Opt] = &[
    Opt::long(
        "mode",
        Value::OneOf(&["echo", "idle", "connect", "read"]),
        "what a connection does: echo (requests, over and over), idle (one request, then nothing), \
         connect (connect, one request, close, over and over) or read (connect, read to the end, \
         over and over) [echo]",
    ),
    Opt::long(
        "connections",
        Value::Any("N"),
        "number of measured connections [64]",
    ),
    Opt::long("size", Value::Any("BYTES"), "size of a request [64]"),
    Opt::long(
        "lines",
        Value::None,
        "each request is a line of that size, newline included, for servers that answer lines",
    ),
    Opt::long(
        "send",
        Value::Any("TEXT"),
        "each request is TEXT, and its answer is no echo, but one of the next three; in a TEXT, \
         \\r, \\n, \\t, \\0, \\\\ and \\xHH stand for bytes",
    ),
    Opt::long("expect", Value::Any("TEXT"), "an answer is exactly TEXT"),
    Opt::long("expect-bytes", Value::Any("N"), "an answer is N bytes"),
    Opt::long(
        "until",
        Value::Any("TEXT"),
        "an answer is all bytes up to and with TEXT",
    ),
    Opt::long(
        "pipeline",
        Value::Any("N"),
        "requests that a connection sends before the first echo [1]",
    ),
    Opt::long(
        "rate",
        Value::Any("N"),
        "requests a second, of all connections together",
    ),
    Opt::long(
        "flooders",
        Value::Any("N"),
        "additional connections that echo 64 KiB at a time [0]",
    ),
    Opt::long(
        "mutes",
        Value::Any("N"),
        "additional connections that send and never read [0]",
    ),
    Opt::long(
        "ramp",
        Value::Any("DUR"),
        "spread the connecting over this time [0s]",
    ),
    Opt::long(
        "reconnect",
        Value::None,
        "replace each connection that fails, 10 ms later; it still counts as failed",
    ),
    Opt::long(
        "warm-up",
        Value::Any("DUR"),
        "time before the measurement [1s]",
    ),
    Opt::long(
        "duration",
        Value::Any("DUR"),
        "time of the measurement [5s]",
    ),
    Opt::long(
        "requests",
        Value::Any("N"),
        "end the measurement after N answers",
    ),
    Opt::long(
        "source-addresses",
        Value::Any("LIST"),
        "connect from these local addresses in turn, as in 127.0.0.2,127.0.0.3; each has its own \
         ports",
    ),
    Opt::long(
        "json",
        Value::None,
        "print one object when the measurement begins, one when it ends, and one with the results",
    ),
    Opt::long("plot", Value::File("FILE.svg"), "draw the latencies"),
];

/// More than one thread can send.
const RATE_MAX: u32 = 1_000_000;

const PIPELINE_MAX: u32 = 65_536;

/// A gibibyte.
const SIZE_MAX: u32 = 1 << 30;

/// Limit of the size of a line, because at least eight different lines are kept in memory.
const LINE_MAX: usize = 1 << 20;

/// Limit of the requests of all connections that are sent and not answered, because the time of
/// each is kept in memory.
const UNANSWERED_MAX: usize = 1 << 24;

/// What a measured connection does.
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

/// A request that is no echo, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) send: Vec<u8>,
    pub(crate) answer: Expected,
}

#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Text(Vec<u8>),
    Bytes(usize),
    Until(Vec<u8>),
}

/// The options of `bench`.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// As it was given.
    pub(crate) target: String,
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) lines: bool,
    pub(crate) reconnect: bool,
    pub(crate) pipeline: usize,
    /// Requests a second.
    pub(crate) rate: Option<u32>,
    /// Limit of the measured answers.
    pub(crate) requests: Option<u64>,
    pub(crate) exchange: Option<Exchange>,
    pub(crate) ramp: Duration,
    pub(crate) flooders: usize,
    pub(crate) mutes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) json: bool,
    pub(crate) plot: Option<PathBuf>,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench {
            target: String::new(),
            mode: Mode::Echo,
            connections: 64,
            size: 64,
            lines: false,
            reconnect: false,
            pipeline: 1,
            rate: None,
            requests: None,
            exchange: None,
            ramp: Duration::ZERO,
            flooders: 0,
            mutes: 0,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            sources: Vec::new(),
            json: false,
            plot: None,
        }
    }
}

pub(crate) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut bench = Bench::default();
    let (mut size, mut send, mut expected) = (None, None, Vec::new());
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        match DESCRIPTION.described(arg)? {
            Arg::Short('h') | Arg::Long("help") => return show(parser, &DESCRIPTION.help()),
            Arg::Long("mode") => bench.mode = mode(&value(parser)?)?,
            Arg::Long("connections") => bench.connections = number(parser, "--connections", 1)?,
            Arg::Long("size") => size = Some(number_up_to(parser, "--size", SIZE_MAX)? as usize),
            Arg::Long("lines") => bench.lines = true,
            Arg::Long("send") => send = Some(bytes(parser, "--send")?),
            Arg::Long("expect") => expected.push(Expected::Text(bytes(parser, "--expect")?)),
            Arg::Long("until") => expected.push(Expected::Until(bytes(parser, "--until")?)),
            Arg::Long("expect-bytes") => {
                expected.push(Expected::Bytes(
                    number_up_to(parser, "--expect-bytes", SIZE_MAX)? as usize,
                ))
            }
            Arg::Long("requests") => bench.requests = Some(number(parser, "--requests", 1)?),
            Arg::Long("reconnect") => bench.reconnect = true,
            Arg::Long("ramp") => bench.ramp = period(parser, "--ramp")?,
            Arg::Long("pipeline") => {
                bench.pipeline = number_up_to(parser, "--pipeline", PIPELINE_MAX)? as usize
            }
            Arg::Long("rate") => bench.rate = Some(number_up_to(parser, "--rate", RATE_MAX)?),
            Arg::Long("flooders") => bench.flooders = number(parser, "--flooders", 0)?,
            Arg::Long("mutes") => bench.mutes = number(parser, "--mutes", 0)?,
            Arg::Long("warm-up") => bench.warm_up = period(parser, "--warm-up")?,
            Arg::Long("duration") => bench.duration = period(parser, "--duration")?,
            Arg::Long("source-addresses") => bench.sources = sources(&value(parser)?)?,
            Arg::Long("json") => bench.json = true,
            Arg::Long("plot") => bench.plot = Some(path(parser)?),
            Arg::Value(word) => server_word(&mut bench.target, word)?,
            other => return Err(DESCRIPTION.unexpected(other)),
        }
    }
    bench.exchange = exchange(send, expected)?;
    if bench.exchange.is_some() && (size.is_some() || bench.lines || bench.mode != Mode::Echo) {
        return Err(Failure::usage(
            "--size, --lines and --mode are for echoes, and --send sends something else",
        ));
    }
    if bench.mode == Mode::Read && (size.is_some() || bench.lines) {
        return Err(Failure::usage(
            "--size and --lines describe requests, and --mode read sends none",
        ));
    }
    bench.size = match &bench.exchange {
        Some(exchange) => exchange.send.len(),
        None => size.unwrap_or(bench.size),
    };
    bench.check()?;
    Ok(Command::Bench(Box::new(bench)))
}

fn period(parser: &mut Parser, option: &str) -> Result<Duration, Failure> {
    const PERIOD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
    let word = value(parser)?;
    let period = duration(&word, option)?;
    if period > PERIOD_MAX {
        return Err(Failure::usage(format_args!(
            "{option} {word}: must be at most 30 days"
        )));
    }
    Ok(period)
}

fn exchange(
    send: Option<Vec<u8>>,
    mut expected: Vec<Expected>,
) -> Result<Option<Exchange>, Failure> {
    match (send, expected.pop(), expected.is_empty()) {
        (None, None, _) => Ok(None),
        (Some(send), Some(answer), true) => Ok(Some(Exchange { send, answer })),
        _ => Err(Failure::usage(
            "--send goes with one of --expect, --expect-bytes and --until",
        )),
    }
}

/// Bytes of a text with escapes; at least one.
fn bytes(parser: &mut Parser, option: &str) -> Result<Vec<u8>, Failure> {
    let word = value(parser)?;
    match unescape(&word) {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        Some(_) => Err(Failure::usage(format_args!("{option}: must not be empty"))),
        None => Err(Failure::usage(format_args!(
            "{option} {word}: after a backslash stands r, n, t, 0, a backslash, or x and two digits"
        ))),
    }
}

fn unescape(word: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), word);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let length = if after.starts_with('x') { 3 } else { 1 };
        let (escape, next) = (after.get(..length)?, after.get(length..)?);
        bytes.push(match escape {
            "r" => b'\r',
            "n" => b'\n',
            "t" => b'\t',
            "0" => 0,
            "\\" => b'\\',
            _ => {
                let digits = escape.strip_prefix('x')?;
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?
            }
        });
        rest = next;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
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
            "--source-addresses {list}: must be IP addresses separated by commas"
        ))
    };
    list.split(',')
        .map(|word| word.parse().map_err(|_| wrong()))
        .collect()
}

impl Bench {
    /// Connections of every kind.
    pub(crate) fn all_connections(&self) -> usize {
        [self.connections, self.flooders, self.mutes]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// What the measured connections do, in one word.
    pub(crate) fn name(&self) -> &'static str {
        match self.exchange {
            Some(_) => "exchange",
            None => self.mode.name(),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let fault = if self.target.is_empty() {
            "HOST:PORT is missing, as in `doorkeeper bench 127.0.0.1:7007`"
        } else if self.duration.is_zero() {
            "--duration 0 would measure nothing; it must be longer"
        } else if self.mode != Mode::Echo && (self.rate.is_some() || self.pipeline > 1) {
            "--rate and --pipeline are for --mode echo"
        } else if self.reconnect && self.rate.is_some() {
            "--reconnect does not go with --rate, which counts what was due on a connection that failed"
        } else if self.mode == Mode::Idle && self.plot.is_some() {
            "--plot has nothing to draw in --mode idle"
        } else if self.lines && self.size > LINE_MAX {
            "--size with --lines must be at most 1048576"
        } else if self.connections.saturating_mul(self.pipeline) > UNANSWERED_MAX {
            "--connections times --pipeline must be at most 16777216"
        } else {
            return Ok(());
        };
        Err(Failure::usage(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bench, LINE_MAX, Mode, PIPELINE_MAX, UNANSWERED_MAX, unescape};

    #[test]
    fn each_limit_is_allowed_and_one_more_is_not() {
        let most = UNANSWERED_MAX / PIPELINE_MAX as usize;
        for (connections, pipeline, size, mode, is_allowed) in [
            (most, PIPELINE_MAX as usize, 64, Mode::Echo, true),
            (most + 1, PIPELINE_MAX as usize, 64, Mode::Echo, false),
            (UNANSWERED_MAX, 1, 64, Mode::Echo, true),
            (UNANSWERED_MAX + 1, 1, 64, Mode::Echo, false),
            (64, 1, LINE_MAX, Mode::Echo, true),
            (64, 1, LINE_MAX + 1, Mode::Echo, false),
            (64, 1, 64, Mode::Idle, true),
            (64, 2, 64, Mode::Idle, false),
        ] {
            let bench = Bench {
                target: "127.0.0.1:7".to_string(),
                lines: true,
                connections,
                pipeline,
                size,
                mode,
                ..Bench::default()
            };
            assert_eq!(bench.check().is_ok(), is_allowed, "{bench:?}");
        }
    }

    #[test]
    fn escapes_are_bytes() {
        let bytes = |word: &str| unescape(word);
        assert_eq!(bytes("PING\\r\\n").unwrap(), b"PING\r\n");
        assert_eq!(
            bytes("\\x00\\xffé\\\\n\\t\\0").unwrap(),
            b"\x00\xff\xc3\xa9\\n\t\0"
        );
        assert_eq!(bytes("plain").unwrap(), b"plain");
        for wrong in ["\\", "\\q", "\\x1", "\\xzz", "\\x+f", "a\\xé"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
