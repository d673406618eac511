//! The waist: every system call of the reactor is made in this folder, through mio and socket2.
//!
//! No code above it knows what a poller or a socket is made of.

#[cfg(not(feature = "sim"))]
mod body;
#[cfg(feature = "sim")]
mod either;
mod listener;
mod options;
mod poller;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod sock_diag;
mod stream;

pub(crate) use body::Waker;
pub(crate) use listener::TcpListener;
pub(crate) use mio::Interest;
pub(crate) use mio::event::Source as EventSource;
pub(crate) use poller::{Polled, Poller};
pub(crate) use stream::TcpStream;

use crate::observe::{Call, CallScope};
#[cfg(feature = "sim")]
use either as body;
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
fn new_socket(
    poller: &Poller,
    address: SocketAddr,
    scope: CallScope<'_>,
) -> io::Result<body::Socket> {
    let result = body::socket(poller, address);
    scope.notify(|| Call::Socket { address }, || result.as_ref().map(|_| 0));
    let socket = result?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
