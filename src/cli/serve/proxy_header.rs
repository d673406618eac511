//! The header that a proxy sends first of all: the PROXY protocol, versions 1 and 2.

use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use std::net::SocketAddr;

/// A longer header is wrong. Version 2 allows 65,551 bytes; proxies send an address and a few names.
pub const LENGTH_MAX: usize = 4096;

/// The limit of version 1, with CR LF (section 2.1).
const LENGTH_MAX_V1: usize = 107;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The place of version and command in version 2, and the value for LOCAL.
const COMMAND: usize = SIGNATURE_V2.len();
const LOCAL: u8 = 0x20;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The begin of a header.
    Incomplete,
    Wrong,
    Complete {
        length: usize,
        /// `None`: the proxy speaks for itself (LOCAL), or does not know (UNKNOWN).
        client: Option<SocketAddr>,
    },
}

pub fn parse(input: &[u8]) -> Header {
    let is_begin = |signature: &[u8]| {
        let length = input.len().min(signature.len());
        input[..length] == signature[..length]
    };
    let (is_v1, is_v2) = (is_begin(SIGNATURE_V1), is_begin(SIGNATURE_V2));
    if !is_v1 && !is_v2 {
        return Header::Wrong;
    }
    let most = match length_v2(input) {
        Some(length) if is_v2 => length.min(LENGTH_MAX),
        _ if is_v2 => LENGTH_MAX,
        _ => LENGTH_MAX_V1,
    };
    // All of LOCAL but its length is to be ignored (section 2.2); the crate looks at its addresses.
    if let (Some(length), Some(&LOCAL), true) = (length_v2(input), input.get(COMMAND), is_v2) {
        return match length {
            length if length > LENGTH_MAX => Header::Wrong,
            length if length > input.len() => Header::Incomplete,
            length => client(None, length),
        };
    }
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: is_v1,
        allow_v2: is_v2,
    };
    match ProxyHeader::parse(input, config) {
        Err(Error::BufferTooShort) if input.len() < most => Header::Incomplete,
        // The crate takes `+80` as a number.
        Ok((_, length)) if is_v1 && input[..length].contains(&b'+') => Header::Wrong,
        Ok((header, length)) if length <= most => client(header.proxied_address(), length),
        _ => Header::Wrong,
    }
}

/// The length that a header of version 2 says. The crate waits for more if the addresses do not fit.
fn length_v2(input: &[u8]) -> Option<usize> {
    let length = input.get(SIGNATURE_V2.len() + 2..)?.first_chunk()?;
    Some(SIGNATURE_V2.len() + 4 + usize::from(u16::from_be_bytes(*length)))
}

fn client(address: Option<&ProxiedAddress>, length: usize) -> Header {
    match address {
        Some(address) if address.protocol != Protocol::Stream => Header::Wrong,
        address => Header::Complete {
            length,
            client: address.map(|address| address.source),
        },
    }
}
