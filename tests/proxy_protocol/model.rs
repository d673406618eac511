//! What must hold of a header of the PROXY protocol in any bytes: for the fuzzer, and for the test
//! that replays its corpus.

use super::header::{Header, LENGTH_MAX, parse};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Checks the bytes, and every way in which they can arrive in two parts. Returns what they are.
pub fn check(bytes: &[u8]) -> Header {
    let found = parse(bytes);
    if let Header::Complete { length, client } = found {
        assert!(length <= LENGTH_MAX && length <= bytes.len());
        assert_eq!(
            parse(&bytes[..length]),
            found,
            "what follows is no part of it"
        );
        assert_eq!(model(&bytes[..length]), Some(client), "{bytes:?}");
    }
    for end in (0..bytes.len()).take(300) {
        let expected = match found {
            Header::Complete { length, .. } if end < length => Header::Incomplete,
            Header::Incomplete => Header::Incomplete,
            // It can be seen from the first wrong byte on.
            Header::Wrong if parse(&bytes[..end]) == Header::Incomplete => Header::Incomplete,
            found => found,
        };
        assert_eq!(parse(&bytes[..end]), expected, "{bytes:?} up to {end}");
    }
    assert!(found != Header::Incomplete || bytes.len() < LENGTH_MAX);
    found
}

/// The client of a whole header, from the words of the specification.
fn model(header: &[u8]) -> Option<Option<SocketAddr>> {
    match header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some(rest) => binary(rest),
        // All up to the end of the line is to be ignored.
        None if header.starts_with(b"PROXY UNKNOWN") => header.ends_with(b"\r\n").then_some(None),
        None => text(std::str::from_utf8(header).ok()?),
    }
}

fn text(line: &str) -> Option<Option<SocketAddr>> {
    let line = line.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let ports: Vec<u16> = [source_port, destination_port]
        .iter()
        .map(|port| port.parse().ok())
        .collect::<Option<_>>()?;
    let source = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    Some(Some(SocketAddr::new(source, ports[0])))
}

fn binary(rest: &[u8]) -> Option<Option<SocketAddr>> {
    let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
    if rest.len() != usize::from(u16::from_be_bytes([high, low])) {
        return None;
    }
    // LOCAL: the rest is to be ignored.
    if command == 0x20 {
        return Some(None);
    }
    let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
    let address = match family {
        // Unspecified, and Unix sockets, which have no address here.
        0x00 | 0x31 | 0x32 => None,
        0x11 => {
            let source: Ipv4Addr = rest.first_chunk::<4>().copied()?.into();
            Some(SocketAddr::new(source.into(), port(8)?))
        }
        0x21 => {
            let source: Ipv6Addr = rest.first_chunk::<16>().copied()?.into();
            Some(SocketAddr::new(source.into(), port(32)?))
        }
        _ => return None,
    };
    (command == 0x21).then_some(address)
}
