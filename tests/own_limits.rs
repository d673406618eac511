//! Limits of one listener's connections, a maximum lifetime and a least rate, over TCP. All that they mean
//! is tested in the simulation (`tests/sim/limits.rs`).

mod common;

use common::{Discard, Echo, NOW, client, echo, pass, read_all, set, turn_until};
use doorkeeper::{Config, ListenOptions, MinRate, Reactor, Reason, Stats};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn closed(reason: Reason) -> impl Fn(&Reactor) -> bool {
    move |reactor| reactor.stats().closed(reason) == 1
}

/// A client that sends all the time has no turn without input.
#[test]
fn a_lifetime_does_not_wait_for_a_turn_without_input() {
    let config = set(|config: &mut Config| {
        config.turn_budget_bytes = 1000;
        config.max_lifetime = Some(Duration::from_millis(500));
    });
    let mut reactor = Reactor::new(config).unwrap();
    let id = reactor.listen(any(), |_| Some(Discard)).unwrap();
    let mut stream = client(reactor.local_addr(id).unwrap());
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
    // Its first turn, which arms the deadline.
    reactor.turn(NOW).unwrap();
    stream.write_all(&[0; 100_000]).unwrap();
    pass(Duration::from_millis(510));
    turn_until(&mut reactor, closed(Reason::LifetimeOver));
    let Stats { bytes_received, .. } = reactor.stats();
    assert!(bytes_received <= 2000, "{bytes_received} bytes were read");
    let error = read_all(&mut stream).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_slow_client_of_an_adopted_listener_is_reset_and_one_of_another_listener_is_not() {
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let socket = TcpListener::bind(any()).unwrap();
    let adopted = reactor.adopt_listener(socket, |_| Some(Echo)).unwrap();
    let mut options = ListenOptions::default();
    let span = Duration::from_millis(30);
    options.limits.min_rate = Some(MinRate { bytes: 10, span });
    reactor.set_limits(adopted, &options.limits).unwrap();
    let other = reactor.listen(any(), |_| Some(Echo)).unwrap();
    let streams = [adopted, other].map(|id| client(reactor.local_addr(id).unwrap()));
    let [mut slow, mut spared] = streams;
    slow.write_all(b"x").unwrap();
    turn_until(&mut reactor, closed(Reason::TooSlow));
    let error = read_all(&mut slow).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let served = std::thread::spawn(move || echo(&mut spared, b"still"));
    while !served.is_finished() {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(served.join().unwrap(), b"still");
    assert_eq!(reactor.stats().closed(Reason::TooSlow), 1);
}
