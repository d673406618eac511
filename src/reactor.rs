//! The loop: six phases, one turn.
//!
//! Everything that can make progress only queues an id; the fourth phase drives each id for one bounded turn. What a turn is,
//! for a listener and for a connection, stands in `drive.rs`.

use crate::common::Common;
use crate::config::{Config, ConnectOptions, ListenOptions};
use crate::context::{Call, Others};
use crate::drive::guard;
use crate::handle::{Handle, Mailbox, Post};
use crate::handler::{Handler, Reason, Service};
use crate::id::Id;
use crate::net::{self, EventSource, Interest, Note, Poller, TcpListener, TcpStream};
use crate::observe::{Event, Observer};
use crate::readiness::Readiness;
use crate::snapshot::Snapshot;
use crate::sources::{Connection, Source, Sources};
use crate::stats::Stats;
use crate::stream::Stream;
use crate::throttle::Throttle;
use crate::timers::{Tick, Timers};
use crate::waiting::{self, AcceptQueue};
use crate::watch::{Next, Pair};
use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A single-threaded readiness loop with its listeners and connections.
///
/// ```
/// use doorkeeper::{Config, Context, Handler, Reactor};
/// use std::io;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
///         Ok(cx.write(input))
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let mut reactor = Reactor::new(Config::default())?;
/// let id = reactor.listen("127.0.0.1:0".parse().unwrap(), |_peer| Some(Echo))?;
/// println!("listening on {}", reactor.local_addr(id)?);
/// # reactor.handle().stop()?;
/// reactor.run()
/// # }
/// ```
pub struct Reactor {
    pub(crate) common: Common,
    pub(crate) poller: Poller,
    pub(crate) sources: Sources,
    pub(crate) timers: Timers,
    /// What input is read into: one buffer for all connections.
    pub(crate) input: Box<[u8]>,
    /// What the callbacks of a turn wrote: one buffer too.
    pub(crate) gathered: Vec<u8>,
    pub(crate) stats: Stats,
    pub(crate) troubles: Troubles,
    mailbox: Arc<Mailbox>,
    /// Posts taken from the mailbox, for phase 5.
    posts: Vec<Post>,
    /// Shutting down: when to give up on the connections that are still open.
    drain_until: Option<Tick>,
    /// It is out, in the hands of a callback or of a posted closure.
    lent: bool,
}

/// The most slots reserved from the start. Memory costs nothing before it is touched, and a table that grows by copying holds
/// the loop up meanwhile, and leaves holes behind.
const RESERVED_SLOTS: usize = 16_384;

/// A deadline twice as many seconds away is not worth a reading of the clock before each sleep.
const FAR: u64 = 5;

/// One throttle for each kind of trouble that peers can cause at will.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) accept: Throttle,
    pub(crate) register: Throttle,
    pub(crate) handler: Throttle,
    pub(crate) panic: Throttle,
}

impl Reactor {
    /// Makes a reactor with nothing in it.
    ///
    /// # Errors
    /// `InvalidInput` if a limit is 0, naming it; else those of the poller, such as EMFILE (epoll_create1(2), eventfd(2)).
    pub fn new(config: Config) -> io::Result<Reactor> {
        config.check()?;
        let poller = Poller::new(config.events_per_turn)?;
        let slots = config.max_connections.min(RESERVED_SLOTS);
        Ok(Reactor {
            mailbox: Mailbox::new(poller.waker()?),
            poller,
            sources: Sources::new(slots, config.output_max_bytes),
            timers: Timers::with_capacity(slots),
            input: vec![0; config.input_max_bytes.min(config.turn_budget_bytes)].into_boxed_slice(),
            gathered: Vec::with_capacity(config.output_max_bytes),
            stats: Stats::default(),
            troubles: Troubles::default(),
            posts: Vec::new(),
            drain_until: None,
            lent: false,
            common: Common::new(config),
        })
    }

    /// Listens on an address, with the default [`ListenOptions`]. Port 0 asks for any free port;
    /// [`local_addr`](Reactor::local_addr) tells which it is.
    ///
    /// # Errors
    /// As for [`listen_with`](Reactor::listen_with).
    pub fn listen(
        &mut self,
        address: SocketAddr,
        service: impl Service + 'static,
    ) -> io::Result<Id> {
        self.listen_with(address, &ListenOptions::default(), service)
    }

    /// Listens on an address: socket → bind → listen. Clients can connect, and send, from this call on; they are accepted when
    /// the loop turns.
    ///
    /// A backlog above the system's limit is clamped to it by the kernel, and one warning in the log says from what to what.
    ///
    /// # Errors
    /// Those of socket(2), bind(2), listen(2) and of the poller, as they are: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied` and their kin.
    pub fn listen_with(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        service: impl Service + 'static,
    ) -> io::Result<Id> {
        let listener =
            TcpListener::bind(address, options, self.common.told(self.sources.next_id()))?;
        if let Some(limit) = net::backlog_limit().filter(|&limit| limit < options.backlog) {
            let backlog = options.backlog;
            log::warn!(
                "{address}: the system clamps backlog {backlog} to {limit} (net.core.somaxconn)"
            );
        }
        self.add_listener(listener, Box::new(service))
    }

    /// Takes over a socket that listens already, such as one inherited from a supervisor or a systemd socket unit. It is made
    /// nonblocking; its backlog stays what it was.
    ///
    /// # Errors
    /// Those of fcntl(2), setsockopt(2) and the poller.
    pub fn adopt_listener(
        &mut self,
        listener: std::net::TcpListener,
        service: impl Service + 'static,
    ) -> io::Result<Id> {
        self.add_listener(TcpListener::adopt(listener)?, Box::new(service))
    }

    fn add_listener(
        &mut self,
        mut listener: TcpListener,
        service: Box<dyn Service>,
    ) -> io::Result<Id> {
        if !self.sources.has_slot() {
            return Err(no_slot());
        }
        let address = listener.local_addr()?;
        self.poller
            .add_listener(&mut listener, self.sources.next_id())?;
        let id = self.sources.add_listener(listener, service);
        log::info!("listener {id} on {address}");
        Ok(id)
    }

    /// Connects to an address, with the default [`ConnectOptions`]: socket → connect, in the next turn.
    ///
    /// The handler's `on_open` is called once the connection is established: when the request is in the server's queue, not when
    /// the server accepts, so data can be sent before anyone there has said hello. Until then `send` to the id takes nothing.
    /// Where it cannot be established, at once or later, `on_close` alone is called, and its [`Reason`] tells refused, timed
    /// out, unreachable, reset, no local port left and out of descriptors apart.
    ///
    /// Addresses, not names: resolving a name takes calls that block, and belongs before the loop or on another thread.
    ///
    /// # Errors
    /// Only if there is no place left for it (2³² sources; 2¹⁶ where a `usize` has 32 bits), or the reactor is being dropped. The
    /// handler is dropped then.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        handler: impl Handler + 'static,
    ) -> io::Result<Id> {
        self.connect_with(address, &ConnectOptions::default(), handler)
    }

    /// Connects to an address: with a time limit, or from a local address, of one's own.
    ///
    /// # Errors
    /// As for [`connect`](Reactor::connect).
    pub fn connect_with(
        &mut self,
        address: SocketAddr,
        options: &ConnectOptions,
        handler: impl Handler + 'static,
    ) -> io::Result<Id> {
        let call = Call {
            handler: Box::new(handler),
            since: self.common.clock.now(),
        };
        self.sources.connect(address, options, call)
    }

    /// Takes over a stream that is connected already. It is made nonblocking, and TCP_NODELAY is set.
    ///
    /// # Errors
    /// `NotConnected` if it is not; those of fcntl(2), setsockopt(2) and the poller. Stream and handler are dropped then.
    pub fn adopt_stream(
        &mut self,
        stream: std::net::TcpStream,
        handler: impl Handler + 'static,
    ) -> io::Result<Id> {
        if !self.sources.has_slot() {
            return Err(no_slot());
        }
        let mut socket = TcpStream::adopt(stream)?;
        let peer = socket.peer_addr()?;
        self.poller
            .add_stream(&mut socket, self.sources.next_id())?;
        let id = self.sources.add_connection(Connection::new(
            Stream::new(self.common.clock.now()),
            peer,
            Box::new(handler),
            socket,
        ));
        self.stats.connected += 1;
        log::debug!("connection {id} with {peer} adopted");
        Ok(id)
    }

    /// Lets a host drive any other source of [mio] on this loop: a pipe, a timerfd, a queue of signals.
    ///
    /// The callback is called in phase 4, once in the turn after the source became ready or its id was woken, and once when it
    /// is new. It should take a bounded amount, and says with [`Next`] whether there is more. Readiness is told once for each
    /// change, and sometimes for nothing: only the source itself knows, by `WouldBlock`. [`close`](Reactor::close) ends it.
    /// A panic in the callback is caught, logged and counted, and ends it too.
    ///
    /// [mio]: crate::mio
    ///
    /// # Errors
    /// Those of registering the source; on Linux `PermissionDenied` (EPERM) for a plain file, which is always ready
    /// ([epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html)).
    pub fn watch<S, F>(&mut self, mut source: S, interest: Interest, callback: F) -> io::Result<Id>
    where
        S: EventSource + 'static,
        F: FnMut(&mut Reactor, Id, &mut S) -> Next + 'static,
    {
        if !self.sources.has_slot() {
            return Err(no_slot());
        }
        self.poller
            .add_foreign(&mut source, interest, self.sources.next_id())?;
        Ok(self.sources.add_watch(Box::new(Pair { source, callback })))
    }

    /// Has all that happens told to an observer, from now on; one that was there before is dropped. A panic in it is caught and
    /// logged, and removes it. Without one, nothing is computed for it and no clock is read.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.common.eyes.observe(observer);
    }

    /// Changes the size of a listener's waiting room, by listen(2) on the socket that listens already. Those who wait in it stay,
    /// also if it is smaller now.
    ///
    /// # Errors
    /// `NotFound` if the id names no listener; those of listen(2).
    pub fn set_backlog(&mut self, listener: Id, backlog: u32) -> io::Result<()> {
        match self.sources.get(listener) {
            Some(Source::Listener(found)) => found
                .socket
                .set_backlog(backlog, self.common.told(listener)),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("id {listener} names no listener"),
            )),
        }
    }

    /// How many wait in a listener's waiting room, and how many fit, as the kernel has it. `None` if the id names no listener, or
    /// the system does not tell (all but Linux).
    pub fn accept_queue(&self, listener: Id) -> Option<AcceptQueue> {
        match self.sources.get(listener)? {
            Source::Listener(found) => found.socket.accept_queue(),
            _ => None,
        }
    }

    /// Everything there is, at this moment, in the order of the slots. Its cost grows with the number of connections.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.common.clock.now();
        let mut snapshot = Snapshot {
            listeners: Vec::new(),
            connections: Vec::new(),
            queued: self.sources.queued(),
            deadlines: self.timers.len(),
            next_deadline: self.next_tick().map(|tick| tick.since(now)),
            stats: self.stats(),
            overflows: waiting::overflows(),
        };
        for id in self.sources.ids() {
            match self.sources.get(id) {
                Some(Source::Listener(listener)) => snapshot.listeners.push(listener.view(id)),
                Some(Source::Connection(connection)) => {
                    snapshot.connections.push(connection.view(id, now))
                }
                Some(Source::Dial(dial)) => snapshot.connections.push(dial.view(id, now)),
                Some(Source::Watch(_) | Source::Away | Source::Closed) | None => {}
            }
        }
        snapshot
    }

    /// The address a listener or a connection has on this side.
    ///
    /// # Errors
    /// `NotFound` if the id names neither; `NotConnected` before the first turn of an outgoing one; those of getsockname(2).
    pub fn local_addr(&self, id: Id) -> io::Result<SocketAddr> {
        match self.sources.get(id) {
            Some(Source::Listener(listener)) => listener.socket.local_addr(),
            Some(Source::Connection(connection)) => connection.socket.local_addr(),
            Some(Source::Dial(dial)) => dial.socket.as_ref().map_or(
                Err(io::ErrorKind::NotConnected.into()),
                TcpStream::local_addr,
            ),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("id {id} names nothing open"),
            )),
        }
    }

    /// Writes to a connection, like [`Context::send`](crate::Context::send).
    pub fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        self.sources.send(id, bytes)
    }

    /// Gives a connection a turn, like [`Context::wake`](crate::Context::wake).
    pub fn wake(&mut self, id: Id) -> bool {
        self.sources.wake(id)
    }

    /// Ends a connection's output, like [`Context::half_close`](crate::Context::half_close) by its own handler. False if the id
    /// names no connection.
    pub fn half_close(&mut self, id: Id) -> bool {
        self.sources.half_close(id)
    }

    /// Closes a connection, a listener or a watched source, like [`Context::close`](crate::Context::close): in phase 5 of the next turn.
    pub fn close(&mut self, id: Id) -> bool {
        self.sources.close(id)
    }

    /// Begins to shut down: every listener lets in those who already wait and closes, open connections go on, and
    /// [`run`](Reactor::run) returns when the last has ended or `patience` has passed. Those still open then are closed when
    /// the reactor is dropped.
    pub fn shutdown(&mut self, patience: Duration) {
        self.drain_until = Some(self.common.clock.now().after(patience));
        for id in self.sources.listeners.clone() {
            self.drain_listener(id);
        }
    }

    /// A handle by which other threads can stop the loop and post work to it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.mailbox))
    }

    /// The counters as they stand.
    pub fn stats(&self) -> Stats {
        Stats {
            open: self.sources.open,
            bytes_received: self.common.received.get(),
            bytes_sent: self.common.sent.get(),
            ..self.stats.clone()
        }
    }

    /// When the loop needs its next turn at the latest, if [`as_fd`](Reactor::as_fd) does not become readable before: now (or
    /// some time past) if ids are queued, else the earliest deadline. `None`: not before an event.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.has_work() {
            return Some(self.common.clock.instant(self.common.now));
        }
        self.next_tick().map(|tick| self.common.clock.instant(tick))
    }

    fn next_tick(&self) -> Option<Tick> {
        match self.drain_until {
            None => self.timers.next(),
            Some(until) => Some(self.timers.next().map_or(until, |next| next.min(until))),
        }
    }

    fn has_work(&self) -> bool {
        self.sources.queued() > 0 || !self.sources.closing.is_empty()
    }

    /// Makes [`run`](Reactor::run) return at the end of its current turn, or at once if it is called later.
    pub fn stop(&mut self) {
        self.sources.stopping = true;
    }

    /// Whether the loop has come to its end, by a stop or by a drain that is over: what [`run`](Reactor::run) looks at after
    /// each turn, and so should a host that calls [`turn`](Reactor::turn) itself.
    pub fn is_done(&self) -> bool {
        self.sources.stopping || self.is_drained()
    }

    /// Turns until [`Handle::stop`], [`Context::stop`](crate::Context::stop), or the end of a
    /// [`drain`](Reactor::shutdown).
    ///
    /// # Errors
    /// Those of the poller; every other failure belongs to one connection, one listener or one call. And where a callback calls it,
    /// as for [`turn`](Reactor::turn).
    pub fn run(&mut self) -> io::Result<()> {
        self.check_at_rest()?;
        self.common.now = self.common.clock.now();
        while !self.is_done() {
            self.turn_on(None)?;
        }
        self.sources.stopping = false;
        Ok(())
    }

    fn is_drained(&self) -> bool {
        let over = |until| {
            self.common.now >= until || self.sources.open == 0 && self.sources.listeners.is_empty()
        };
        self.drain_until.is_some_and(over)
    }

    /// One turn of the loop: all six phases, once. Sleeps for at most `limit`, and not at all while ids are queued;
    /// `Some(Duration::ZERO)` never sleeps, `None` sleeps until something happens, or some time has passed towards a deadline that is
    /// far away.
    ///
    /// # Errors
    /// Those of the poller. A signal (EINTR) is not one: the turn then finds nothing ready. And where it is called by a callback or a
    /// posted closure of this loop, for a turn has no turns within it: nothing is done then.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.check_at_rest()?;
        if limit != Some(Duration::ZERO) {
            // How long a host was elsewhere, only the clock knows.
            self.common.now = self.common.clock.now();
        }
        self.turn_on(limit)
    }

    fn check_at_rest(&self) -> io::Result<()> {
        if self.lent {
            return Err(io::Error::other(
                "the loop is turning already: it was asked to by one of its own callbacks",
            ));
        }
        Ok(())
    }

    /// Runs code of an embedder that is given the reactor; `None` if it panicked.
    pub(crate) fn lend<R>(&mut self, code: impl FnOnce(&mut Reactor) -> R) -> Option<R> {
        self.lent = true;
        let result = guard(|| code(self));
        self.lent = false;
        result
    }

    /// One turn of many, with nothing but turns in between.
    fn turn_on(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.wait(limit)?;
        self.note();
        self.expire();
        self.drive();
        self.apply();
        self.reap();
        let number = self.stats.turns;
        self.common.eyes.tell(move || Event::TurnEnd { number });
        Ok(())
    }

    /// Phase 1: sleep until readiness, a deadline or a wake-up; not while ids are queued.
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let limit = if self.has_work() || self.sources.stopping {
            Some(Duration::ZERO)
        } else {
            limit.into_iter().chain(self.time_left()).min()
        };
        let before = if self.common.eyes.are_open() {
            self.common.clock.now()
        } else {
            self.common.now
        };
        self.poller.wait(limit)?;
        self.common.now = self.common.clock.now();
        self.stats.turns += 1;
        let this = &*self;
        self.common.eyes.tell(move || {
            let (number, slept) = (this.stats.turns, this.common.now.since(before));
            Event::TurnStart {
                number,
                slept,
                events: this.poller.notes().count(),
                queued: this.sources.queued(),
            }
        });
        Ok(())
    }

    /// How long the loop may sleep for its deadlines' sake. The last turn may have been long, so the clock is read anew where a
    /// deadline is near. Where it is far, half of what is left by the time of that turn is soon enough to look again.
    fn time_left(&self) -> Option<Duration> {
        let deadline = self.next_tick()?;
        let half = deadline.since(self.common.now).as_secs() / 2;
        Some(if half > FAR {
            Duration::from_secs(half)
        } else {
            deadline.since(self.common.clock.now())
        })
    }

    /// Phase 2: mark what each event is about, and queue its id. An id that has gone stale marks nothing.
    fn note(&mut self) {
        let mut events = 0;
        for note in self.poller.notes() {
            events += 1;
            match note {
                Note::Ready(id, readiness) => {
                    let known = self.sources.mark(id, readiness);
                    if self.common.eyes.are_open() {
                        self.tell_noted(id, readiness, known);
                    }
                }
                Note::Mail => {
                    let mail = self.mailbox.collect();
                    self.sources.stopping |= mail.stop;
                    self.posts.extend(mail.posts);
                }
            }
        }
        self.stats.events += events;
        log::trace!(
            "turn {}: {events} events, {} queued",
            self.stats.turns,
            self.sources.queued()
        );
    }

    #[cold]
    fn tell_noted(&self, id: Id, readiness: Readiness, known: bool) {
        self.common.eyes.tell(|| {
            if known {
                ready(id, readiness)
            } else {
                Event::Stale { id }
            }
        });
    }

    /// Phase 3: queue the ids whose deadlines have passed. Nothing is armed here, so it ends.
    fn expire(&mut self) {
        while let Some(slot) = self.timers.pop_due(self.common.now) {
            if let Some(id) = self.sources.mark_due(slot) {
                self.common.eyes.tell(|| Event::DeadlinePassed { id });
            }
        }
    }

    /// Phase 4: one bounded turn for every id queued before this phase. Ids queued by these turns have theirs next time.
    fn drive(&mut self) {
        self.sources.begin_round();
        while let Some(id) = self.sources.next_in_round() {
            self.drive_one(id);
        }
    }

    /// Phase 5: what handlers asked to be closed, and what other threads posted. What these ask for in turn waits for the
    /// next.
    fn apply(&mut self) {
        for _ in 0..self.sources.closing.len() {
            if let Some(id) = self.sources.closing.pop_front() {
                self.close_now(id, Reason::Closed);
            }
        }
        let posts = if self.posts.is_empty() {
            Vec::new()
        } else {
            std::mem::take(&mut self.posts)
        };
        for work in posts {
            if self.lend(work).is_none() {
                self.count_panic("a posted closure");
            }
        }
    }

    /// Phase 6: free the slots closed in this turn, and let in those who were kept waiting for them.
    fn reap(&mut self) {
        if self.sources.free_dead() {
            self.reopen_doors();
        }
    }
}

/// Closes everything; each handler is told [`Reason::ReactorDropped`].
impl Drop for Reactor {
    fn drop(&mut self) {
        self.sources.ending = true;
        for id in self.sources.ids() {
            self.close_now(id, Reason::ReactorDropped);
        }
        self.mailbox.close();
    }
}

/// The poller's own descriptor: readable in another poller when a turn has work. See [the example `host_loop`], and
/// [`Reactor::next_deadline`] for the work that no descriptor tells of.
///
/// A host with a loop of its own does this, over and over:
///
/// 1. sleep until this descriptor is readable (level-triggered), or [`next_deadline`](Reactor::next_deadline) has come: rounded
///    *up* to what the host's poller can tell, or the last fraction is spent spinning;
/// 2. call [`turn`](Reactor::turn) with `Some(Duration::ZERO)`, which never sleeps;
/// 3. look at [`is_done`](Reactor::is_done).
///
/// Whatever the host calls on the reactor between turns may bring the deadline forward, so it is asked for anew before each
/// sleep. Nothing is to be registered with this descriptor, or read from it.
///
/// [the example `host_loop`]: https://docs.rs/crate/doorkeeper/latest/source/examples/host_loop.rs
#[cfg(unix)]
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

fn ready(id: Id, noted: Readiness) -> Event<'static> {
    let [readable, writable, undrained] = [
        Readiness::READABLE,
        Readiness::WRITABLE,
        Readiness::SCATTERED,
    ]
    .map(|mark| noted.has(mark));
    Event::Ready {
        id,
        readable,
        writable,
        undrained,
    }
}

fn no_slot() -> io::Error {
    io::Error::other(format!("no place left: {} sources are open", Id::SLOTS))
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("config", &self.common.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock stands at the beginning here, and at some time since then in truth.
    #[test]
    fn far_from_its_next_deadline_the_loop_sleeps_half_way_there_and_close_to_it_no_longer_than_to_it()
     {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        assert_eq!(reactor.time_left(), None);
        let second = Duration::from_secs(1);
        reactor.timers.arm(7, Tick::default().after(60 * second));
        assert_eq!(reactor.time_left(), Some(30 * second));
        reactor.common.now = Tick::default().after(46 * second);
        assert_eq!(reactor.time_left(), Some(7 * second));
        // Now the clock itself is asked.
        reactor.common.now = Tick::default().after(52 * second);
        let left = reactor.time_left().unwrap();
        assert!((50 * second..60 * second).contains(&left), "{left:?}");
        reactor.shutdown(20 * second);
        let left = reactor.time_left().unwrap();
        assert!((10 * second..20 * second).contains(&left), "{left:?}");
    }
}
