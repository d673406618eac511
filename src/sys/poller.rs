//! The poller: edge-triggered epoll on Linux, kqueue on the BSDs and macOS.

use super::{EventSource, Interest, Origin, TcpListener, TcpStream};
use crate::id::{Id, WAKER};
use crate::readiness::Readiness;
use mio::event::Event;
use mio::{Events, Poll, Waker};
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
}

/// One event of the poller.
pub(crate) enum Polled {
    /// Another thread left a message.
    Message,
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

    /// Sleeps until a source is ready or the time is up. A signal (EINTR) counts as no event: mio does
    /// not retry, and the time left must be worked out again anyway.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Polled> + '_ {
        self.events.iter().map(|event| match event.token() {
            WAKER => Polled::Message,
            token => Polled::Ready(Id::from_token(token), readiness(event)),
        })
    }

    pub(crate) fn add_listener(&self, listener: &mut TcpListener, id: Id) -> io::Result<()> {
        self.add(&mut listener.socket, Interest::READABLE, id)
    }

    /// Does not ask for write readiness, because a new socket is writable and that event would wake
    /// the loop for nothing.
    pub(crate) fn add_stream(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        self.add(&mut stream.socket, input(), id)
    }

    /// Asks for write readiness, which reports the result of a connection attempt (connect(2)).
    pub(crate) fn add_connecting(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        self.add(&mut stream.socket, input() | Interest::WRITABLE, id)
    }

    pub(crate) fn add(
        &self,
        source: &mut impl EventSource,
        interest: Interest,
        id: Id,
    ) -> io::Result<()> {
        self.poll.registry().register(source, id.token(), interest)
    }

    /// close(2) of the last descriptor of a socket ends its registration (epoll(7), question 6), so
    /// nothing is done for a socket that this reactor made. Of an adopted one other code may have a
    /// duplicate, which keeps the registration.
    pub(super) fn remove_adopted(&self, source: &mut impl EventSource, origin: Origin) {
        if origin == Origin::Adopted {
            if let Err(error) = self.remove(source) {
                log::debug!("deregistering an adopted socket: {error}");
            }
        }
    }

    pub(crate) fn remove(&self, source: &mut impl EventSource) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }

    /// Asks for write readiness too. No edge is lost between the send that failed and this call:
    /// Linux reports the present level once for each EPOLL_CTL_MOD. No man page says so; it was
    /// measured.
    pub(crate) fn add_writable(&self, stream: &mut TcpStream, id: Id) -> io::Result<()> {
        let interest = input() | Interest::WRITABLE;
        self.poll
            .registry()
            .reregister(&mut stream.socket, id.token(), interest)
    }
}

/// Input, and urgent data where the poller can report it (EPOLLPRI).
fn input() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return Interest::READABLE;
}

/// A hang-up or an error is never acted upon by itself: it asks for a read and a write, and their
/// results say what happened.
fn readiness(event: &Event) -> Readiness {
    let mut marks = Readiness::default();
    let broken = event.is_error() || event.is_write_closed();
    if event.is_readable() {
        marks.insert(Readiness::READABLE);
    }
    if broken || event.is_read_closed() || event.is_priority() {
        marks.insert(Readiness::UNDRAINED);
    }
    if broken || event.is_writable() {
        marks.insert(Readiness::WRITABLE);
    }
    marks
}
