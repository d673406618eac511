//! The simulated kernel as a reactor and its peers see it: queues, buffers, resets, failures.

use crate::running::{Echo, Ends, Records, address, echo_server};
use doorkeeper::sim::{Choice, Ending, Sim};
use doorkeeper::{
    Arrival, Config, ConnectOptions, Context, Handler, ListenOptions, Next, Reason, mio,
};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

struct Nothing;

impl Handler for Nothing {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// How a reactor's attempt to connect ends, and when.
fn attempt(sim: &Sim, to: SocketAddr, options: &ConnectOptions) -> (Reason, Duration) {
    let client = sim.reactor(Config::default()).unwrap();
    let ends = Ends::default();
    let handler = Records(Nothing, ends.clone());
    client
        .borrow_mut()
        .connect_with(to, options, handler)
        .unwrap();
    sim.run_until(|| !ends.0.borrow().is_empty());
    (ends.0.borrow()[0].0, sim.now())
}

#[test]
fn a_backlog_of_n_queues_n_and_one_more_and_the_next_comes_in_at_its_next_syn() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let mut options = ListenOptions::default();
    options.backlog = 2;
    let id = server
        .borrow_mut()
        .listen_with(address(), &options, |_| Some(Echo))
        .unwrap();
    // Peers that connect before the reactor has had a turn.
    let peers: Vec<_> = (0..4).map(|_| sim.connect(address())).collect();
    let queue = server.borrow().accept_queue(id).unwrap();
    assert_eq!((queue.depth, queue.limit), (3, 2));
    sim.run_for(Duration::from_millis(999));
    let connected = |peers: &[doorkeeper::sim::Peer]| {
        let connected = peers.iter().filter(|peer| peer.is_connected());
        connected.count()
    };
    assert_eq!(connected(&peers), 3);
    assert_eq!(server.borrow().snapshot().overflows.unwrap().overflows, 1);
    sim.run_until(|| connected(&peers) == 4);
    assert_eq!(sim.now(), seconds(1));
}

#[test]
fn a_client_that_no_place_becomes_free_for_sends_ten_syns_and_gives_up() {
    let sim = Sim::plain();
    let listening = sim.listen(address(), 0).unwrap();
    let first = sim.connect(address());
    let second = sim.connect(address());
    sim.run_for(seconds(134));
    assert!(first.is_connected() && second.ending().is_none());
    sim.run_for(seconds(1));
    assert_eq!(second.ending(), Some(Ending::Error(ErrorKind::TimedOut)));
    assert_eq!(listening.waiting(), 1);
}

#[test]
fn a_client_is_connected_and_may_send_before_it_is_accepted() {
    let sim = Sim::new(4);
    let listening = sim.listen(address(), 5).unwrap();
    let peer = sim.connect(address());
    peer.send(b"early");
    peer.half_close();
    sim.run_to_rest();
    assert!(peer.is_connected());
    let accepted = listening.accept().unwrap();
    sim.run_until(|| accepted.ending() == Some(Ending::Fin));
    assert_eq!(accepted.received(), b"early");
    assert!(listening.accept().is_none());
}

#[test]
fn refused_unreachable_silent_and_without_a_port_have_their_reasons() {
    let sim = Sim::new(2);
    let options = ConnectOptions::default();
    let (refused, at) = attempt(&sim, address(), &options);
    assert_eq!((refused, at), (Reason::Refused, seconds(0)));
    sim.set_unreachable(address().ip());
    assert_eq!(attempt(&sim, address(), &options).0, Reason::Unreachable);
    sim.set_silent(address().ip());
    let (reason, at) = attempt(&sim, address(), &options);
    assert_eq!((reason, at), (Reason::TimedOut, seconds(30)));
    let mut patient = ConnectOptions::default();
    patient.timeout = Some(Duration::MAX);
    let (reason, at) = attempt(&sim, address(), &patient);
    assert_eq!((reason, at), (Reason::TimedOut, seconds(30 + 135)));
}

#[test]
fn ports_are_used_up_for_one_destination_only() {
    let sim = Sim::plain();
    sim.set_ports(40_000..=40_003);
    let other: SocketAddr = "10.0.0.1:8".parse().unwrap();
    let _here = sim.listen(address(), 20).unwrap();
    let _there = sim.listen(other, 20).unwrap();
    let four: Vec<_> = (0..4).map(|_| sim.connect(address())).collect();
    sim.run_to_rest();
    assert!(four.iter().all(|peer| peer.is_connected()));
    let (reason, _) = attempt(&sim, address(), &ConnectOptions::default());
    assert_eq!(reason, Reason::NoLocalPort);
    let peer = sim.connect(other);
    sim.run_until(|| peer.is_connected());
}

#[test]
fn a_port_is_bound_once_and_again_when_its_listener_is_gone() {
    let sim = Sim::plain();
    let first = sim.listen(address(), 1).unwrap();
    let second = sim.listen(address(), 1);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(first);
    sim.listen(address(), 1).unwrap();
}

#[test]
fn a_reset_ends_the_connection_and_keeps_what_had_arrived() {
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let ends = Ends::default();
        let server = sim.reactor(Config::default()).unwrap();
        let seen = ends.clone();
        let service = move |_: &mut Arrival<'_>| Some(Records(Nothing, seen.clone()));
        server.borrow_mut().listen(address(), service).unwrap();
        let peer = sim.connect(address());
        peer.send(b"abcdef");
        sim.run_until(|| peer.unsent() == 0);
        peer.reset();
        sim.run_until(|| !ends.0.borrow().is_empty());
        let (reason, received, _) = ends.0.borrow()[0];
        assert_eq!(reason, Reason::Reset, "seed {seed}");
        assert!(received <= 6);
    }
}

#[test]
fn a_peer_that_does_not_read_stops_the_writer_and_gets_all_when_it_reads() {
    let sim = Sim::new(9);
    sim.set_buffers(1000, 1000);
    let mut config = Config::default();
    config.output_max_bytes = 1000;
    let server = echo_server(&sim, config);
    let peer = sim.connect(address());
    peer.stop_reading();
    let text: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    peer.send(&text);
    sim.run_to_rest();
    let view = server.borrow().snapshot().connections[0].clone();
    assert!(
        view.pending_out <= 1000 && view.received < 10_000,
        "{view:?}"
    );
    assert!(peer.unsent() > 0 && peer.received().is_empty());
    peer.read(10);
    sim.run_to_rest();
    assert_eq!(peer.received(), text[..10]);
    peer.read_all();
    sim.run_until(|| peer.received().len() == text.len());
    assert!(peer.received() == text);
}

#[test]
fn a_close_with_unread_input_is_a_reset() {
    let sim = Sim::plain();
    let server = echo_server(&sim, Config::default());
    let peer = sim.connect(address());
    peer.stop_reading();
    peer.send(b"unread echo");
    sim.run_to_rest();
    peer.close();
    sim.run_to_rest();
    assert_eq!(server.borrow().stats().closed(Reason::Reset), 1);
}

#[test]
fn without_descriptors_clients_wait_and_are_served_later() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let server = echo_server(&sim, Config::default());
        // The listener has one.
        sim.set_descriptors(3);
        let peers: Vec<_> = (0..5).map(|_| sim.connect(address())).collect();
        for peer in &peers {
            peer.send(b"x");
            peer.half_close();
        }
        sim.run_until(|| peers.iter().all(|peer| peer.ending().is_some()));
        assert!(
            peers.iter().all(|peer| peer.received() == b"x"),
            "seed {seed}"
        );
        assert_eq!(server.borrow().stats().accepted, 5);
    }
}

#[test]
fn errors_of_accept_cost_at_most_the_connection_they_stand_for() {
    for seed in 0..200 {
        let sim = Sim::new(seed);
        sim.set_rate(Choice::AcceptError, 100);
        let server = echo_server(&sim, Config::default());
        let peers: Vec<_> = (0..10).map(|_| sim.connect(address())).collect();
        for peer in &peers {
            peer.send(b"x");
            peer.half_close();
        }
        sim.run_until(|| peers.iter().all(|peer| peer.ending().is_some()));
        let aborted = |peer: &&doorkeeper::sim::Peer| peer.ending() != Some(Ending::Fin);
        let lost = peers.iter().filter(aborted).count() as u64;
        assert_eq!(server.borrow().stats().accepted + lost, 10, "seed {seed}");
        assert!(server.borrow().stats().accept_errors >= lost);
    }
}

/// Each says why, and leaves nothing behind.
#[test]
fn what_a_reactor_cannot_have_in_a_simulation_is_refused() {
    let sim = Sim::plain();
    let server = sim.reactor(Config::default()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let watched = mio::net::TcpStream::from_std(stream.try_clone().unwrap());
    let refused = |result: io::Result<doorkeeper::Id>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let message =
            "the reactor is a simulation's, and takes no sockets or sources of the system";
        assert_eq!(error.to_string(), message);
    };
    let mut reactor = server.borrow_mut();
    refused(reactor.adopt_listener(listener, |_| Some(Echo)));
    refused(reactor.adopt_stream(stream, Echo));
    let interest = mio::Interest::READABLE;
    refused(reactor.watch(watched, interest, |_, _, _| Next::Done));
    drop(reactor);
    sim.run_to_rest();
    assert_eq!(server.borrow().stats().open, 0);
    // It goes on with its own.
    let id = server.borrow_mut().listen(address(), |_| Some(Echo));
    assert_eq!(server.borrow().local_addr(id.unwrap()).unwrap(), address());
}

/// Clients that arrive are events, but they free no descriptor.
#[test]
fn out_of_descriptors_a_listener_tries_again_every_100_ms_and_when_a_connection_closes() {
    let sim = Sim::plain();
    let server = echo_server(&sim, Config::default());
    let first = sim.connect(address());
    sim.run_now();
    // The listener and the first connection.
    sim.set_descriptors(2);
    let mut waiting = Vec::new();
    for step in 1..=30 {
        waiting.push(sim.connect(address()));
        sim.run_for(Duration::from_millis(10));
        let stats = server.borrow().stats();
        assert_eq!((stats.accepted, stats.accept_errors), (1, 1 + step / 10));
    }
    sim.run_for(Duration::from_millis(50));
    first.close();
    sim.run_now();
    let stats = server.borrow().stats();
    // One is accepted, and the next finds no descriptor.
    assert_eq!((stats.accepted, stats.accept_errors), (2, 5));
}
