//! The options of a connection's socket.

use crate::config::{Keepalive, SocketOptions};
use socket2::{Socket, TcpKeepalive};
use std::io;
use std::time::Duration;

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
