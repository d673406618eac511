//! A connection's socket.

use super::body;
use super::poller::Poller;
use super::socket::{Origin, new_socket, sock_addr};
use crate::config::ConnectOptions;
use crate::connection::Endpoint;
use crate::errno::{failure, is_in_progress};
use crate::handler::LocalAddr;
use crate::observe::{Call, CallScope};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::os::fd::BorrowedFd;

#[derive(Debug)]
pub(crate) struct TcpStream {
    socket: body::Stream,
    origin: Origin,
}

impl TcpStream {
    /// A socket that accept(2) or socket(2) returned to this reactor.
    pub(super) fn made_here(socket: body::Stream) -> TcpStream {
        let origin = Origin::MadeHere;
        TcpStream { socket, origin }
    }

    /// socket → [bind →] connect. The attempt has begun when this returns; write readiness reports its
    /// result. `sends`: output waits to be sent at once then.
    pub(crate) fn connect(
        poller: &Poller,
        address: SocketAddr,
        options: &ConnectOptions,
        sends: bool,
        scope: CallScope<'_>,
    ) -> io::Result<TcpStream> {
        let socket = new_socket(&poller.network, address, scope)?;
        body::set_options(&socket, options.into())?;
        if let Some(local) = options.local {
            scope.report(Call::Bind { address: local }, bind_local(&socket, local))?;
        }
        if sends {
            body::delay_ack(&socket);
        }
        let connected = socket.connect(&sock_addr(address));
        match scope.report(Call::Connect { address }, connected) {
            Err(error) if is_in_progress(&error) => {}
            result => result?,
        }
        Ok(TcpStream::made_here(body::into_stream(socket)))
    }

    /// Takes over a connected socket.
    pub(crate) fn adopt(poller: &Poller, stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(TcpStream {
            socket: body::adopt_stream(&poller.network, stream)?,
            origin: Origin::Adopted,
        })
    }

    /// Whether a connection attempt has succeeded; its error if it failed.
    ///
    /// Writable is not connected: a failed attempt is writable too, and an event may be spurious.
    /// SO_ERROR (socket(7)) says whether it failed, and only a connected socket has a peer
    /// (connect(2), getpeername(2)).
    pub(crate) fn is_established(&self, scope: CallScope<'_>) -> io::Result<bool> {
        self.take_error(scope)?;
        let peer = match self.peer_addr() {
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            result => result?,
        };
        if peer != self.local_addr()? {
            return Ok(true);
        }
        // For a port of the ephemeral range on which no socket listens, the kernel may choose the same
        // port as the local one. Simultaneous open then connects the socket to itself (RFC 9293,
        // section 3.5). A close in order would hold the port in TIME_WAIT.
        self.reset_on_close();
        let message = "no socket listens there: the socket was connected to itself";
        Err(failure(ErrorKind::ConnectionRefused, message))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Out of line, so that it costs nothing while there is no observer.
    #[cold]
    fn read_observed(&self, buffer: &mut [u8], scope: CallScope<'_>) -> io::Result<usize> {
        let result = (&self.socket).read(buffer);
        let bytes = scope.observation.shown(&buffer[..count(&result)]);
        scope.notify(
            Call::Read {
                length: buffer.len(),
                bytes,
            },
            result.as_ref().copied(),
        );
        result
    }

    #[cold]
    fn write_observed(&self, bytes: &[u8], scope: CallScope<'_>) -> io::Result<usize> {
        let result = (&self.socket).write(bytes);
        let shown = scope.observation.shown(&bytes[..count(&result)]);
        scope.notify(
            Call::Write {
                length: bytes.len(),
                bytes: shown,
            },
            result.as_ref().copied(),
        );
        result
    }

    /// Makes the following close a reset: SO_LINGER with a time of zero (socket(7)).
    pub(crate) fn reset_on_close(&self) {
        if let Err(error) = body::reset_on_close(&self.socket) {
            log::debug!("SO_LINGER: {error}");
        }
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
impl AsMut<body::Stream> for TcpStream {
    fn as_mut(&mut self) -> &mut body::Stream {
        &mut self.socket
    }
}

impl LocalAddr for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        body::as_fd(&self.socket)
    }
}

impl Endpoint for TcpStream {
    #[inline(always)]
    fn read(&self, buffer: &mut [u8], scope: CallScope<'_>) -> io::Result<usize> {
        if scope.observation.is_observed() {
            self.read_observed(buffer, scope)
        } else {
            (&self.socket).read(buffer)
        }
    }

    /// Writes one slice. The standard library sends it with MSG_NOSIGNAL, so a peer that is gone is
    /// EPIPE and never SIGPIPE. Its vectored write is writev(2), which has no such flag.
    #[inline(always)]
    fn write(&self, bytes: &[u8], scope: CallScope<'_>) -> io::Result<usize> {
        if scope.observation.is_observed() {
            self.write_observed(bytes, scope)
        } else {
            (&self.socket).write(bytes)
        }
    }

    fn take_error(&self, scope: CallScope<'_>) -> io::Result<()> {
        let result = self.socket.take_error();
        let result = result.and_then(|error| error.map_or(Ok(()), Err));
        scope.report(Call::SocketError, result)
    }

    /// Not known on a system other than Linux, or if the kernel does not answer: out of descriptors, or
    /// sock_diag(7) is not allowed. 0 once the connection is over. It takes seven system calls.
    fn undelivered(&self) -> Option<u32> {
        body::undelivered(&self.socket)
    }

    /// Ends this side's output with a FIN (shutdown(2)).
    fn shutdown_write(&self, scope: CallScope<'_>) -> io::Result<()> {
        scope.report(Call::Shutdown, self.socket.shutdown(Shutdown::Write))
    }

    /// The caller may keep a duplicate of an adopted socket, and then a close sends nothing.
    fn has_end(&self) -> bool {
        self.origin == Origin::Adopted
    }
}

/// bind(2) of the local address. With port 0 the kernel chooses one, and says that the address is in
/// use if no port is left.
///
/// A chosen port may be bound although an earlier connection from it is in TIME_WAIT: SO_REUSEADDR.
/// connect(2) still refuses the addresses of a connection that is open.
fn bind_local(socket: &body::Socket, local: SocketAddr) -> io::Result<()> {
    #[cfg(not(windows))]
    if local.port() != 0 {
        socket.set_reuse_address(true)?;
    }
    socket
        .bind(&sock_addr(local))
        .map_err(|error| match error.kind() {
            // For bind this means that no interface has the address, for connect that no port is left.
            ErrorKind::AddrNotAvailable => failure(
                ErrorKind::InvalidInput,
                &format!("{} is not an address of this machine", local.ip()),
            ),
            kind => failure(kind, &format!("cannot bind to {local}: {error}")),
        })
}

fn count(result: &io::Result<usize>) -> usize {
    result.as_ref().map_or(0, |&count| count)
}
