//! The doorkeeper: promises 1 to 6, and everything else about who is let in.

mod common;

use common::{PATIENCE, Running, client, echo, have, read_all, read_exactly, set};
use doorkeeper::{Config, Context, Handler, ListenOptions, Reactor, Reason};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

/// Says a word and finishes.
struct Say(&'static [u8]);

impl Handler for Say {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(self.0);
        cx.finish();
        Ok(())
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn listen(reactor: &mut Reactor, at: SocketAddr, options: &ListenOptions) -> SocketAddr {
    let id = reactor.listen_with(at, options, |_| Some(Echo)).unwrap();
    reactor.local_addr(id).unwrap()
}

fn serve(config: Config) -> (Running, SocketAddr) {
    Running::start(config, |reactor| {
        listen(reactor, any(), &ListenOptions::default())
    })
}

/// A reactor that is turned by hand, on this thread.
fn still(config: Config, options: &ListenOptions) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(config).unwrap();
    let address = listen(&mut reactor, any(), options);
    (reactor, address)
}

/// Turns until the statistics are as wanted.
fn turn_until(reactor: &mut Reactor, wanted: impl Fn(&Reactor) -> bool) {
    let start = Instant::now();
    while !wanted(reactor) {
        assert!(start.elapsed() < PATIENCE, "never: {:?}", reactor.stats());
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
}

/// The depth and the size of the waiting room, as `ss` shows them in Recv-Q and Send-Q.
fn waiting_room(address: SocketAddr) -> (u32, u32) {
    let filter = format!("sport = :{}", address.port());
    let output = Command::new("ss")
        .args(["-ltnH", &filter])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let mut columns = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap());
    (columns.next().unwrap(), columns.next().unwrap())
}

#[test]
fn the_backlog_asked_for_reaches_the_kernel() {
    if !have("ss") {
        return;
    }
    for backlog in [0, 1, 5, 300, 1000] {
        let (_reactor, address) = still(
            Config::default(),
            &set(|options: &mut ListenOptions| {
                options.backlog = backlog;
            }),
        );
        assert_eq!(waiting_room(address), (0, backlog));
    }
}

/// Each connect is begun without waiting, and its end is looked for in turn; the loop does not turn meanwhile.
#[test]
fn a_thousand_connect_at_once_without_a_second_syn() {
    let (_reactor, address) = still(
        Config::default(),
        &set(|options: &mut ListenOptions| {
            options.backlog = 1000;
        }),
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
    // A lost SYN is sent again after a whole second, so this tells the two apart on any machine.
    assert!(
        begin.elapsed() - begun < Duration::from_millis(200),
        "{:?} after {begun:?}",
        begin.elapsed()
    );
}

#[test]
fn a_storm_of_arrivals_takes_turns_with_open_connections() {
    let config = set(|config: &mut Config| {
        config.accept_budget = 3;
    });
    let (mut reactor, address) = still(config, &ListenOptions::default());
    let mut open = client(address);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let crowd: Vec<TcpStream> = (0..30).map(|_| client(address)).collect();
    open.write_all(b"me").unwrap();
    // One turn to accept three and queue the rest, in which the open connection has its answer too.
    let accepted = reactor.stats().accepted;
    while reactor.stats().bytes_sent < 2 {
        reactor.turn(None).unwrap();
        assert!(
            reactor.stats().accepted - accepted <= 6,
            "the storm came first"
        );
    }
    assert_eq!(read_exactly(&mut open, 2), b"me");
    // And nobody in the crowd needs another arrival to be let in.
    turn_until(&mut reactor, |reactor| reactor.stats().open == 31);
    drop(crowd);
}

#[test]
fn at_max_connections_newcomers_wait_outside_until_someone_leaves() {
    let config = set(|config: &mut Config| {
        config.max_connections = 2;
    });
    let (mut reactor, address) = still(config, &ListenOptions::default());
    let mut inside = [client(address), client(address)];
    turn_until(&mut reactor, |reactor| reactor.stats().open == 2);
    let mut outside = client(address);
    outside.write_all(b"patience").unwrap();
    for _ in 0..20 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor.stats().accepted, 2);
    if have("ss") {
        assert_eq!(waiting_room(address).0, 1);
    }
    // Asleep meanwhile: a turn without a limit would not return.
    assert_eq!(reactor.next_deadline(), None);
    drop(std::mem::replace(
        &mut inside[0],
        outside.try_clone().unwrap(),
    ));
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 8);
    assert_eq!(read_exactly(&mut outside, 8), b"patience");
}

#[test]
fn accepted_sockets_are_nonblocking_close_on_exec_and_without_delay() {
    use rustix::fs::OFlags;
    for no_delay in [true, false] {
        let options = set(|options: &mut ListenOptions| {
            options.no_delay = no_delay;
        });
        let (mut reactor, address) = still(Config::default(), &options);
        let stream = client(address);
        turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
        let accepted = own_socket(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        assert!(
            rustix::fs::fcntl_getfl(&accepted)
                .unwrap()
                .contains(OFlags::NONBLOCK)
        );
        assert_eq!(SockRef::from(&accepted).tcp_nodelay().unwrap(), no_delay);
    }
}

/// A duplicate of this process's own socket with these two ends, and a look at its close-on-exec flag.
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
fn the_service_is_given_the_peers_address_and_may_turn_it_away() {
    let (running, (address, peers)) = Running::start(Config::default(), |reactor| {
        let (sender, peers): (_, Receiver<SocketAddr>) = channel();
        let service = move |peer: SocketAddr| {
            sender.send(peer).unwrap();
            (peer.ip() == Ipv4Addr::LOCALHOST).then_some(Echo)
        };
        let id = reactor
            .listen("0.0.0.0:0".parse().unwrap(), service)
            .unwrap();
        (reactor.local_addr(id).unwrap(), peers)
    });
    let at = |ip: [u8; 4]| SocketAddr::from((ip, address.port()));
    let mut welcome = client(at([127, 0, 0, 1]));
    assert_eq!(echo(&mut welcome, b"hello"), b"hello");
    assert_eq!(peers.recv().unwrap(), welcome.local_addr().unwrap());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())
        .unwrap();
    socket.connect(&at([127, 0, 0, 1]).into()).unwrap();
    let mut unwelcome = TcpStream::from(socket);
    assert_eq!(read_all(&mut unwelcome).unwrap(), b"");
    assert_eq!(peers.recv().unwrap(), unwelcome.local_addr().unwrap());
    let stats = running.stats();
    assert_eq!((stats.accepted, stats.turned_away, stats.open), (2, 1, 1));
}

#[test]
fn a_service_that_panics_costs_that_connection_alone() {
    let (running, address) = Running::start(Config::default(), |reactor| {
        let mut first = true;
        let service = move |_| {
            assert!(!std::mem::take(&mut first), "on purpose");
            Some(Echo)
        };
        let id = reactor.listen(any(), service).unwrap();
        reactor.local_addr(id).unwrap()
    });
    assert_eq!(read_all(&mut client(address)).unwrap(), b"");
    assert_eq!(echo(&mut client(address), b"next"), b"next");
    let stats = running.stats();
    assert_eq!((stats.panics, stats.turned_away, stats.accepted), (1, 1, 2));
}

#[test]
fn several_listeners_serve_each_its_own() {
    let words: [&[u8]; 3] = [b"one", b"two", b"three"];
    let (_running, addresses) = Running::start(Config::default(), move |reactor| {
        words.map(|word| {
            let id = reactor.listen(any(), move |_| Some(Say(word))).unwrap();
            reactor.local_addr(id).unwrap()
        })
    });
    for (address, word) in addresses.into_iter().zip(words) {
        assert_eq!(read_all(&mut client(address)).unwrap(), word);
    }
}

#[test]
fn all_of_ipv6_and_all_of_ipv4_listen_side_by_side() {
    let mut reactor = Reactor::new(Config::default()).unwrap();
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
        let options = set(|options: &mut ListenOptions| {
            options.ipv6_only = false;
        });
        let service = move |peer| sender.send(peer).map(|()| Echo).ok();
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
    let options = set(|options: &mut ListenOptions| {
        options.reuse_port = true;
    });
    let (_first, address) = still(Config::default(), &options);
    let mut second = Reactor::new(Config::default()).unwrap();
    second
        .listen_with(address, &options, |_| Some(Echo))
        .unwrap();
    let error = second.listen(address, |_| Some(Echo)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

/// A supervisor hands down a blocking socket; on it the loop would hang in accept.
#[test]
fn an_adopted_listener_is_made_nonblocking() {
    let listener = TcpListener::bind(any()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut early = client(address);
    let mut reactor = Reactor::new(Config::default()).unwrap();
    reactor.adopt_listener(listener, |_| Some(Echo)).unwrap();
    early.write_all(b"early").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 5);
    assert_eq!(read_exactly(&mut early, 5), b"early");
}

#[test]
fn what_is_sent_before_accept_is_not_lost() {
    let (mut reactor, address) = still(Config::default(), &ListenOptions::default());
    let mut stream = client(address);
    stream.write_all(b"before anyone said hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent == 24);
    assert_eq!(read_exactly(&mut stream, 24), b"before anyone said hello");
}

/// Closed with a reset at every point: before accept, after it, with and without data on its way.
#[test]
fn ten_thousand_resets_leave_nothing_behind() {
    let (running, address) = serve(Config::default());
    for round in 0..10_000_u32 {
        let mut stream = client(address);
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        if round % 3 > 0 {
            stream.write_all(&[b'x'; 100]).unwrap();
        }
        if round % 7 == 0 {
            let _ = echo(&mut stream, b"");
        }
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
    // The listener alone is left of all sockets with this port on their own side, but for those in TIME_WAIT (06).
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
fn drain_lets_in_those_who_wait_and_then_closes_the_door() {
    let (mut reactor, address) = still(
        set(|config: &mut Config| {
            config.accept_budget = 1;
        }),
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
