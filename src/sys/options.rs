//! A new socket of the kernel, and its options.

use crate::config::{Keepalive, SocketOptions};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A TCP socket of the kernel. On Linux SOCK_NONBLOCK makes it nonblocking in the same call.
pub(super) fn kernel_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM;
    #[cfg(target_os = "linux")]
    let kind = kind.nonblocking();
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sets what was asked for on a new socket, before listen(2) or connect(2).
pub(super) fn set_options(socket: &Socket, options: SocketOptions) -> io::Result<()> {
    options.check()?;
    socket.set_tcp_nodelay(options.no_delay)?;
    if let Some(keepalive) = options.keepalive {
        socket.set_tcp_keepalive(&parameters(keepalive))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

/// The ACK that completes the handshake waits for the first output and leaves with it: one packet less
/// (TCP_QUICKACK, tcp(7)). Without output the kernel would send it 200 ms later. If the kernel refuses, only
/// that packet is not saved.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn delay_ack(socket: &Socket) {
    let _ = socket.set_tcp_quickack(false);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn delay_ack(_: &Socket) {}

fn parameters(keepalive: Keepalive) -> TcpKeepalive {
    let (idle, interval) = keepalive.seconds();
    let parameters = TcpKeepalive::new().with_time(Duration::from_secs(idle));
    #[cfg(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "illumos",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "windows",
    ))]
    let parameters = parameters
        .with_interval(Duration::from_secs(interval))
        .with_retries(keepalive.probes);
    parameters
}
