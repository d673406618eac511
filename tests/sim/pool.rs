//! The example `pool`: every call gets its reply or an error, once, whatever its connections go through.

use crate::running::address;
use doorkeeper::sim::{self, Listening, Peer, Sim};
use doorkeeper::{Config, Reactor};
use example::{Slot, Slots, begin, connect_all, lock};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/pool.rs"]
mod example;

struct Pool {
    reactor: Rc<RefCell<Reactor>>,
    slots: Slots,
    listening: Listening,
}

type Call = Receiver<io::Result<Vec<u8>>>;

impl Pool {
    fn new(sim: &Sim, config: Config, connections: usize) -> Pool {
        let listening = sim.listen(address(), 20).unwrap();
        let (reactor, slots) = (sim.reactor(config).unwrap(), Slots::default());
        lock(&slots).resize_with(connections, Slot::default);
        connect_all(&mut reactor.borrow_mut(), address(), &slots);
        Pool {
            reactor,
            slots,
            listening,
        }
    }

    fn call(&self, request: &str) -> Call {
        let (sender, receiver) = channel();
        let mut reactor = self.reactor.borrow_mut();
        begin(&mut reactor, &self.slots, request.as_bytes(), sender);
        receiver
    }

    /// The server's side of the next connection.
    fn accept(&self, sim: &Sim) -> Peer {
        let opened = || lock(&self.slots).iter().any(|slot| slot.id.is_some());
        sim.run_until(|| self.listening.waiting() > 0 && opened());
        self.listening.accept().unwrap()
    }
}

/// The one result of a call that is forgotten.
fn result(call: &Call) -> io::Result<Vec<u8>> {
    let result = call.try_recv().expect("a call has a result");
    let more = call.try_recv().err();
    assert_eq!(more, Some(TryRecvError::Disconnected), "one result");
    result
}

const REPLIES: [&str; 4] = [
    "+OK\r\n",
    "$7\r\na\r\n:1\r\n\r\n",
    "*3\r\n:1\r\n$-1\r\n*1\r\n$1\r\nx\r\n",
    "-ERR no\r\n",
];

/// A connection with as many calls as there are replies, which the server has read.
fn calls(sim: &Sim) -> (Pool, Peer, Vec<Call>) {
    let pool = Pool::new(sim, Config::default(), 1);
    let server = pool.accept(sim);
    let calls: Vec<Call> = (0..REPLIES.len())
        .map(|number| pool.call(&format!("GET {number}\r\n")))
        .collect();
    sim.run_now();
    assert_eq!(server.received().len(), 7 * REPLIES.len());
    (pool, server, calls)
}

#[test]
fn replies_that_are_split_anywhere_go_to_their_calls() {
    let replies = REPLIES.concat();
    // At every place, at every two, and at all.
    let places = (0..replies.len()).flat_map(|one| (one..replies.len()).map(move |two| [one, two]));
    let splits = places.map(Vec::from).chain([(0..replies.len()).collect()]);
    for split in splits {
        let sim = Sim::plain();
        let (_pool, server, calls) = calls(&sim);
        let mut from = 0;
        for &place in &split {
            server.send(&replies.as_bytes()[from..place]);
            sim.run_now();
            from = place;
        }
        server.send(&replies.as_bytes()[from..]);
        sim.run_now();
        for (call, reply) in calls.iter().zip(REPLIES) {
            assert_eq!(result(call).unwrap(), reply.as_bytes(), "{split:?}");
        }
    }
}

#[test]
fn calls_whose_connection_ends_at_any_place_fail_once_and_the_pool_connects_again() {
    let replies = REPLIES.concat();
    for (end, place) in (0..3).flat_map(|end| (0..=replies.len()).map(move |place| (end, place))) {
        let sim = Sim::plain();
        let (pool, server, calls) = calls(&sim);
        server.send(&replies.as_bytes()[..place]);
        sim.run_now();
        match end {
            0 => server.half_close(),
            1 => server.close(),
            _ => server.reset(),
        }
        sim.run_now();
        let mut whole = 0;
        for (call, reply) in calls.iter().zip(REPLIES) {
            whole += reply.len();
            match result(call) {
                Ok(got) => assert!(whole <= place && got == reply.as_bytes()),
                Err(_) => assert!(whole > place, "{place}: {reply:?} is lost"),
            }
        }
        assert!(result(&pool.call("PING\r\n")).is_err(), "not connected");
        let server = pool.accept(&sim);
        let call = pool.call("PING\r\n");
        server.send(b"+PONG\r\n");
        sim.run_now();
        assert_eq!(result(&call).unwrap(), b"+PONG\r\n");
    }
}

/// A server that replies to each whole line with the line.
struct Server {
    peer: Peer,
    replied: usize,
}

impl Server {
    fn reply(&mut self) {
        let received = self.peer.received();
        while let Some(length) = received[self.replied..].iter().position(|&b| b == b'\n') {
            let line = &received[self.replied..self.replied + length - 1];
            let reply = format!("${}\r\n{}\r\n", line.len(), line.escape_ascii());
            self.peer.send(reply.as_bytes());
            self.replied += length + 1;
        }
    }
}

/// Connections that are reset, servers that do not read, and requests that there is no room for.
fn a_pool(sim: &Sim) {
    let buffer = || 300 - sim.choose(300);
    sim.set_buffers(buffer(), buffer());
    let mut config = Config::default();
    config.output_max_bytes = 200 - sim.choose(180);
    config.output_hard_max_bytes = config.output_max_bytes;
    let pool = Pool::new(sim, config, 1 + sim.choose(3));
    let (mut servers, mut calls) = (VecDeque::new(), Vec::new());
    for number in 0..40 {
        while let Some(peer) = pool.listening.accept() {
            servers.push_back(Server { peer, replied: 0 });
        }
        for _ in 0..sim.choose(4) {
            let request = format!("GET {number}{}", "x".repeat(sim.choose(20)));
            calls.push((pool.call(&format!("{request}\r\n")), request));
        }
        if let Some(server) = servers.front_mut() {
            match sim.choose(12) {
                0 => servers.pop_front().unwrap().peer.reset(),
                1 => servers.pop_front().unwrap().peer.close(),
                2 => server.peer.half_close(),
                3 => server.peer.stop_reading(),
                4..8 => {
                    server.peer.read_all();
                    server.reply();
                }
                _ => {}
            }
            servers.rotate_left(usize::from(servers.len() > 1));
        }
        sim.run_for(Duration::from_millis(sim.choose(60) as u64));
    }
    for server in servers {
        match sim.choose(2) {
            0 => server.peer.close(),
            _ => server.peer.reset(),
        }
    }
    sim.run_now();
    for (call, request) in &calls {
        if let Ok(reply) = result(call) {
            let text = format!("${}\r\n{request}\r\n", request.len());
            assert_eq!(reply, text.as_bytes());
        }
    }
}

#[test]
fn every_call_has_one_result_on_every_network() {
    sim::seeds(0..500, a_pool);
}
