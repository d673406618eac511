//! Everything else on the loop: closing another connection, and what a service is told and can do.

mod common;

use common::{Echo, NOW, client, listen, listen_as, loopback, reactor, read_all, turn_until};
use doorkeeper::{Closed, Context, Handler, Id, Others, Reactor, Reason};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

type Reasons = Rc<RefCell<Vec<Reason>>>;

/// Writes this much when it opens, consumes nothing, and tells its id and why it closed.
struct Held {
    bytes: usize,
    id: Rc<Cell<Option<Id>>>,
    reasons: Reasons,
}

impl Handler for Held {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.id.set(Some(cx.id()));
        assert_eq!(cx.write(&vec![b'x'; self.bytes]), self.bytes);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        assert_eq!(Some(closed.id), self.id.get());
        self.reasons.borrow_mut().push(closed.reason);
    }
}

/// A connection that holds unsent output, and perhaps input that it does not consume.
fn held(reactor: &mut Reactor, bytes: usize) -> (TcpStream, Id, Reasons) {
    let (id, reasons) = (Rc::new(Cell::new(None)), Reasons::default());
    let (opened, noted) = (Rc::clone(&id), Rc::clone(&reasons));
    let address = listen(reactor, move |_| {
        Some(Held {
            bytes,
            id: Rc::clone(&opened),
            reasons: Rc::clone(&noted),
        })
    });
    let stream = client(address);
    turn_until(reactor, |_| id.get().is_some());
    (stream, id.get().unwrap(), reasons)
}

/// More than the kernel takes at once, and no more than fits into the output of a connection.
const MUCH: usize = 64 * 1024;

/// Each way to reach a connection by its id.
type Reach = fn(&mut Reactor, Id, fn(&mut Others<'_>, Id) -> bool, fn(&mut Reactor, Id) -> bool);

/// Calls it in a callback of another connection.
fn from_another(
    reactor: &mut Reactor,
    id: Id,
    code: fn(&mut Others<'_>, Id) -> bool,
    _: fn(&mut Reactor, Id) -> bool,
) {
    let done = Rc::new(Cell::new(false));
    let told = Rc::clone(&done);
    let address = listen(reactor, move |arrival| {
        assert!(code(&mut arrival.others, id));
        told.set(true);
        Some(Echo)
    });
    let _stream = client(address);
    turn_until(reactor, |_| done.get());
}

fn from_the_program(
    reactor: &mut Reactor,
    id: Id,
    _: fn(&mut Others<'_>, Id) -> bool,
    code: fn(&mut Reactor, Id) -> bool,
) {
    assert!(code(reactor, id));
}

#[test]
fn a_close_by_id_delivers_what_was_written() {
    for reach in [from_another as Reach, from_the_program] {
        let mut reactor = reactor();
        let (mut stream, id, reasons) = held(&mut reactor, 0);
        // It holds input too, which a close(2) would answer with a reset.
        stream.write_all(b"never consumed").unwrap();
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 14);
        let mut sent = 0;
        while sent < 20 * MUCH {
            match reactor.send(id, &[b'y'; MUCH]) {
                0 => break,
                taken => sent += taken,
            }
            reactor.turn(NOW).unwrap();
        }
        reach(
            &mut reactor,
            id,
            |others, id| others.close(id),
            Reactor::close,
        );
        assert_eq!((reactor.room(id), reactor.send(id, b"late")), (0, 0));
        stream.set_nonblocking(true).unwrap();
        let mut received = 0;
        let mut buffer = vec![0; MUCH];
        loop {
            reactor.turn(NOW).unwrap();
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!((received, reasons.borrow().as_slice()), (sent, &[][..]));
        drop(stream);
        turn_until(&mut reactor, |_| !reasons.borrow().is_empty());
        assert_eq!(*reasons.borrow(), [Reason::Finished]);
        assert!(!reactor.close(id), "its id names nothing any more");
    }
}

#[test]
fn an_abort_by_id_resets() {
    for reach in [from_another as Reach, from_the_program] {
        let mut reactor = reactor();
        let (mut stream, id, reasons) = held(&mut reactor, 3);
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 3);
        reach(
            &mut reactor,
            id,
            |others, id| others.abort(id),
            Reactor::abort,
        );
        assert_eq!(reactor.send(id, b"late"), 0);
        turn_until(&mut reactor, |_| !reasons.borrow().is_empty());
        assert_eq!(*reasons.borrow(), [Reason::Aborted]);
        let error = read_all(&mut stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_service_is_told_the_listener_and_both_addresses() {
    let mut reactor = reactor();
    let told = Rc::new(Cell::new(None));
    let noted = Rc::clone(&told);
    let any = "0.0.0.0:0".parse().unwrap();
    let listener = reactor.listen(any, move |arrival| {
        noted.set(Some((
            arrival.id,
            arrival.listener,
            arrival.peer,
            arrival.local().unwrap(),
        )));
        Some(Echo)
    });
    let listener = listener.unwrap();
    let port = reactor.local_addr(listener).unwrap().port();
    let stream = client(([127, 0, 0, 2], port).into());
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let (id, by, peer, local) = told.get().unwrap();
    assert_eq!((by, peer), (listener, stream.local_addr().unwrap()));
    assert_eq!(local, stream.peer_addr().unwrap());
    assert_eq!(reactor.snapshot().connections[0].id, id);
}

/// The service connects, so it takes the next slot while a connection is being accepted.
#[test]
fn a_service_can_connect_and_close_its_listener() {
    let mut reactor = reactor();
    let echo = listen(&mut reactor, |_| Some(Echo));
    let ids: Rc<RefCell<Vec<Id>>> = Rc::default();
    let noted = Rc::clone(&ids);
    let (listener, address) = listen_as(&mut reactor, move |arrival| {
        let id = arrival.id;
        assert_eq!(arrival.others.send(id, b"not open yet"), 0);
        assert!(!arrival.others.close(id) && !arrival.others.half_close(id));
        let onward = arrival.others.connect(echo, Echo).unwrap();
        noted.borrow_mut().extend([id, onward]);
        assert!(arrival.others.close(arrival.listener));
        Some(Echo)
    });
    let mut stream = client(address);
    stream.write_all(b"both").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 3);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 4);
    assert!(ids.borrow()[0] != ids.borrow()[1]);
    let open: Vec<Id> = reactor
        .snapshot()
        .connections
        .iter()
        .map(|view| view.id)
        .collect();
    assert!(ids.borrow().iter().all(|id| open.contains(id)), "{open:?}");
    assert!(!reactor.close(listener), "it is closed");
    // A slot that was taken for a connection that is turned away is free again.
    let (_, address) = listen_as(&mut reactor, |_| None::<Echo>);
    for turned_away in 1..=3 {
        let mut stream = client(address);
        turn_until(&mut reactor, |reactor| {
            reactor.stats().turned_away == turned_away
        });
        assert_eq!(read_all(&mut stream).unwrap(), b"");
    }
    assert_eq!(reactor.stats().open, 3);
}

/// A handler in a box is the handler itself: no box around the box.
#[test]
fn a_service_can_choose_between_handlers() {
    let mut reactor = reactor();
    let mut count = 0;
    let id = reactor.listen(loopback(), move |_| {
        count += 1;
        let handler: Box<dyn Handler> = match count {
            1 => Box::new(Echo),
            _ => Box::new(Shout),
        };
        Some(handler)
    });
    let address = reactor.local_addr(id.unwrap()).unwrap();
    for answer in [&b"hello"[..], b"HELLO"] {
        let mut stream = client(address);
        stream.write_all(b"hello").unwrap();
        let before = reactor.stats().bytes_sent;
        turn_until(&mut reactor, |reactor| {
            reactor.stats().bytes_sent == before + 5
        });
        let mut received = [0; 5];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, answer);
    }
}

struct Shout;

impl Handler for Shout {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(&input.to_ascii_uppercase()))
    }
}
