//! The six services, over every network.

use crate::running::address;
use doorkeeper::services::{Chargen, Daytime, Discard, Echo, Qotd, Quotes, Time};
use doorkeeper::sim::{self, Ending, Peer, Sim};
use doorkeeper::{Config, Handler, Reactor};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

#[test]
fn echo_returns_everything_and_ends_after_its_peer() {
    let echo = sim::conversation(|| Echo).send(b"hello").expect(b"hello");
    let again = echo.send(b"\0\xff").expect(b"\0\xff");
    again.half_close().expect_end().check();
}

#[test]
fn discard_returns_nothing_and_ends_after_its_peer() {
    let discard = sim::conversation(|| Discard).send(b"nothing comes of this");
    discard.half_close().expect_end().check();
}

#[test]
fn qotd_says_its_quote_whatever_it_is_sent_and_ends() {
    let quote = b"Be conservative in what you do, be liberal in what you accept from others.\r\n\
        (Jon Postel, RFC 793)\r\n";
    let qotd = sim::conversation(|| Qotd::new(Quotes::built_in()));
    qotd.expect(quote)
        .expect_end()
        .send(b"thanks")
        .half_close()
        .check();
}

/// A service that says one thing and ends, to a peer that reads and sends as the network wants.
fn says<H: Handler>(make: fn() -> H, check: impl Fn(&[u8])) {
    sim::seeds(0..300, |sim| {
        let (server, peer) = serve(sim, make);
        if sim.choose(2) == 1 {
            peer.send(b"what is that?");
        }
        sim.run_until(|| peer.ending().is_some());
        assert_eq!(peer.ending(), Some(Ending::Fin));
        check(&peer.received());
        peer.close();
        sim.run_to_rest();
        assert_eq!(server.borrow().stats().open, 0);
    });
}

fn serve<H: Handler>(sim: &Sim, make: fn() -> H) -> (Rc<RefCell<Reactor>>, Peer) {
    let buffer = || 2000 - sim.choose(2000);
    sim.set_buffers(buffer(), buffer());
    let server = sim.reactor(Config::default()).unwrap();
    let listening = server.borrow_mut().listen(address(), move |_| Some(make()));
    assert!(listening.is_ok());
    let peer = sim.connect(address());
    (server, peer)
}

#[test]
fn daytime_says_one_line_and_ends() {
    says(Daytime::utc, |received| {
        assert_eq!(received.len(), 26, "{}", received.escape_ascii());
        assert!(received.ends_with(b"\r\n"));
    });
}

#[test]
fn time_says_four_bytes_and_ends() {
    says(
        || Time,
        |received| {
            let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let said = u32::from_be_bytes(received.try_into().unwrap());
            let now = (since_1970 + 2_208_988_800) as u32;
            assert!(now.wrapping_sub(said) < 600, "{said} is not {now}");
        },
    );
}

/// The pattern of RFC 864: each line begins one character later.
fn pattern(count: usize) -> Vec<u8> {
    let line = |number: usize| {
        let text = (0..72).map(move |column| b' ' + ((number + column) % 95) as u8);
        text.chain(*b"\r\n")
    };
    (0..).flat_map(line).take(count).collect()
}

#[test]
fn chargen_goes_on_as_long_as_its_peer_reads_and_ends_with_it() {
    sim::seeds(0..200, |sim| {
        let (server, peer) = serve(sim, Chargen::default);
        let count = 1 + sim.choose(20_000);
        peer.read(count);
        sim.run_until(|| peer.received().len() == count);
        assert!(peer.received() == pattern(count));
        peer.read(100);
        sim.run_for(Duration::from_secs(1));
        assert!(peer.received() == pattern(count + 100));
        match sim.choose(3) {
            0 => peer.reset(),
            1 => peer.close(),
            _ => {
                peer.half_close();
                peer.read_all();
            }
        }
        sim.run_to_rest();
        let received = peer.received();
        assert!(received == pattern(received.len()));
        assert_eq!(server.borrow().stats().open, 0);
    });
}
