//! A peer's address in 24 bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// What is worth keeping of a [`SocketAddr`], which takes 32 bytes: the address, in its IPv6 form, the port and the zone of
/// a link-local address. The flow label, a header field of no use here, is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    ip: [u8; 16],
    port: u16,
    zone: u32,
}

impl From<SocketAddr> for Peer {
    #[inline(never)]
    fn from(address: SocketAddr) -> Peer {
        let (ip, zone) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        Peer {
            ip: ip.octets(),
            port: address.port(),
            zone,
        }
    }
}

impl From<Peer> for SocketAddr {
    #[inline(never)]
    fn from(peer: Peer) -> SocketAddr {
        match Ipv6Addr::from(peer.ip).to_canonical() {
            IpAddr::V4(v4) => SocketAddr::new(v4.into(), peer.port),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, peer.port, 0, peer.zone).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_and_a_mapped_one_as_ipv4() {
        for same in ["127.0.0.1:7", "[::1]:65535", "[fe80::1%3]:80", "0.0.0.0:0"] {
            let address: SocketAddr = same.parse().unwrap();
            assert_eq!(SocketAddr::from(Peer::from(address)), address);
        }
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:9".parse().unwrap();
        assert_eq!(
            SocketAddr::from(Peer::from(mapped)).to_string(),
            "192.0.2.1:9"
        );
        assert!(size_of::<Peer>() <= 24);
    }
}
