//! Observing: the observer, the accept queue, the snapshot, and how long callbacks take.

mod common;

use common::{
    Discard, Echo, NOW, PATIENCE, client, have, listen, listen_as, pass, reactor, refusing_address,
    set, ss_accept_queue, turn_until,
};
use doorkeeper::{
    AcceptQueue, Call, Callback, Closed, Config, ConnectionState, Context, Event, Handler, Id,
    ListenOptions, ListenerState, Observer, Others, Reactor, Reason,
};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// The events in their order, a line each.
#[derive(Clone, Default)]
struct Diary(Rc<RefCell<Vec<String>>>);

impl Diary {
    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// The calls alone.
    fn calls(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter_map(|line| line.strip_prefix("call ").map(str::to_string))
            .collect()
    }
}

impl Observer for Diary {
    fn event(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Call { id, call, result } => {
                let result = match result {
                    Ok(count) => count.to_string(),
                    Err(error) => format!("{:?}", error.kind()),
                };
                let call = match call {
                    Call::Socket { .. } => "socket".to_string(),
                    Call::Bind { .. } => "bind".to_string(),
                    Call::Listen { backlog } => format!("listen({backlog})"),
                    Call::Connect { .. } => "connect".to_string(),
                    Call::Accept { accepted } => {
                        format!(
                            "accept({})",
                            accepted.map_or(String::new(), |(_, id)| id.to_string())
                        )
                    }
                    Call::Read { length, bytes } => format!("read({length}, {bytes:?})"),
                    Call::Write { length, bytes } => format!("write({length}, {bytes:?})"),
                    Call::SocketError => "error".to_string(),
                    Call::Register { reported } if reported.writable => {
                        "register for all".to_string()
                    }
                    Call::Register { .. } => "register".to_string(),
                    Call::Shutdown => "shutdown".to_string(),
                    Call::Close => "close".to_string(),
                    other => format!("{other:?}"),
                };
                format!("call {id} {call} {result}")
            }
            Event::Callback { id, callback, .. } => format!("callback {id} {callback}"),
            Event::ListenerState { id, state } => format!("listener {id} {state}"),
            other => format!("{other:?}"),
        };
        self.0.borrow_mut().push(line);
    }
}

/// A reactor that is turned by hand, with an echo service and an observer that writes a diary.
fn observed(config: Config) -> (Reactor, Diary, Id, SocketAddr) {
    let (mut reactor, diary) = (Reactor::new(config).unwrap(), Diary::default());
    reactor.observe(Box::new(diary.clone()));
    let (id, address) = listen_as(&mut reactor, |_| Some(Echo));
    (reactor, diary, id, address)
}

#[test]
fn the_observer_gets_the_calls_of_a_connection_in_their_order() {
    let (mut reactor, diary, _, address) =
        observed(set(|config: &mut Config| config.observed_bytes = 3));
    assert_eq!(
        diary.calls(),
        [
            "0.0 socket 0",
            "0.0 bind 0",
            "0.0 listen(1024) 0",
            "0.0 register 0"
        ]
    );
    let mut stream = client(address);
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    stream.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    let hel = "[104, 101, 108]";
    let wanted = [
        "0.0 accept(1.1) 0".to_string(),
        "1.1 register 0".to_string(),
        "0.0 accept() WouldBlock".to_string(),
        format!("1.1 read(65536, {hel}) 5"),
        format!("1.1 write(5, {hel}) 5"),
        "1.1 read(65536, []) 0".to_string(),
        "1.1 close 0".to_string(),
    ];
    assert_eq!(diary.calls(), wanted);
}

#[test]
fn the_observer_gets_the_calls_of_an_attempt_that_is_refused() {
    let (mut reactor, diary) = (reactor(), Diary::default());
    reactor.observe(Box::new(diary.clone()));
    reactor.connect(refusing_address(), Discard).unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.stats().closed(Reason::Refused) == 1
    });
    let events = diary.take();
    let position = |wanted: &str| {
        events
            .iter()
            .position(|line| line == wanted)
            .unwrap_or_else(|| panic!("no {wanted}: {events:?}"))
    };
    let order = [
        "call 0.0 socket 0",
        "call 0.0 connect InProgress",
        "call 0.0 error ConnectionRefused",
        "callback 0.0 on_close",
        "call 0.0 close 0",
    ]
    .map(position);
    assert!(order.is_sorted(), "{events:?}");
}

#[test]
fn the_observer_gets_callbacks_listener_states_and_spent_budgets() {
    let config = set(|config: &mut Config| {
        config.max_connections = 1;
        config.turn_budget_bytes = 4;
    });
    let (mut reactor, diary, _, address) = observed(config);
    let mut first = client(address);
    let second = client(address);
    first.write_all(b"eight by").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 8);
    let events = diary.take();
    for wanted in [
        "callback 0.0 open",
        "callback 1.1 on_open",
        "callback 1.1 on_data",
        "callback 1.1 on_drain",
        "listener 0.0 full",
    ] {
        assert!(
            events.iter().any(|line| line == wanted),
            "no {wanted}: {events:?}"
        );
    }
    assert!(
        events
            .iter()
            .any(|line| line.contains("BudgetSpent") && line.contains("Bytes")),
        "{events:?}"
    );
    drop(first);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 2);
    assert!(
        diary
            .take()
            .iter()
            .any(|line| line == "callback 1.1 on_close")
    );
    drop(second);
}

#[test]
fn an_observer_that_panics_is_removed_and_no_connection_suffers() {
    struct Panicking {
        _alive: Rc<()>,
    }
    impl Observer for Panicking {
        fn event(&mut self, event: &Event<'_>) {
            assert!(
                !matches!(
                    event,
                    Event::Call {
                        call: Call::Read { .. },
                        ..
                    }
                ),
                "on purpose"
            );
        }
    }
    let (mut reactor, _, _, address) = observed(Config::default());
    let alive = Rc::new(());
    reactor.observe(Box::new(Panicking {
        _alive: Rc::clone(&alive),
    }));
    let mut stream = client(address);
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(
        (
            reactor.stats().open,
            reactor.stats().panics,
            Rc::strong_count(&alive)
        ),
        (1, 0, 1)
    );
}

/// The accept queue as `ss` shows it.
fn ss(address: SocketAddr) -> AcceptQueue {
    let (depth, limit) = ss_accept_queue(address);
    AcceptQueue { depth, limit }
}

#[test]
fn the_accept_queue_is_what_ss_shows_and_can_be_resized() {
    if !have("ss") {
        return;
    }
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let options = set(|options: &mut ListenOptions| {
        options.backlog = 5;
        options.reuse_port = true;
    });
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let id = reactor
            .listen_with(local.parse().unwrap(), &options, |_| Some(Echo))
            .unwrap();
        let address = reactor.local_addr(id).unwrap();
        assert_eq!(
            reactor.accept_queue(id),
            Some(AcceptQueue { depth: 0, limit: 5 })
        );
        let waiting: Vec<TcpStream> = (0..3).map(|_| client(address)).collect();
        assert_eq!(ss(address), AcceptQueue { depth: 3, limit: 5 });
        assert_eq!(reactor.accept_queue(id), Some(ss(address)));
        reactor.set_backlog(id, 77).unwrap();
        assert_eq!(
            ss(address),
            AcceptQueue {
                depth: 3,
                limit: 77
            }
        );
        assert_eq!(reactor.accept_queue(id), Some(ss(address)));
        // Another listener on the same port has an accept queue of its own.
        let other = reactor
            .listen_with(address, &options, |_| Some(Echo))
            .unwrap();
        assert_eq!(
            reactor.accept_queue(other),
            Some(AcceptQueue { depth: 0, limit: 5 })
        );
        reactor.close(other);
        turn_until(&mut reactor, |reactor| {
            reactor
                .accept_queue(id)
                .is_some_and(|queue| queue.depth == 0)
        });
        assert_eq!(
            reactor.set_backlog(other, 9).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(reactor.accept_queue(other), None);
        drop(waiting);
    }
}

#[test]
fn a_snapshot_shows_listeners_connections_and_totals() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::from_secs(60));
        config.max_connections = 2;
    });
    let (mut reactor, _, listener, address) = observed(config);
    let mut first = client(address);
    let _second = client(address);
    let _third = client(address);
    first.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.stats().bytes_sent == 5 && reactor.stats().accepted == 2
    });
    reactor.turn(NOW).unwrap();
    reactor.connect(address, Echo).unwrap();
    let snapshot = reactor.snapshot();
    let [view] = &snapshot.listeners[..] else {
        panic!("{snapshot:?}")
    };
    assert_eq!(
        (view.id, view.address, view.state),
        (listener, Some(address), ListenerState::Full)
    );
    assert_eq!(view.accept_queue.map(|queue| queue.depth), Some(1));
    let states: Vec<ConnectionState> = snapshot.connections.iter().map(|view| view.state).collect();
    assert_eq!(
        states,
        [
            ConnectionState::Open,
            ConnectionState::Open,
            ConnectionState::Connecting
        ]
    );
    let busy = &snapshot.connections[0];
    assert_eq!(
        (busy.peer, busy.received, busy.sent),
        (first.local_addr().unwrap(), 5, 5)
    );
    assert_eq!(
        (
            busy.pending_in,
            busy.pending_out,
            busy.readable,
            busy.writable
        ),
        (0, 0, false, true)
    );
    assert!(busy.idle <= busy.age && busy.age < PATIENCE);
    assert_eq!(
        (snapshot.queued, snapshot.deadlines, snapshot.stats),
        (1, 2, reactor.stats())
    );
    assert!(
        snapshot
            .next_deadline
            .is_some_and(|left| left <= Duration::from_secs(60))
    );
    assert!(snapshot.overflows.is_some());
}

#[test]
fn a_snapshot_tells_how_long_a_connection_was_idle_from_its_age() {
    let (mut reactor, _, _, address) = observed(Config::default());
    let mut stream = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let quiet = Duration::from_millis(100);
    pass(quiet);
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    let view = &reactor.snapshot().connections[0];
    // The connection was idle between its first turn and the last. Times are in milliseconds.
    let busy = view.age - view.idle;
    assert!(busy >= quiet - Duration::from_millis(5), "{view:?}");
    pass(quiet);
    let later = &reactor.snapshot().connections[0];
    assert!(later.idle >= quiet, "{later:?}");
}

#[test]
fn a_snapshot_shows_each_state_and_the_pending_bytes() {
    /// Does what the first byte of its input says.
    struct Steered;
    impl Handler for Steered {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            match input[0] {
                b'h' => cx.half_close(),
                b'f' => cx.finish(),
                b'w' => while cx.write(&[0; 1024]) > 0 {},
                _ => return Ok(0),
            }
            Ok(input.len())
        }

        fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            while cx.write(&[0; 1024]) > 0 {}
            Ok(())
        }

        fn on_eof(&mut self, _: &mut Context<'_>) -> io::Result<()> {
            Ok(())
        }
    }
    let mut reactor =
        Reactor::new(set(|config: &mut Config| config.linger_timeout = PATIENCE)).unwrap();
    let address = listen(&mut reactor, |_| Some(Steered));
    let mut streams: Vec<TcpStream> = (0..5).map(|_| client(address)).collect();
    for (stream, word) in streams
        .iter_mut()
        .zip([b"half", b"fini", b"wait", b"keep", b"eof "])
    {
        stream.write_all(word).unwrap();
    }
    streams[4].shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| {
        let views = reactor.snapshot().connections;
        views.len() == 5
            && views[2].pending_out > 0
            && !views[2].writable
            && views[4].state == ConnectionState::PeerEnded
    });
    let views = reactor.snapshot().connections;
    let states: Vec<ConnectionState> = views.iter().map(|view| view.state).collect();
    assert_eq!(
        states,
        [
            ConnectionState::HalfClosed,
            ConnectionState::Finishing,
            ConnectionState::Open,
            ConnectionState::Open,
            ConnectionState::PeerEnded
        ]
    );
    assert_eq!(
        (
            views[3].pending_in,
            views[4].pending_in,
            views[3].pending_out
        ),
        (4, 4, 0)
    );
    assert_eq!(streams[0].read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_observer_gets_how_long_each_callback_took() {
    struct Slow;
    impl Handler for Slow {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(30));
            cx.finish();
            Ok(input.len())
        }

        fn on_close(&mut self, _: &mut Others<'_>, _: &Closed) {}
    }
    struct Longest(Rc<RefCell<(Duration, Option<Callback>)>>);
    impl Observer for Longest {
        fn event(&mut self, event: &Event<'_>) {
            if let Event::Callback { callback, took, .. } = event {
                let mut longest = self.0.borrow_mut();
                if *took > longest.0 {
                    *longest = (*took, Some(*callback));
                }
            }
        }
    }
    let (mut reactor, longest) = (
        Reactor::new(Config::default()).unwrap(),
        Rc::new(RefCell::new((Duration::ZERO, None))),
    );
    reactor.observe(Box::new(Longest(Rc::clone(&longest))));
    let mut stream = client(listen(&mut reactor, |_| Some(Slow)));
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
    let (took, callback) = *longest.borrow();
    assert!(
        callback == Some(Callback::Data) && took >= Duration::from_millis(30),
        "{took:?} {callback:?}"
    );
}
