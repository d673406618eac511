//! In a host that leaves SIGPIPE at its default, which ends the process. One test, for the setting is the process's.

mod common;

use common::{Running, client, echo, read_exactly};
use doorkeeper::services::{Chargen, Echo};
use doorkeeper::{Config, Reason};
use socket2::SockRef;
use std::io::Write;
use std::time::Duration;

/// Output that leaves in the turn that wrote it, and output that was held: each to a peer that is gone.
#[test]
fn a_peer_that_is_gone_is_an_error_and_not_a_signal() {
    sigpipe::reset();
    let (running, [echoes, chargen]) = Running::start(Config::default(), |reactor| {
        let any = "127.0.0.1:0".parse().unwrap();
        let ids = [reactor.listen(any, |_| Some(Echo)), reactor.listen(any, |_| Some(Chargen::default()))];
        ids.map(|id| reactor.local_addr(id.unwrap()).unwrap())
    });
    for _ in 0..100 {
        let mut stream = client(chargen);
        read_exactly(&mut stream, 1000);
        drop(stream);
        let mut stream = client(echoes);
        stream.write_all(&[b'x'; 100_000]).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
    }
    let stats = running.await_stats(|stats| stats.open == 0 && stats.accepted + stats.accept_errors >= 200);
    assert!(stats.closed(Reason::Reset) >= 100, "{stats:?}");
    assert_eq!(echo(&mut client(echoes), b"alive"), b"alive");
}
