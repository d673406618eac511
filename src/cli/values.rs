//! What the values on the command line mean.

use super::Failure;
use super::narrate::Form;
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

pub(super) fn text(word: OsString) -> Result<String, Failure> {
    word.string().map_err(Failure::usage)
}

pub(super) fn value(parser: &mut Parser) -> Result<String, Failure> {
    text(parser.value().map_err(Failure::usage)?)
}

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

/// A number from 1 to `most`.
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

pub(super) fn idle_timeout(parser: &mut Parser) -> Result<Option<Duration>, Failure> {
    let word = value(parser)?;
    if word == "none" {
        return Ok(None);
    }
    let timeout = duration(&word, "--idle-timeout")?;
    if timeout.is_zero() {
        return Err(Failure::usage(
            "--idle-timeout 0 would close at once; `none` means no timeout",
        ));
    }
    Ok(Some(timeout))
}

pub(super) fn narrate(parser: &mut Parser) -> Result<Form, Failure> {
    match parser.optional_value() {
        None => Ok(Form::Text),
        Some(word) if word == "json" => Ok(Form::Json),
        Some(word) => {
            let word = word.to_string_lossy();
            Err(Failure::usage(format_args!(
                "--narrate={word}: must be --narrate=json, or --narrate alone for people"
            )))
        }
    }
}

pub(super) fn trace_max(parser: &mut Parser) -> Result<u64, Failure> {
    const LEAST: u64 = 1024;
    let most = number(parser, "--trace-max", 1)?;
    if most < LEAST {
        return Err(Failure::usage(format_args!(
            "--trace-max {most}: must be at least {LEAST} bytes"
        )));
    }
    Ok(most)
}

pub(super) fn duration(word: &str, option: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(word).map_err(|error| {
        Failure::usage(format_args!(
            "{option} {word}: {error}; it must be a number with a unit, as in 500ms, 30s or 5min"
        ))
    })
}

/// `[HOST]:PORT`, the addresses in the order in which the resolver recommends them.
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
