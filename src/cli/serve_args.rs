//! What the words after `doorkeeper serve` mean.

use super::Failure;
use super::args::Command;
use super::values::{duration, idle_timeout, narrate, number, resolve, text, trace_max, value};
use super::watchers::Watching;
use doorkeeper::{Config, ListenOptions};
use lexopt::{Arg, Parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Serve standard services over TCP.

Usage: doorkeeper serve [OPTION]... [SERVICE[=[HOST]:PORT]]...

Without a SERVICE: all six, on 127.0.0.1. Without an address: 127.0.0.1 and the
port below. An empty HOST is 127.0.0.1; [::] and 0.0.0.0 are every address of
the machine, one for IPv6 and one for IPv4; PORT 0 is any free port. One service
may be given several times.

Services:
  echo      7007   sends back what it receives (RFC 862)
  discard   7009   throws away what it receives (RFC 863)
  daytime   7013   the date and time, one line (RFC 867)
  qotd      7017   a quote (RFC 865)
  chargen   7019   a pattern of characters, without end (RFC 864)
  time      7037   seconds since 1900, four bytes (RFC 868)

Options:
  --backlog N           size of the kernel's queue of connection requests, for
                        each listener [1024; the system may clamp it]
  --max-connections N   connections open at once; more wait in that queue
                        [what the descriptor limit allows]
  --accept-budget N     connections a listener accepts in one turn [64]
  --turn-budget BYTES   bytes a connection reads in one turn [65536]
  --output-max BYTES    unsent bytes a connection may hold [65536]
  --idle-timeout DUR    close a connection after this long without a byte;
                        `none` never does [none]
  --shutdown-timeout DUR
                        how long open connections may go on after the first
                        SIGINT or SIGTERM; a second ends them at once [5s]
  --quotes FILE         quotes for qotd, separated by lines of a single %
                        [a few built in]
  --utc                 daytime tells UTC, not local time
  --narrate[=json]      tell each system call of each connection, and what it
                        means, on standard error; as JSON, an object a line
  --trace FILE          write what the loop does as a trace for Perfetto or
                        chrome://tracing
  --trace-max BYTES     how large it may become; what is left out is counted
                        in it [67108864]
  -h, --help            this text

A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min.
Each listener prints one line, `listening SERVICE ADDRESS`, to standard output.
SIGUSR1 logs a table of every listener and connection, most loaded first.
The log goes to standard error; RUST_LOG=error, warn, info [the default], debug
or trace says how much.
";

/// Everything `serve` can be told.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) listeners: Vec<(Kind, SocketAddr)>,
    pub(crate) config: Config,
    pub(crate) listen: ListenOptions,
    /// `None`: as many as the descriptor limit allows.
    pub(crate) max_connections: Option<usize>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) quotes: Option<PathBuf>,
    pub(crate) utc: bool,
    pub(crate) watching: Watching,
}

impl Default for Serve {
    fn default() -> Serve {
        let mut config = Config::default();
        config.stall_warning = Some(Duration::from_millis(100));
        Serve {
            listeners: Vec::new(),
            config,
            listen: ListenOptions::default(),
            max_connections: None,
            shutdown_timeout: Duration::from_secs(5),
            quotes: None,
            utc: false,
            watching: Watching::default(),
        }
    }
}

/// One of the six services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    Discard,
    Daytime,
    Qotd,
    Chargen,
    Time,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] = [
        Kind::Echo,
        Kind::Discard,
        Kind::Daytime,
        Kind::Qotd,
        Kind::Chargen,
        Kind::Time,
    ];

    /// Its name, and the port of its RFC plus 7000.
    fn entry(self) -> (&'static str, u16) {
        match self {
            Kind::Echo => ("echo", 7007),
            Kind::Discard => ("discard", 7009),
            Kind::Daytime => ("daytime", 7013),
            Kind::Qotd => ("qotd", 7017),
            Kind::Chargen => ("chargen", 7019),
            Kind::Time => ("time", 7037),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().0
    }

    fn default_address(self) -> SocketAddr {
        ([127, 0, 0, 1], self.entry().1).into()
    }
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut serve = Serve::default();
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Show(HELP.to_string())),
            Arg::Long("backlog") => serve.listen.backlog = number(parser, "--backlog", 0)?,
            Arg::Long("max-connections") => {
                serve.max_connections = Some(number(parser, "--max-connections", 1)?)
            }
            Arg::Long("accept-budget") => {
                serve.config.accept_budget = number(parser, "--accept-budget", 1)?
            }
            Arg::Long("turn-budget") => {
                serve.config.turn_budget_bytes = number(parser, "--turn-budget", 1)?
            }
            Arg::Long("output-max") => {
                serve.config.output_max_bytes = number(parser, "--output-max", 1)?
            }
            Arg::Long("idle-timeout") => serve.config.idle_timeout = idle_timeout(parser)?,
            Arg::Long("shutdown-timeout") => {
                serve.shutdown_timeout = duration(&value(parser)?, "--shutdown-timeout")?
            }
            Arg::Long("quotes") => {
                serve.quotes = Some(parser.value().map_err(Failure::usage)?.into())
            }
            Arg::Long("utc") => serve.utc = true,
            Arg::Long("narrate") => serve.watching.narrate = Some(narrate(parser)?),
            Arg::Long("trace") => {
                serve.watching.trace = Some(parser.value().map_err(Failure::usage)?.into())
            }
            Arg::Long("trace-max") => serve.watching.trace_max = Some(trace_max(parser)?),
            Arg::Value(word) => serve.listeners.extend(listeners(&text(word)?)?),
            other => {
                let problem = other.unexpected();
                return Err(Failure::usage(format_args!(
                    "{problem}; see `doorkeeper serve --help`"
                )));
            }
        }
    }
    if serve.listeners.is_empty() {
        serve
            .listeners
            .extend(Kind::ALL.map(|kind| (kind, kind.default_address())));
    }
    Ok(Command::Serve(Box::new(serve)))
}

/// `SERVICE[=[HOST]:PORT]`: one listener, or one for each address of a name.
fn listeners(word: &str) -> Result<Vec<(Kind, SocketAddr)>, Failure> {
    let (name, address) = match word.split_once('=') {
        Some((name, address)) => (name, Some(address)),
        None => (word, None),
    };
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            Failure::usage(format_args!(
                "{word}: unknown service `{name}`; there are {names}"
            ))
        })?;
    let Some(address) = address else {
        return Ok(vec![(kind, kind.default_address())]);
    };
    let mut found = resolve(word, address)?;
    found.sort();
    found.dedup();
    Ok(found.into_iter().map(|address| (kind, address)).collect())
}
