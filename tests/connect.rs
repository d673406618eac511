//! The client half: socket → connect → read/write → close, on the reactor's own loop.
//!
//! The reactors here are turned by hand, so that what has happened before which turn is certain.

mod common;

use common::{PATIENCE, alone, client, have, read_all, read_exactly, set};
use doorkeeper::{Closed, Config, ConnectOptions, Context, Handler, Id, Reactor, Reason};
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What was heard of a connection, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Open(SocketAddr),
    Data(Vec<u8>),
    Eof,
    Closed(Reason),
}

#[derive(Clone, Default)]
struct Diary(Rc<RefCell<Vec<Heard>>>, Rc<RefCell<Option<Receipt>>>);

/// The receipt of whoever closed last.
struct Receipt {
    error: Option<(ErrorKind, String)>,
    age: Duration,
    sent: u64,
}

impl Diary {
    fn take(&self) -> Vec<Heard> {
        self.0.take()
    }

    fn receipt(&self) -> Receipt {
        self.1.take().expect("nobody closed")
    }

    /// A handler that writes here, and in `on_open` says `hello`.
    fn caller(&self, hello: &'static [u8]) -> Caller {
        Caller {
            diary: self.clone(),
            hello,
        }
    }
}

struct Caller {
    diary: Diary,
    hello: &'static [u8],
}

impl Caller {
    fn note(&self, heard: Heard) {
        self.diary.0.borrow_mut().push(heard);
    }
}

impl Handler for Caller {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert_ne!(cx.local()?, cx.peer());
        self.note(Heard::Open(cx.peer()));
        assert_eq!(cx.write(self.hello), self.hello.len());
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.note(Heard::Data(input.to_vec()));
        Ok(input.len())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note(Heard::Eof);
        cx.finish();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, closed: &Closed) {
        self.note(Heard::Closed(closed.reason));
        let error = closed
            .error
            .as_ref()
            .map(|error| (error.kind(), error.to_string()));
        *self.diary.1.borrow_mut() = Some(Receipt {
            error,
            age: closed.age,
            sent: closed.sent,
        });
    }
}

fn reactor() -> Reactor {
    Reactor::new(Config::default()).unwrap()
}

/// Turns until `done`, and fails if that takes too long.
fn turn_until(reactor: &mut Reactor, done: impl Fn(&Reactor) -> bool) {
    let start = Instant::now();
    while !done(reactor) {
        assert!(
            start.elapsed() < PATIENCE,
            "never came: {:?}",
            reactor.stats()
        );
        reactor.turn(Some(PATIENCE)).unwrap();
    }
}

fn until_all_closed(reactor: &mut Reactor) {
    turn_until(reactor, |reactor| reactor.stats().open == 0);
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    listener().1
}

/// A listener with a backlog of 0, whose waiting room is full: the SYN of whoever comes next is dropped. What keeps it so is
/// returned with its address.
fn full_house() -> (SocketAddr, Socket, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address, socket, client(address))
}

fn within(timeout: Duration) -> ConnectOptions {
    set(|options: &mut ConnectOptions| {
        options.timeout = Some(timeout);
    })
}

fn from(local: SocketAddr) -> ConnectOptions {
    set(|options: &mut ConnectOptions| {
        options.local = Some(local);
    })
}

/// Has a call fail, and tells why: `on_close` alone is heard.
fn failure(address: SocketAddr, options: &ConnectOptions) -> (Reason, Receipt) {
    let (mut reactor, diary) = (reactor(), Diary::default());
    let id = reactor
        .connect_with(address, options, diary.caller(b"never"))
        .unwrap();
    assert_eq!(
        (reactor.stats().open, reactor.send(id, b"too early")),
        (1, 0)
    );
    until_all_closed(&mut reactor);
    let heard = diary.take();
    let [Heard::Closed(reason)] = heard[..] else {
        panic!("{heard:?}")
    };
    let stats = reactor.stats();
    assert_eq!((stats.closed(reason), stats.connected), (1, 0));
    assert!(!reactor.wake(id), "the id has gone stale");
    (reason, diary.receipt())
}

#[test]
fn a_call_is_answered_both_ways() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut reactor, diary) = (reactor(), Diary::default());
        let id = reactor.connect(address, diary.caller(b"hello")).unwrap();
        assert_eq!(
            reactor.local_addr(id).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
        assert_eq!(diary.take(), [Heard::Open(address)]);
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(reactor.local_addr(id).unwrap(), peer);
        assert_eq!(read_exactly(&mut stream, 5), b"hello");
        stream.write_all(b"who is there?").unwrap();
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 13);
        drop(stream);
        until_all_closed(&mut reactor);
        assert_eq!(
            diary.take(),
            [
                Heard::Data(b"who is there?".to_vec()),
                Heard::Eof,
                Heard::Closed(Reason::Finished)
            ]
        );
        let stats = reactor.stats();
        assert_eq!((stats.connected, stats.accepted, stats.open), (1, 0, 0));
    }
}

#[test]
fn nobody_there_is_refused() {
    let (reason, receipt) = failure(nobody(), &ConnectOptions::default());
    assert_eq!(reason, Reason::Refused);
    assert_eq!(receipt.error.unwrap().0, ErrorKind::ConnectionRefused);
}

/// One event a turn, and the time of all of them is over: those that the server's queue has taken are not timed out.
#[test]
fn no_call_is_given_up_for_an_answer_that_was_not_yet_taken() {
    let (_listener, address) = listener();
    let mut reactor = Reactor::new(set(|config: &mut Config| {
        config.events_per_turn = 1;
    }))
    .unwrap();
    let diary = Diary::default();
    let wait = Duration::from_millis(100);
    for _ in 0..5 {
        reactor
            .connect_with(address, &within(wait), diary.caller(b""))
            .unwrap();
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let over = Instant::now() + wait;
    while Instant::now() < over {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(diary.take(), vec![Heard::Open(address); 5]);
}

#[test]
fn a_full_waiting_room_times_out_when_asked_to() {
    let (address, ..) = &full_house();
    let wait = Duration::from_millis(500);
    let (reason, receipt) = failure(*address, &within(wait));
    assert_eq!(reason, Reason::TimedOut);
    assert!(
        (wait..wait.mul_f64(1.1)).contains(&receipt.age),
        "{:?}",
        receipt.age
    );
    assert_eq!(
        receipt.error.unwrap(),
        (ErrorKind::TimedOut, "no answer within 500 ms".into())
    );
    // The same limit for all of a reactor's calls; one of them has its own.
    let config = set(|config: &mut Config| {
        config.connect_timeout = wait;
    });
    let (mut reactor, [usual, own]) = (
        Reactor::new(config).unwrap(),
        [Diary::default(), Diary::default()],
    );
    reactor.connect(*address, usual.caller(b"")).unwrap();
    reactor
        .connect_with(*address, &within(wait / 2), own.caller(b""))
        .unwrap();
    until_all_closed(&mut reactor);
    assert_eq!(
        (usual.take(), own.take()),
        (
            vec![Heard::Closed(Reason::TimedOut)],
            vec![Heard::Closed(Reason::TimedOut)]
        )
    );
    for (diary, wait) in [(usual, wait), (own, wait / 2)] {
        let age = diary.receipt().age;
        assert!(
            (wait..wait.mul_f64(1.1)).contains(&age),
            "{age:?} of {wait:?}"
        );
    }
}

#[test]
fn a_time_limit_is_over_once_the_connection_is_established() {
    let ((listener, address), diary) = (listener(), Diary::default());
    let mut reactor = reactor();
    reactor
        .connect_with(
            address,
            &within(Duration::from_millis(50)),
            diary.caller(b""),
        )
        .unwrap();
    reactor
        .connect_with(address, &within(Duration::MAX), diary.caller(b""))
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(reactor.next_deadline(), None);
    reactor.turn(Some(Duration::from_millis(80))).unwrap();
    assert_eq!(reactor.stats().open, 2);
    drop(listener);
}

/// connect has succeeded when the request is in the queue: data can be sent, and more than that, before anyone accepts.
#[test]
fn who_is_not_yet_accepted_is_heard_all_the_same() {
    let (listener, address) = listener();
    let (mut reactor, diary) = (reactor(), Diary::default());
    let id = reactor
        .connect(address, diary.caller(b"before you said hello"))
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent > 0);
    assert!(reactor.half_close(id));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"before you said hello");
    stream.write_all(b"and I still hear you").unwrap();
    drop(stream);
    until_all_closed(&mut reactor);
    let wanted = [
        Heard::Open(address),
        Heard::Data(b"and I still hear you".to_vec()),
        Heard::Eof,
        Heard::Closed(Reason::Finished),
    ];
    assert_eq!(diary.take(), wanted);
    // Who has nothing to say can end its output before the connection is established.
    let id = reactor.connect(address, diary.caller(b"")).unwrap();
    assert!(reactor.half_close(id));
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(read_all(&mut listener.accept().unwrap().0).unwrap(), b"");
    until_all_closed(&mut reactor);
    assert_eq!(
        diary.take(),
        [
            Heard::Open(address),
            Heard::Eof,
            Heard::Closed(Reason::Finished)
        ]
    );
}

/// Sends its number, wants it back, and finishes.
struct Numbered {
    number: u32,
    answered: Rc<Cell<u32>>,
}

impl Handler for Numbered {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(&self.number.to_be_bytes());
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if input.len() < 4 {
            return Ok(0);
        }
        assert_eq!(input, self.number.to_be_bytes());
        self.answered.set(self.answered.get() + 1);
        cx.finish();
        Ok(4)
    }
}

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

#[test]
fn a_thousand_at_once() {
    let (mut reactor, answered) = (reactor(), Rc::new(Cell::new(0)));
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), |_| Some(Echo))
        .unwrap();
    let address = reactor.local_addr(id).unwrap();
    for number in 0..1000 {
        reactor
            .connect(
                address,
                Numbered {
                    number,
                    answered: Rc::clone(&answered),
                },
            )
            .unwrap();
    }
    turn_until(&mut reactor, |reactor| {
        reactor.stats().closed(Reason::Finished) == 2000
    });
    let stats = reactor.stats();
    assert_eq!(
        (answered.get(), stats.connected, stats.accepted, stats.open),
        (1000, 1000, 1000, 0)
    );
}

#[test]
fn a_call_can_be_ended_before_it_is_answered() {
    let (address, ..) = &full_house();
    let (mut reactor, diary) = (reactor(), Diary::default());
    // Not even begun; then on its way.
    for turns in [0, 1] {
        let id = reactor.connect(*address, diary.caller(b"")).unwrap();
        (0..turns).for_each(|_| reactor.turn(Some(Duration::ZERO)).unwrap());
        assert_eq!(diary.take(), []);
        assert!(reactor.close(id));
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(diary.take(), [Heard::Closed(Reason::Closed)]);
        assert_eq!((reactor.stats().open, reactor.next_deadline()), (0, None));
    }
    reactor.connect(*address, diary.caller(b"")).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.connect(*address, diary.caller(b"")).unwrap();
    drop(reactor);
    assert_eq!(
        diary.take(),
        [
            Heard::Closed(Reason::ReactorDropped),
            Heard::Closed(Reason::ReactorDropped)
        ]
    );
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

#[test]
fn a_server_that_resets_at_once_is_told_apart() {
    let ((listener, address), diary) = (listener(), Diary::default());
    let mut reactor = reactor();
    // Before this side has noticed that it is connected.
    reactor.connect(address, diary.caller(b"")).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reset(listener.accept().unwrap().0);
    until_all_closed(&mut reactor);
    assert_eq!(diary.take(), [Heard::Closed(Reason::Reset)]);
    // And after it.
    reactor.connect(address, diary.caller(b"hello")).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    reset(listener.accept().unwrap().0);
    until_all_closed(&mut reactor);
    assert_eq!(
        diary.take(),
        [Heard::Open(address), Heard::Closed(Reason::Reset)]
    );
    assert_eq!(diary.receipt().sent, 5);
}

/// The kernel may choose the very port that is called as the local one, where nobody listens.
#[test]
fn a_socket_that_reached_itself_is_refused_and_leaves_the_port_free() {
    let address = nobody();
    let (reason, receipt) = failure(address, &from(address));
    assert_eq!(reason, Reason::Refused);
    assert!(receipt.error.unwrap().1.contains("connected to itself"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&address.into())
        .expect("TIME_WAIT holds the port");
}

#[test]
fn a_local_address_can_be_chosen_and_its_trouble_is_named() {
    let ((listener, address), diary) = (listener(), Diary::default());
    let mut reactor = reactor();
    reactor
        .connect_with(
            address,
            &from("127.0.0.5:0".parse().unwrap()),
            diary.caller(b""),
        )
        .unwrap();
    let port = nobody().port();
    reactor
        .connect_with(
            address,
            &from(([127, 0, 0, 6], port).into()),
            diary.caller(b""),
        )
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(
        listener.accept().unwrap().1.ip(),
        "127.0.0.5".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(listener.accept().unwrap().1, ([127, 0, 0, 6], port).into());
    // No address of ours; one of the other family; a port that another has.
    let (reason, receipt) = failure(address, &from("192.0.2.1:0".parse().unwrap()));
    assert_eq!(reason, Reason::Io);
    assert_eq!(
        receipt.error.unwrap(),
        (
            ErrorKind::InvalidInput,
            "192.0.2.1 is not an address of this machine".into()
        )
    );
    let (reason, receipt) = failure(address, &from("[::1]:0".parse().unwrap()));
    assert_eq!(reason, Reason::Io);
    assert!(receipt.error.unwrap().1.contains("cannot bind to [::1]:0"));
    let (reason, receipt) = failure(address, &from(address));
    assert_eq!(reason, Reason::NoLocalPort);
    assert!(
        receipt
            .error
            .unwrap()
            .1
            .contains(&format!("cannot bind to {address}"))
    );
}

/// Calls again from its own `on_close`, so many times.
struct Stubborn {
    address: SocketAddr,
    left: u32,
    tries: Rc<Cell<u32>>,
}

impl Handler for Stubborn {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        assert_eq!((cx.write(b"to nobody"), cx.room()), (0, 0));
        self.tries.set(self.tries.get() + 1);
        let Some(left) = self.left.checked_sub(1) else {
            return cx.stop();
        };
        let again = Stubborn {
            left,
            tries: Rc::clone(&self.tries),
            ..*self
        };
        if cx.connect(self.address, again).is_err() {
            assert_eq!(closed.reason, Reason::ReactorDropped);
            self.tries.set(u32::MAX);
        }
    }
}

#[test]
fn on_close_can_call_again_and_a_call_that_fails_at_once_does_not_recurse() {
    let tries = Rc::new(Cell::new(0));
    let stubborn = |address, left| Stubborn {
        address,
        left,
        tries: Rc::clone(&tries),
    };
    let mut reactor = reactor();
    let mut run = |address, options: &ConnectOptions, left| {
        reactor
            .connect_with(address, options, stubborn(address, left))
            .unwrap();
        turn_until(&mut reactor, Reactor::is_done);
        reactor.run().unwrap();
        assert_eq!((tries.take(), reactor.stats().panics), (left + 1, 0));
    };
    run(nobody(), &ConnectOptions::default(), 9);
    // This one fails within the call of connect: 10,000 levels of it would not fit on a stack.
    run(nobody(), &from("192.0.2.1:0".parse().unwrap()), 9_999);
    // Whoever calls again while the reactor is dropped is told so.
    let (address, ..) = &full_house();
    reactor.connect(*address, stubborn(*address, 9)).unwrap();
    drop(reactor);
    assert_eq!(tries.get(), u32::MAX);
}

#[test]
fn a_stream_connected_elsewhere_is_adopted_and_no_longer_blocks() {
    let ((listener, address), diary) = (listener(), Diary::default());
    let mut reactor = reactor();
    let stream = TcpStream::connect(address).unwrap();
    let twin = stream.try_clone().unwrap();
    let mut other = listener.accept().unwrap().0;
    other.write_all(b"early").unwrap();
    reactor
        .adopt_stream(stream, diary.caller(b"adopted"))
        .unwrap();
    assert!(
        rustix::fs::fcntl_getfl(twin)
            .unwrap()
            .contains(rustix::fs::OFlags::NONBLOCK)
    );
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 7);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(
        diary.take(),
        [Heard::Open(address), Heard::Data(b"early".to_vec())]
    );
    assert_eq!(read_exactly(&mut other, 7), b"adopted");
    other.shutdown(Shutdown::Write).unwrap();
    until_all_closed(&mut reactor);
    assert_eq!(read_all(&mut other).unwrap(), b"");
    let unconnected = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let error = reactor
        .adopt_stream(unconnected.into(), diary.caller(b""))
        .unwrap_err();
    assert_eq!(
        (error.kind(), reactor.stats().open),
        (ErrorKind::NotConnected, 0)
    );
}

/// Ends its output, and answers what still comes: with nothing, for its output has ended.
struct HalfClosed(Rc<RefCell<Vec<u8>>>);

impl Handler for HalfClosed {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(b"that is all from me");
        cx.half_close();
        assert_eq!((cx.room(), cx.write(b"late")), (0, 0));
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        assert_eq!(cx.write(b"late"), 0);
        // Slowly, so that the end comes while input still lies unconsumed.
        self.0.borrow_mut().extend_from_slice(&input[..1]);
        let id = cx.id();
        cx.wake(id);
        Ok(1)
    }

    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_half_closed_connection_hears_everything_and_then_closes() {
    let ((listener, address), heard) = (listener(), Rc::new(RefCell::new(Vec::new())));
    let mut reactor = reactor();
    reactor
        .connect(address, HalfClosed(Rc::clone(&heard)))
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent > 0);
    let mut stream = listener.accept().unwrap().0;
    assert_eq!(read_all(&mut stream).unwrap(), b"that is all from me");
    let answer: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
    stream.write_all(&answer).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    until_all_closed(&mut reactor);
    assert_eq!(*heard.borrow(), answer);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(reactor.stats().closed(Reason::Finished), 1);
}

#[test]
fn no_local_port_left_and_no_way_there_are_told_apart() {
    if !have("unshare") || !have("ip") {
        return;
    }
    // In a network namespace of its own: four ports to call from, and no route but to itself.
    let setup = "ip link set lo up && echo 40000 40003 >/proc/sys/net/ipv4/ip_local_port_range \
                 && ip route add unreachable 198.51.100.0/24 && exec \"$0\" \"$@\"";
    if !alone(
        "no_local_port_left_and_no_way_there_are_told_apart",
        &["unshare", "--map-root-user", "--net", "sh", "-ec", setup],
    ) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:50000").unwrap();
    let (address, mut reactor, diary) =
        (listener.local_addr().unwrap(), reactor(), Diary::default());
    for _ in 0..4 {
        reactor.connect(address, diary.caller(b"")).unwrap();
    }
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 4);
    for local in [None, Some("127.0.0.1:0".parse().unwrap())] {
        let options = set(|options: &mut ConnectOptions| {
            options.local = local;
        });
        assert_eq!(
            failure(address, &options).0,
            Reason::NoLocalPort,
            "{options:?}"
        );
    }
    for nowhere in ["192.0.2.1:7", "198.51.100.1:7", "[2001:db8::1]:7"] {
        let (reason, receipt) = failure(nowhere.parse().unwrap(), &ConnectOptions::default());
        assert_eq!(
            reason,
            Reason::Unreachable,
            "{nowhere}: {:?}",
            receipt.error
        );
    }
    drop(listener);
}

#[test]
fn out_of_descriptors_is_told_apart_and_passes() {
    if !alone("out_of_descriptors_is_told_apart_and_passes", &[]) {
        return;
    }
    let ((listener, address), mut reactor, diary) = (listener(), reactor(), Diary::default());
    let mut hoard = Vec::new();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let few = rustix::process::Rlimit {
        current: Some(64),
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    reactor.connect(address, diary.caller(b"")).unwrap();
    until_all_closed(&mut reactor);
    assert_eq!(diary.take(), [Heard::Closed(Reason::Exhausted)]);
    hoard.clear();
    let id: Id = reactor.connect(address, diary.caller(b"")).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 1);
    assert!(reactor.wake(id));
    drop(listener);
}
