//! Outgoing connections: promises 22 to 24.
//!
//! The reactors here are turned by hand, so it is certain what has happened before which turn.

mod common;

use common::{
    Echo, NOW, Receipt, Say, alone, blocking_listener, client, have, is_nonblocking, listen, pass,
    reactor, read_all, read_exactly, refusing_address, reset, set, turn_until,
};
use doorkeeper::{Closed, Config, ConnectOptions, Context, Handler, Id, Others, Reactor, Reason};
use socket2::{Domain, Socket, Type};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// A callback and what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Open(SocketAddr),
    Data(Vec<u8>),
    Eof,
    Closed(Reason),
}

/// The callbacks of some connections in their order, and the last receipt.
#[derive(Clone, Default)]
struct Diary(Rc<RefCell<Vec<Heard>>>, Rc<RefCell<Option<Receipt>>>);

impl Diary {
    fn take(&self) -> Vec<Heard> {
        self.0.take()
    }

    fn receipt(&self) -> Receipt {
        self.1.take().expect("no connection closed")
    }

    /// A handler that writes here, and sends `hello` in `on_open`.
    fn caller(&self, hello: &'static [u8]) -> Caller {
        let diary = self.clone();
        Caller { diary, hello }
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

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.note(Heard::Closed(closed.reason));
        *self.diary.1.borrow_mut() = Some(Receipt::of(closed));
    }
}

fn turn_until_all_closed(reactor: &mut Reactor) {
    turn_until(reactor, |reactor| reactor.stats().open == 0);
}

/// A listener with a backlog of 0 and one connection in its accept queue: the kernel drops every
/// further SYN. Returned with its address is what keeps it full.
fn full_listener() -> (SocketAddr, Socket, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address, socket, client(address))
}

fn with_timeout(timeout: Duration) -> ConnectOptions {
    set(|options: &mut ConnectOptions| options.timeout = Some(timeout))
}

fn from_local(local: SocketAddr) -> ConnectOptions {
    set(|options: &mut ConnectOptions| options.local = Some(local))
}

/// Connects, expects the attempt to fail, and tells why. Of all callbacks only `on_close` is
/// called.
fn failure(address: SocketAddr, options: &ConnectOptions) -> (Reason, Receipt) {
    let (mut reactor, diary) = (reactor(), Diary::default());
    let id = reactor
        .connect_with(address, options, diary.caller(b"never"))
        .unwrap();
    assert_eq!((reactor.stats().open, reactor.send(id, b"early")), (1, 5));
    turn_until_all_closed(&mut reactor);
    let heard = diary.take();
    let [Heard::Closed(reason)] = heard[..] else {
        panic!("{heard:?}")
    };
    let stats = reactor.stats();
    assert_eq!((stats.closed(reason), stats.connected), (1, 0));
    assert!(!reactor.wake(id), "the id is not stale");
    let receipt = diary.receipt();
    assert_eq!(receipt.figures(), (reason, 0, 0, 5, 0));
    (reason, receipt)
}

#[test]
fn bytes_go_both_ways_over_ipv4_and_ipv6() {
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
        turn_until_all_closed(&mut reactor);
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
fn an_address_without_a_listener_is_refused() {
    let (reason, receipt) = failure(refusing_address(), &ConnectOptions::default());
    assert_eq!(reason, Reason::Refused);
    assert_eq!(receipt.error.unwrap().0, ErrorKind::ConnectionRefused);
}

/// Five attempts are established and past their timeout, and a turn takes one event. The kernel is
/// asked before one times out.
#[test]
fn an_established_connection_does_not_time_out_before_its_event_is_taken() {
    let (_listener, address) = blocking_listener();
    let mut reactor = Reactor::new(set(|config: &mut Config| config.events_per_turn = 1)).unwrap();
    let diary = Diary::default();
    let wait = Duration::from_millis(100);
    for _ in 0..5 {
        reactor
            .connect_with(address, &with_timeout(wait), diary.caller(b""))
            .unwrap();
    }
    reactor.turn(NOW).unwrap();
    pass(wait);
    for _ in 0..3 {
        reactor.turn(NOW).unwrap();
    }
    assert_eq!(diary.take(), vec![Heard::Open(address); 5]);
}

#[test]
fn an_attempt_at_a_full_listener_ends_after_its_timeout() {
    let (address, ..) = &full_listener();
    let wait = Duration::from_millis(500);
    let (reason, receipt) = failure(*address, &with_timeout(wait));
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
    // The reactor's limit holds for one attempt; the other has its own.
    let config = set(|config: &mut Config| config.connect_timeout = wait);
    let (mut reactor, [usual, own]) = (
        Reactor::new(config).unwrap(),
        [Diary::default(), Diary::default()],
    );
    reactor.connect(*address, usual.caller(b"")).unwrap();
    reactor
        .connect_with(*address, &with_timeout(wait / 2), own.caller(b""))
        .unwrap();
    turn_until_all_closed(&mut reactor);
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
fn the_connect_timeout_ends_once_the_connection_is_established() {
    let ((listener, address), diary) = (blocking_listener(), Diary::default());
    let mut reactor = reactor();
    reactor
        .connect_with(
            address,
            &with_timeout(Duration::from_millis(50)),
            diary.caller(b""),
        )
        .unwrap();
    reactor
        .connect_with(address, &with_timeout(Duration::MAX), diary.caller(b""))
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(reactor.next_deadline(), None);
    reactor.turn(Some(Duration::from_millis(80))).unwrap();
    assert_eq!(reactor.stats().open, 2);
    drop(listener);
}

/// A connection is established once it is in the server's accept queue. Data and FIN can be sent
/// before the server accepts it.
#[test]
fn bytes_sent_before_the_server_accepts_arrive() {
    let (listener, address) = blocking_listener();
    let (mut reactor, diary) = (reactor(), Diary::default());
    let id = reactor
        .connect(address, diary.caller(b"before you said hello"))
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent > 0);
    assert!(reactor.half_close(id));
    reactor.turn(NOW).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"before you said hello");
    stream.write_all(b"and I still hear you").unwrap();
    drop(stream);
    turn_until_all_closed(&mut reactor);
    let wanted = [
        Heard::Open(address),
        Heard::Data(b"and I still hear you".to_vec()),
        Heard::Eof,
        Heard::Closed(Reason::Finished),
    ];
    assert_eq!(diary.take(), wanted);
    // The output can be ended before the connection is established.
    let id = reactor.connect(address, diary.caller(b"")).unwrap();
    assert!(reactor.half_close(id));
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(read_all(&mut listener.accept().unwrap().0).unwrap(), b"");
    turn_until_all_closed(&mut reactor);
    assert_eq!(
        diary.take(),
        [
            Heard::Open(address),
            Heard::Eof,
            Heard::Closed(Reason::Finished)
        ]
    );
}

/// Sends its number, expects it back, and finishes.
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

#[test]
fn a_thousand_connections_at_once_are_each_answered() {
    let (mut reactor, answered) = (reactor(), Rc::new(Cell::new(0)));
    let address = listen(&mut reactor, |_| Some(Echo));
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
fn an_attempt_can_be_closed_before_it_is_established() {
    let (address, ..) = &full_listener();
    let (mut reactor, diary) = (reactor(), Diary::default());
    // Before connect(2) is called, and after.
    for turns in [0, 1] {
        let id = reactor.connect(*address, diary.caller(b"")).unwrap();
        (0..turns).for_each(|_| reactor.turn(NOW).unwrap());
        assert_eq!(diary.take(), []);
        assert!(reactor.close(id));
        reactor.turn(NOW).unwrap();
        assert_eq!(diary.take(), [Heard::Closed(Reason::Closed)]);
        assert_eq!((reactor.stats().open, reactor.next_deadline()), (0, None));
    }
    reactor.connect(*address, diary.caller(b"")).unwrap();
    reactor.turn(NOW).unwrap();
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

#[test]
fn a_reset_before_and_after_on_open_is_told_as_reset() {
    let ((listener, address), diary) = (blocking_listener(), Diary::default());
    let mut reactor = reactor();
    // Before the reactor has seen that the connection is established.
    reactor.connect(address, diary.caller(b"")).unwrap();
    reactor.turn(NOW).unwrap();
    reset(listener.accept().unwrap().0);
    turn_until_all_closed(&mut reactor);
    assert_eq!(diary.take(), [Heard::Closed(Reason::Reset)]);
    // And after it.
    reactor.connect(address, diary.caller(b"hello")).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    reset(listener.accept().unwrap().0);
    turn_until_all_closed(&mut reactor);
    assert_eq!(
        diary.take(),
        [Heard::Open(address), Heard::Closed(Reason::Reset)]
    );
    assert_eq!(diary.receipt().sent, 5);
}

/// Where nothing listens, the kernel may choose the port that is connected to as the local one.
#[test]
fn a_socket_connected_to_itself_is_refused_and_leaves_the_port_free() {
    let address = refusing_address();
    let (reason, receipt) = failure(address, &from_local(address));
    assert_eq!(reason, Reason::Refused);
    assert!(receipt.error.unwrap().1.contains("connected to itself"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&address.into())
        .expect("TIME_WAIT holds the port");
}

#[test]
fn a_local_address_can_be_chosen_and_errors_name_it() {
    let ((listener, address), diary) = (blocking_listener(), Diary::default());
    let mut reactor = reactor();
    reactor
        .connect_with(
            address,
            &from_local("127.0.0.5:0".parse().unwrap()),
            diary.caller(b""),
        )
        .unwrap();
    let port = refusing_address().port();
    reactor
        .connect_with(
            address,
            &from_local(([127, 0, 0, 6], port).into()),
            diary.caller(b""),
        )
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 2);
    assert_eq!(
        listener.accept().unwrap().1.ip(),
        "127.0.0.5".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(listener.accept().unwrap().1, ([127, 0, 0, 6], port).into());
    // Not an address of this machine; one of the other family; a port that another socket has.
    let (reason, receipt) = failure(address, &from_local("192.0.2.1:0".parse().unwrap()));
    assert_eq!(reason, Reason::Io);
    assert_eq!(
        receipt.error.unwrap(),
        (
            ErrorKind::InvalidInput,
            "192.0.2.1 is not an address of this machine".into()
        )
    );
    let (reason, receipt) = failure(address, &from_local("[::1]:0".parse().unwrap()));
    assert_eq!(reason, Reason::Io);
    assert!(receipt.error.unwrap().1.contains("cannot bind to [::1]:0"));
    let (reason, receipt) = failure(address, &from_local(address));
    assert_eq!(reason, Reason::NoLocalPort);
    assert!(
        receipt
            .error
            .unwrap()
            .1
            .contains(&format!("cannot bind to {address}"))
    );
}

/// This side closes first, so its port is in TIME_WAIT each time (RFC 9293, section 3.6.1).
#[test]
fn a_chosen_local_port_can_be_used_again_at_once() {
    let ((listener, address), mut reactor) = (blocking_listener(), reactor());
    let options = from_local(refusing_address());
    for round in 1..=3 {
        reactor
            .connect_with(address, &options, Say(b"bye"))
            .unwrap();
        turn_until(&mut reactor, |reactor| {
            reactor.stats().bytes_sent == 3 * round || reactor.stats().open == 0
        });
        assert_eq!(reactor.stats().connected, round, "the port is held");
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"bye");
        assert_eq!(Some(peer), options.local);
        drop(stream);
        turn_until_all_closed(&mut reactor);
        assert_eq!(reactor.stats().closed(Reason::Finished), round);
    }
}

/// Connects again in its own `on_close`, `left` times.
struct Reconnecting {
    address: SocketAddr,
    left: u32,
    tries: Rc<Cell<u32>>,
}

impl Handler for Reconnecting {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let own = closed.id;
        assert_eq!((others.send(own, b"too late"), others.room(own)), (0, 0));
        assert!(!others.half_close(own) && !others.close(own) && !others.abort(own));
        self.tries.set(self.tries.get() + 1);
        let Some(left) = self.left.checked_sub(1) else {
            return others.stop();
        };
        let again = Reconnecting {
            left,
            tries: Rc::clone(&self.tries),
            ..*self
        };
        if others.connect(self.address, again).is_err() {
            assert_eq!(closed.reason, Reason::ReactorDropped);
            self.tries.set(u32::MAX);
        }
    }
}

#[test]
fn on_close_can_connect_again_without_recursion() {
    let tries = Rc::new(Cell::new(0));
    let reconnecting = |address, left| Reconnecting {
        address,
        left,
        tries: Rc::clone(&tries),
    };
    let mut reactor = reactor();
    let mut run = |address, options: &ConnectOptions, left| {
        reactor
            .connect_with(address, options, reconnecting(address, left))
            .unwrap();
        turn_until(&mut reactor, Reactor::is_done);
        reactor.run().unwrap();
        assert_eq!((tries.take(), reactor.stats().panics), (left + 1, 0));
    };
    run(refusing_address(), &ConnectOptions::default(), 9);
    // This attempt fails within connect(2). 10,000 levels of recursion would overflow the stack.
    run(
        refusing_address(),
        &from_local("192.0.2.1:0".parse().unwrap()),
        9_999,
    );
    // Connecting while the reactor is dropped is an error.
    let (address, ..) = &full_listener();
    reactor
        .connect(*address, reconnecting(*address, 9))
        .unwrap();
    drop(reactor);
    assert_eq!(tries.get(), u32::MAX);
}

#[test]
fn an_adopted_stream_is_made_nonblocking() {
    let ((listener, address), diary) = (blocking_listener(), Diary::default());
    let mut reactor = reactor();
    let stream = TcpStream::connect(address).unwrap();
    let twin = stream.try_clone().unwrap();
    let mut other = listener.accept().unwrap().0;
    other.write_all(b"early").unwrap();
    reactor
        .adopt_stream(stream, diary.caller(b"adopted"))
        .unwrap();
    assert!(is_nonblocking(twin));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 7);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
    reactor.turn(NOW).unwrap();
    assert_eq!(
        diary.take(),
        [Heard::Open(address), Heard::Data(b"early".to_vec())]
    );
    assert_eq!(read_exactly(&mut other, 7), b"adopted");
    other.shutdown(Shutdown::Write).unwrap();
    turn_until_all_closed(&mut reactor);
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

/// Ends its output in `on_open`, and then tries to answer its input.
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
        // A byte a turn, so the peer's end comes while input is unconsumed.
        self.0.borrow_mut().extend_from_slice(&input[..1]);
        let id = cx.id();
        cx.others.wake(id);
        Ok(1)
    }

    fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_half_closed_connection_gets_all_its_input_and_then_closes() {
    let ((listener, address), heard) = (blocking_listener(), Rc::new(RefCell::new(Vec::new())));
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
    turn_until_all_closed(&mut reactor);
    assert_eq!(*heard.borrow(), answer);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(reactor.stats().closed(Reason::Finished), 1);
}

#[test]
fn what_is_sent_before_a_connection_is_established_leaves_first() {
    let ((listener, address), mut reactor) = (blocking_listener(), reactor());
    let diary = Diary::default();
    let options = set(|options: &mut ConnectOptions| options.limits.output_max_bytes = Some(10));
    let caller = diary.caller(b"!");
    let id = reactor.connect_with(address, &options, caller).unwrap();
    assert_eq!((reactor.room(id), reactor.send(id, b"early ")), (10, 6));
    // The attempt begins. The next turn tells that the connection is established.
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((reactor.stats().connected, reactor.room(id)), (0, 4));
    assert_eq!(reactor.send(id, b"bir"), 3);
    let view = &reactor.snapshot().connections[0];
    assert_eq!((view.pending_out, view.sent), (9, 0));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 10);
    let mut stream = listener.accept().unwrap().0;
    assert_eq!(read_exactly(&mut stream, 10), b"early bir!");
    assert_eq!(diary.take(), [Heard::Open(address)]);
}

#[test]
fn a_connection_is_ended_in_good_order_before_it_is_established() {
    let (listener, address) = blocking_listener();
    for closes in [false, true] {
        let (mut reactor, diary) = (reactor(), Diary::default());
        let id = reactor.connect(address, diary.caller(b"")).unwrap();
        assert_eq!(reactor.send(id, b"the last words"), 14);
        let ended = match closes {
            true => reactor.close(id),
            false => reactor.half_close(id),
        };
        assert!(ended);
        assert_eq!((reactor.room(id), reactor.send(id, b"late")), (0, 0));
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 14);
        let mut stream = listener.accept().unwrap().0;
        assert_eq!(read_all(&mut stream).unwrap(), b"the last words");
        stream.write_all(b"bye").unwrap();
        drop(stream);
        turn_until_all_closed(&mut reactor);
        let (heard, discarded) = match closes {
            true => (vec![], 3),
            false => (vec![Heard::Data(b"bye".into()), Heard::Eof], 0),
        };
        let end = Heard::Closed(Reason::Finished);
        let all = [vec![Heard::Open(address)], heard, vec![end]].concat();
        assert_eq!(diary.take(), all);
        let figures = (Reason::Finished, 3, 14, 0, discarded);
        assert_eq!(diary.receipt().figures(), figures);
    }
}

#[test]
fn an_attempt_that_has_ended_takes_no_more_output() {
    let address = refusing_address();
    type End = fn(&mut Reactor, Id) -> bool;
    let ends: [(&str, End); 3] = [
        ("close", |reactor, id| reactor.close(id)),
        ("abort", |reactor, id| reactor.abort(id)),
        ("panic", |reactor, id| {
            let code = |_: &mut Caller, _: &mut Context<'_>| panic!("on purpose");
            reactor.with(id, code).is_none()
        }),
    ];
    for (name, end) in ends {
        let (mut reactor, diary) = (reactor(), Diary::default());
        let id = reactor.connect(address, diary.caller(b"")).unwrap();
        assert!(end(&mut reactor, id), "{name}");
        let taken = (reactor.room(id), reactor.send(id, b"late"));
        assert_eq!(taken, (0, 0), "{name}");
        turn_until_all_closed(&mut reactor);
        let figures = (Reason::Closed, 0, 0, 0, 0);
        assert_eq!(diary.receipt().figures(), figures, "{name}");
    }
}

/// The kernel has established it, and the reactor does not know yet.
#[test]
fn an_attempt_that_is_aborted_resets_a_connection_that_lost_output() {
    for length in [0, 5] {
        let ((listener, address), mut reactor) = (blocking_listener(), reactor());
        let diary = Diary::default();
        let id = reactor.connect(address, diary.caller(b"")).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let mut stream = listener.accept().unwrap().0;
        assert_eq!(reactor.send(id, &b"early"[..length]), length);
        assert!(reactor.abort(id));
        turn_until_all_closed(&mut reactor);
        let figures = (Reason::Closed, 0, 0, length as u64, 0);
        assert_eq!(diary.receipt().figures(), figures);
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        let expected = match length {
            0 => Ok(0),
            _ => Err(ErrorKind::ConnectionReset),
        };
        assert_eq!(end, expected);
    }
}

/// The segments that the kernel has sent in this network namespace.
#[cfg(target_os = "linux")]
fn segments_sent() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut fields = names.split(' ').zip(values.split(' '));
    let found = fields.find(|(name, _)| *name == "OutSegs").unwrap();
    found.1.parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_waits_leaves_with_the_last_packet_of_the_handshake() {
    if !have("unshare") || !have("ip") {
        return;
    }
    let setup = "ip link set lo up && exec \"$0\" \"$@\"";
    if !alone(
        "output_that_waits_leaves_with_the_last_packet_of_the_handshake",
        &["unshare", "--map-root-user", "--net", "sh", "-ec", setup],
    ) {
        return;
    }
    let segments = [false, true].map(|waits| {
        let ((listener, address), mut reactor) = (blocking_listener(), reactor());
        let id = reactor
            .connect(address, Diary::default().caller(b""))
            .unwrap();
        let before = segments_sent();
        if waits {
            assert_eq!(reactor.send(id, b"early"), 5);
        }
        turn_until(&mut reactor, |reactor| reactor.stats().connected == 1);
        reactor.send(id, &b"later"[usize::from(waits) * 5..]);
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
        let sent = segments_sent() - before;
        assert_eq!(read_exactly(&mut listener.accept().unwrap().0, 5).len(), 5);
        sent
    });
    // SYN, SYN-ACK, ACK, data, and its ACK if that is not delayed.
    assert_eq!(segments[0], segments[1] + 1, "{segments:?}");
}

#[test]
fn no_local_port_and_no_route_are_told_apart() {
    if !have("unshare") || !have("ip") {
        return;
    }
    // A network namespace of its own has four local ports, and no route but to itself.
    let setup = "ip link set lo up && echo 40000 40003 >/proc/sys/net/ipv4/ip_local_port_range \
                 && ip route add unreachable 198.51.100.0/24 && exec \"$0\" \"$@\"";
    if !alone(
        "no_local_port_and_no_route_are_told_apart",
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
        let options = set(|options: &mut ConnectOptions| options.local = local);
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
fn running_out_of_descriptors_is_told_as_exhausted_and_passes() {
    if !alone(
        "running_out_of_descriptors_is_told_as_exhausted_and_passes",
        &[],
    ) {
        return;
    }
    let ((listener, address), mut reactor, diary) =
        (blocking_listener(), reactor(), Diary::default());
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
    turn_until_all_closed(&mut reactor);
    assert_eq!(diary.take(), [Heard::Closed(Reason::Exhausted)]);
    hoard.clear();
    let id: Id = reactor.connect(address, diary.caller(b"")).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().connected == 1);
    assert!(reactor.wake(id));
    drop(listener);
}
