//! Listeners: promises 1 to 6, and everything else about who is accepted.

mod common;

use common::{
    Echo, NOW, PATIENCE, Running, Say, blocking_listener, client, echo, have, is_nonblocking,
    listen, loopback, reactor, read_all, read_exactly, reset, set, ss_accept_queue, turn_until,
};
use doorkeeper::{Arrival, Config, ListenOptions, ListenerState, Reactor, Reason};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A reactor that is turned by hand, with an echo service.
fn echoing(config: Config, options: &ListenOptions) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(config).unwrap();
    let id = reactor.listen_with(loopback(), options, |_| Some(Echo));
    let address = reactor.local_addr(id.unwrap()).unwrap();
    (reactor, address)
}

#[test]
fn the_backlog_asked_for_reaches_the_kernel() {
    if !have("ss") {
        return;
    }
    for backlog in [0, 1, 5, 300, 1000] {
        let (_reactor, address) = echoing(
            Config::default(),
            &set(|options: &mut ListenOptions| options.backlog = backlog),
        );
        assert_eq!(ss_accept_queue(address), (0, backlog));
    }
}

/// The connects are nonblocking and all begin before the first is checked. The loop does not turn
/// meanwhile.
#[test]
fn a_thousand_clients_connect_at_once_without_a_retransmitted_syn() {
    let (_reactor, address) = echoing(
        Config::default(),
        &set(|options: &mut ListenOptions| options.backlog = 1000),
    );
    let begin = Instant::now();
    let sockets: Vec<Socket> = (0..1000)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let begun = begin.elapsed();
    for socket in &sockets {
        while socket.peer_addr().is_err() {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    // The kernel retransmits a lost SYN after one second.
    assert!(
        begin.elapsed() - begun < Duration::from_millis(200),
        "{:?} after {begun:?}",
        begin.elapsed()
    );
}

#[test]
fn many_new_clients_do_not_hold_up_an_open_connection() {
    let config = set(|config: &mut Config| config.accept_budget = 3);
    let (mut reactor, address) = echoing(config, &ListenOptions::default());
    let mut open = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let newcomers: Vec<TcpStream> = (0..30).map(|_| client(address)).collect();
    open.write_all(b"me").unwrap();
    // A turn accepts three and queues the listener again. The open connection is answered within
    // two turns.
    let accepted = reactor.stats().accepted;
    while reactor.stats().bytes_sent < 2 {
        reactor.turn(None).unwrap();
        assert!(
            reactor.stats().accepted - accepted <= 6,
            "the newcomers came first"
        );
    }
    assert_eq!(read_exactly(&mut open, 2), b"me");
    // The listener goes on accepting without a new event.
    turn_until(&mut reactor, |reactor| reactor.stats().open == 31);
    drop(newcomers);
}

#[test]
fn at_max_connections_clients_wait_in_the_accept_queue_until_one_leaves() {
    let config = set(|config: &mut Config| config.max_connections = 2);
    let (mut reactor, address) = echoing(config, &ListenOptions::default());
    let mut accepted = [client(address), client(address)];
    turn_until(&mut reactor, |reactor| reactor.stats().open == 2);
    let mut waiting = client(address);
    waiting.write_all(b"patience").unwrap();
    for _ in 0..20 {
        reactor.turn(NOW).unwrap();
    }
    assert_eq!(reactor.stats().accepted, 2);
    if have("ss") {
        assert_eq!(ss_accept_queue(address).0, 1);
    }
    // The loop has nothing to do: a turn without a time limit would sleep.
    assert_eq!(reactor.next_deadline(), None);
    drop(std::mem::replace(
        &mut accepted[0],
        waiting.try_clone().unwrap(),
    ));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 8);
    assert_eq!(read_exactly(&mut waiting, 8), b"patience");
}

#[test]
fn accepted_sockets_are_nonblocking_close_on_exec_and_without_delay() {
    for no_delay in [true, false] {
        let options = set(|options: &mut ListenOptions| options.no_delay = no_delay);
        let (mut reactor, address) = echoing(Config::default(), &options);
        let stream = client(address);
        turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
        let accepted = own_socket(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        assert!(is_nonblocking(&accepted));
        assert_eq!(SockRef::from(&accepted).tcp_nodelay().unwrap(), no_delay);
    }
}

/// A duplicate of this process's socket with these addresses. Asserts that the socket is
/// close-on-exec.
fn own_socket(local: SocketAddr, peer: SocketAddr) -> std::os::fd::OwnedFd {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let number: i32 = entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let Ok(fd) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let ends = (
            SockRef::from(&fd).local_addr(),
            SockRef::from(&fd).peer_addr(),
        );
        let (Ok(here), Ok(there)) = ends else {
            continue;
        };
        if here.as_socket() == Some(local) && there.as_socket() == Some(peer) {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap();
            let close_on_exec = 0o2_000_000;
            assert_ne!(
                u32::from_str_radix(flags.trim(), 8).unwrap() & close_on_exec,
                0
            );
            return fd;
        }
    }
    panic!("no socket from {local} to {peer}");
}

#[test]
fn the_service_is_given_the_peers_address_and_may_refuse_it() {
    let (running, (address, peers)) = Running::start(Config::default(), |reactor| {
        let (sender, peers): (_, Receiver<SocketAddr>) = channel();
        let service = move |arrival: &mut Arrival<'_>| {
            let peer = arrival.peer;
            sender.send(peer).unwrap();
            (peer.ip() == Ipv4Addr::LOCALHOST).then_some(Echo)
        };
        let id = reactor
            .listen("0.0.0.0:0".parse().unwrap(), service)
            .unwrap();
        (reactor.local_addr(id).unwrap(), peers)
    });
    let at = |ip: [u8; 4]| SocketAddr::from((ip, address.port()));
    let mut accepted = client(at([127, 0, 0, 1]));
    assert_eq!(echo(&mut accepted, b"hello"), b"hello");
    assert_eq!(peers.recv().unwrap(), accepted.local_addr().unwrap());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())
        .unwrap();
    socket.connect(&at([127, 0, 0, 1]).into()).unwrap();
    let mut refused = TcpStream::from(socket);
    assert_eq!(read_all(&mut refused).unwrap(), b"");
    assert_eq!(peers.recv().unwrap(), refused.local_addr().unwrap());
    let stats = running.stats();
    assert_eq!((stats.accepted, stats.turned_away, stats.open), (2, 1, 1));
}

#[test]
fn a_service_that_panics_ends_that_connection_only() {
    let (running, address) = Running::start(Config::default(), |reactor| {
        let mut first = true;
        let service = move |_: &mut Arrival<'_>| {
            assert!(!std::mem::take(&mut first), "on purpose");
            Some(Echo)
        };
        listen(reactor, service)
    });
    assert_eq!(read_all(&mut client(address)).unwrap(), b"");
    assert_eq!(echo(&mut client(address), b"next"), b"next");
    let stats = running.stats();
    assert_eq!((stats.panics, stats.turned_away, stats.accepted), (1, 1, 2));
}

#[test]
fn each_listener_has_its_own_service() {
    let words: [&[u8]; 3] = [b"one", b"two", b"three"];
    let (_running, addresses) = Running::start(Config::default(), move |reactor| {
        words.map(|word| listen(reactor, move |_| Some(Say(word))))
    });
    for (address, word) in addresses.into_iter().zip(words) {
        assert_eq!(read_all(&mut client(address)).unwrap(), word);
    }
}

#[test]
fn the_ipv6_and_ipv4_wildcards_share_a_port() {
    let mut reactor = reactor();
    let six = reactor
        .listen("[::]:0".parse().unwrap(), |_| Some(Say(b"six")))
        .unwrap();
    let port = reactor.local_addr(six).unwrap().port();
    reactor
        .listen(SocketAddr::from(([0, 0, 0, 0], port)), |_| {
            Some(Say(b"four"))
        })
        .unwrap();
    let mut streams = [
        client(SocketAddr::from(([127, 0, 0, 1], port))),
        client(format!("[::1]:{port}").parse().unwrap()),
    ];
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 7);
    assert_eq!(
        streams.each_mut().map(|stream| read_all(stream).unwrap()),
        [&b"four"[..], b"six"]
    );
}

#[test]
fn a_dual_stack_listener_shows_an_ipv4_peer_as_ipv4() {
    let (_running, (port, peers)) = Running::start(Config::default(), |reactor| {
        let (sender, peers): (_, Receiver<SocketAddr>) = channel();
        let options = set(|options: &mut ListenOptions| options.ipv6_only = false);
        let service =
            move |arrival: &mut Arrival<'_>| sender.send(arrival.peer).map(|()| Echo).ok();
        let id = reactor
            .listen_with("[::]:0".parse().unwrap(), &options, service)
            .unwrap();
        (reactor.local_addr(id).unwrap().port(), peers)
    });
    let mut four = client(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(echo(&mut four, b"four"), b"four");
    assert_eq!(peers.recv().unwrap(), four.local_addr().unwrap());
    let mut six = client(format!("[::1]:{port}").parse().unwrap());
    assert_eq!(echo(&mut six, b"six"), b"six");
    assert_eq!(peers.recv().unwrap(), six.local_addr().unwrap());
}

#[test]
fn reuse_port_lets_two_reactors_share_a_port_and_only_if_both_ask() {
    let options = set(|options: &mut ListenOptions| options.reuse_port = true);
    let (_first, address) = echoing(Config::default(), &options);
    let mut second = Reactor::new(Config::default()).unwrap();
    second
        .listen_with(address, &options, |_| Some(Echo))
        .unwrap();
    let error = second.listen(address, |_| Some(Echo)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

/// A supervisor hands over a blocking socket. On it the loop would stop in accept.
#[test]
fn an_adopted_listener_is_made_nonblocking() {
    let (listener, address) = blocking_listener();
    let twin = listener.try_clone().unwrap();
    let mut early = client(address);
    let mut reactor = reactor();
    reactor.adopt_listener(listener, |_| Some(Echo)).unwrap();
    assert!(is_nonblocking(twin));
    early.write_all(b"early").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(read_exactly(&mut early, 5), b"early");
}

#[test]
fn bytes_sent_before_accept_are_not_lost() {
    let (mut reactor, address) = echoing(Config::default(), &ListenOptions::default());
    let mut stream = client(address);
    stream.write_all(b"before anyone said hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 24);
    assert_eq!(read_exactly(&mut stream, 24), b"before anyone said hello");
}

/// Resets at every point: before accept and after it, with and without data in flight.
#[test]
fn ten_thousand_resets_leave_nothing_behind() {
    let (running, address) = Running::serve(Config::default(), |_| Some(Echo));
    for round in 0..10_000_u32 {
        let mut stream = client(address);
        if round % 3 > 0 {
            stream.write_all(&[b'x'; 100]).unwrap();
        }
        if round % 7 == 0 {
            let _ = echo(&mut stream, b"");
        }
        reset(stream);
        if round % 97 == 0 {
            running.stats();
        }
    }
    let stats = running
        .await_stats(|stats| stats.open == 0 && stats.accepted + stats.accept_errors >= 10_000);
    assert_eq!(stats.panics, 0);
    let mut last = client(address);
    assert_eq!(echo(&mut last, b"alive"), b"alive");
    drop(last);
    running.await_stats(|stats| stats.open == 0);
    // Of the sockets with this local port only the listener is left, and those in TIME_WAIT (06).
    let port = format!(":{:04X}", address.port());
    let start = Instant::now();
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours: Vec<_> = rows
            .filter(|row| row[1].ends_with(&port) && row[3] != "06")
            .collect();
        if ours.len() == 1 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{ours:?}");
    }
}

#[test]
fn a_shutdown_accepts_the_clients_in_the_queue_and_then_closes_the_listener() {
    let (mut reactor, address) = echoing(
        set(|config: &mut Config| config.accept_budget = 1),
        &ListenOptions::default(),
    );
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| client(address)).collect();
    waiting
        .iter_mut()
        .for_each(|stream| stream.write_all(b"in time").unwrap());
    reactor.shutdown(PATIENCE);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 35);
    assert!(TcpStream::connect(address).is_err());
    for stream in &mut waiting {
        assert_eq!(read_exactly(stream, 7), b"in time");
    }
    drop(waiting);
    reactor.run().unwrap();
    assert_eq!(reactor.stats().closed(Reason::Finished), 5);
}

#[test]
fn a_paused_listener_leaves_clients_in_the_accept_queue_until_it_resumes() {
    let mut reactor = reactor();
    let id = reactor.listen(loopback(), |_| Some(Echo)).unwrap();
    let address = reactor.local_addr(id).unwrap();
    assert!(reactor.pause(id) && reactor.pause(id));
    let mut waiting = client(address);
    waiting.write_all(b"patience").unwrap();
    for _ in 0..20 {
        reactor.turn(NOW).unwrap();
    }
    assert_eq!(reactor.stats().accepted, 0);
    assert_eq!(reactor.snapshot().listeners[0].state, ListenerState::Paused);
    // The loop has nothing to do: a turn without a time limit would sleep.
    assert_eq!(reactor.next_deadline(), None);
    assert!(reactor.resume(id));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 8);
    assert_eq!(read_exactly(&mut waiting, 8), b"patience");
    assert_eq!(
        reactor.snapshot().listeners[0].state,
        ListenerState::Accepting
    );
    reactor.close(id);
    reactor.turn(NOW).unwrap();
    assert!(!reactor.pause(id) && !reactor.resume(id));
}

#[test]
fn a_shutdown_ends_a_pause() {
    let mut reactor = reactor();
    let id = reactor.listen(loopback(), |_| Some(Echo)).unwrap();
    let mut waiting = client(reactor.local_addr(id).unwrap());
    waiting.write_all(b"in time").unwrap();
    reactor.pause(id);
    reactor.turn(NOW).unwrap();
    reactor.shutdown(PATIENCE);
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 7);
    assert_eq!(read_exactly(&mut waiting, 7), b"in time");
    assert!(!reactor.resume(id), "the listener is closed");
}
