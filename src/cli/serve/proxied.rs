//! Connections that a proxy forwards: each begins with a header of the PROXY protocol, and counts as
//! a connection of the client that the header names.

use super::access::Record;
use super::limits::{REPORT, enter_source, note_slow, report_full, with_limits};
use super::proxy_header::{self, Header};
use doorkeeper::{Arrival, Closed, Context, Handler, Others, TimerKey};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// The time that a proxy has for the header. HAProxy and nginx send it at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// The time for the first byte of the header once the loop shuts down. A proxy that has just connected
/// may not have sent it yet.
const GRACE: Duration = Duration::from_millis(500);

/// The timer of the header. No service has this key.
const HEADER: TimerKey = TimerKey(u64::MAX - 1);

/// The addresses of --proxy-from.
#[derive(Clone, Debug)]
pub(crate) struct Proxies(Rc<[(IpAddr, u8)]>);

impl Proxies {
    /// Addresses and networks, separated by commas: `192.0.2.1,2001:db8::/32`.
    pub(crate) fn parse(list: &str) -> Option<Proxies> {
        list.split(',')
            .map(network)
            .collect::<Option<_>>()
            .map(Proxies)
    }

    /// An IPv4-mapped address (RFC 4291, section 2.5.5.2) is its IPv4 address.
    fn contain(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        let mut networks = self.0.iter();
        networks.any(|&(network, length)| prefix(network, length) == prefix(peer, length))
    }
}

fn network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(bits);
    let is_mapped = address.to_canonical().is_ipv4() && address.is_ipv6() && length >= 96;
    let mapped = is_mapped.then(|| (address.to_canonical(), length - 96));
    (length <= bits).then(|| mapped.unwrap_or((address, length)))
}

/// The first `length` bits of an address, and whether it is IPv4.
fn prefix(address: IpAddr, length: u8) -> (bool, u128) {
    let shifted = |bits: u128, width: u32| {
        let rest = width.saturating_sub(length.into());
        bits.checked_shr(rest).unwrap_or(0)
    };
    match address {
        IpAddr::V4(ip) => (true, shifted(u32::from(ip).into(), 32)),
        IpAddr::V6(ip) => (false, shifted(ip.into(), 128)),
    }
}

/// A service whose connections come from these proxies. Others are closed at once, because they
/// could name any client.
pub(super) fn proxied<H: Handler, R: Record>(
    make: impl Fn() -> H,
    record: R,
    proxies: Proxies,
) -> impl FnMut(&mut Arrival<'_>) -> Option<Proxied<H, R>> {
    move |arrival| {
        let peer = arrival.peer;
        if !proxies.contain(peer) {
            log::debug!("{peer} is not among the proxies of --proxy-from");
            record.turned_away();
            return None;
        }
        with_limits(|limits| limits.enter());
        record.accepted(arrival.id);
        Some(Proxied {
            handler: make(),
            record: record.clone(),
            state: State::Header,
        })
    }
}

/// A service's handler, behind the header.
#[derive(Debug)]
pub(super) struct Proxied<H, R> {
    handler: H,
    record: R,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The header is not complete.
    Header,
    /// Nor was it when the loop began to shut down, which the service has not been told.
    HeaderAtShutdown,
    /// The service has begun.
    Open,
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("PROXY header: {problem}"))
}

impl<H: Handler, R: Record> Proxied<H, R> {
    /// Opens the service once the header is complete, and offers it what follows.
    fn begin(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let (length, client) = match proxy_header::parse(input) {
            Header::Incomplete => return Ok(0),
            Header::Wrong => return Err(wrong("it is wrong")),
            Header::Complete { length, client } => (length, client.unwrap_or(cx.peer())),
        };
        cx.cancel_timer(HEADER);
        with_limits(|limits| limits.set_client(cx.id(), client));
        if !enter_source(&mut cx.others, client) {
            self.record.cut_off();
            cx.abort();
            return Ok(length);
        }
        let before = std::mem::replace(&mut self.state, State::Open);
        self.handler.on_open(cx)?;
        let (rest, mut consumed) = (&input[length..], length);
        if !rest.is_empty() {
            consumed += self.handler.on_data(cx, rest)?;
        }
        if before == State::HeaderAtShutdown {
            self.handler.on_shutdown(cx)?;
        }
        Ok(consumed)
    }
}

impl<H: Handler, R: Record> Handler for Proxied<H, R> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        report_full(cx);
        cx.set_timer(HEADER, PATIENCE);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        match self.state {
            State::Open => self.handler.on_data(cx, input),
            _ => self.begin(cx, input),
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.state {
            State::Open => self.handler.on_drain(cx),
            _ => Ok(()),
        }
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.state {
            State::Open => self.handler.on_wake(cx),
            _ => Ok(()),
        }
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.state {
            State::Open => self.handler.on_eof(cx),
            _ => Err(wrong("the connection ended first")),
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.state == State::Open {
            return self.handler.on_shutdown(cx);
        }
        self.state = State::HeaderAtShutdown;
        if cx.unread() == 0 {
            cx.set_timer(HEADER, GRACE);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        match key {
            HEADER if self.state == State::HeaderAtShutdown && cx.unread() == 0 => {
                cx.finish();
                Ok(())
            }
            HEADER => Err(wrong("it did not arrive in time")),
            REPORT => {
                report_full(cx);
                Ok(())
            }
            _ => self.handler.on_timer(cx, key),
        }
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let client = with_limits(|limits| {
            limits.leave();
            limits.remove_client(closed.id)
        });
        note_slow(others, closed);
        let peer = client.unwrap_or(closed.peer);
        self.record.closed(peer, closed);
        if self.state == State::Open {
            with_limits(|limits| limits.leave_source(peer));
            self.handler.on_close(others, closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Proxies;

    #[test]
    fn proxies_are_addresses_and_networks() {
        let proxies = Proxies::parse("192.0.2.0/25,198.51.100.7,2001:db8::/32").unwrap();
        let contain = |address: &str| proxies.contain(format!("{address}:1").parse().unwrap());
        for address in [
            "192.0.2.127",
            "[::ffff:192.0.2.1]",
            "198.51.100.7",
            "[2001:db8:ffff::1]",
        ] {
            assert!(contain(address), "{address}");
        }
        for address in ["192.0.2.128", "198.51.100.6", "[2001:db9::1]", "[::]"] {
            assert!(!contain(address), "{address}");
        }
        let all = Proxies::parse("0.0.0.0/0").unwrap();
        assert!(all.contain("203.0.113.9:1".parse().unwrap()));
        assert!(!all.contain("[::1]:1".parse().unwrap()));
        // IPv4-mapped networks are IPv4 networks.
        let mapped = Proxies::parse("::ffff:192.0.2.0/121,::ffff:198.51.100.7").unwrap();
        let contain = |address: &str| mapped.contain(format!("{address}:1").parse().unwrap());
        assert!(contain("192.0.2.127") && contain("[::ffff:192.0.2.1]"));
        assert!(contain("198.51.100.7") && !contain("192.0.2.128"));
        let contains = |list: &str, address: &str| {
            let proxies = Proxies::parse(list).unwrap();
            proxies.contain(format!("{address}:1").parse().unwrap())
        };
        assert!(contains("::ffff:0.0.0.0/96", "203.0.113.9"));
        assert!(!contains("::ffff:0.0.0.0/95", "203.0.113.9"));
        assert!(!contains("2001:db8::/100", "[2001:db8:1::1]"));
        for wrong in [
            "",
            "192.0.2.1/33",
            "::/129",
            "localhost",
            "192.0.2.1,",
            "1.2.3.4/-1",
        ] {
            assert!(Proxies::parse(wrong).is_none(), "{wrong}");
        }
    }
}
