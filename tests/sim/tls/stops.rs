//! A peer that stops reading, or writing, at any byte of a TLS handshake.

use super::{client, example::Tls, server};
use crate::running::address;
use doorkeeper::sim::{Peer, Sim};
use doorkeeper::{
    Arrival, Closed, Config, ConnectionState, Context, Handler, Layer, Layered, Others, Reactor,
    Reason,
};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_secs(20);
const OUTPUT_MAX: usize = 3000;

/// What the handler does when its connection is open, while the handshake is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    /// Nothing: it waits to be asked.
    Waits,
    /// Writes as much as there is room for.
    Writes,
    /// Writes a line and finishes.
    Finishes,
}

struct Probe(Style, Rc<RefCell<Vec<Reason>>>);

impl Handler for Probe {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.0 {
            Style::Waits => {}
            Style::Writes => assert_eq!(cx.write(&[b'x'; 2 * OUTPUT_MAX]), OUTPUT_MAX),
            Style::Finishes => {
                cx.write(b"hi\n");
                cx.finish();
            }
        }
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.1.borrow_mut().push(closed.reason);
    }
}

/// Which side the reactor is, what its handler does, and what ends the connection.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_server: bool,
    style: Style,
    has_lifetime: bool,
    /// The bytes that a socket holds in each direction.
    buffers: usize,
}

/// A peer that speaks TLS, and how many bytes of the wire it reads and writes.
struct Talker {
    sim: Sim,
    reactor: Rc<RefCell<Reactor>>,
    peer: Peer,
    layer: Tls,
    closed: Rc<RefCell<Vec<Reason>>>,
    reads: usize,
    writes: usize,
    read: usize,
    wrote: usize,
}

impl Talker {
    fn new(case: Case, reads: usize, writes: usize) -> Talker {
        let sim = Sim::plain();
        sim.set_buffers(case.buffers, case.buffers);
        let mut config = Config::default();
        config.output_max_bytes = OUTPUT_MAX;
        config.linger_timeout = LINGER;
        match case.has_lifetime {
            true => config.max_lifetime = Some(LIMIT),
            false => config.idle_timeout = Some(LIMIT),
        }
        let reactor = sim.reactor(config).unwrap();
        let closed = Rc::<RefCell<Vec<Reason>>>::default();
        let (seen, style) = (Rc::clone(&closed), case.style);
        let probe = move || Probe(style, Rc::clone(&seen));
        let (peer, layer) = if case.is_server {
            let service = move |_: &mut Arrival<'_>| Some(Layered::new(server(), probe()));
            reactor.borrow_mut().listen(address(), service).unwrap();
            (sim.connect(address()), client())
        } else {
            let listening = sim.listen(address(), 1).unwrap();
            let layered = Layered::new(client(), probe());
            reactor.borrow_mut().connect(address(), layered).unwrap();
            sim.run_until(|| listening.waiting() > 0);
            (listening.accept().unwrap(), server())
        };
        peer.read(reads);
        Talker {
            sim,
            reactor,
            peer,
            layer,
            closed,
            reads,
            writes,
            read: 0,
            wrote: 0,
        }
    }

    /// Talks until nothing moves any more.
    fn talk(mut self) -> Talker {
        let mut input = Vec::new();
        loop {
            let (mut plain, mut wire) = (Vec::new(), Vec::new());
            let consumed = self.layer.read(&input, &mut plain, &mut wire).unwrap();
            assert_eq!(consumed, input.len());
            wire.truncate(self.writes - self.wrote);
            self.wrote += wire.len();
            self.peer.send(&wire);
            self.sim.run_now();
            let received = self.peer.received();
            input = received[self.read..].to_vec();
            if input.is_empty() {
                return self;
            }
            self.read = received.len();
        }
    }

    /// It has stopped. The limits end the connection, once and at their time, and nothing spins.
    fn check(self, case: Case) {
        let words = format!("{case:?}, reads {}, writes {}", self.reads, self.writes);
        let snapshot = self.reactor.borrow().snapshot();
        let [view] = &snapshot.connections[..] else {
            panic!("it is open: {words}");
        };
        assert!(view.pending_out <= OUTPUT_MAX, "{words}: {view:?}");
        // Its own handshake may be over although the peer has not read the last of it.
        let lingers = view.state == ConnectionState::Finishing && view.pending_out == 0;
        let turns = self.reactor.borrow().stats().turns;
        let (expected, at) = match case.has_lifetime {
            _ if lingers => (Reason::LingerTimeout, LINGER),
            true => (Reason::LifetimeOver, LIMIT),
            false => (Reason::IdleTimeout, LIMIT),
        };
        self.sim.run_until(|| !self.closed.borrow().is_empty());
        assert_eq!(self.sim.now(), at, "{words}: {view:?}");
        self.sim.run_to_rest();
        let turns = self.reactor.borrow().stats().turns - turns;
        assert!(turns <= 4, "{words}: {turns} turns");
        assert_eq!(*self.closed.borrow(), [expected], "{words}");
        assert_eq!(self.reactor.borrow().stats().open, 0, "{words}");
    }
}

fn check(is_server: bool) {
    let case = |style, has_lifetime, buffers| Case {
        is_server,
        style,
        has_lifetime,
        buffers,
    };
    let waits = case(Style::Waits, false, 64 * 1024);
    let whole = Talker::new(waits, usize::MAX, usize::MAX).talk();
    assert!(whole.layer.is_open());
    let (read, wrote) = (whole.read, whole.wrote);
    println!("the peer reads {read} bytes, and writes {wrote}");
    whole.check(waits);
    // Each point of the handshake has one case, and neighbours have different ones.
    let kind = |point: usize| {
        let style = [Style::Waits, Style::Writes, Style::Finishes][point % 3];
        case(style, point / 3 % 2 == 1, [64 * 1024, 7][point / 6 % 2])
    };
    for reads in 0..read {
        let case = kind(reads);
        Talker::new(case, reads, usize::MAX).talk().check(case);
    }
    for writes in 0..wrote {
        let case = kind(writes);
        Talker::new(case, usize::MAX, writes).talk().check(case);
    }
}

#[test]
fn a_client_that_stops_in_a_handshake_is_ended_by_the_limits() {
    check(true);
}

#[test]
fn a_server_that_stops_in_a_handshake_is_ended_by_the_limits() {
    check(false);
}
