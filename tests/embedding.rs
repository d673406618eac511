//! The reactor inside a larger program: in a host's loop, with watched sources, and dropped.
//! Promises 25 to 27.

mod common;

use async_io::{Async, Timer};
use common::{
    Echo, NOW, PATIENCE, alone, blocking_listener, client, descriptors, echo, limited, listen,
    loopback, reactor, read_all, read_exactly, set, turn_until,
};
use doorkeeper::mio::event::Source;
use doorkeeper::mio::net::UnixStream;
use doorkeeper::mio::{Interest, Registry, Token};
use doorkeeper::{
    Arrival, Closed, Config, Context, Handle, Handler, Id, Next, Others, Reactor, Reason, TimerKey,
};
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A source that counts its registrations and only borrows its socket.
struct Borrowed {
    socket: Rc<RefCell<UnixStream>>,
    registered: Rc<Cell<i32>>,
}

impl Source for Borrowed {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.registered.set(self.registered.get() + 1);
        self.socket
            .borrow_mut()
            .register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket
            .borrow_mut()
            .reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.registered.set(self.registered.get() - 1);
        self.socket.borrow_mut().deregister(registry)
    }
}

/// A reactor that is turned by hand, and watches a socket.
struct Watched {
    reactor: Reactor,
    id: Id,
    /// The peer's end.
    far: UnixStream,
    /// The watched end, which the source only borrows.
    _near: Rc<RefCell<UnixStream>>,
    registered: Rc<Cell<i32>>,
    calls: Rc<Cell<u32>>,
}

/// Watches one end of a pair of sockets. The callback counts its calls and then does `what`.
fn watched(mut what: impl FnMut(&mut Reactor, &mut UnixStream) -> Next + 'static) -> Watched {
    let (mut reactor, (near, far)) = (reactor(), UnixStream::pair().unwrap());
    let (near, registered, calls) = (
        Rc::new(RefCell::new(near)),
        Rc::new(Cell::new(0)),
        Rc::new(Cell::new(0)),
    );
    let source = Borrowed {
        socket: Rc::clone(&near),
        registered: Rc::clone(&registered),
    };
    let counter = Rc::clone(&calls);
    let callback = move |reactor: &mut Reactor, _: Id, source: &mut Borrowed| {
        counter.set(counter.get() + 1);
        what(reactor, &mut source.socket.borrow_mut())
    };
    let id = reactor.watch(source, Interest::READABLE, callback).unwrap();
    Watched {
        reactor,
        id,
        far,
        _near: near,
        registered,
        calls,
    }
}

impl Watched {
    /// Turns the loop once without sleeping. Returns how often the callback was called.
    fn turn(&mut self) -> u32 {
        self.reactor.turn(NOW).unwrap();
        self.calls.take()
    }

    /// True if the source is deregistered and dropped, and its id is stale.
    fn is_gone(&mut self) -> bool {
        self.reactor.turn(NOW).unwrap();
        let dropped = Rc::strong_count(&self.registered) == 1 && Rc::strong_count(&self.calls) == 1;
        dropped && self.registered.get() == 0 && !self.reactor.wake(self.id)
    }
}

/// Reads to WouldBlock or the end, and counts the bytes.
fn read_available(socket: &mut UnixStream) -> io::Result<usize> {
    let (mut total, mut buffer) = (0, [0; 1024]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_watched_source_is_called_when_it_is_ready_and_not_otherwise() {
    let total = Rc::new(Cell::new(0));
    let sum = Rc::clone(&total);
    let mut watched = watched(move |_, socket| {
        sum.set(sum.get() + read_available(socket).unwrap());
        Next::Wait
    });
    assert_eq!((watched.turn(), watched.turn(), watched.turn()), (1, 0, 0));
    assert_eq!(watched.reactor.next_deadline(), None);
    watched.far.write_all(b"1234").unwrap();
    watched.far.write_all(b"567").unwrap();
    assert_eq!((watched.turn(), watched.turn(), total.get()), (1, 0, 7));
    // Its id wakes and closes it, as any other.
    assert!(watched.reactor.wake(watched.id));
    assert_eq!((watched.turn(), watched.turn()), (1, 0));
    assert_eq!(
        (
            watched.reactor.send(watched.id, b"?"),
            watched.reactor.half_close(watched.id)
        ),
        (0, false)
    );
    assert!(watched.reactor.close(watched.id));
    assert!(
        watched
            .reactor
            .next_deadline()
            .is_some_and(|due| due <= Instant::now()),
        "the closing is due at once"
    );
    assert!(watched.is_gone());
}

#[test]
fn a_watched_source_with_more_to_do_shares_the_loop() {
    let mut watched = watched(|_, socket| match socket.read(&mut [0; 16]) {
        Ok(_) => Next::Again,
        Err(_) => Next::Wait,
    });
    watched.far.write_all(&[0; 16 * 100]).unwrap();
    let mut stream = client(listen(&mut watched.reactor, |_| Some(Echo)));
    stream.write_all(b"echo").unwrap();
    let mut turns = 0;
    while watched.reactor.stats().bytes_sent < 4 {
        // One call a turn, however much there is to read, and no sleep between the turns.
        assert!(
            watched
                .reactor
                .next_deadline()
                .is_some_and(|due| due <= Instant::now())
        );
        assert_eq!(watched.turn(), 1);
        turns += 1;
        assert!(turns < 50, "the connection is not served");
    }
    for _ in turns..=100 {
        assert_eq!(watched.turn(), 1);
    }
    assert_eq!(watched.turn(), 0);
}

#[test]
fn a_callback_cannot_turn_the_loop_that_calls_it() {
    let mut watched = watched(|reactor, socket| {
        read_available(socket).unwrap();
        let why = reactor.turn(NOW).unwrap_err().to_string();
        assert_eq!(
            why,
            "the loop is turning already: it was asked to by one of its own callbacks"
        );
        assert!(reactor.run().is_err());
        panic!("on purpose");
    });
    assert_eq!(watched.turn(), 1);
    let refused = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&refused);
    let posted = watched
        .reactor
        .handle()
        .post(move |reactor| answer.store(reactor.turn(NOW).is_err(), Ordering::Relaxed));
    assert!(posted.is_ok());
    // After the panic, and after a post, the loop turns again.
    watched.turn();
    assert!(refused.load(Ordering::Relaxed));
    assert_eq!(watched.reactor.stats().panics, 1);
    watched.turn();
}

#[test]
fn a_watched_source_is_gone_after_done_close_panic_and_drop() {
    let mut done = watched(|_, _| Next::Done);
    assert!(done.turn() == 1 && done.is_gone());
    // Closed by its own callback, it ends after the callback.
    let own = Rc::new(Cell::new(None));
    let id = Rc::clone(&own);
    let mut closed = watched(move |reactor, _| {
        assert!(id.get().is_none_or(|id| reactor.close(id)));
        Next::Again
    });
    own.set(Some(closed.id));
    assert!(closed.turn() == 1 && closed.is_gone());
    let mut panics = watched(|_, _| panic!("on purpose"));
    assert!(panics.turn() == 1 && panics.is_gone());
    assert_eq!(panics.reactor.stats().panics, 1);
    let dropped = watched(|_, _| Next::Again);
    drop(dropped.reactor);
    assert_eq!(
        (
            dropped.registered.get(),
            Rc::strong_count(&dropped.registered)
        ),
        (0, 1)
    );
}

#[test]
fn a_source_that_epoll_refuses_is_an_error_and_is_dropped() {
    // A regular file with the type of a socket: epoll refuses those.
    let file = std::fs::File::open(file!()).unwrap();
    let disguised = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(file));
    let (mut reactor, kept) = (reactor(), Rc::new(()));
    let held = Rc::clone(&kept);
    let callback = move |_: &mut Reactor, _: Id, _: &mut UnixStream| {
        let _ = &held;
        Next::Done
    };
    let error = reactor
        .watch(
            UnixStream::from_std(disguised),
            Interest::READABLE,
            callback,
        )
        .unwrap_err();
    assert_eq!(
        (error.kind(), Rc::strong_count(&kept)),
        (ErrorKind::PermissionDenied, 1)
    );
    reactor.turn(NOW).unwrap();
}

/// Sets a timer again and again, and notes how late each comes.
struct Metronome(Rc<RefCell<Vec<Duration>>>, Option<Instant>);

impl Metronome {
    const BEAT: Duration = Duration::from_millis(10);

    fn beat(&mut self, cx: &mut Context<'_>) {
        self.1 = Some(cx.now() + Metronome::BEAT);
        cx.set_timer(TimerKey(0), Metronome::BEAT);
    }
}

impl Handler for Metronome {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.beat(cx);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        let late = Instant::now()
            .checked_duration_since(self.1.unwrap())
            .expect("before its time");
        self.0.borrow_mut().push(late);
        self.beat(cx);
        Ok(())
    }
}

/// Eight clients on threads of their own. Each has 200 messages echoed, byte-exact, and posts after
/// each. Stops the loop at the end.
fn load(
    address: SocketAddr,
    handle: &Handle,
    posted: fn(&mut Reactor),
) -> std::thread::JoinHandle<()> {
    let worker = move |seed: usize, handle: Handle| {
        let mut stream = client(address);
        for round in 0..200 {
            let bytes: Vec<u8> = (0..1 + (seed * 7919 + round * 331) % 9000)
                .map(|i| (i + round + seed) as u8)
                .collect();
            assert!(echo(&mut stream, &bytes) == bytes);
            assert!(handle.post(posted).is_ok());
        }
    };
    let handle = handle.clone();
    std::thread::spawn(move || {
        let workers: Vec<_> = (0..8)
            .map(|seed| {
                std::thread::spawn({
                    let handle = handle.clone();
                    move || worker(seed, handle)
                })
            })
            .collect();
        let all = workers
            .into_iter()
            .map(std::thread::JoinHandle::join)
            .all(|result| result.is_ok());
        handle.stop().unwrap();
        assert!(all, "an echo was wrong or did not come");
    })
}

thread_local! {
    static POSTED: Cell<usize> = const { Cell::new(0) };
}

/// Runs a reactor by the contract of `as_fd`. `sleep` is the host's, and returns true if the
/// descriptor became readable.
fn in_a_hosts_loop(mut sleep: impl FnMut(BorrowedFd<'_>, Option<Duration>) -> bool) {
    let (mut reactor, lateness) = (reactor(), Rc::new(RefCell::new(Vec::new())));
    let address = listen(&mut reactor, |_| Some(Echo));
    reactor
        .connect(address, Metronome(Rc::clone(&lateness), None))
        .unwrap();
    let load = load(address, &reactor.handle(), |_| POSTED.set(POSTED.get() + 1));
    let (start, mut wakes, mut in_vain) = (Instant::now(), 0, 0);
    let mut host = |reactor: &mut Reactor| {
        assert!(start.elapsed() < PATIENCE, "stuck: {:?}", reactor.stats());
        let limit = reactor
            .next_deadline()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let readable = sleep(reactor.as_fd(), limit);
        let due = reactor
            .next_deadline()
            .is_some_and(|due| due <= Instant::now());
        let events = reactor.stats().events;
        reactor.turn(NOW).unwrap();
        wakes += 1;
        in_vain += u32::from(!(due || readable && reactor.stats().events > events));
        wakes
    };
    while !reactor.is_done() {
        host(&mut reactor);
    }
    load.join().unwrap();
    assert_eq!(POSTED.take(), 8 * 200);
    // Nothing is late. While only the metronome runs, the loop turns for nothing else.
    let (before, beats) = (host(&mut reactor), lateness.borrow().len());
    while lateness.borrow().len() < beats + 20 {
        host(&mut reactor);
    }
    let quiet = host(&mut reactor) - before;
    assert!((20..=45).contains(&quiet), "{quiet} turns for 20 beats");
    assert!(
        in_vain <= wakes / 100,
        "{in_vain} of {wakes} turns found nothing to do"
    );
    let mut lateness = lateness.take();
    lateness.sort();
    assert!(
        lateness[lateness.len() / 2] < Metronome::BEAT,
        "{lateness:?}"
    );
}

#[test]
fn in_a_plain_poll_loop_nothing_is_late_and_nothing_spins() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    in_a_hosts_loop(|fd, limit| {
        let limit = limit.map(|limit| Timespec::try_from(limit).unwrap());
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, limit.as_ref()).unwrap() > 0
    });
}

/// In async-io, a loop over the crate polling that needs no unsafe code.
#[test]
fn in_an_async_io_loop_nothing_is_late_and_nothing_spins() {
    let mut watched = None;
    in_a_hosts_loop(|fd, limit| {
        // A second descriptor of the same poller, because `fd` is borrowed for one turn.
        let watched = watched.get_or_insert_with(|| {
            Async::new_nonblocking(fd.try_clone_to_owned().unwrap()).unwrap()
        });
        let readable = async { watched.readable().await.is_ok() };
        let over = async { limit.map_or_else(Timer::never, Timer::after).await > Instant::now() };
        async_io::block_on(futures_lite::future::or(readable, over))
    });
}

/// A duplicate keeps a registration of the poller alive (epoll(7), question 6).
#[test]
fn a_listener_is_adopted_again_from_a_duplicate_and_a_closed_one_has_no_events() {
    let (mut reactor, (own, address)) = (reactor(), blocking_listener());
    for round in 1..=3 {
        let duplicate = own.try_clone().unwrap();
        let id = reactor.adopt_listener(duplicate, |_| Some(Echo)).unwrap();
        let visitor = client(address);
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == round);
        drop(visitor);
        reactor.close(id);
        turn_until(&mut reactor, |reactor| {
            reactor.stats().open == 0 && reactor.local_addr(id).is_err()
        });
    }
    let _waiting = client(address);
    assert!(own.accept().is_ok());
    assert_eq!(events_of_a_turn(&mut reactor), 0);
}

#[test]
fn a_stream_is_adopted_again_from_a_duplicate_and_a_closed_one_has_no_events() {
    let (mut reactor, (listener, address)) = (reactor(), blocking_listener());
    let own = client(address);
    let mut peer = limited(listener.accept().unwrap().0);
    for round in 1..=3 {
        let id = reactor
            .adopt_stream(own.try_clone().unwrap(), Echo)
            .unwrap();
        peer.write_all(b"echo").unwrap();
        turn_until(&mut reactor, |reactor| {
            reactor.stats().bytes_sent == 4 * round
        });
        assert_eq!(read_exactly(&mut peer, 4), b"echo");
        reactor.abort(id);
        turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    }
    assert_eq!(reactor.stats().connected, 3);
    peer.write_all(b"more").unwrap();
    let mut seen = [0; 4];
    while own.peek(&mut seen).unwrap_or(0) < 4 {}
    assert_eq!(events_of_a_turn(&mut reactor), 0);
}

#[test]
fn the_peer_of_an_adopted_stream_sees_its_end_although_a_duplicate_is_kept() {
    let (mut reactor, (listener, address)) = (reactor(), blocking_listener());
    let own = client(address);
    let mut peer = limited(listener.accept().unwrap().0);
    reactor
        .adopt_stream(own.try_clone().unwrap(), Echo)
        .unwrap();
    peer.write_all(b"echo").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(read_all(&mut peer).unwrap(), b"echo");
    drop(own);
}

/// How many events a turn finds that does not sleep.
fn events_of_a_turn(reactor: &mut Reactor) -> u64 {
    let before = reactor.stats().events;
    reactor.turn(NOW).unwrap();
    reactor.stats().events - before
}

/// Another holder of the socket shuts it down (shutdown(2)) while a client waits, and accept(2) fails
/// until it listens again.
#[test]
fn a_listener_that_was_shut_down_elsewhere_backs_off_and_serves_again() {
    let mut reactor = Reactor::new(set(|config: &mut Config| config.max_connections = 1)).unwrap();
    let (own, address) = blocking_listener();
    let duplicate = own.try_clone().unwrap();
    reactor.adopt_listener(duplicate, |_| Some(Echo)).unwrap();
    let (first, _waiting) = (client(address), client(address));
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let own = SockRef::from(&own);
    own.shutdown(Shutdown::Read).unwrap();
    drop(first);
    turn_until(&mut reactor, |reactor| reactor.stats().accept_errors > 0);
    let (start, before) = (Instant::now(), reactor.stats().accept_errors);
    while start.elapsed() < Duration::from_millis(350) {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    let errors = reactor.stats().accept_errors - before;
    assert!(
        before == 1 && (2..=4).contains(&errors),
        "{before}, {errors} in 350 ms"
    );
    own.listen(16).unwrap();
    // The kernel chose the port, so it chooses another.
    let address = own.local_addr().unwrap().as_socket().unwrap();
    let mut stream = client(address);
    stream.write_all(b"again").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(read_exactly(&mut stream, 5), b"again");
}

#[test]
fn a_socket_that_does_not_listen_is_not_adopted() {
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&loopback().into()).unwrap();
    let stream = Socket::from(client(blocking_listener().1));
    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    for socket in [bound, stream, datagrams] {
        let (mut reactor, kept) = (reactor(), Rc::new(()));
        let held = Rc::clone(&kept);
        let service = move |_: &mut Arrival<'_>| {
            let _ = &held;
            Some(Echo)
        };
        let error = reactor.adopt_listener(socket.into(), service).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            "the socket does not listen: call listen(2) before it is adopted"
        );
        assert_eq!(Rc::strong_count(&kept), 1);
        reactor.turn(NOW).unwrap();
    }
}

#[test]
fn stop_ends_a_loop_that_always_has_more_to_do() {
    /// Posts itself again without end.
    fn forever(reactor: &mut Reactor) {
        assert!(reactor.handle().post(forever).is_ok());
    }
    let mut busy = watched(|_, _| Next::Again);
    for _ in 0..1000 {
        assert!(busy.reactor.handle().post(forever).is_ok());
    }
    let handle = busy.reactor.handle();
    let stopper = std::thread::spawn(move || {
        // Once this has run, the loop is busy.
        let (sender, receiver) = std::sync::mpsc::channel();
        assert!(handle.post(move |_| sender.send(()).unwrap()).is_ok());
        receiver.recv_timeout(PATIENCE).unwrap();
        handle.stop().unwrap();
    });
    let start = Instant::now();
    busy.reactor.run().unwrap();
    assert!(start.elapsed() < PATIENCE);
    stopper.join().unwrap();
}

/// Notes why its connections closed.
struct Reasons(Rc<RefCell<Vec<Reason>>>);

impl Handler for Reasons {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.0.borrow_mut().push(closed.reason);
    }
}

#[test]
fn a_dropped_reactor_calls_each_on_close_once_and_leaves_no_descriptor() {
    if !alone(
        "a_dropped_reactor_calls_each_on_close_once_and_leaves_no_descriptor",
        &[],
    ) {
        return;
    }
    let own = std::process::id();
    let (before, reasons) = (descriptors(own), Rc::new(RefCell::new(Vec::new())));
    let handler = || Reasons(Rc::clone(&reasons));
    let mut reactor = reactor();
    let service = handler();
    let address = listen(&mut reactor, move |_| Some(Reasons(Rc::clone(&service.0))));
    let inherited = TcpListener::bind(loopback()).unwrap();
    reactor.adopt_listener(inherited, |_| Some(Echo)).unwrap();
    // Accepted, connected and adopted connections, and attempts that have not begun.
    let outside: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let elsewhere = TcpListener::bind(loopback()).unwrap();
    let there = elsewhere.local_addr().unwrap();
    for _ in 0..3 {
        reactor.connect(there, handler()).unwrap();
    }
    reactor
        .adopt_stream(TcpStream::connect(there).unwrap(), handler())
        .unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    reactor
        .watch(near, Interest::READABLE, |_, _, _| Next::Wait)
        .unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.stats().accepted == 3 && reactor.stats().connected == 4
    });
    for _ in 0..3 {
        reactor
            .connect("127.0.0.1:9".parse().unwrap(), handler())
            .unwrap();
    }
    let post = handler();
    let handle = reactor.handle();
    assert!(reasons.borrow().is_empty());
    drop(reactor);
    drop((outside, elsewhere, far, post));
    assert_eq!(*reasons.borrow(), [Reason::ReactorDropped; 10]);
    assert_eq!(
        Rc::strong_count(&reasons),
        1,
        "a handler or the service is left"
    );
    // One descriptor may be left: the handle's waker.
    assert!(descriptors(own) <= before + 1);
    assert!(handle.post(|_| ()).is_err());
    drop(handle);
    assert_eq!(descriptors(own), before);
}
