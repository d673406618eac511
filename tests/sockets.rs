//! The options of sockets, as the kernel has them, and the socket itself, lent.

mod common;

use common::{
    Echo, NOW, Program, blocking_listener, client, echo, have, listen_as, loopback, reactor, set,
    turn_until,
};
use doorkeeper::{
    Arrival, Closed, ConnectOptions, Context, Handler, Id, Keepalive, ListenOptions, Others,
    Reactor, Reason,
};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

const KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_millis(41_200),
    interval: Duration::from_secs(7),
    probes: 3,
};
const USER_TIMEOUT: Duration = Duration::from_millis(12_345);
const SEND_BUFFER: usize = 20_000;
const RECEIVE_BUFFER: usize = 30_000;

/// What `ss` shows of the connection from one address to the other.
fn ss(local: SocketAddr, peer: SocketAddr) -> String {
    let filter = format!("src = {local} and dst = {peer}");
    let output = Command::new("ss").args(["-Htnom", &filter]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The number in the text between these words.
fn figure(text: &str, before: &str, after: &str) -> usize {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before}: {text}"))
        .1;
    let figure = rest
        .split_once(after)
        .unwrap_or_else(|| panic!("no {after}: {text}"))
        .0;
    figure
        .parse()
        .unwrap_or_else(|_| panic!("{before}…{after}: {text}"))
}

/// The connection has the options above. Linux doubles the sizes of buffers.
fn assert_options(reactor: &Reactor, id: Id, peer: SocketAddr) {
    let text = ss(reactor.local_addr(id).unwrap(), peer);
    let left = figure(&text, "timer:(keepalive,", "sec,");
    assert!((40..=42).contains(&left), "{text}");
    assert_eq!(figure(&text, ",rb", ","), 2 * RECEIVE_BUFFER, "{text}");
    assert_eq!(figure(&text, ",tb", ","), 2 * SEND_BUFFER, "{text}");
    let socket = reactor.socket(id).unwrap();
    let socket = SockRef::from(&socket);
    assert_eq!(
        socket.tcp_keepalive_time().unwrap(),
        Duration::from_secs(42)
    );
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE.interval);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE.probes);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
}

/// Notes its id.
struct Noted(Rc<Cell<Option<Id>>>);

impl Handler for Noted {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.set(Some(cx.id()));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[test]
fn an_accepted_connection_has_the_options_of_its_listener() {
    if !have("ss") {
        return;
    }
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let (mut reactor, id) = (reactor(), Rc::new(Cell::new(None)));
        let options = set(|options: &mut ListenOptions| {
            options.keepalive = Some(KEEPALIVE);
            options.user_timeout = Some(USER_TIMEOUT);
            options.send_buffer_bytes = Some(SEND_BUFFER);
            options.receive_buffer_bytes = Some(RECEIVE_BUFFER);
        });
        let noted = Rc::clone(&id);
        let service = move |_: &mut Arrival<'_>| Some(Noted(Rc::clone(&noted)));
        let listener = reactor.listen_with(local.parse().unwrap(), &options, service);
        let stream = client(reactor.local_addr(listener.unwrap()).unwrap());
        turn_until(&mut reactor, |_| id.get().is_some());
        assert_options(&reactor, id.get().unwrap(), stream.local_addr().unwrap());
    }
}

#[test]
fn an_outgoing_connection_has_its_options() {
    if !have("ss") {
        return;
    }
    let (mut reactor, id) = (reactor(), Rc::new(Cell::new(None)));
    let options = set(|options: &mut ConnectOptions| {
        options.keepalive = Some(KEEPALIVE);
        options.user_timeout = Some(USER_TIMEOUT);
        options.send_buffer_bytes = Some(SEND_BUFFER);
        options.receive_buffer_bytes = Some(RECEIVE_BUFFER);
    });
    let (_listener, address) = blocking_listener();
    let handler = Noted(Rc::clone(&id));
    reactor.connect_with(address, &options, handler).unwrap();
    turn_until(&mut reactor, |_| id.get().is_some());
    assert_options(&reactor, id.get().unwrap(), address);
}

#[test]
fn without_options_no_probes_are_sent_and_the_kernel_chooses_the_sizes() {
    if !have("ss") {
        return;
    }
    let (mut reactor, id) = (reactor(), Rc::new(Cell::new(None)));
    let noted = Rc::clone(&id);
    let (_, address) = listen_as(&mut reactor, move |_| Some(Noted(Rc::clone(&noted))));
    let stream = client(address);
    turn_until(&mut reactor, |_| id.get().is_some());
    let (here, there) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    // The client's socket has the sizes of the system.
    let (accepted, connected) = (ss(here, there), ss(there, here));
    assert!(!accepted.contains("timer:(keepalive"), "{accepted}");
    for size in [",rb", ",tb"] {
        assert_eq!(figure(&accepted, size, ","), figure(&connected, size, ","));
    }
    let socket = reactor.socket(id.get().unwrap()).unwrap();
    assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), None);
}

#[test]
fn serve_probes_its_idle_clients() {
    if !have("ss") {
        return;
    }
    let program = Program::serve(&["echo=:0"]);
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"here"), b"here");
    let text = ss(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    assert!(text.contains("timer:(keepalive,"), "{text}");
}

fn listen_error(change: impl FnOnce(&mut ListenOptions)) -> Option<String> {
    let result = reactor().listen_with(loopback(), &set(change), |_| Some(Echo));
    let error = result.err()?;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Some(error.to_string())
}

fn keepalive(change: impl FnOnce(&mut Keepalive)) -> Option<String> {
    listen_error(|options| options.keepalive = Some(set(change)))
}

#[test]
fn options_are_accepted_at_their_bounds_and_refused_beyond() {
    let (second, most) = (Duration::from_secs(1), Duration::from_secs(32_767));
    for good in [second, most] {
        assert_eq!(keepalive(|keepalive| keepalive.idle = good), None);
        assert_eq!(keepalive(|keepalive| keepalive.interval = good), None);
    }
    let nanosecond = Duration::from_nanos(1);
    for (bad, shown) in [
        (Duration::ZERO, 0),
        (most + nanosecond, 32768),
        (Duration::MAX, u64::MAX),
    ] {
        let message = |name| {
            let shown = format!("{name} in seconds is {shown}; it must be from 1 to 32767");
            Some(shown)
        };
        assert_eq!(
            keepalive(|keepalive| keepalive.idle = bad),
            message("keepalive.idle")
        );
        assert_eq!(
            keepalive(|keepalive| keepalive.interval = bad),
            message("keepalive.interval")
        );
    }
    for good in [1, 127] {
        assert_eq!(keepalive(|keepalive| keepalive.probes = good), None);
    }
    for bad in [0, 128, u32::MAX] {
        let message = format!("keepalive.probes is {bad}; it must be from 1 to 127");
        assert_eq!(keepalive(|keepalive| keepalive.probes = bad), Some(message));
    }
    let most = Duration::from_millis(i32::MAX as u64);
    for good in [Duration::from_millis(1), most] {
        assert_eq!(
            listen_error(|options| options.user_timeout = Some(good)),
            None
        );
    }
    let millisecond = Duration::from_millis(1);
    for (bad, shown) in [
        (Duration::from_micros(999), 0),
        (most + millisecond, 1 << 31),
        (Duration::MAX, u64::MAX),
    ] {
        let message =
            format!("user_timeout in milliseconds is {shown}; it must be from 1 to 2147483647");
        assert_eq!(
            listen_error(|options| options.user_timeout = Some(bad)),
            Some(message)
        );
    }
}

#[test]
fn buffer_sizes_are_accepted_at_their_bounds_and_refused_beyond() {
    let most = i32::MAX as usize;
    for good in [1, most] {
        assert_eq!(
            listen_error(|options| options.send_buffer_bytes = Some(good)),
            None
        );
        assert_eq!(
            listen_error(|options| options.receive_buffer_bytes = Some(good)),
            None
        );
    }
    for bad in [0, most + 1, usize::MAX] {
        let message = |name| Some(format!("{name} is {bad}; it must be from 1 to 2147483647"));
        assert_eq!(
            listen_error(|options| options.send_buffer_bytes = Some(bad)),
            message("send_buffer_bytes")
        );
        assert_eq!(
            listen_error(|options| options.receive_buffer_bytes = Some(bad)),
            message("receive_buffer_bytes")
        );
    }
}

/// Notes why it closed.
struct Ends(Rc<RefCell<Vec<(Reason, String)>>>);

impl Handler for Ends {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let error = closed.error.as_ref().map(ToString::to_string);
        self.0
            .borrow_mut()
            .push((closed.reason, error.unwrap_or_default()));
    }
}

/// Every failure of an outgoing connection comes to `on_close`.
#[test]
fn an_outgoing_connection_with_an_option_beyond_its_bound_closes() {
    let (mut reactor, ends) = (reactor(), Rc::new(RefCell::new(Vec::new())));
    let options = set(|options: &mut ConnectOptions| options.send_buffer_bytes = Some(usize::MAX));
    let handler = Ends(Rc::clone(&ends));
    reactor
        .connect_with(blocking_listener().1, &options, handler)
        .unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    let message = format!(
        "send_buffer_bytes is {}; it must be from 1 to 2147483647",
        usize::MAX
    );
    assert_eq!(*ends.borrow(), [(Reason::Io, message)]);
}

#[test]
fn a_socket_is_lent_while_it_is_open() {
    /// Sets an option of its own connection.
    struct Tuned;
    impl Handler for Tuned {
        fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            let socket = cx.socket().unwrap();
            SockRef::from(&socket).set_tcp_nodelay(false)
        }

        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            assert!(!SockRef::from(&cx.socket().unwrap()).tcp_nodelay()?);
            Ok(cx.write(input))
        }
    }
    let mut reactor = reactor();
    let (listener, address) = listen_as(&mut reactor, |_| Some(Echo));
    let socket = reactor.socket(listener).unwrap();
    let bound = SockRef::from(&socket).local_addr().unwrap().as_socket();
    assert_eq!(bound, Some(address));
    let outgoing = reactor.connect(address, Tuned).unwrap();
    assert!(reactor.socket(outgoing).is_none(), "no socket was made yet");
    reactor.turn(NOW).unwrap();
    assert!(reactor.socket(outgoing).is_some());
    turn_until(&mut reactor, |reactor| reactor.stats().open == 2);
    let nagle = |reactor: &Reactor| {
        !SockRef::from(&reactor.socket(outgoing).unwrap())
            .tcp_nodelay()
            .unwrap()
    };
    turn_until(&mut reactor, nagle);
    reactor.send(outgoing, b"x");
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_received == 2);
    reactor.close(outgoing);
    reactor.close(listener);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert!(reactor.socket(outgoing).is_none() && reactor.socket(listener).is_none());
}
