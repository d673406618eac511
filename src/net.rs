//! The waist: every system call the reactor makes is made here, through mio and socket2.
//!
//! Nothing above this file knows what a poller or a socket is made of. What the calls cost and mean is said where they stand.

use crate::config::{ConnectOptions, ListenOptions};
use crate::id::{Id, WAKER};
use crate::observe::{Call, Event, Eyes};
use crate::readiness::Readiness;
use crate::timers::Tick;
use crate::waiting::{self, AcceptQueue};
pub(crate) use mio::Interest;
use mio::event::Event as PollEvent;
pub(crate) use mio::event::Source as EventSource;
use mio::{Events, Poll, Waker};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The monotonic clock, as the reactor reads it.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            epoch: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        let elapsed = self.epoch.elapsed();
        Tick(elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()))
    }

    /// The same moment, for those outside.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.epoch + tick.since(Tick::default())
    }
}

/// The poller: edge-triggered epoll on Linux, kqueue on the BSDs and macOS.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
}

/// One thing the poller said.
pub(crate) enum Note {
    /// Another thread left something.
    Mail,
    Ready(Id, Readiness),
}

impl Poller {
    pub(crate) fn new(events_per_turn: usize) -> io::Result<Poller> {
        Ok(Poller {
            poll: Poll::new()?,
            events: Events::with_capacity(events_per_turn),
        })
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Sleeps until something is ready or the time is up. A signal (EINTR) counts as nothing ready: mio does not retry, and
    /// the time left has to be worked out again anyway.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> + '_ {
        self.events.iter().map(|event| match event.token() {
            WAKER => Note::Mail,
            token => Note::Ready(Id::from_token(token), readiness(event)),
        })
    }

    pub(crate) fn add_listener(&self, listener: &mut TcpListener, id: Id) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut listener.0, id.token(), Interest::READABLE)
    }

    /// Write readiness is not asked for: a new socket is writable, and the event that says so would wake the loop for
    /// nothing.
    pub(crate) fn add_stream(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut stream.0, id.token(), input())
    }

    /// Write readiness is what tells that a connection is established.
    pub(crate) fn add_connecting(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut stream.0, id.token(), input() | Interest::WRITABLE)
    }

    pub(crate) fn add_foreign(
        &self,
        source: &mut impl EventSource,
        interest: Interest,
        id: Id,
    ) -> io::Result<()> {
        self.poll.registry().register(source, id.token(), interest)
    }

    pub(crate) fn remove(&self, source: &mut impl EventSource) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }

    /// Asks for write readiness too. Linux looks at once whether the socket is writable by now (epoll_ctl(2), EPOLL_CTL_MOD),
    /// so no edge is lost between the send that failed and this call.
    pub(crate) fn add_writable(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        stream.0.reregister(
            self.poll.registry(),
            id.token(),
            input() | Interest::WRITABLE,
        )
    }
}

/// Input, and word of urgent data where the poller has it.
fn input() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return Interest::READABLE;
}

/// A hang-up or an error is never acted upon by itself: it asks for a read and a write, and those say what happened.
fn readiness(event: &PollEvent) -> Readiness {
    let mut marks = Readiness::default();
    let broken = event.is_error() || event.is_write_closed();
    if event.is_readable() {
        marks.add(Readiness::READABLE);
    }
    if broken || event.is_read_closed() || event.is_priority() {
        marks.add(Readiness::SCATTERED);
    }
    if broken || event.is_writable() {
        marks.add(Readiness::WRITABLE);
    }
    marks
}

/// The doorkeeper's socket.
#[derive(Debug)]
pub(crate) struct TcpListener(mio::net::TcpListener);

impl TcpListener {
    /// socket → bind → listen. TCP_NODELAY is set here once: accepted sockets inherit it, which saves a call for each.
    pub(crate) fn bind(
        address: SocketAddr,
        options: &ListenOptions,
        told: Told<'_>,
    ) -> io::Result<TcpListener> {
        let socket = new_socket(address, told)?;
        #[cfg(not(windows))]
        socket.set_reuse_address(options.reuse_address)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        socket.set_reuse_port(options.reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(options.ipv6_only)?;
        }
        socket.set_tcp_nodelay(options.no_delay)?;
        told.done(|| Call::Bind { address }, socket.bind(&address.into()))?;
        let backlog = options.backlog;
        told.done(|| Call::Listen { backlog }, socket.listen(clamp(backlog)))?;
        Ok(TcpListener(mio::net::TcpListener::from_std(socket.into())))
    }

    /// listen(2) once more: the waiting room has another size from now on.
    pub(crate) fn set_backlog(&self, backlog: u32, told: Told<'_>) -> io::Result<()> {
        told.done(
            || Call::Listen { backlog },
            SockRef::from(&self.0).listen(clamp(backlog)),
        )
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(crate) fn accept_queue(&self) -> Option<AcceptQueue> {
        waiting::ask(SockRef::from(&self.0))
    }

    pub(crate) fn close(self, told: Told<'_>) {
        drop(self);
        told.closed();
    }

    /// Takes over a listening socket. Supervisors hand down blocking ones, on which the loop would hang.
    pub(crate) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(TcpListener(mio::net::TcpListener::from_std(listener)))
    }

    /// The first in line, nonblocking and close-on-exec from its birth (accept4(2)). `next`: the id it may have.
    pub(crate) fn accept(&self, next: Id, told: Told<'_>) -> io::Result<(TcpStream, SocketAddr)> {
        let result = self
            .0
            .accept()
            .map(|(stream, peer)| (TcpStream(stream), peer));
        let accepted = result.as_ref().ok().map(|&(_, peer)| (peer, next));
        told.tell(|| Call::Accept { accepted }, || result.as_ref().map(|_| 0));
        result
    }
}

/// socket(2), nonblocking before anything else is done with it.
fn new_socket(address: SocketAddr, told: Told<'_>) -> io::Result<Socket> {
    let result = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    );
    told.tell(|| Call::Socket { address }, || result.as_ref().map(|_| 0));
    let socket = result?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn clamp(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// For whom a call is made, and who watches.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) id: Id,
    pub(crate) eyes: &'a Eyes,
}

impl Told<'_> {
    #[inline]
    fn tell<'e>(
        &self,
        call: impl FnOnce() -> Call<'e>,
        result: impl FnOnce() -> Result<usize, &'e io::Error>,
    ) {
        self.eyes.tell(|| Event::Call {
            id: self.id,
            call: call(),
            result: result(),
        });
    }

    /// Tells of a call that moves no bytes.
    fn done(&self, call: impl FnOnce() -> Call<'static>, result: io::Result<()>) -> io::Result<()> {
        self.eyes.tell(|| Event::Call {
            id: self.id,
            call: call(),
            result: result.as_ref().map(|()| 0),
        });
        result
    }

    fn closed(&self) {
        self.tell(|| Call::Close, || Ok(0));
    }
}

/// Whether an accept failed for want of descriptors or memory, so that the next would too: EMFILE, ENFILE, ENOBUFS, ENOMEM.
/// The numbers are those of every Unix, but for ENOBUFS, which is Linux's here and the BSDs'.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
        105
    } else {
        55
    };
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

/// What the kernel clamps a backlog to, where it says so.
pub(crate) fn backlog_limit() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A connection's socket. It is never deregistered: closing the descriptor does that (epoll(7)), and saves a call.
#[derive(Debug)]
pub(crate) struct TcpStream(mio::net::TcpStream);

impl TcpStream {
    /// socket → [bind] → connect: the request is on its way, and write readiness will tell of its fate.
    pub(crate) fn connect(
        address: SocketAddr,
        options: &ConnectOptions,
        told: Told<'_>,
    ) -> io::Result<TcpStream> {
        let socket = new_socket(address, told)?;
        socket.set_tcp_nodelay(options.no_delay)?;
        if let Some(local) = options.local {
            told.done(|| Call::Bind { address: local }, bind_local(&socket, local))?;
        }
        let connected = socket.connect(&address.into());
        match told.done(|| Call::Connect { address }, connected) {
            Err(error) if is_in_progress(&error) => {}
            result => result?,
        }
        Ok(TcpStream(mio::net::TcpStream::from_std(socket.into())))
    }

    pub(crate) fn close(self, told: Told<'_>) {
        drop(self);
        told.closed();
    }

    /// Takes over a connected socket.
    pub(crate) fn adopt(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(TcpStream(mio::net::TcpStream::from_std(stream)))
    }

    /// What became of a connect.
    pub(crate) fn take_error(&self, told: Told<'_>) -> io::Result<()> {
        let result = self
            .0
            .take_error()
            .and_then(|error| error.map_or(Ok(()), Err));
        told.done(|| Call::SocketError, result)
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Makes the close that follows a reset: SO_LINGER with a time of zero (socket(7)).
    pub(crate) fn reset_on_close(&self) {
        if let Err(error) = SockRef::from(&self.0).set_linger(Some(Duration::ZERO)) {
            log::debug!("SO_LINGER: {error}");
        }
    }
}

/// Where the caller gave no port, bind(2) chooses one, and says that the address is in use if there is none left.
fn bind_local(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    socket
        .bind(&local.into())
        .map_err(|error| match error.kind() {
            // Of bind this says that the address is not ours, of connect that no port is left.
            io::ErrorKind::AddrNotAvailable => io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is not an address of this machine", local.ip()),
            ),
            kind => io::Error::new(kind, format!("cannot bind to {local}: {error}")),
        })
}

/// What connect says of a nonblocking socket: EINPROGRESS, or WouldBlock on Windows. The number is Linux's here, or the BSDs'.
fn is_in_progress(error: &io::Error) -> bool {
    const EINPROGRESS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
        115
    } else {
        36
    };
    error.kind() == io::ErrorKind::WouldBlock
        || cfg!(unix) && error.raw_os_error() == Some(EINPROGRESS)
}

/// What a conversation needs. Single-slice writes only: the standard library sends those with MSG_NOSIGNAL, so a peer that is gone is
/// EPIPE and never SIGPIPE. Its vectored writes are writev(2), which has no such flag.
impl TcpStream {
    pub(crate) fn read(&self, buffer: &mut [u8], told: Told<'_>) -> io::Result<usize> {
        if told.eyes.are_open() {
            self.read_aloud(buffer, told)
        } else {
            (&self.0).read(buffer)
        }
    }

    pub(crate) fn write(&self, bytes: &[u8], told: Told<'_>) -> io::Result<usize> {
        if told.eyes.are_open() {
            self.write_aloud(bytes, told)
        } else {
            (&self.0).write(bytes)
        }
    }

    /// The same with somebody watching, apart, so that it costs the others nothing.
    #[cold]
    fn read_aloud(&self, buffer: &mut [u8], told: Told<'_>) -> io::Result<usize> {
        let result = (&self.0).read(buffer);
        let bytes = told.eyes.shown(&buffer[..moved(&result)]);
        told.tell(
            || Call::Read {
                length: buffer.len(),
                bytes,
            },
            || result.as_ref().copied(),
        );
        result
    }

    #[cold]
    fn write_aloud(&self, bytes: &[u8], told: Told<'_>) -> io::Result<usize> {
        let result = (&self.0).write(bytes);
        let shown = told.eyes.shown(&bytes[..moved(&result)]);
        told.tell(
            || Call::Write {
                length: bytes.len(),
                bytes: shown,
            },
            || result.as_ref().copied(),
        );
        result
    }

    pub(crate) fn shutdown_write(&self, told: Told<'_>) -> io::Result<()> {
        told.done(|| Call::Shutdown, self.0.shutdown(Shutdown::Write))
    }
}

fn moved(result: &io::Result<usize>) -> usize {
    result.as_ref().map_or(0, |&count| count)
}
