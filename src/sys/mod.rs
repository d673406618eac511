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
mod proc;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod sock_diag;
mod socket;
mod stream;

pub(crate) use body::Waker;
pub(crate) use listener::TcpListener;
pub(crate) use mio::Interest;
pub(crate) use mio::event::Source as EventSource;
pub(crate) use poller::{Polled, Poller};
pub(crate) use stream::TcpStream;

/// The one or the other is `body` to the files here.
#[cfg(feature = "sim")]
use either as body;
