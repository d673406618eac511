//! The observer and the events that it is given.

use crate::id::Id;
use crate::readiness::Readiness;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Observes a [`Reactor`](crate::Reactor); see [`Reactor::observe`](crate::Reactor::observe).
pub trait Observer {
    /// Something happened. The loop waits until this returns, so it should be quick.
    fn event(&mut self, event: &Event<'_>);
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The poller returned, and a turn of the loop starts.
    TurnStart {
        /// The number of the turn, as in [`Stats::turns`](crate::Stats::turns).
        number: u64,
        /// How long the loop slept.
        slept: Duration,
        /// The number of readiness events.
        events: usize,
        /// The number of ids that were queued before.
        queued: usize,
    },
    /// The turn is over. No code of the reactor runs until the next one starts.
    TurnEnd {
        /// The number of the turn.
        number: u64,
    },
    /// The poller reported a source as ready.
    Ready {
        /// The source.
        id: Id,
        /// There is input, or a connection to accept.
        readable: bool,
        /// There is room for output, or a connection attempt has a result.
        writable: bool,
        /// The peer ended, there is urgent data, or there is an error: the next reads tell which.
        undrained: bool,
    },
    /// The poller reported a source that has closed since. The event is dropped.
    Stale {
        /// The id that the source had.
        id: Id,
    },
    /// A deadline passed: of a timer, an idle connection, a connection attempt, or a listener that
    /// backed off.
    DeadlinePassed {
        /// The source with the deadline.
        id: Id,
    },
    /// A system call returned.
    Call {
        /// The listener or connection that the call was made for.
        id: Id,
        /// The call and its arguments.
        call: Call<'a>,
        /// The number of bytes moved (0 if the call moves none), or the error.
        result: Result<usize, &'a io::Error>,
    },
    /// A callback of a handler or a service returned.
    Callback {
        /// The connection; for a service, the listener.
        id: Id,
        /// The peer of that connection.
        peer: SocketAddr,
        /// The method.
        callback: Callback,
        /// How long it held the loop.
        took: Duration,
    },
    /// A turn ended because its budget was spent. The next turn goes on.
    BudgetSpent {
        /// The source whose turn it was.
        id: Id,
        /// The budget.
        budget: Budget,
    },
    /// A listener changed its state.
    ListenerState {
        /// The listener.
        id: Id,
        /// The new state.
        state: ListenerState,
    },
}

impl Event<'_> {
    pub(crate) fn ready(id: Id, marks: Readiness) -> Event<'static> {
        Event::Ready {
            id,
            readable: marks.intersects(Readiness::READABLE),
            writable: marks.intersects(Readiness::WRITABLE),
            undrained: marks.intersects(Readiness::UNDRAINED),
        }
    }
}

/// A system call and its arguments.
///
/// Calls have their plain names. On Linux accept is accept4(2), recv is recvfrom(2) and send is
/// sendto(2).
#[derive(Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// socket(2), for a connection or a listener.
    Socket {
        /// The address the socket is for; its family is the socket's.
        address: SocketAddr,
    },
    /// bind(2).
    Bind {
        /// The address asked for; port 0 is any free port.
        address: SocketAddr,
    },
    /// listen(2).
    Listen {
        /// The backlog asked for; the system may clamp it.
        backlog: u32,
    },
    /// connect(2). On a nonblocking socket its usual result is EINPROGRESS: the attempt has begun.
    Connect {
        /// The address of the peer.
        address: SocketAddr,
    },
    /// getsockopt(2) of SO_ERROR: the result of a connection attempt. 0 says that there is no error.
    SocketError,
    /// accept(2).
    Accept {
        /// The peer, and the id of the connection if the service takes it.
        accepted: Option<(SocketAddr, Id)>,
    },
    /// recv(2).
    Read {
        /// The number of bytes asked for.
        length: usize,
        /// The bytes read, at most [`Config::observed_bytes`](crate::Config::observed_bytes).
        bytes: &'a [u8],
    },
    /// send(2).
    Write {
        /// The number of bytes offered to the kernel.
        length: usize,
        /// The bytes that the kernel took, at most
        /// [`Config::observed_bytes`](crate::Config::observed_bytes).
        bytes: &'a [u8],
    },
    /// epoll_ctl(2) with EPOLL_CTL_ADD, or kevent(2): from now on the poller reports the source.
    Register {
        /// What it reports; each change once (EPOLLET).
        reported: Reported,
    },
    /// epoll_ctl(2) with EPOLL_CTL_MOD: what the poller reports is changed.
    Reregister {
        /// What it reports from now on.
        reported: Reported,
    },
    /// epoll_ctl(2) with EPOLL_CTL_DEL. It is made for adopted sockets and watched sources; close(2)
    /// ends the registration of all others.
    Deregister,
    /// shutdown(2) of this side's output.
    Shutdown,
    /// close(2).
    Close,
}

/// What the poller reports of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Input, and the peer's end (EPOLLIN and EPOLLRDHUP).
    pub readable: bool,
    /// Room for output, and the result of a connection attempt (EPOLLOUT).
    pub writable: bool,
    /// Urgent data (EPOLLPRI).
    pub urgent: bool,
}

/// A method of [`Handler`](crate::Handler), or a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Callback {
    /// The service given to [`Reactor::listen`](crate::Reactor::listen).
    Service,
    /// [`Handler::on_open`](crate::Handler::on_open).
    Open,
    /// [`Handler::on_data`](crate::Handler::on_data).
    Data,
    /// [`Handler::on_drain`](crate::Handler::on_drain).
    Drain,
    /// [`Handler::on_eof`](crate::Handler::on_eof).
    Eof,
    /// [`Handler::on_wake`](crate::Handler::on_wake).
    Wake,
    /// [`Handler::on_timer`](crate::Handler::on_timer).
    Timer,
    /// [`Handler::on_shutdown`](crate::Handler::on_shutdown).
    Shutdown,
    /// [`Handler::on_close`](crate::Handler::on_close).
    Close,
}

/// Prints the method's name, as in `on_data`.
impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Callback::Service => "open",
            Callback::Wake => "on_wake",
            Callback::Open => "on_open",
            Callback::Data => "on_data",
            Callback::Drain => "on_drain",
            Callback::Eof => "on_eof",
            Callback::Timer => "on_timer",
            Callback::Shutdown => "on_shutdown",
            Callback::Close => "on_close",
        })
    }
}

/// A budget of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Budget {
    /// [`Config::accept_budget`](crate::Config::accept_budget).
    Accept,
    /// [`Config::turn_budget_bytes`](crate::Config::turn_budget_bytes).
    Bytes,
}

/// Whether a listener accepts, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerState {
    /// It accepts every connection that comes.
    #[default]
    Accepting,
    /// It accepts nothing: [`Config::max_connections`](crate::Config::max_connections) are open. New
    /// connections wait in the accept queue.
    Full,
    /// It accepts nothing for a while, because descriptors or memory ran out.
    Backoff,
    /// It accepts nothing until [`Reactor::resume`](crate::Reactor::resume).
    Paused,
    /// It accepts the connections that wait, and then closes.
    ShuttingDown,
}

/// Prints the state in lower case.
impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenerState::Accepting => "accepting",
            ListenerState::Full => "full",
            ListenerState::Backoff => "backing off",
            ListenerState::Paused => "paused",
            ListenerState::ShuttingDown => "shutting down",
        })
    }
}
