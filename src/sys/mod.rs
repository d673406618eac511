//! The waist: every system call of the reactor is made in this folder, through mio and socket2.
//!
//! No code above it knows what a poller or a socket is made of.

mod listener;
mod poller;
mod sock_diag;
mod stream;

pub(crate) use listener::{TcpListener, backlog_limit, overflows};
pub(crate) use mio::Interest;
pub(crate) use mio::event::Source as EventSource;
pub(crate) use poller::{Polled, Poller};
pub(crate) use stream::TcpStream;

use crate::observe::{Call, CallScope};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// Who made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This reactor, which has the only descriptor.
    MadeHere,
    /// Other code, which may have a duplicate.
    Adopted,
}

/// socket(2). The socket is nonblocking before anything else is done with it.
fn new_socket(address: SocketAddr, scope: CallScope<'_>) -> io::Result<Socket> {
    let result = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    );
    scope.notify(|| Call::Socket { address }, || result.as_ref().map(|_| 0));
    let socket = result?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
