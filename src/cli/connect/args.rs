//! The arguments of `doorkeeper connect`.

use super::super::Failure;
use super::super::args::{Command, show};
use super::super::describe::{Description, Opt, Part, Value};
use super::super::logging;
use super::super::observe::Observation;
use super::super::shared_args::{self, Shared};
use super::super::values::{duration, ip_address, resolve_server, server_word, value};
use doorkeeper::{Config, ConnectOptions};
use lexopt::{Arg, Parser};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const DESCRIPTION: Description = Description {
    command: "connect",
    about: "Connect standard input and output to a TCP server.",
    usage: &["[OPTION]... [HOST]:PORT", "[OPTION]... HOST PORT"],
    before: &[
        Part::Text(
            "Standard input goes to the server, and what the server sends goes to standard output. \
             At the end of standard input the program half-closes the connection, and it ends when \
             the server closes. If the server half-closes first, standard input is still sent until \
             it ends or gives nothing for the time of --linger.",
        ),
        Part::Text(
            "An empty HOST means 127.0.0.1; an IPv6 address stands in brackets before a colon and \
             can have a zone, as in [fe80::1%eth0]:7007. If a name has several addresses and one of \
             them does not answer within 250 ms, the next one is tried beside it (RFC 8305).",
        ),
    ],
    options: &[OPTIONS, shared_args::OPTIONS],
    after: &[Part::Text(
        "A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min.",
    )],
    exit_status: "0 all of standard input is sent and all output is written; 1 not so (standard \
                  error says why), also if standard input had begun and had not ended when the \
                  program ended; 2 wrong usage.",
    operands: &[],
};

const OPTIONS: &[Opt] = &[
    Opt::long(
        "timeout",
        Value::Any("DUR"),
        "time limit of connecting, for each address [30s]",
    ),
    Opt::long(
        "idle-timeout",
        Value::Any("DUR"),
        "fail after this time without a byte in either direction; `none` means never [none]",
    ),
    Opt::long(
        "linger",
        Value::Any("DUR"),
        "time to wait for more of standard input after the server has half-closed [500ms; 0s if it \
         is a terminal]",
    ),
    Opt::long(
        "no-half-close",
        Value::None,
        "do not half-close at the end of standard input",
    ),
    Opt::short('4', "use IPv4 addresses only"),
    Opt::short('6', "use IPv6 addresses only"),
    Opt::long(
        "source",
        Value::Any("ADDR"),
        "connect from this local address, IP or IP:PORT",
    ),
];

/// The options of `connect`.
#[derive(Debug, Default)]
pub(crate) struct Connect {
    /// As it was given.
    pub(crate) target: String,
    pub(crate) config: Config,
    pub(crate) connect: ConnectOptions,
    pub(crate) no_half_close: bool,
    /// `None`: the default, which depends on standard input.
    pub(crate) linger: Option<Duration>,
    pub(crate) family: Option<Family>,
    pub(crate) observation: Observation,
    pub(crate) log: logging::Form,
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

pub(crate) fn parse(parser: &mut Parser) -> Result<Command, Failure> {
    let mut connect = Connect::default();
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        if let Some(option) = Shared::find(&arg) {
            option.parse(
                parser,
                &mut connect.config,
                &mut connect.observation,
                &mut connect.log,
            )?;
            continue;
        }
        match DESCRIPTION.described(arg)? {
            Arg::Short('h') | Arg::Long("help") => return show(parser, &DESCRIPTION.help()),
            Arg::Long("timeout") => connect.connect.timeout = Some(timeout(parser)?),
            Arg::Long("linger") => connect.linger = Some(duration(&value(parser)?, "--linger")?),
            Arg::Long("no-half-close") => connect.no_half_close = true,
            Arg::Short('4') => set_family(&mut connect, Family::V4)?,
            Arg::Short('6') => set_family(&mut connect, Family::V6)?,
            Arg::Long("source") => {
                connect.connect.local = Some(ip_address("--source", &value(parser)?)?)
            }
            Arg::Value(word) => server_word(&mut connect.target, word)?,
            other => return Err(DESCRIPTION.unexpected(other)),
        }
    }
    if connect.target.is_empty() {
        return Err(Failure::usage(
            "HOST:PORT is missing, as in `doorkeeper connect 127.0.0.1:7007`",
        ));
    }
    Ok(Command::Connect(Box::new(connect)))
}

fn timeout(parser: &mut Parser) -> Result<Duration, Failure> {
    let limit = duration(&value(parser)?, "--timeout")?;
    if limit.is_zero() {
        return Err(Failure::usage(
            "--timeout 0 would never connect; it must be longer",
        ));
    }
    Ok(limit)
}

fn set_family(connect: &mut Connect, family: Family) -> Result<(), Failure> {
    match connect.family.replace(family) {
        Some(other) if other != family => Err(Failure::usage(
            "-4 and -6 exclude each other; without either, both are tried",
        )),
        _ => Ok(()),
    }
}

impl Connect {
    /// The addresses to try, in their order.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut found = resolve_server(&self.target)?;
        let wanted = [self.family, self.connect.local.map(Family::of)];
        found.retain(|&address| {
            wanted
                .into_iter()
                .flatten()
                .all(|family| family == Family::of(address))
        });
        if found.is_empty() {
            return Err(Failure::failed(format_args!(
                "{} has no address that fits -4, -6 or --source",
                self.target
            )));
        }
        Ok(found)
    }
}
