//! What the words after `doorkeeper connect` mean.

use super::Failure;
use super::args::Command;
use super::values::{duration, idle_timeout, narrate, resolve, text, trace_max, value};
use super::watchers::Watching;
use doorkeeper::{Config, ConnectOptions};
use lexopt::{Arg, Parser};
use std::net::{IpAddr, SocketAddr};

const HELP: &str = "\
Join standard input and output to a TCP server.

Usage: doorkeeper connect [OPTION]... [HOST]:PORT

What standard input gives goes to the server, what the server sends goes to
standard output. At the end of standard input the server is told so, and the
program ends when the server is done. If the server is done first, what standard
input has yet to give is still sent: until it has given nothing for half a
second, or at once if it is a terminal.

An empty HOST is 127.0.0.1; an IPv6 address stands in brackets. Of a name, each
address is tried in turn.

Options:
  --timeout DUR         how long each address may take to answer [30s]
  --idle-timeout DUR    give up after this long without a byte in either
                        direction; `none` never does [none]
  --no-half-close       do not tell the server of the end of standard input
  -4, -6                IPv4 addresses only, IPv6 addresses only
  --source ADDR         the local address, IP or IP:PORT, to connect from
  --narrate[=json]      tell each system call of each connection, and what it
                        means, on standard error; as JSON, an object a line
  --trace FILE          write what the loop does as a trace for Perfetto or
                        chrome://tracing
  --trace-max BYTES     how large it may become; what is left out is counted
                        in it [67108864]
  -h, --help            this text

A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min.
Exit status: 0 both ends finished, 1 they did not (the reason is told on
standard error), 2 wrong usage.
";

/// Everything `connect` can be told.
#[derive(Debug, Default)]
pub(crate) struct Connect {
    /// As it was written.
    pub(crate) target: String,
    pub(crate) config: Config,
    pub(crate) connect: ConnectOptions,
    pub(crate) no_half_close: bool,
    pub(crate) family: Option<Family>,
    pub(crate) watching: Watching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

pub(super) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut connect = Connect::default();
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Show(HELP.to_string())),
            Arg::Long("timeout") => {
                let limit = duration(&value(parser)?, "--timeout")?;
                if limit.is_zero() {
                    return Err(Failure::usage(
                        "--timeout 0 would never connect; it must be longer",
                    ));
                }
                connect.connect.timeout = Some(limit);
            }
            Arg::Long("idle-timeout") => connect.config.idle_timeout = idle_timeout(parser)?,
            Arg::Long("narrate") => connect.watching.narrate = Some(narrate(parser)?),
            Arg::Long("trace") => {
                connect.watching.trace = Some(parser.value().map_err(Failure::usage)?.into())
            }
            Arg::Long("trace-max") => connect.watching.trace_max = Some(trace_max(parser)?),
            Arg::Long("no-half-close") => connect.no_half_close = true,
            Arg::Short('4') => set_family(&mut connect, Family::V4)?,
            Arg::Short('6') => set_family(&mut connect, Family::V6)?,
            Arg::Long("source") => connect.connect.local = Some(source(&value(parser)?)?),
            Arg::Value(word) if connect.target.is_empty() => connect.target = text(word)?,
            Arg::Value(word) => {
                let (target, word) = (&connect.target, word.to_string_lossy());
                return Err(Failure::usage(format_args!(
                    "`{word}` after {target}: there is one HOST:PORT; a port follows a colon"
                )));
            }
            other => {
                let problem = other.unexpected();
                return Err(Failure::usage(format_args!(
                    "{problem}; see `doorkeeper connect --help`"
                )));
            }
        }
    }
    if connect.target.is_empty() {
        return Err(Failure::usage(
            "HOST:PORT is missing, as in `doorkeeper connect 127.0.0.1:7007`",
        ));
    }
    Ok(Command::Connect(Box::new(connect)))
}

fn set_family(connect: &mut Connect, family: Family) -> Result<(), Failure> {
    match connect.family.replace(family) {
        Some(other) if other != family => Err(Failure::usage(
            "-4 and -6 exclude each other; without either both are tried",
        )),
        _ => Ok(()),
    }
}

fn source(word: &str) -> Result<SocketAddr, Failure> {
    let bare = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'))
        .unwrap_or(word);
    let ip = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    ip.or_else(|_| word.parse()).map_err(|_| {
        Failure::usage(format_args!(
            "--source {word}: must be an IP address, as in 127.0.0.2, or with a port, as in [::1]:5000"
        ))
    })
}

impl Connect {
    /// The addresses to try, in their order.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let target = &self.target;
        let mut found = resolve(target, target)?;
        if found.iter().any(|address| address.port() == 0) {
            return Err(Failure::usage(format_args!(
                "{target}: nobody can be reached at port 0; it must be from 1 to 65535"
            )));
        }
        let wanted = [self.family, self.connect.local.map(Family::of)];
        found.retain(|&address| {
            wanted
                .into_iter()
                .flatten()
                .all(|family| family == Family::of(address))
        });
        if found.is_empty() {
            return Err(Failure::failed(format_args!(
                "{target} has no address that fits -4, -6 or --source"
            )));
        }
        Ok(found)
    }
}
