//! What the sockets of listeners and connections have in common.

use super::body::{self, Network, Socket};
use crate::observe::{Call, CallScope};
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;

/// Who made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This reactor, which has the only descriptor.
    MadeHere,
    /// Other code, which may have a duplicate.
    Adopted,
}

/// socket(2). The socket is nonblocking before anything else is done with it.
pub(super) fn new_socket(
    network: &Network,
    address: SocketAddr,
    scope: CallScope<'_>,
) -> io::Result<Socket> {
    let result = body::socket(network, address);
    scope.notify(Call::Socket { address }, result.as_ref().map(|_| 0));
    result
}

/// Out of line, because the code for it is long.
#[inline(never)]
pub(super) fn sock_addr(address: SocketAddr) -> SockAddr {
    address.into()
}
