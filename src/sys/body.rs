//! What the sockets and the waker are made of: the kernel's. With the feature `sim`, `either.rs` is
//! compiled instead of this file.

use super::options::kernel_socket;
use super::sock_diag;
use crate::observe::AcceptQueue;
use mio::{Registry, Token};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub(super) use super::options::{delay_ack, set_options};
pub(crate) use mio::Waker;
pub(super) use mio::net::{TcpListener as Listener, TcpStream as Stream};
pub(super) use socket2::Socket;

/// The network that sockets belong to: the kernel's.
#[derive(Debug)]
pub(super) struct Network;

pub(super) const KERNEL: Network = Network;

pub(super) fn waker(_: &Network, registry: &Registry, token: Token) -> io::Result<Waker> {
    Waker::new(registry, token)
}

/// socket(2).
pub(super) fn socket(_: &Network, address: SocketAddr) -> io::Result<Socket> {
    kernel_socket(address)
}

pub(super) fn into_listener(socket: Socket) -> Listener {
    Listener::from_std(socket.into())
}

pub(super) fn into_stream(socket: Socket) -> Stream {
    Stream::from_std(socket.into())
}

pub(super) fn adopt_listener(_: &Network, listener: std::net::TcpListener) -> io::Result<Listener> {
    Ok(Listener::from_std(listener))
}

pub(super) fn adopt_stream(_: &Network, stream: std::net::TcpStream) -> io::Result<Stream> {
    Ok(Stream::from_std(stream))
}

#[cfg(unix)]
pub(super) fn as_fd(socket: &impl AsFd) -> Option<BorrowedFd<'_>> {
    Some(socket.as_fd())
}

/// listen(2) on a socket that listens already.
pub(super) fn listen(listener: &Listener, backlog: i32) -> io::Result<()> {
    SockRef::from(listener).listen(backlog)
}

pub(super) fn accept_queue(listener: &Listener) -> Option<AcceptQueue> {
    sock_diag::accept_queue(SockRef::from(listener), listener.local_addr().ok())
}

pub(super) fn accept_queues<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
) -> Vec<Option<AcceptQueue>> {
    sock_diag::accept_queues(listeners.map(SockRef::from))
}

pub(super) fn undelivered(stream: &Stream) -> Option<u32> {
    let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
    sock_diag::undelivered(SockRef::from(stream), local, peer)
}

/// SO_LINGER with a time of zero (socket(7)).
pub(super) fn reset_on_close(stream: &Stream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
