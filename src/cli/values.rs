//! The values of options and arguments.

use super::Failure;
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub(super) fn text(word: OsString) -> Result<String, Failure> {
    word.string().map_err(Failure::usage)
}

pub(super) fn value(parser: &mut Parser) -> Result<String, Failure> {
    text(parser.value().map_err(Failure::usage)?)
}

pub(super) fn path(parser: &mut Parser) -> Result<PathBuf, Failure> {
    Ok(parser.value().map_err(Failure::usage)?.into())
}

/// A whole number of at least `least` that fits the type.
pub(super) fn number<N: FromStr + PartialOrd + From<u8>>(
    parser: &mut Parser,
    option: &str,
    least: u8,
) -> Result<N, Failure> {
    let word = value(parser)?;
    let parsed = word.parse().ok().filter(|number| *number >= N::from(least));
    parsed.ok_or_else(|| {
        let bits = size_of::<N>() * 8;
        Failure::usage(format_args!(
            "{option} {word}: must be a whole number, at least {least} and below 2^{bits}"
        ))
    })
}

/// A whole number from 1 to `most`.
pub(super) fn number_up_to(parser: &mut Parser, option: &str, most: u32) -> Result<u32, Failure> {
    let word = value(parser)?;
    let parsed = word
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    parsed.ok_or_else(|| {
        Failure::usage(format_args!(
            "{option} {word}: must be a whole number from 1 to {most}"
        ))
    })
}

pub(super) fn duration(word: &str, option: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(word).map_err(|error| {
        Failure::usage(format_args!(
            "{option} {word}: {error}; it must be a number with a unit, as in 500ms, 30s or 5min"
        ))
    })
}

/// The addresses of `[HOST]:PORT`, in the order that the resolver recommends. Name lookup blocks. `word` is the whole argument,
/// for messages.
pub(super) fn resolve(word: &str, address: &str) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |problem: String| {
        Failure::usage(format_args!(
            "{word}: {problem}; it must be HOST:PORT, as in 127.0.0.1:7007, [::1]:7007 or :7007"
        ))
    };
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| wrong(format!("`{address}` has no port")))?;
    let port: u16 = port
        .parse()
        .map_err(|_| wrong(format!("`{port}` is not a port from 0 to 65535")))?;
    if host.is_empty() {
        return Ok(vec![([127, 0, 0, 1], port).into()]);
    }
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    if host.contains([':', '[', ']']) {
        return Err(wrong(format!(
            "`{host}` is not an address; an IPv6 address stands in brackets"
        )));
    }
    let answer = (host, port).to_socket_addrs();
    let found = answer
        .map_err(|error| Failure::failed(format_args!("{word}: cannot find `{host}`: {error}")))?;
    Ok(found.collect())
}

/// The addresses of a server to connect to: port 0 is none.
pub(super) fn resolve_server(target: &str) -> Result<Vec<SocketAddr>, Failure> {
    let found = resolve(target, target)?;
    if found.iter().any(|address| address.port() == 0) {
        return Err(Failure::usage(format_args!(
            "{target}: no server listens on port 0; the port must be from 1 to 65535"
        )));
    }
    Ok(found)
}
