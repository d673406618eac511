//! The one hook: what the loop does, as it does it, for whoever wants to watch.
//!
//! Without an observer an event is not even made: what would make it is a closure that is not called, and no clock is read.

use crate::handler::Callback;
use crate::id::Id;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Watches a [`Reactor`](crate::Reactor); see [`Reactor::observe`](crate::Reactor::observe).
pub trait Observer {
    /// Something happened. This is called in the midst of it, so it should be quick; the loop stands still meanwhile.
    fn event(&mut self, event: &Event<'_>);
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A turn of the loop begins: the poller has returned.
    TurnStart {
        /// Its number, as in [`Stats::turns`](crate::Stats::turns).
        number: u64,
        /// How long the loop slept.
        slept: Duration,
        /// How many readiness events there are.
        events: usize,
        /// How many ids were queued already.
        queued: usize,
    },
    /// The turn is over. Until the next begins, nothing of the reactor runs.
    TurnEnd {
        /// The number of the turn.
        number: u64,
    },
    /// A source became ready, as the poller gave it.
    Ready {
        /// Which.
        id: Id,
        /// There is something to read, or someone to accept.
        readable: bool,
        /// There is room to write, or a connection is established.
        writable: bool,
        /// The peer's end, an error, or urgent data: a read will tell.
        undrained: bool,
    },
    /// The poller told of a source that is closed by now. Nobody hears of it.
    Stale {
        /// Whose name it was.
        id: Id,
    },
    /// A deadline has passed: of a handler's timer, an idle connection, a call, a listener that backed off.
    DeadlinePassed {
        /// Whose.
        id: Id,
    },
    /// A system call was made.
    Call {
        /// For which listener or connection.
        id: Id,
        /// Which, and its arguments.
        call: Call<'a>,
        /// How many bytes it moved, 0 for calls that move none; or its error.
        result: Result<usize, &'a io::Error>,
    },
    /// A handler, or a service, was called.
    Callback {
        /// Whose: a service is called by its listener.
        id: Id,
        /// The other end of that connection.
        peer: SocketAddr,
        /// Which method.
        callback: Callback,
        /// How long it held the loop.
        took: Duration,
    },
    /// A turn ended because its budget was spent; there is more to do in the next.
    BudgetSpent {
        /// Whose turn.
        id: Id,
        /// Of which budget.
        budget: Budget,
    },
    /// A listener changed its mind.
    ListenerState {
        /// Which.
        id: Id,
        /// What it does from now on.
        state: ListenerState,
    },
}

/// A system call, with its arguments.
#[derive(Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// socket(2), for a connection or a listener of the address's family.
    Socket {
        /// What it is for.
        address: SocketAddr,
    },
    /// bind(2).
    Bind {
        /// As asked for; port 0 is any.
        address: SocketAddr,
    },
    /// listen(2).
    Listen {
        /// As asked for; the system may clamp it.
        backlog: u32,
    },
    /// connect(2). EINPROGRESS is not an error here: the request is on its way.
    Connect {
        /// Where to.
        address: SocketAddr,
    },
    /// getsockopt(2) of SO_ERROR: what became of a connect. 0 says that it succeeded.
    SocketError,
    /// accept4(2).
    Accept {
        /// Who was let in, and the id it has if the service takes it.
        accepted: Option<(SocketAddr, Id)>,
    },
    /// recv(2).
    Read {
        /// How many bytes were asked for.
        length: usize,
        /// What came, as far as [`Config::observed_bytes`](crate::Config::observed_bytes) asks for it.
        bytes: &'a [u8],
    },
    /// send(2).
    Write {
        /// How many bytes were offered.
        length: usize,
        /// What the kernel took, as far as [`Config::observed_bytes`](crate::Config::observed_bytes) asks for it.
        bytes: &'a [u8],
    },
    /// shutdown(2) of this side's output.
    Shutdown,
    /// close(2).
    Close,
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

/// What a listener does, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerState {
    /// It lets in whoever comes.
    Accepting,
    /// It lets nobody in: [`Config::max_connections`](crate::Config::max_connections) are open.
    Full,
    /// It lets nobody in for a while: out of descriptors or memory.
    Backoff,
    /// It lets in those who wait, and then closes.
    ShuttingDown,
}

/// Prints what the door is like, in lower case.
impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenerState::Accepting => "accepting",
            ListenerState::Full => "full",
            ListenerState::Backoff => "backing off",
            ListenerState::ShuttingDown => "shutting down",
        })
    }
}

/// The observer, if there is one.
pub(crate) struct Eyes {
    observer: RefCell<Option<Box<dyn Observer>>>,
    open: Cell<bool>,
    /// Somebody wants to know how long callbacks take.
    timing: Cell<bool>,
    /// How much of what is read and written is shown.
    bytes: usize,
    /// From when on a callback is blamed.
    stall: Option<Duration>,
}

/// Whose callback it was.
pub(crate) struct Whose {
    pub(crate) id: Id,
    pub(crate) peer: SocketAddr,
    /// How many others had a turn coming.
    pub(crate) others: usize,
}

impl Eyes {
    pub(crate) fn new(bytes: usize, stall: Option<Duration>) -> Eyes {
        Eyes {
            observer: RefCell::new(None),
            open: Cell::new(false),
            timing: Cell::new(stall.is_some()),
            bytes,
            stall,
        }
    }

    pub(crate) fn observe(&self, observer: Box<dyn Observer>) {
        self.observer.replace(Some(observer));
        self.open.set(true);
        self.timing.set(true);
    }

    /// Whether anyone is watching. Built with `--cfg doorkeeper_unobserved` nobody ever is, to measure what this costs.
    #[inline]
    pub(crate) fn are_open(&self) -> bool {
        !cfg!(doorkeeper_unobserved) && self.open.get()
    }

    #[inline]
    pub(crate) fn tell<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        if self.are_open() {
            self.make(event);
        }
    }

    /// Out of line, so that what is on the way every message takes is one test.
    #[cold]
    fn make<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        self.deliver(&event());
    }

    /// A panic removes the observer: it must not disturb what it watches.
    fn deliver(&self, event: &Event<'_>) {
        let mut place = self.observer.borrow_mut();
        let told = place
            .as_mut()
            .map(|observer| catch_unwind(AssertUnwindSafe(|| observer.event(event))));
        if told.is_some_and(|told| told.is_err()) {
            log::error!("the observer panicked, and is removed");
            self.open.set(false);
            self.timing.set(self.stall.is_some());
            let gone = place.take();
            if catch_unwind(AssertUnwindSafe(|| drop(gone))).is_err() {
                log::error!("the observer panicked again when it was dropped");
            }
        }
    }

    /// What is shown of a payload.
    pub(crate) fn shown<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[..bytes.len().min(self.bytes)]
    }

    /// A callback has returned: tells whoever watches how long it took, and blames it if that was too long.
    #[inline(always)]
    pub(crate) fn handled(
        &self,
        started: Option<Instant>,
        callback: Callback,
        whose: impl FnOnce() -> Whose,
    ) {
        if let Some(started) = started {
            self.timed(started.elapsed(), callback, whose());
        }
    }

    #[cold]
    fn timed(&self, took: Duration, callback: Callback, Whose { id, peer, others }: Whose) {
        self.tell(|| Event::Callback {
            id,
            peer,
            callback,
            took,
        });
        if self.stall.is_some_and(|limit| took > limit) {
            let took = took.as_millis() as u64;
            log::warn!(
                "connection {id} with {peer}: {callback} held the loop for {took} ms; {others} others waited"
            );
        }
    }

    /// Whether anyone wants to know how long something takes.
    #[inline]
    pub(crate) fn are_timing(&self) -> bool {
        self.timing.get()
    }

    /// The time, if anyone wants to know how long something takes.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        if self.timing.get() {
            Some(Instant::now())
        } else {
            None
        }
    }
}
