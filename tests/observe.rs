//! Watching: the observer, the waiting room, the snapshot, who held the loop up.

mod common;

use common::{PATIENCE, client, have, set};
use doorkeeper::{
    AcceptQueue, Call, Callback, Closed, Config, ConnectionState, Context, Event, Handler, Id,
    ListenOptions, ListenerState, Observer, Reactor, Reason,
};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Everything that happened, a line each.
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
                    Call::Shutdown => "shutdown".to_string(),
                    Call::Close => "close".to_string(),
                    other => format!("{other:?}"),
                };
                format!("call {id} {call} {result}")
            }
            Event::Callback { id, callback, .. } => format!("handled {id} {callback}"),
            Event::ListenerState { id, state } => format!("listener {id} {state}"),
            other => format!("{other:?}"),
        };
        self.0.borrow_mut().push(line);
    }
}

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

fn watched(config: Config) -> (Reactor, Diary, Id, SocketAddr) {
    let (mut reactor, diary) = (Reactor::new(config).unwrap(), Diary::default());
    reactor.observe(Box::new(diary.clone()));
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), |_| Some(Echo))
        .unwrap();
    let address = reactor.local_addr(id).unwrap();
    (reactor, diary, id, address)
}

fn turn_until(reactor: &mut Reactor, done: impl Fn(&Reactor) -> bool) {
    let start = Instant::now();
    while !done(reactor) {
        assert!(
            start.elapsed() < PATIENCE,
            "never came: {:?}",
            reactor.stats()
        );
        reactor.turn(Some(PATIENCE)).unwrap();
    }
}

#[test]
fn the_calls_of_a_conversation_are_told_in_their_order() {
    let (mut reactor, diary, _, address) = watched(set(|config: &mut Config| {
        config.observed_bytes = 3;
    }));
    assert_eq!(
        diary.calls(),
        ["0.0 socket 0", "0.0 bind 0", "0.0 listen(1024) 0"]
    );
    let mut stream = client(address);
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    stream.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    let hel = "[104, 101, 108]";
    let wanted = [
        "0.0 accept(1.1) 0".to_string(),
        "0.0 accept() WouldBlock".to_string(),
        format!("1.1 read(65536, {hel}) 5"),
        format!("1.1 write(5, {hel}) 5"),
        "1.1 read(65536, []) 0".to_string(),
        "1.1 close 0".to_string(),
    ];
    assert_eq!(diary.calls(), wanted);
}

#[test]
fn a_call_outward_is_told_too_and_so_is_its_failure() {
    struct Silent;
    impl Handler for Silent {
        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            Ok(input.len())
        }
    }
    let (mut reactor, diary) = (Reactor::new(Config::default()).unwrap(), Diary::default());
    reactor.observe(Box::new(diary.clone()));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    reactor.connect(nobody, Silent).unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.stats().closed(Reason::Refused) == 1
    });
    let story = diary.take();
    let place = |wanted: &str| {
        story
            .iter()
            .position(|line| line == wanted)
            .unwrap_or_else(|| panic!("no {wanted}: {story:?}"))
    };
    let order = [
        "call 0.0 socket 0",
        "call 0.0 connect InProgress",
        "call 0.0 error ConnectionRefused",
        "handled 0.0 on_close",
        "call 0.0 close 0",
    ]
    .map(place);
    assert!(order.is_sorted(), "{story:?}");
}

#[test]
fn handlers_doors_and_budgets_are_told() {
    let config = set(|config: &mut Config| {
        config.max_connections = 1;
        config.turn_budget_bytes = 4;
    });
    let (mut reactor, diary, _, address) = watched(config);
    let mut first = client(address);
    let second = client(address);
    first.write_all(b"eight by").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 8);
    let story = diary.take();
    for wanted in [
        "handled 0.0 open",
        "handled 1.1 on_open",
        "handled 1.1 on_data",
        "handled 1.1 on_drain",
        "listener 0.0 full",
    ] {
        assert!(
            story.iter().any(|line| line == wanted),
            "no {wanted}: {story:?}"
        );
    }
    assert!(
        story
            .iter()
            .any(|line| line.contains("BudgetSpent") && line.contains("Bytes")),
        "{story:?}"
    );
    drop(first);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 2);
    assert!(
        diary
            .take()
            .iter()
            .any(|line| line == "handled 1.1 on_close")
    );
    drop(second);
}

#[test]
fn an_observer_that_panics_is_removed_and_nobody_else_notices() {
    struct Nervous {
        _alive: Rc<()>,
    }
    impl Observer for Nervous {
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
    let (mut reactor, _, _, address) = watched(Config::default());
    let alive = Rc::new(());
    reactor.observe(Box::new(Nervous {
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

/// What `ss -ltn` says of the listener on this port.
fn ss(address: SocketAddr) -> Option<AcceptQueue> {
    let output = Command::new("ss")
        .args(["-Hltn", &format!("src = {address}")])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let mut words = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().ok());
    Some(AcceptQueue {
        depth: words.next()??,
        limit: words.next()??,
    })
}

#[test]
fn the_waiting_room_is_told_as_the_kernel_has_it_and_can_be_resized() {
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
        let guests: Vec<TcpStream> = (0..3).map(|_| client(address)).collect();
        let told = reactor.accept_queue(id);
        assert_eq!(
            (told, told),
            (Some(AcceptQueue { depth: 3, limit: 5 }), ss(address))
        );
        reactor.set_backlog(id, 77).unwrap();
        assert_eq!(
            (reactor.accept_queue(id), ss(address)),
            (
                Some(AcceptQueue {
                    depth: 3,
                    limit: 77
                }),
                Some(AcceptQueue {
                    depth: 3,
                    limit: 77
                })
            )
        );
        // Another listener on the same port has a room of its own.
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
                .is_some_and(|waiting| waiting.depth == 0)
        });
        assert_eq!(
            reactor.set_backlog(other, 9).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(reactor.accept_queue(other), None);
        drop(guests);
    }
}

#[test]
fn a_snapshot_shows_everything_there_is() {
    let config = set(|config: &mut Config| {
        config.idle_timeout = Some(Duration::from_secs(60));
        config.max_connections = 2;
    });
    let (mut reactor, _, listener, address) = watched(config);
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
fn states_and_pending_bytes_are_shown_as_they_change() {
    struct Lazy;
    impl Handler for Lazy {
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
    let mut reactor = Reactor::new(set(|config: &mut Config| {
        config.linger_timeout = PATIENCE;
    }))
    .unwrap();
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), |_| Some(Lazy))
        .unwrap();
    let address = reactor.local_addr(id).unwrap();
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
fn an_observer_learns_how_long_each_callback_took() {
    /// Closes are told with how long they took.
    struct Slow;
    impl Handler for Slow {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(30));
            cx.finish();
            Ok(input.len())
        }

        fn on_close(&mut self, _: &mut Context<'_>, _: &Closed) {}
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
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), |_| Some(Slow))
        .unwrap();
    let mut stream = client(reactor.local_addr(id).unwrap());
    stream.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 5);
    let (took, callback) = *longest.borrow();
    assert!(
        callback == Some(Callback::Data) && took >= Duration::from_millis(30),
        "{took:?} {callback:?}"
    );
}
