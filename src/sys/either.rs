//! What the sockets and the waker are made of: the kernel's, or a simulation's. It stands in for
//! `body.rs` with the feature `sim`, and has the same names.

use super::options::kernel_socket;
use super::sim::{self, Process};
use super::{EventSource, Interest, sock_diag};
use crate::config::SocketOptions;
use crate::connection::invariants::Truth;
use crate::observe::AcceptQueue;
use mio::{Registry, Token};
use socket2::{SockAddr, SockRef};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Waker {
    Kernel(mio::Waker),
    Sim(sim::Waker),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Kernel(waker) => waker.wake(),
            Waker::Sim(waker) => {
                waker.wake();
                Ok(())
            }
        }
    }
}

/// The network that sockets belong to: the kernel's, or that of a simulated process.
pub(super) type Network = Option<Process>;

pub(super) const KERNEL: Network = None;

pub(super) fn waker(network: &Network, registry: &Registry, token: Token) -> io::Result<Waker> {
    match network {
        Some(process) => Ok(Waker::Sim(process.waker())),
        None => Ok(Waker::Kernel(mio::Waker::new(registry, token)?)),
    }
}

/// A socket that is neither connected nor listening.
pub(super) enum Socket {
    Kernel(socket2::Socket),
    Sim(sim::Socket),
}

pub(super) fn socket(network: &Network, address: SocketAddr) -> io::Result<Socket> {
    if let Some(process) = network {
        return Ok(Socket::Sim(process.socket()?));
    }
    Ok(Socket::Kernel(kernel_socket(address)?))
}

/// Options without an effect in the simulation.
impl Socket {
    pub(super) fn set_only_v6(&self, on: bool) -> io::Result<()> {
        self.kernel(|socket| socket.set_only_v6(on))
    }

    fn kernel(&self, call: impl FnOnce(&socket2::Socket) -> io::Result<()>) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => call(socket),
            Socket::Sim(_) => Ok(()),
        }
    }
}

/// Without an effect in the simulation, too.
pub(super) fn delay_ack(socket: &Socket) {
    if let Socket::Kernel(socket) = socket {
        super::options::delay_ack(socket);
    }
}

pub(super) fn set_options(socket: &Socket, options: SocketOptions) -> io::Result<()> {
    match socket {
        Socket::Kernel(socket) => super::options::set_options(socket, options),
        Socket::Sim(_) => options.check(),
    }
}

impl Socket {
    pub(super) fn set_reuse_address(&self, on: bool) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.set_reuse_address(on)?,
            Socket::Sim(socket) => socket.set_reuse(Some(on), None),
        }
        Ok(())
    }

    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    pub(super) fn set_reuse_port(&self, on: bool) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.set_reuse_port(on)?,
            Socket::Sim(socket) => socket.set_reuse(None, Some(on)),
        }
        Ok(())
    }

    pub(super) fn bind(&self, address: &SockAddr) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.bind(address),
            Socket::Sim(socket) => socket.bind(internet(address)?),
        }
    }

    pub(super) fn listen(&self, backlog: i32) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.listen(backlog),
            Socket::Sim(socket) => socket.listen(backlog as u32),
        }
    }

    pub(super) fn connect(&self, address: &SockAddr) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.connect(address),
            Socket::Sim(socket) => socket.connect(internet(address)?),
        }
    }
}

fn internet(address: &SockAddr) -> io::Result<SocketAddr> {
    let address = address.as_socket();
    address.ok_or_else(|| ErrorKind::InvalidInput.into())
}

#[derive(Debug)]
pub(crate) enum Listener {
    Kernel(mio::net::TcpListener),
    Sim(sim::Socket),
}

impl Listener {
    pub(super) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::Kernel(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Kernel(stream), peer))
            }
            Listener::Sim(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Sim(stream), peer))
            }
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Kernel(listener) => listener.local_addr(),
            Listener::Sim(socket) => socket.local_addr(),
        }
    }
}

impl Listener {
    pub(super) fn truth(&self) -> Option<Truth> {
        match self {
            Listener::Kernel(_) => None,
            Listener::Sim(socket) => Some(socket.truth()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Stream {
    Kernel(mio::net::TcpStream),
    Sim(sim::Socket),
}

impl Stream {
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Kernel(stream) => stream.take_error(),
            Stream::Sim(socket) => socket.take_error(),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(stream) => stream.peer_addr(),
            Stream::Sim(socket) => socket.peer_addr(),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(stream) => stream.local_addr(),
            Stream::Sim(socket) => socket.local_addr(),
        }
    }

    /// The only direction that the waist shuts down is `Write`.
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Kernel(stream) => stream.shutdown(how),
            Stream::Sim(socket) => socket.shutdown_write(),
        }
    }
}

impl Stream {
    pub(super) fn truth(&self) -> Option<Truth> {
        match self {
            Stream::Kernel(_) => None,
            Stream::Sim(socket) => Some(socket.truth()),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Kernel(stream) => { stream }.read(buffer),
            Stream::Sim(socket) => { socket }.read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Kernel(stream) => { stream }.write(bytes),
            Stream::Sim(socket) => { socket }.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel's descriptor.
#[cfg(unix)]
pub(super) fn as_fd<T: Descriptor>(socket: &T) -> Option<BorrowedFd<'_>> {
    socket.descriptor()
}

#[cfg(unix)]
pub(super) trait Descriptor {
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Either has a descriptor, and is registered with its poller.
macro_rules! source {
    ($name:ident) => {
        #[cfg(unix)]
        impl Descriptor for $name {
            fn descriptor(&self) -> Option<BorrowedFd<'_>> {
                match self {
                    $name::Kernel(socket) => Some(socket.as_fd()),
                    $name::Sim(_) => None,
                }
            }
        }

        impl EventSource for $name {
            fn register(
                &mut self,
                registry: &Registry,
                token: Token,
                interest: Interest,
            ) -> io::Result<()> {
                match self {
                    $name::Kernel(socket) => socket.register(registry, token, interest),
                    $name::Sim(socket) => socket.register(registry, token, interest),
                }
            }

            fn reregister(
                &mut self,
                registry: &Registry,
                token: Token,
                interest: Interest,
            ) -> io::Result<()> {
                match self {
                    $name::Kernel(socket) => socket.reregister(registry, token, interest),
                    $name::Sim(socket) => socket.reregister(registry, token, interest),
                }
            }

            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                match self {
                    $name::Kernel(socket) => socket.deregister(registry),
                    $name::Sim(socket) => socket.deregister(registry),
                }
            }
        }
    };
}

source!(Listener);
source!(Stream);

pub(super) fn into_listener(socket: Socket) -> Listener {
    match socket {
        Socket::Kernel(socket) => Listener::Kernel(mio::net::TcpListener::from_std(socket.into())),
        Socket::Sim(socket) => Listener::Sim(socket),
    }
}

pub(super) fn into_stream(socket: Socket) -> Stream {
    match socket {
        Socket::Kernel(socket) => Stream::Kernel(mio::net::TcpStream::from_std(socket.into())),
        Socket::Sim(socket) => Stream::Sim(socket),
    }
}

pub(super) fn adopt_listener(
    network: &Network,
    listener: std::net::TcpListener,
) -> io::Result<Listener> {
    check_kernel(network)?;
    Ok(Listener::Kernel(mio::net::TcpListener::from_std(listener)))
}

pub(super) fn adopt_stream(network: &Network, stream: std::net::TcpStream) -> io::Result<Stream> {
    check_kernel(network)?;
    Ok(Stream::Kernel(mio::net::TcpStream::from_std(stream)))
}

/// A kernel's socket or source has no place in a simulation: its poller would never report it.
pub(super) fn check_kernel(network: &Network) -> io::Result<()> {
    match network {
        None => Ok(()),
        Some(_) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "the reactor is a simulation's, and takes no sockets or sources of the system",
        )),
    }
}

pub(super) fn listen(listener: &Listener, backlog: i32) -> io::Result<()> {
    match listener {
        Listener::Kernel(listener) => SockRef::from(listener).listen(backlog),
        Listener::Sim(socket) => socket.listen(backlog as u32),
    }
}

pub(super) fn accept_queue(listener: &Listener) -> Option<AcceptQueue> {
    match listener {
        Listener::Kernel(listener) => {
            sock_diag::accept_queue(SockRef::from(listener), listener.local_addr().ok())
        }
        Listener::Sim(socket) => Some(socket.accept_queue()),
    }
}

/// The listeners of one reactor are all of one kind.
pub(super) fn accept_queues<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
) -> Vec<Option<AcceptQueue>> {
    let (mut kernel, mut simulated) = (Vec::new(), Vec::new());
    for listener in listeners {
        match listener {
            Listener::Kernel(listener) => kernel.push(SockRef::from(listener)),
            Listener::Sim(socket) => simulated.push(Some(socket.accept_queue())),
        }
    }
    if simulated.is_empty() {
        return sock_diag::accept_queues(kernel.into_iter());
    }
    simulated
}

pub(super) fn undelivered(stream: &Stream) -> Option<u32> {
    match stream {
        Stream::Kernel(stream) => {
            let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
            sock_diag::undelivered(SockRef::from(stream), local, peer)
        }
        Stream::Sim(socket) => Some(socket.undelivered()),
    }
}

pub(super) fn reset_on_close(stream: &Stream) -> io::Result<()> {
    match stream {
        Stream::Kernel(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
        Stream::Sim(socket) => {
            socket.reset_on_close();
            Ok(())
        }
    }
}
