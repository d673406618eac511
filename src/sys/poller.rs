//! The poller: edge-triggered epoll on Linux, kqueue on the BSDs and macOS.

use super::body::{self, Listener, Network, Stream, Waker};
#[cfg(feature = "sim")]
use super::sim::Process;
use super::socket::Origin;
use super::{EventSource, Interest, proc};
use crate::id::{Id, WAKER};
use crate::observe::{Call, CallScope, Overflows, Reported};
use crate::readiness::Readiness;
use mio::event::Event;
use mio::{Events, Poll};
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
    pub(super) network: Network,
}

/// One event of the poller.
pub(crate) enum Polled {
    /// Another thread left a message.
    Message,
    Ready(Id, Readiness),
}

impl Poller {
    pub(crate) fn new(events_per_turn: usize) -> io::Result<Poller> {
        // `Events` ends the program if there is not as much memory. No event is larger than this one.
        let mut events = Vec::<[u64; 4]>::new();
        events.try_reserve_exact(events_per_turn)?;
        drop(std::hint::black_box(events));
        Ok(Poller {
            poll: Poll::new()?,
            events: Events::with_capacity(events_per_turn),
            network: body::KERNEL,
        })
    }

    /// The poller of a simulated process. Its descriptor is a true one, which is never readable.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(process: Process) -> io::Result<Poller> {
        let mut poller = Poller::new(1)?;
        poller.network = Some(process);
        Ok(poller)
    }

    /// The simulated process, if this is its poller.
    #[cfg(feature = "sim")]
    pub(crate) fn process(&self) -> Option<&Process> {
        self.network.as_ref()
    }

    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        body::waker(&self.network, self.poll.registry(), WAKER)
    }

    /// Sleeps until a source is ready or the time is up. A signal (EINTR) counts as no event: mio does
    /// not retry, and the time left must be worked out again anyway.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        #[cfg(feature = "sim")]
        if let Some(process) = &mut self.network {
            return process.wait(limit);
        }
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Polled> + '_ {
        let kernel = self.events.iter().map(|event| match event.token() {
            WAKER => Polled::Message,
            token => Polled::Ready(Id::from_token(token), readiness(event)),
        });
        #[cfg(feature = "sim")]
        let kernel = kernel.chain(self.network.iter().flat_map(|process| {
            process.events().map(|event| match event.is_wake() {
                true => Polled::Message,
                false => Polled::Ready(Id::from_token(event.token()), event.readiness()),
            })
        }));
        kernel
    }

    /// The counters of dropped connection requests.
    pub(crate) fn overflows(&self) -> Option<Overflows> {
        #[cfg(feature = "sim")]
        if let Some(process) = &self.network {
            return Some(process.overflows());
        }
        proc::overflows()
    }

    /// The limit that the system clamps a backlog to.
    pub(crate) fn backlog_limit(&self) -> Option<u32> {
        #[cfg(feature = "sim")]
        if self.network.is_some() {
            return None;
        }
        proc::backlog_limit()
    }

    pub(crate) fn add_listener(
        &self,
        listener: &mut impl AsMut<Listener>,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        self.register(listener.as_mut(), Interest::READABLE, scope)
    }

    /// Does not ask for write readiness, because a new socket is writable and that event would wake
    /// the loop for nothing.
    pub(crate) fn add_stream(
        &self,
        stream: &mut impl AsMut<Stream>,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        self.register(stream.as_mut(), input(), scope)
    }

    /// Asks for write readiness, which reports the result of a connection attempt (connect(2)).
    pub(crate) fn add_connecting(
        &self,
        stream: &mut impl AsMut<Stream>,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        self.register(stream.as_mut(), input() | Interest::WRITABLE, scope)
    }

    /// Registers a foreign source. It is the kernel's, so a simulation cannot have it.
    pub(crate) fn add(
        &self,
        source: &mut impl EventSource,
        interest: Interest,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        #[cfg(feature = "sim")]
        body::check_kernel(&self.network)?;
        self.register(source, interest, scope)
    }

    /// Out of line, because no message needs it, and what is inlined into the loop costs each one.
    #[inline(never)]
    fn register(
        &self,
        source: &mut impl EventSource,
        interest: Interest,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        let registry = self.poll.registry();
        let registered = registry.register(source, scope.id.token(), interest);
        let reported = reported(interest);
        scope.report(Call::Register { reported }, registered)
    }

    /// close(2) of the last descriptor of a socket ends its registration (epoll(7), question 6), so
    /// nothing is done for a socket that this reactor made. Of an adopted one other code may have a
    /// duplicate, which keeps the registration.
    pub(super) fn remove_adopted(
        &self,
        source: &mut impl EventSource,
        origin: Origin,
        scope: CallScope<'_>,
    ) {
        if origin == Origin::Adopted {
            if let Err(error) = self.remove(source, scope) {
                log::debug!("deregistering an adopted socket: {error}");
            }
        }
    }

    pub(crate) fn remove(
        &self,
        source: &mut impl EventSource,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        scope.report(Call::Deregister, self.poll.registry().deregister(source))
    }

    /// Asks for write readiness too. No edge is lost between the send that failed and this call:
    /// Linux reports the present level once for each EPOLL_CTL_MOD. No man page says so; it was
    /// measured.
    pub(crate) fn add_writable(
        &self,
        stream: &mut impl AsMut<Stream>,
        scope: CallScope<'_>,
    ) -> io::Result<()> {
        let (registry, interest) = (self.poll.registry(), input() | Interest::WRITABLE);
        let registered = registry.reregister(stream.as_mut(), scope.id.token(), interest);
        let reported = reported(interest);
        scope.report(Call::Reregister { reported }, registered)
    }
}

/// Input, and urgent data where the poller can report it (EPOLLPRI).
fn input() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return Interest::READABLE;
}

/// An interest as an observer is shown it.
fn reported(interest: Interest) -> Reported {
    Reported {
        readable: interest.is_readable(),
        writable: interest.is_writable(),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        urgent: interest.is_priority(),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        urgent: false,
    }
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
    if event.is_error() {
        marks.insert(Readiness::ERROR);
    }
    marks
}
