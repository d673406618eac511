//! The values of options and arguments.

use super::Failure;
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
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

/// What a wrong address should have been.
const ADDRESS_FORM: &str = "it must be HOST:PORT, as in 127.0.0.1:7007, [::1]:7007 or :7007";

/// The addresses of `[HOST]:PORT`, in the order that the resolver recommends. Name lookup blocks.
/// `word` is the whole argument, for messages.
pub(super) fn resolve(word: &str, address: &str) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |problem: String| Failure::usage(format_args!("{word}: {problem}; {ADDRESS_FORM}"));
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| wrong(format!("`{address}` has no port")))?;
    let port: u16 = port
        .parse()
        .map_err(|_| wrong(format!("`{port}` is not a port from 0 to 65535")))?;
    if host.is_empty() {
        return Ok(vec![([127, 0, 0, 1], port).into()]);
    }
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match in_brackets {
        Some(inside) if without_zone(inside).parse::<Ipv6Addr>().is_err() => {
            return Err(wrong(format!("`{inside}` is not an IPv6 address")));
        }
        Some(inside) => inside,
        None if host.contains([':', '[', ']']) => {
            return Err(wrong(format!(
                "`{host}` is not an address; an IPv6 address stands in brackets"
            )));
        }
        None => host,
    };
    look_up(word, host, port)
}

/// An IPv6 address without its zone (RFC 4007, section 11), as in fe80::1%eth0.
fn without_zone(address: &str) -> &str {
    address.split('%').next().unwrap_or_default()
}

/// The resolver knows zones by name and by number.
fn look_up(word: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let answer = (host, port).to_socket_addrs();
    let found = answer.map_err(|error| {
        let zone = host.split_once('%').map(|(_, zone)| zone);
        let is_digits = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let problem = match zone {
            Some(zone) => format!("`{zone}` is not a network interface of this machine"),
            None if is_digits => format!("`{host}` is not an IPv4 address"),
            None => format!("cannot find `{host}`: {error}"),
        };
        Failure::failed(format_args!("{word}: {problem}"))
    })?;
    Ok(found.collect())
}

/// An IP address with or without a port, which is 0 then: `127.0.0.2`, `[::1]:5000`,
/// `fe80::1%eth0`.
pub(super) fn ip_address(option: &str, word: &str) -> Result<SocketAddr, Failure> {
    let bare = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'))
        .unwrap_or(word);
    if without_zone(bare).parse::<IpAddr>().is_ok() {
        let found = look_up(&format!("{option} {word}"), bare, 0)?;
        return Ok(found[0]);
    }
    let numeric = word
        .rsplit_once(':')
        .map(|(host, _)| host.trim_matches(['[', ']']))
        .is_some_and(|host| without_zone(host).parse::<IpAddr>().is_ok());
    let found = if numeric {
        resolve(word, word).ok()
    } else {
        None
    };
    found.and_then(|found| found.first().copied()).ok_or_else(|| {
        Failure::usage(format_args!(
            "{option} {word}: must be an IP address, as in 127.0.0.2, or with a port, as in [::1]:5000"
        ))
    })
}

/// A server's address from the words of the command line: `HOST:PORT`, or `HOST PORT` as netcat has
/// it.
pub(super) fn server_word(target: &mut String, word: OsString) -> Result<(), Failure> {
    let word = text(word)?;
    if target.is_empty() {
        *target = word;
        return Ok(());
    }
    let is_port = word.parse::<u16>().is_ok();
    let is_v6 = without_zone(target).parse::<Ipv6Addr>().is_ok();
    if is_port && is_v6 {
        *target = format!("[{target}]:{word}");
        Ok(())
    } else if is_port && !target.contains(':') {
        *target = format!("{target}:{word}");
        Ok(())
    } else {
        Err(Failure::usage(format_args!(
            "`{word}` after {target}: there is one HOST:PORT, or one HOST PORT"
        )))
    }
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
