//! The arguments of `doorkeeper serve`.

use super::super::Failure;
use super::super::args::{Command, show};
use super::super::describe::{Description, Opt, Part, Value};
use super::super::logging;
use super::super::observe::Observation;
use super::super::shared_args::{self, Shared};
use super::super::values::{duration, number, number_up_to, path, resolve, text, value};
use super::proxied::Proxies;
use super::status;
use doorkeeper::{Config, Keepalive, ListenOptions};
use lexopt::{Arg, Parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const DESCRIPTION: Description = Description {
    command: "serve",
    about: "Serve standard services over TCP.",
    usage: &[
        "[OPTION]... [SERVICE[=[HOST]:PORT]]...",
        "[OPTION]... SERVICE=fd:NAME...",
    ],
    before: &[
        Part::Text(
            "Without a SERVICE, all six listen on 127.0.0.1. Without an address, a service listens \
             on 127.0.0.1 and the port below. An empty HOST means 127.0.0.1; [::] means every IPv6 \
             address of the machine, 0.0.0.0 every IPv4 address. PORT 0 means any free port. The \
             same service can be given several times. With fd:NAME or fd:NUMBER it listens on the \
             sockets that systemd passes by that name or that number (LISTEN_FDS).",
        ),
        Part::List(
            "Services",
            &[
                ("echo", "port 7007, sends back what it receives (RFC 862)"),
                ("discard", "port 7009, discards what it receives (RFC 863)"),
                (
                    "daytime",
                    "port 7013, sends the date and time, one line (RFC 867)",
                ),
                ("qotd", "port 7017, sends a quote (RFC 865)"),
                (
                    "chargen",
                    "port 7019, sends a pattern of characters, without end (RFC 864)",
                ),
                (
                    "time",
                    "port 7037, sends the seconds since 1900, four bytes (RFC 868)",
                ),
            ],
        ),
    ],
    options: &[OPTIONS, shared_args::OPTIONS],
    after: &[
        Part::Text("A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min."),
        Part::Text(
            "Each listener prints one line, `listening SERVICE ADDRESS`, to standard output. The \
             kernel probes idle clients (TCP keepalive): a connection whose client is gone without \
             a FIN closes after two minutes.",
        ),
        Part::Text(
            "SIGUSR1 logs a table of every listener and connection, most loaded first, at most once \
             a second. SIGHUP reads the file of --quotes and the system's time zone again; the zone \
             is also read once a minute. SIGUSR2 does nothing.",
        ),
        Part::Text(
            "The log goes to standard error; RUST_LOG sets its level: error, warn, info [the \
             default], debug or trace. Access records, one for each connection, have the target \
             doorkeeper::access and the level debug; --log=json shows them by default. If standard \
             error is the journal of systemd, lines begin with <N> and have no time.",
        ),
    ],
    exit_status: "0 ended by a signal; 1 it could not serve (standard error says why); 2 wrong \
                  usage.",
    operands: &["echo", "discard", "daytime", "qotd", "chargen", "time"],
};

const OPTIONS: &[Opt] = &[
    Opt::long(
        "backlog",
        Value::Any("N"),
        "limit of each listener's accept queue: connections that are established and not yet \
         accepted [1024; the system may clamp it]",
    ),
    Opt::long(
        "max-connections",
        Value::Any("N"),
        "limit of open connections; at the limit, newcomers stay in the accept queue [what the \
         descriptor limit allows]",
    ),
    Opt::long(
        "max-per-source",
        Value::Any("N"),
        "limit of open connections of one IPv4 address or one IPv6 /64; further ones are closed at \
         once [no limit]",
    ),
    Opt::long(
        "reuse-port",
        Value::None,
        "share the ports with other processes that do the same (SO_REUSEPORT), as for a restart: \
         the new one first",
    ),
    Opt::long(
        "take-over",
        Value::None,
        "like --reuse-port, and all new connections are for this process, not for earlier ones on \
         the same ports: they can end without a loss (Linux)",
    ),
    Opt::long(
        "proxy-protocol",
        Value::OneOf(&["require"]),
        "every connection begins with a header of the PROXY protocol, version 1 or 2, within 3 s; a \
         wrong one ends its connection. The log and --max-per-source use the client's address",
    ),
    Opt::long(
        "proxy-from",
        Value::Any("LIST"),
        "the proxies, as in 192.0.2.1,2001:db8::/32; connections from elsewhere are closed at once",
    ),
    Opt::long(
        "accept-budget",
        Value::Any("N"),
        "connections that a listener accepts in one turn [64]",
    ),
    Opt::long(
        "turn-budget",
        Value::Any("BYTES"),
        "bytes that a connection reads in one turn [65536]",
    ),
    Opt::long(
        "output-max",
        Value::Any("BYTES"),
        "unsent bytes that a connection may hold [65536]",
    ),
    Opt::long(
        "send-buffer",
        Value::Any("BYTES"),
        "the kernel's send buffer of a connection (SO_SNDBUF), half of what Linux uses for it \
         [chargen: 262144; others: the system's]",
    ),
    Opt::long(
        "idle-timeout",
        Value::Any("DUR"),
        "close a connection after this time without a byte; `none` means never [10min]",
    ),
    Opt::long(
        "shutdown-timeout",
        Value::Any("DUR"),
        "time that open connections have to finish after the first SIGINT or SIGTERM; a second \
         signal stops at once [5s]",
    ),
    Opt::long(
        "quotes",
        Value::File("FILE"),
        "quotes for qotd, separated by lines of a single %; those longer than 512 bytes are \
         skipped [four built-in quotes]",
    ),
    Opt::long("utc", Value::None, "daytime sends UTC, not local time"),
    Opt::long(
        "status",
        Value::Any("[HOST]:PORT"),
        "serve HTTP there, on the same loop: a live page at /, /metrics for Prometheus, /healthz, \
         /connections as JSON; limits and figures leave its clients out",
    ),
];

/// The default of --idle-timeout. A client that vanished without a FIN holds its connection for as
/// long as this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A gibibyte.
const SEND_BUFFER_MAX: u32 = 1 << 30;

/// The options of `serve`.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) listeners: Vec<(Kind, Place)>,
    pub(crate) config: Config,
    pub(crate) listen: ListenOptions,
    /// `None`: as many as the descriptor limit allows.
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_per_source: Option<usize>,
    pub(crate) takes_over: bool,
    /// --proxy-protocol=require.
    needs_header: bool,
    /// Only with --proxy-protocol.
    pub(crate) proxies: Option<Proxies>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) quotes: Option<PathBuf>,
    pub(crate) utc: bool,
    pub(crate) status: Option<status::Place>,
    pub(crate) observation: Observation,
    pub(crate) log: logging::Form,
}

impl Default for Serve {
    fn default() -> Serve {
        let mut config = Config::default();
        config.stall_warning = Some(Duration::from_millis(100));
        config.idle_timeout = Some(IDLE_TIMEOUT);
        let mut listen = ListenOptions::default();
        listen.keepalive = Some(Keepalive::default());
        Serve {
            listeners: Vec::new(),
            config,
            listen,
            max_connections: None,
            max_per_source: None,
            takes_over: false,
            needs_header: false,
            proxies: None,
            shutdown_timeout: Duration::from_secs(5),
            quotes: None,
            utc: false,
            status: None,
            observation: Observation::default(),
            log: logging::Form::default(),
        }
    }
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// A socket that the service manager passes: its name, or its number.
    Passed(String),
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

    /// The name, and the RFC's port plus 7000: below 1024 a port needs a privilege.
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

    fn default_place(self) -> Place {
        Place::Address(([127, 0, 0, 1], self.entry().1).into())
    }
}

pub(crate) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut serve = Serve::default();
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        if let Some(option) = Shared::find(&arg) {
            option.parse(
                parser,
                &mut serve.config,
                &mut serve.observation,
                &mut serve.log,
            )?;
            continue;
        }
        match DESCRIPTION.described(arg)? {
            Arg::Short('h') | Arg::Long("help") => return show(parser, &DESCRIPTION.help()),
            Arg::Long(name) => {
                let name = name.to_string();
                serve.set(&name, parser)?;
            }
            Arg::Value(word) => serve.listeners.extend(listeners(&text(word)?)?),
            other => return Err(DESCRIPTION.unexpected(other)),
        }
    }
    if serve.needs_header != serve.proxies.is_some() {
        return Err(Failure::usage(
            "--proxy-protocol and --proxy-from go together: one says that there is a header, the \
             other from whom",
        ));
    }
    if serve.listeners.is_empty() {
        serve
            .listeners
            .extend(Kind::ALL.map(|kind| (kind, kind.default_place())));
    }
    Ok(Command::Serve(Box::new(serve)))
}

impl Serve {
    /// Sets an option of `serve` alone.
    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<(), Failure> {
        match option {
            "backlog" => self.listen.backlog = number(parser, "--backlog", 0)?,
            "max-connections" => {
                let most = limit(parser, "--max-connections", &mut self.config, |config| {
                    &mut config.max_connections
                })?;
                self.max_connections = Some(most);
            }
            "reuse-port" => self.listen.reuse_port = true,
            "take-over" => {
                self.listen.reuse_port = true;
                self.takes_over = true;
            }
            "send-buffer" => {
                self.listen.send_buffer_bytes =
                    Some(number_up_to(parser, "--send-buffer", SEND_BUFFER_MAX)? as usize)
            }
            "max-per-source" => self.max_per_source = Some(number(parser, "--max-per-source", 1)?),
            "proxy-protocol" => self.needs_header = require(&value(parser)?)?,
            "proxy-from" => self.proxies = Some(proxies(&value(parser)?)?),
            "accept-budget" => {
                limit(parser, "--accept-budget", &mut self.config, |config| {
                    &mut config.accept_budget
                })?;
            }
            "turn-budget" => {
                limit(parser, "--turn-budget", &mut self.config, |config| {
                    &mut config.turn_budget_bytes
                })?;
            }
            "output-max" => {
                limit(parser, "--output-max", &mut self.config, |config| {
                    &mut config.output_max_bytes
                })?;
            }
            "shutdown-timeout" => {
                self.shutdown_timeout = duration(&value(parser)?, "--shutdown-timeout")?
            }
            "quotes" => self.quotes = Some(path(parser)?),
            "utc" => self.utc = true,
            "status" => self.status = Some(status_place(&value(parser)?)?),
            _ => return Err(DESCRIPTION.unexpected(Arg::Long(option))),
        }
        Ok(())
    }
}

fn require(word: &str) -> Result<bool, Failure> {
    match word {
        "require" => Ok(true),
        _ => Err(Failure::usage(format_args!(
            "--proxy-protocol {word}: must be require, because whether there is a header is never \
             guessed"
        ))),
    }
}

fn proxies(list: &str) -> Result<Proxies, Failure> {
    Proxies::parse(list).ok_or_else(|| {
        Failure::usage(format_args!(
            "--proxy-from {list}: must be addresses or networks, as in 192.0.2.1,2001:db8::/32"
        ))
    })
}

/// Sets a limit. The library knows its bounds.
fn limit(
    parser: &mut Parser,
    option: &str,
    config: &mut Config,
    field: impl Fn(&mut Config) -> &mut usize,
) -> Result<usize, Failure> {
    let most = number(parser, option, 1)?;
    *field(config) = most;
    let checked = config.check();
    checked.map_err(|error| Failure::usage(format_args!("{option}: {error}")))?;
    Ok(most)
}

fn status_place(word: &str) -> Result<status::Place, Failure> {
    let mut addresses = resolve(word, word)?;
    addresses.sort();
    addresses.dedup();
    let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
    Ok(status::Place {
        host: host.to_string(),
        addresses,
    })
}

/// `SERVICE[=[HOST]:PORT]`, one listener for each address of HOST; or `SERVICE=fd:NAME`.
fn listeners(word: &str) -> Result<Vec<(Kind, Place)>, Failure> {
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
                "{word}: unknown service `{name}`; the services are {names}"
            ))
        })?;
    let Some(address) = address else {
        return Ok(vec![(kind, kind.default_place())]);
    };
    if let Some(name) = address.strip_prefix("fd:") {
        return Ok(vec![(kind, Place::Passed(name.to_string()))]);
    }
    let mut found = resolve(word, address)?;
    found.sort();
    found.dedup();
    let places = found.into_iter().map(Place::Address);
    Ok(places.map(|place| (kind, place)).collect())
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};
    use lexopt::Parser;
    use std::time::Duration;

    fn idle_timeout(words: &[&str]) -> Option<Duration> {
        match parse(&mut Parser::from_args(words)) {
            Ok(Command::Serve(serve)) => serve.config.idle_timeout,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn idle_connections_close_after_ten_minutes_unless_told_otherwise() {
        assert_eq!(idle_timeout(&[]), Some(Duration::from_secs(600)));
        assert_eq!(idle_timeout(&["--idle-timeout", "none"]), None);
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(idle_timeout(&["--idle-timeout=1h"]), hour);
    }
}
