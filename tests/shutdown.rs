//! A shutdown: what handlers are told, and when connections end.

mod common;

use common::{
    PATIENCE, blocking_listener, client, listen, loopback, reactor, read_all, read_exactly, reset,
    send_until_full, set, turn_until,
};
use doorkeeper::services::{Chargen, Discard, Echo};
use doorkeeper::{Config, Context, Handler, ListenOptions, Reactor, Reason};
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

type Log = Rc<RefCell<Vec<String>>>;

/// Notes its callbacks, and finishes at the shutdown if it is told to.
struct Noting {
    name: &'static str,
    log: Log,
    finish: bool,
    received: usize,
}

impl Noting {
    fn note(&self, what: &str) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }
}

impl Handler for Noting {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.note(&format!("open {}", cx.is_shutting_down()));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.received += input.len();
        Ok(input.len())
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert!(cx.is_shutting_down());
        self.note(&format!("shutdown after {}", self.received));
        if self.finish {
            cx.finish();
        }
        Ok(())
    }
}

fn noting(log: &Log) -> impl Fn(&'static str, bool) -> Noting + use<> {
    let log = Rc::clone(log);
    move |name, finish| Noting {
        name,
        log: Rc::clone(&log),
        finish,
        received: 0,
    }
}

/// Those that are open, one that is being established, one that is accepted later and one that is
/// adopted later.
#[test]
fn every_handler_is_told_once_after_what_has_arrived() {
    // The poller reports one event a turn, so most of what has arrived is not known yet.
    let config = set(|config: &mut Config| config.events_per_turn = 1);
    let (mut reactor, log) = (Reactor::new(config).unwrap(), Log::default());
    let (make, accept) = (noting(&log), noting(&log));
    let address = listen(&mut reactor, move |_| Some(accept("accepted", false)));
    let mut first = client(address);
    turn_until(&mut reactor, |_| !log.borrow().is_empty());
    let (far, target) = blocking_listener();
    reactor.connect(target, make("outgoing", false)).unwrap();
    // The loop sees none of these before the shutdown begins.
    first.write_all(b"early").unwrap();
    let mut second = client(address);
    second.write_all(b"early").unwrap();
    reactor.shutdown(PATIENCE);
    let (near, other) = (TcpStream::connect(target).unwrap(), far.accept().unwrap());
    reactor.adopt_stream(near, make("adopted", false)).unwrap();
    let told = |log: &Log| {
        let log = log.borrow();
        log.iter().filter(|line| line.contains("shutdown")).count()
    };
    turn_until(&mut reactor, |_| told(&log) == 4);
    // More input, and more turns: nobody is told again.
    first.write_all(b"late").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 14);
    let of = |name: &str| {
        let log = log.borrow();
        let own = log.iter().filter_map(|line| line.strip_prefix(name));
        own.map(|line| line.trim().to_string()).collect::<Vec<_>>()
    };
    for name in ["outgoing", "adopted"] {
        assert_eq!(of(name), ["open true", "shutdown after 0"], "{name}");
    }
    let mut accepted = of("accepted");
    accepted.sort();
    let wanted = [
        "open false",
        "open true",
        "shutdown after 5",
        "shutdown after 5",
    ];
    assert_eq!(accepted, wanted);
    assert!(!reactor.is_done());
    drop((far, other));
}

/// A megabyte has arrived, and each turn reads 64 KiB.
#[test]
fn a_handler_is_told_after_all_input_that_has_arrived() {
    let (mut reactor, log) = (reactor(), Log::default());
    let accept = noting(&log);
    let address = listen(&mut reactor, move |_| Some(accept("", true)));
    let mut stream = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let sent = send_until_full(&mut stream, &[7; 65_536]);
    assert!(sent > 500_000, "{sent}");
    reactor.shutdown(PATIENCE);
    turn_until(&mut reactor, |_| {
        log.borrow().iter().any(|line| line.contains("shutdown"))
    });
    assert_eq!(reactor.stats().bytes_received, sent as u64);
    reset(stream);
    reactor.run().unwrap();
}

/// The services on a loop that shuts down; how long it takes.
fn shut_down(reactor: &mut Reactor) -> Duration {
    let start = Instant::now();
    reactor.shutdown(PATIENCE);
    reactor.run().unwrap();
    start.elapsed()
}

#[test]
fn idle_connections_of_the_services_do_not_hold_a_shutdown() {
    let mut reactor = reactor();
    let addresses = [
        listen(&mut reactor, |_| Some(Echo)),
        listen(&mut reactor, |_| Some(Discard)),
        listen(&mut reactor, |_| Some(Chargen::default())),
    ];
    let clients = addresses.map(|address| {
        let mut stream = client(address);
        std::thread::spawn(move || {
            // An idle client that closes when the server does.
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).unwrap() > 0 {}
        })
    });
    turn_until(&mut reactor, |reactor| reactor.stats().open == 3);
    let time = shut_down(&mut reactor);
    assert!(time < PATIENCE / 2, "{time:?}");
    assert_eq!(reactor.stats().closed(Reason::Finished), 3);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
}

/// The echo that has arrived but was not seen, and the one that is under way because the client does
/// not read it, are delivered before the end.
#[test]
fn an_echo_under_way_is_delivered_before_the_end() {
    const SENT: usize = 200_000;
    let mut reactor = reactor();
    // What the client sends arrives at once, and little of the echo leaves while it does not read.
    let options = set(|options: &mut ListenOptions| {
        options.receive_buffer_bytes = Some(1 << 20);
        options.send_buffer_bytes = Some(20_000);
    });
    let id = reactor.listen_with(loopback(), &options, |_| Some(Echo));
    let address = reactor.local_addr(id.unwrap()).unwrap();
    let (mut unseen, mut busy) = (client(address), client(address));
    SockRef::from(&busy).set_recv_buffer_size(20_000).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 2);
    busy.write_all(&[7; SENT]).unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.stats().bytes_received > 65_536
    });
    unseen.write_all(b"unseen").unwrap();
    let reading = std::thread::spawn(move || {
        let seen = read_exactly(&mut unseen, 6);
        assert_eq!(read_all(&mut unseen).unwrap(), b"");
        drop(unseen);
        let answer = read_all(&mut busy).unwrap();
        busy.shutdown(Shutdown::Write).unwrap();
        (seen, answer.len())
    });
    let time = shut_down(&mut reactor);
    assert_eq!(reading.join().unwrap(), (b"unseen".to_vec(), SENT));
    assert!(time < PATIENCE / 2, "{time:?}");
    assert_eq!(reactor.stats().closed(Reason::Finished), 2);
}
