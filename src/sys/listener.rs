//! A listening socket.

use super::body;
use super::poller::Poller;
use super::socket::{Origin, new_socket, sock_addr};
use super::stream::TcpStream;
use crate::config::ListenOptions;
use crate::errno::failure;
use crate::id::Id;
use crate::observe::{AcceptQueue, Call, CallScope};
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;

#[derive(Debug)]
pub(crate) struct TcpListener {
    socket: body::Listener,
    origin: Origin,
}

impl TcpListener {
    /// socket → bind → listen. Accepted connections inherit the options of the listener, which saves
    /// calls for each, and the sizes of buffers count only if they are set before listen(2) (tcp(7)).
    pub(crate) fn bind(
        poller: &Poller,
        address: SocketAddr,
        options: &ListenOptions,
        scope: CallScope<'_>,
    ) -> io::Result<TcpListener> {
        let socket = new_socket(&poller.network, address, scope)?;
        #[cfg(not(windows))]
        socket.set_reuse_address(options.reuse_address)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        socket.set_reuse_port(options.reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(options.ipv6_only)?;
        }
        body::set_options(&socket, options.into())?;
        scope.report(Call::Bind { address }, socket.bind(&sock_addr(address)))?;
        let backlog = options.backlog;
        scope.report(Call::Listen { backlog }, socket.listen(clamp(backlog)))?;
        // Without a log the system need not be asked.
        let warns = log::log_enabled!(log::Level::Warn);
        let limit = warns.then(|| poller.backlog_limit()).flatten();
        if let Some(limit) = limit.filter(|&limit| limit < backlog) {
            log::warn!(
                "{address}: the system clamps backlog {backlog} to {limit} (net.core.somaxconn)"
            );
        }
        Ok(TcpListener {
            socket: body::into_listener(socket),
            origin: Origin::MadeHere,
        })
    }

    /// Takes over a listening socket. Supervisors pass blocking ones, on which accept(2) would block
    /// the loop. On one that does not listen accept(2) would fail for ever.
    pub(crate) fn adopt(
        poller: &Poller,
        listener: std::net::TcpListener,
    ) -> io::Result<TcpListener> {
        if !is_listening(&listener)? {
            let message = "the socket does not listen: call listen(2) before it is adopted";
            return Err(failure(ErrorKind::InvalidInput, message));
        }
        listener.set_nonblocking(true)?;
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(TcpListener {
            socket: body::adopt_listener(&poller.network, listener)?,
            origin: Origin::Adopted,
        })
    }

    /// accept(2): takes the first connection of the accept queue. Its socket is nonblocking and
    /// close-on-exec from the start (accept4(2)). `next` is the id it may get.
    pub(crate) fn accept(
        &self,
        next: Id,
        scope: CallScope<'_>,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let result = self
            .socket
            .accept()
            .map(|(stream, peer)| (TcpStream::made_here(stream), peer));
        let accepted = result.as_ref().ok().map(|&(_, peer)| (peer, next));
        scope.notify(Call::Accept { accepted }, result.as_ref().map(|_| 0));
        result
    }

    /// listen(2) again, which changes the backlog of a socket that listens already.
    pub(crate) fn set_backlog(&self, backlog: u32, scope: CallScope<'_>) -> io::Result<()> {
        let result = body::listen(&self.socket, clamp(backlog));
        scope.report(Call::Listen { backlog }, result)
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        body::as_fd(&self.socket)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn accept_queue(&self) -> Option<AcceptQueue> {
        body::accept_queue(&self.socket)
    }

    /// The accept queues of many listeners, in one question (two if there are IPv6 listeners). The
    /// answer has a place for each listener.
    pub(crate) fn accept_queues<'a>(
        listeners: impl Iterator<Item = &'a TcpListener>,
    ) -> Vec<Option<AcceptQueue>> {
        body::accept_queues(listeners.map(|listener| &listener.socket))
    }

    /// In a simulation, what is true of the socket.
    #[cfg(feature = "sim")]
    pub(crate) fn truth(&self) -> Option<crate::connection::invariants::Truth> {
        self.socket.truth()
    }

    pub(crate) fn close(mut self, poller: &Poller, scope: CallScope<'_>) {
        poller.remove_adopted(&mut self.socket, self.origin, scope);
        drop(self);
        scope.notify(Call::Close, Ok(0));
    }
}

/// What the poller registers.
impl AsMut<body::Listener> for TcpListener {
    fn as_mut(&mut self) -> &mut body::Listener {
        &mut self.socket
    }
}

/// SO_ACCEPTCONN (socket(7)), where socket2 can ask for it.
fn is_listening(listener: &std::net::TcpListener) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return SockRef::from(listener).is_listener();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return listener.local_addr().map(|_| true);
}

fn clamp(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}
