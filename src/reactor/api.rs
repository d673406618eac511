//! What a program calls on the reactor.

use super::mailbox::{Handle, Mailbox};
use super::sources::{Connection, Source, Sources};
use super::watch::{Next, Pair};
use super::{Reactor, trouble::Troubles};
use crate::common::Common;
use crate::config::{Config, ConnectOptions, Limits, ListenOptions};
use crate::connection::Machine;
use crate::errno::failure;
use crate::handler::{Arrival, Attempt, Context, Handler, LocalAddr, LoopOps, Service, boxed};
use crate::id::Id;
use crate::layers::Layered;
use crate::observe::{AcceptQueue, Observer, Snapshot, Stats};
use crate::sys::{EventSource, Interest, Poller, TcpListener, TcpStream};
use crate::time::Deadlines;
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most slots that are reserved at the start. Memory costs nothing before it is touched. A table
/// that grows by copying would hold the loop up, and leave holes in the heap.
const RESERVED_SLOTS: usize = 16_384;

/// The slots that are reserved for sources that are not accepted: without one for the listener, the
/// last connection of `max_connections` would make the tables twice as large.
const OTHER_SLOTS: usize = 64;

/// The most bytes that are reserved for the output of a turn at the start.
const RESERVED_BYTES: usize = 1024 * 1024;

/// Making a reactor, and its sources.
impl Reactor {
    /// Makes a reactor without any source.
    ///
    /// # Errors
    /// `InvalidInput` if a limit is beyond its bounds, naming both ([`Config::check`]); `OutOfMemory`
    /// if there is not as much memory as the limits ask for; those of the poller, such as EMFILE
    /// (epoll_create1(2), eventfd(2)).
    pub fn new(config: Config) -> io::Result<Reactor> {
        config.check()?;
        let poller = Poller::new(config.events_per_turn)?;
        Reactor::with_poller(config, poller)
    }

    pub(super) fn with_poller(config: Config, poller: Poller) -> io::Result<Reactor> {
        let slots = (config.max_connections + OTHER_SLOTS).min(RESERVED_SLOTS);
        let mut input = Vec::new();
        let length = config.input_max_bytes.min(config.turn_budget_bytes);
        input.try_reserve_exact(length)?;
        input.resize(length, 0);
        Ok(Reactor {
            mailbox: Mailbox::new(poller.waker()?, config.posts_max),
            poller,
            sources: Sources::new(slots),
            deadlines: Deadlines::with_capacity(slots),
            input: input.into_boxed_slice(),
            output: Vec::with_capacity(config.output_max_bytes.min(RESERVED_BYTES)),
            stats: Stats::default(),
            troubles: Troubles::default(),
            posts: Vec::new(),
            posts_wait: false,
            lent: false,
            common: Common::new(config),
        })
    }

    /// Listens on an address, with the default [`ListenOptions`]. Port 0 asks for any free port;
    /// [`local_addr`](Reactor::local_addr) returns it.
    ///
    /// For each connection that is accepted, the service makes a handler. With `None` the connection is
    /// closed at once. A service that chooses between handlers returns `Box<dyn Handler>`, which is not
    /// boxed again. A closure that is kept in a variable first must name the type of its argument:
    /// `|arrival: &mut Arrival<'_>| …`.
    ///
    /// # Errors
    /// As for [`listen_with`](Reactor::listen_with).
    pub fn listen<H: Handler>(
        &mut self,
        address: SocketAddr,
        service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
    ) -> io::Result<Id> {
        self.listen_with(address, &ListenOptions::default(), service)
    }

    /// Listens on an address: socket → bind → listen. From this call on clients can connect and send;
    /// they are accepted when the loop turns.
    ///
    /// The kernel clamps a backlog above the system's limit; one warning in the log then says from
    /// what to what.
    ///
    /// # Errors
    /// `InvalidInput` if an option is beyond its bounds, naming both; those of socket(2),
    /// setsockopt(2), bind(2), listen(2) and the poller: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied` and others.
    pub fn listen_with<H: Handler>(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
    ) -> io::Result<Id> {
        let limits = self.common.config.with(&options.limits)?;
        let scope = self.common.scope(self.sources.next_id());
        let listener = TcpListener::bind(&self.poller, address, options, scope)?;
        self.add_listener(listener, limits, box_service(service))
    }

    /// Takes over a socket that listens already, such as one from a supervisor or a systemd socket
    /// unit. It is made nonblocking, and TCP_NODELAY is set. Its backlog stays what it was.
    ///
    /// The caller may keep a duplicate of the descriptor: clients can then connect after this one is
    /// closed, and the duplicate can be adopted in its turn. Both share the nonblocking mode.
    ///
    /// # Errors
    /// `InvalidInput` if the socket does not listen (SO_ACCEPTCONN,
    /// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html); checked on Linux, Android and
    /// FreeBSD); those of getsockopt(2), fcntl(2), setsockopt(2) and the poller.
    pub fn adopt_listener<H: Handler>(
        &mut self,
        listener: std::net::TcpListener,
        service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
    ) -> io::Result<Id> {
        let socket = TcpListener::adopt(&self.poller, listener)?;
        self.add_listener(socket, None, box_service(service))
    }

    fn add_listener(
        &mut self,
        mut socket: TcpListener,
        limits: Option<Rc<Config>>,
        service: Service,
    ) -> io::Result<Id> {
        self.sources.check_slot()?;
        let address = socket.local_addr()?;
        let scope = self.common.scope(self.sources.next_id());
        self.poller.add_listener(&mut socket, scope)?;
        let id = self.sources.add_listener(socket, limits, service);
        log::info!("listener {id} on {address}");
        Ok(id)
    }

    /// Connects to an address, with the default [`ConnectOptions`]: socket → connect, in the next
    /// turn.
    ///
    /// The handler's `on_open` is called once the connection is established. That is when the
    /// handshake is complete and the connection is in the server's accept queue; the server need not
    /// have accepted it. Data can be sent from then on. (With TCP_DEFER_ACCEPT, Linux only, the server
    /// queues it later.) What is [sent](crate::Others::send) to the id before waits until then, and
    /// leaves before what `on_open` writes. If only `on_close` is called, connecting failed, at once or
    /// later, and its [`Reason`](crate::Reason) says why: refused, timed out, unreachable, reset, no local
    /// port left, or out of descriptors.
    ///
    /// It takes an address, not a name. Resolve names before you call this: name lookup blocks.
    ///
    /// # Errors
    /// Only if there is no slot left (2³² sources; 2¹⁶ where a `usize` has 32 bits), or if the reactor
    /// is being dropped. The handler is then dropped.
    pub fn connect(&mut self, address: SocketAddr, handler: impl Handler) -> io::Result<Id> {
        self.connect_with(address, &ConnectOptions::default(), handler)
    }

    /// Connects to an address, with a time limit, a local address or socket options of its own. If one
    /// is beyond its bounds, `on_close` is told, as of every other failure.
    ///
    /// # Errors
    /// As for [`connect`](Reactor::connect).
    pub fn connect_with(
        &mut self,
        address: SocketAddr,
        options: &ConnectOptions,
        handler: impl Handler,
    ) -> io::Result<Id> {
        let (options, since) = (options.clone(), self.common.clock.now());
        self.sources.connect(Attempt {
            address,
            options,
            handler: boxed(handler),
            since,
        })
    }

    /// Takes over a stream that is connected already. It is made nonblocking, and TCP_NODELAY is set.
    ///
    /// The caller may keep a duplicate of the descriptor. The peer then still sees the end of the
    /// output that [`finish`](crate::Context::finish) and [`half_close`](crate::Context::half_close)
    /// send (shutdown(2)), but a close or a reset reaches it only when the duplicate is closed too.
    ///
    /// # Errors
    /// `NotConnected` if it is not connected; those of fcntl(2), setsockopt(2) and the poller. The
    /// stream and the handler are then dropped.
    pub fn adopt_stream(
        &mut self,
        stream: std::net::TcpStream,
        handler: impl Handler,
    ) -> io::Result<Id> {
        self.sources.check_slot()?;
        let mut socket = TcpStream::adopt(&self.poller, stream)?;
        let peer = socket.peer_addr()?;
        let scope = self.common.scope(self.sources.next_id());
        self.poller.add_stream(&mut socket, scope)?;
        let now = self.common.clock.now();
        let machine = Machine::new(now, false);
        let connection = Connection::new(machine, peer, boxed(handler), socket);
        let id = self.sources.add_connection(connection);
        self.common.begin_limits(id, None, now);
        self.stats.connected += 1;
        log::debug!("connection {id} with {peer} adopted");
        Ok(id)
    }

    /// Drives any other source of [mio] on this loop: a pipe, a timerfd, a queue of signals.
    ///
    /// The callback is called in phase 4: once when it is new, and once in the turn after the source
    /// became ready or its id was woken. It should do a bounded amount of work, and returns with
    /// [`Next`] whether there is more. Readiness is reported once for each change, and sometimes
    /// without a cause, so only `WouldBlock` from the source itself says that it is drained.
    /// [`close`](Reactor::close) ends it. A panic of the callback is caught, logged and counted, and
    /// ends it too.
    ///
    /// [mio]: crate::mio
    ///
    /// # Errors
    /// Those of registering the source. On Linux that is `PermissionDenied` (EPERM) for a regular
    /// file, which is always ready
    /// ([epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html)).
    pub fn watch<S, F>(&mut self, mut source: S, interest: Interest, callback: F) -> io::Result<Id>
    where
        S: EventSource + 'static,
        F: FnMut(&mut Reactor, Id, &mut S) -> Next + 'static,
    {
        self.sources.check_slot()?;
        let scope = self.common.scope(self.sources.next_id());
        self.poller.add(&mut source, interest, scope)?;
        let pair = Box::new(Pair { source, callback });
        Ok(self.sources.add(Source::Watch(pair)))
    }
}

/// Reaching a source by its id.
impl Reactor {
    /// How many bytes [`send`](Reactor::send) to this id would take now.
    pub fn room(&self, id: Id) -> usize {
        self.sources.room(id, &self.common)
    }

    /// Writes to a connection, like [`Others::send`](crate::Others::send).
    pub fn send(&mut self, id: Id, bytes: &[u8]) -> usize {
        self.note_time();
        self.sources.send(id, bytes, &self.common)
    }

    /// Gives a connection a turn, like [`Others::wake`](crate::Others::wake).
    pub fn wake(&mut self, id: Id) -> bool {
        self.sources.wake(id)
    }

    /// Calls code with the handler of a connection and its context, as if it were a callback: what is
    /// written is sent in the next turn, and an end that is asked for, or a panic, ends the connection
    /// then. `None` if the handler is of another type, if the code panicked, or if the id names no
    /// connection. A handler that a service returned in a box is of the type in the box.
    ///
    /// While an outgoing connection is not established, its context has no room ([`send`](Reactor::send)
    /// has), and to ask it for an end, a timer or input ([`want`](crate::Context::want)) has no effect;
    /// [`abort`](Reactor::abort) ends it.
    pub fn with<H: Handler, R>(
        &mut self,
        id: Id,
        code: impl FnOnce(&mut H, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let (mut code, mut result) = (Some(code), None);
        self.lend_handler(id, &mut |handler, cx| {
            if let Some(handler) = handler_in(handler).and_then(|found| found.downcast_mut()) {
                result = code.take().map(|code| code(handler, cx));
            }
        })?;
        result
    }

    /// Ends a connection's output, like [`Context::half_close`](crate::Context::half_close) of its own
    /// handler. False if the id names no connection.
    pub fn half_close(&mut self, id: Id) -> bool {
        self.sources.half_close(id)
    }

    /// Closes in good order, like [`Others::close`](crate::Others::close): a connection sends what was
    /// written to it first. Everything else closes in phase 5 of the next turn.
    pub fn close(&mut self, id: Id) -> bool {
        let now = self.common.clock.now();
        self.sources.close(id, now)
    }

    /// Resets a connection in its next turn, like [`Others::abort`](crate::Others::abort).
    pub fn abort(&mut self, id: Id) -> bool {
        self.sources.abort(id)
    }

    /// Pauses a listener: it accepts nothing, and new connections wait in its accept queue, until
    /// [`resume`](Reactor::resume). If the queue is full, Linux drops further requests, and the clients
    /// try again after 1, 2, 4 … s. A [`shutdown`](Reactor::shutdown) ends the pause. False if the id
    /// names no listener.
    pub fn pause(&mut self, listener: Id) -> bool {
        self.set_paused(listener, true)
    }

    /// Ends the pause of a listener: the connections that wait are accepted from the next turn on.
    /// False if the id names no listener.
    pub fn resume(&mut self, listener: Id) -> bool {
        self.set_paused(listener, false)
    }

    /// The local address of a listener or a connection.
    ///
    /// # Errors
    /// `NotFound` if the id names neither; `NotConnected` before the first turn of an outgoing
    /// connection; those of getsockname(2).
    pub fn local_addr(&self, id: Id) -> io::Result<SocketAddr> {
        match self.sources.get(id) {
            Some(Source::Listener(listener)) => listener.socket.local_addr(),
            Some(Source::Connection(connection)) => connection.socket.local_addr(),
            Some(Source::Outgoing(outgoing)) => outgoing.local_addr(),
            _ => Err(not_found(id, "open")),
        }
    }

    /// The socket of a listener or a connection, for options that the reactor does not know:
    /// `socket2::SockRef::from(&socket)` and `rustix::net::sockopt` take it. `None` if the id names
    /// neither, and before the first turn of an outgoing connection.
    ///
    /// It is for options only. The reactor does not learn of what other code reads, writes or shuts
    /// down, and the loop waits in a call if the socket is made blocking. A duplicate of the descriptor
    /// keeps the connection open when the reactor closes its own, and its events still wake the loop.
    #[cfg(unix)]
    pub fn socket(&self, id: Id) -> Option<BorrowedFd<'_>> {
        match self.sources.get(id)? {
            Source::Listener(listener) => listener.socket.as_fd(),
            Source::Connection(connection) => connection.socket.descriptor(),
            Source::Outgoing(outgoing) => outgoing.as_fd(),
            _ => None,
        }
    }

    /// Changes the backlog of a listener, by listen(2) on the socket that listens already. Connections
    /// that wait in its accept queue stay, even if it is smaller now.
    ///
    /// # Errors
    /// `NotFound` if the id names no listener; those of listen(2).
    pub fn set_backlog(&mut self, listener: Id, backlog: u32) -> io::Result<()> {
        let scope = self.common.scope(listener);
        match self.sources.get(listener) {
            Some(Source::Listener(found)) => found.socket.set_backlog(backlog, scope),
            _ => Err(not_found(listener, "that listens")),
        }
    }

    /// Changes the limits of a listener, for the connections that it accepts from now on. An adopted
    /// listener begins with those of the reactor.
    ///
    /// # Errors
    /// `NotFound` if the id names no listener; `InvalidInput` if a limit is beyond its bounds, naming
    /// both.
    pub fn set_limits(&mut self, listener: Id, limits: &Limits) -> io::Result<()> {
        let limits = self.common.config.with(limits)?;
        match self.sources.source(listener) {
            Some(Source::Listener(found)) => found.limits = limits,
            _ => return Err(not_found(listener, "that listens")),
        }
        Ok(())
    }

    /// How many connections wait in the accept queue of a listener, and its limit, as the kernel has
    /// them. `None` if the id names no listener, or on a system other than Linux.
    pub fn accept_queue(&self, listener: Id) -> Option<AcceptQueue> {
        match self.sources.get(listener)? {
            Source::Listener(found) => found.socket.accept_queue(),
            _ => None,
        }
    }

    /// The accept queue of every listener, in the order in which they were made. The kernel looks once
    /// at all listeners of the system; [`accept_queue`](Reactor::accept_queue) makes it do so for each.
    /// Empty on a system other than Linux.
    pub fn accept_queues(&self) -> Vec<(Id, AcceptQueue)> {
        let sockets = self.sources.listeners().map(|(_, found)| &found.socket);
        let queues = TcpListener::accept_queues(sockets);
        let ids = self.sources.listeners().map(|(id, _)| id);
        let found = ids.zip(queues);
        found.filter_map(|(id, queue)| Some((id, queue?))).collect()
    }
}

/// Ending the loop, and reaching it from outside.
impl Reactor {
    /// Makes [`run`](Reactor::run) return at the end of its current turn, or at once if it is called
    /// later.
    pub fn stop(&mut self) {
        self.sources.stopping = true;
    }

    /// Begins to shut down: each listener accepts the connections that wait and closes, open
    /// connections go on, and [`run`](Reactor::run) returns when the last has ended or `patience` has
    /// passed. Connections that are still open then are closed when the reactor is dropped. A listener
    /// at [`max_connections`](crate::Config::max_connections), or out of descriptors, goes on as others
    /// leave, until `patience` has passed. The kernel resets the connections that wait even then, when
    /// the listener is dropped; [`accept_queues`](Reactor::accept_queues) says how many they are.
    ///
    /// The handler of every connection, and of each that is accepted or established later, is told by
    /// [`on_shutdown`](crate::Handler::on_shutdown).
    ///
    /// Clients that connect meanwhile are let in too, because the kernel does not tell them from those
    /// that waited before.
    pub fn shutdown(&mut self, patience: Duration) {
        let until = self.common.clock.now().after(patience);
        let before = self.common.shutdown_until.replace(until);
        for id in self.sources.listeners.clone() {
            self.shut_down_listener(id);
        }
        // A second call changes the patience. Handlers are told once.
        if before.is_none() {
            self.sources.announce_shutdown();
        }
    }

    /// True if a stop was asked for or a shutdown is over. [`run`](Reactor::run) checks this after
    /// each turn, and so should a host that calls [`turn`](Reactor::turn) itself.
    pub fn is_done(&self) -> bool {
        self.sources.stopping || self.is_shut_down()
    }

    /// A handle by which other threads stop the loop and post work to it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.mailbox))
    }

    /// The time by which the loop needs its next turn, if [`as_fd`](Reactor::as_fd) does not become
    /// readable before: now or earlier if ids are queued, otherwise the earliest deadline. `None`: not
    /// before an event.
    pub fn next_deadline(&self) -> Option<Instant> {
        let now = self.has_work().then_some(self.common.now);
        let next = now.or_else(|| self.next_tick());
        next.map(|tick| self.common.clock.instant(tick))
    }
}

/// Observing.
impl Reactor {
    /// Notifies an observer of everything that happens from now on. An earlier observer is dropped. A
    /// panic in the observer is caught and logged, and removes it. Without an observer nothing is
    /// computed for one and no clock is read.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.common.observation.set_observer(observer);
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            open: self.sources.open,
            bytes_received: self.common.received.get(),
            bytes_sent: self.common.sent.get(),
            ..self.stats.clone()
        }
    }

    /// Everything there is at this moment, in the order of the slots. The cost grows with the number
    /// of sources.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.common.clock.now();
        let mut snapshot = Snapshot {
            queued: self.sources.queued(),
            deadlines: self.deadlines.len(),
            next_deadline: self.next_tick().map(|tick| tick.since(now)),
            stats: self.stats(),
            overflows: self.poller.overflows(),
            ..Snapshot::default()
        };
        let queues: BTreeMap<Id, AcceptQueue> = self.accept_queues().into_iter().collect();
        for (id, source) in self.sources.iter() {
            match source {
                Source::Listener(found) => {
                    let queue = queues.get(&id).copied();
                    snapshot.listeners.push(found.view(id, queue));
                }
                Source::Connection(found) => snapshot.connections.push(found.view(id, now)),
                Source::Outgoing(found) => snapshot.connections.push(found.view(id, now)),
                Source::Watch(_) | Source::After(_) | Source::Away | Source::Closed => {}
            }
        }
        snapshot
    }
}

fn box_service<H: Handler>(
    mut service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
) -> Service {
    Box::new(move |arrival| service(arrival).map(boxed))
}

/// The handler itself, or that inside a [`Layered`] that has not begun.
fn handler_in(handler: &mut dyn Handler) -> Option<&mut dyn Any> {
    let any = handler.as_any();
    match any.is::<Layered>() {
        true => handler_in(any.downcast_mut::<Layered>()?.handler()?),
        false => Some(any),
    }
}

fn not_found(id: Id, what: &str) -> io::Error {
    let message = format!("id {id} names nothing {what}");
    failure(ErrorKind::NotFound, &message)
}

/// The poller's descriptor. It is readable in another poller when a turn has work. See the example
/// [`host_loop`], and [`Reactor::next_deadline`] for work that no descriptor reports.
///
/// A host with its own loop repeats this:
///
/// 1. sleep until this descriptor is readable (level-triggered), or until
///    [`next_deadline`](Reactor::next_deadline). Round that time *up* to the resolution of the host's
///    poller; otherwise the last fraction is spent spinning.
/// 2. call [`turn`](Reactor::turn) with `Some(Duration::ZERO)`, which never sleeps;
/// 3. check [`is_done`](Reactor::is_done).
///
/// Each call that the host makes on the reactor between turns may bring the deadline forward, so ask
/// for it before each sleep. Do not register anything with this descriptor, or read from it.
///
/// [`host_loop`]: https://docs.rs/crate/doorkeeper/latest/source/examples/host_loop.rs
#[cfg(unix)]
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
