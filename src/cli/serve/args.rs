//! The arguments of `doorkeeper serve`.

use super::super::Failure;
use super::super::args::{Command, show};
use super::super::logging;
use super::super::observe::Observation;
use super::super::shared_args::Shared;
use super::super::values::{duration, number, number_up_to, path, resolve, text, value};
use super::description::DESCRIPTION;
use super::proxied::Proxies;
use super::status;
use doorkeeper::{Config, Keepalive, ListenOptions, MinRate};
use lexopt::{Arg, Parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
            "max-lifetime" => {
                let most = duration(&value(parser)?, "--max-lifetime")?;
                if most.is_zero() {
                    return Err(Failure::usage(
                        "--max-lifetime 0 would reset every connection at once; without the option there is no limit",
                    ));
                }
                self.config.max_lifetime = Some(most);
            }
            "min-rate" => self.config.min_rate = Some(min_rate(&value(parser)?)?),
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

/// `BYTES/DUR`, as in `1000/10s`.
fn min_rate(word: &str) -> Result<MinRate, Failure> {
    let wrong = || {
        Failure::usage(format_args!(
            "--min-rate {word}: must be BYTES/DUR, both above 0, as in 1000/10s"
        ))
    };
    let (bytes, span) = word.split_once('/').ok_or_else(wrong)?;
    let (bytes, span) = (bytes.parse().ok(), duration(span, "--min-rate")?);
    let bytes = bytes.filter(|&bytes| bytes > 0 && !span.is_zero());
    let bytes = bytes.ok_or_else(wrong)?;
    Ok(MinRate { bytes, span })
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
    fn a_trace_has_room_for_its_header() {
        let trace_max = |bytes: &str| match parse(&mut Parser::from_args(["--trace-max", bytes])) {
            Ok(Command::Serve(serve)) => serve.observation.trace_max,
            _ => None,
        };
        assert_eq!(trace_max("1023"), None);
        assert_eq!(trace_max("1024"), Some(1024));
    }

    #[test]
    fn idle_connections_close_after_ten_minutes_unless_told_otherwise() {
        assert_eq!(idle_timeout(&[]), Some(Duration::from_secs(600)));
        assert_eq!(idle_timeout(&["--idle-timeout", "none"]), None);
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(idle_timeout(&["--idle-timeout=1h"]), hour);
    }
}
