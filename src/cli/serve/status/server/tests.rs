//! The clients of --status, one turn at a time.

use super::super::{Place, Serve};
use super::{CLIENTS_MAX, Client, LINGER_MAX, Next, Output, State, Status, TcpStream};
use doorkeeper::{Arrival, Config, Id, Reactor};
use std::cell::RefCell;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::time::Duration;

fn reactor() -> Reactor {
    Reactor::new(Config::default()).unwrap()
}

fn status() -> Rc<Status> {
    let place = Place {
        host: String::new(),
        addresses: Vec::new(),
    };
    Status::new(&place, &Serve::default())
}

/// A source that can be closed.
fn source(reactor: &mut Reactor) -> Id {
    let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
    let any = "127.0.0.1:0".parse().unwrap();
    reactor.listen(any, service).unwrap()
}

#[test]
fn the_oldest_client_makes_room_for_one_more_and_streams_come_last() {
    let (mut reactor, status) = (reactor(), status());
    let clients = &status.clients;
    let ids: Vec<Id> = (0..CLIENTS_MAX).map(|_| source(&mut reactor)).collect();
    let is_open = |reactor: &Reactor, nth: usize| reactor.local_addr(ids[nth]).is_ok();
    for (nth, &id) in ids.iter().enumerate() {
        let mut output = Output::new();
        output.is_stream = nth == 0;
        clients.make_room(&mut reactor);
        let outputs = &mut *clients.outputs.borrow_mut();
        outputs.insert(id, Rc::new(RefCell::new(output)));
        assert_eq!(outputs.len(), nth + 1);
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!((0..CLIENTS_MAX).all(|nth| is_open(&reactor, nth)));
    clients.make_room(&mut reactor);
    assert_eq!(clients.outputs.borrow().len(), CLIENTS_MAX - 1);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let closed: Vec<usize> = (0..CLIENTS_MAX)
        .filter(|&nth| !is_open(&reactor, nth))
        .collect();
    assert_eq!(closed, [1]);
}

/// A client in this state, its socket, which blocks, and the peer's.
fn client(state: State) -> (Client, TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let client = Client {
        status: status(),
        output: Rc::new(RefCell::new(Output::new())),
        state,
    };
    (client, TcpStream::from_std(stream), peer)
}

#[test]
fn after_an_answer_input_is_read_up_to_a_limit_or_the_end() {
    let mut reactor = reactor();
    let (mut lingers, mut stream, mut peer) = client(State::Linger(LINGER_MAX - 3));
    for next in [Next::Again, Next::Again, Next::Again, Next::Done] {
        peer.write_all(b"x").unwrap();
        assert_eq!(lingers.turn(&mut reactor, &mut stream).unwrap(), next);
    }
    let (mut lingers, mut stream, mut peer) = client(State::Linger(0));
    peer.write_all(b"x").unwrap();
    assert_eq!(
        lingers.turn(&mut reactor, &mut stream).unwrap(),
        Next::Again
    );
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(lingers.turn(&mut reactor, &mut stream).unwrap(), Next::Done);
}
