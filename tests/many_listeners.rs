//! What must not cost more because there are many listeners.

mod common;

use common::{
    Echo, NOW, Program, client, have, listen, loopback, reactor, set, temporary, turn_until,
};
use doorkeeper::{AcceptQueue, Config, Context, Handler, Id, Reactor};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is timed is timed alone, with as many descriptors as this process may open.
fn timed_alone() -> MutexGuard<'static, ()> {
    static TIMED: Mutex<()> = Mutex::new(());
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    TIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_listeners(count: usize) -> Reactor {
    let mut reactor = reactor();
    for _ in 0..count {
        reactor.listen(loopback(), |_| Some(Echo)).unwrap();
    }
    turn_until(&mut reactor, |reactor| reactor.stats().turns > 0);
    reactor
}

/// The shortest of several times, which other processes disturbed least.
fn shortest(mut work: impl FnMut() -> Duration) -> Duration {
    (0..25).map(|_| work()).min().unwrap()
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// With a question for each listener the kernel looks at all listeners for each: 100 times the time.
#[test]
fn the_time_to_look_at_all_listeners_grows_with_their_number_and_not_with_its_square() {
    let _alone = timed_alone();
    let look = |count: usize| {
        let reactor = with_listeners(count);
        let snapshot = shortest(|| time(|| drop(reactor.snapshot())));
        let queues = shortest(|| time(|| assert_eq!(reactor.accept_queues().len(), count)));
        (snapshot, queues)
    };
    let (few, many) = (look(200), look(2000));
    assert!(many.0 <= 30 * few.0, "snapshot: {few:?}, {many:?}");
    assert!(many.1 <= 30 * few.1, "accept queues: {few:?}, {many:?}");
}

#[test]
fn a_table_of_many_listeners_asks_the_kernel_once() {
    if !have("strace") {
        return;
    }
    let path = temporary("questions");
    let options = ["-e", "trace=socket", "-o", path.to_str().unwrap()];
    let mut program = Program::traced(&options, &["echo=:0"; 30], "info", 30);
    kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    let table = log.find(|line| line.as_ref().unwrap().contains("30 listeners"));
    assert!(table.is_some());
    // The sockets of the table are opened before it is logged.
    let trace = std::fs::read_to_string(&path).unwrap();
    let count = |family: &str| trace.lines().filter(|line| line.contains(family)).count();
    assert_eq!(
        (count("AF_INET,"), count("AF_NETLINK,")),
        (30, 1),
        "{trace}"
    );
    drop(program);
    std::fs::remove_file(path).unwrap();
}

/// Notes the ids of its connections.
struct Ids(Rc<RefCell<Vec<Id>>>);

impl Handler for Ids {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.borrow_mut().push(cx.id());
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[test]
fn closing_a_connection_does_not_look_at_every_listener() {
    let _alone = timed_alone();
    let close = |listeners: usize| {
        let mut reactor = with_listeners(listeners);
        let ids = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&ids);
        let address = listen(&mut reactor, move |_| Some(Ids(Rc::clone(&noted))));
        shortest(|| {
            let clients: Vec<TcpStream> = (0..50).map(|_| client(address)).collect();
            turn_until(&mut reactor, |_| ids.borrow().len() == 50);
            let took = time(|| {
                for id in ids.take() {
                    reactor.abort(id);
                    reactor.turn(NOW).unwrap();
                }
            });
            assert_eq!(reactor.stats().open, 0);
            drop(clients);
            took
        })
    };
    let (few, many) = (close(10), close(2000));
    assert!(many <= 4 * few, "{few:?}, {many:?}");
}

/// At the limit a listener waits until a connection closes, whichever listener accepted that.
#[test]
fn every_listener_that_waits_is_served_when_connections_close() {
    let mut reactor = Reactor::new(set(|config: &mut Config| config.max_connections = 2)).unwrap();
    let addresses: Vec<_> = (0..20)
        .map(|_| listen(&mut reactor, |_| Some(Echo)))
        .collect();
    let mut clients: Vec<TcpStream> = addresses.iter().map(|&address| client(address)).collect();
    for stream in &mut clients {
        stream.write_all(b"x").unwrap();
    }
    for served in 1..=clients.len() as u64 {
        turn_until(&mut reactor, |reactor| reactor.stats().bytes_sent >= served);
        let done = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            matches!({ stream }.read(&mut [0]), Ok(1))
        };
        let answered = clients.iter().position(done).unwrap();
        clients.remove(answered);
    }
    turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
    assert_eq!(reactor.stats().accepted, 20);
}

#[test]
fn the_accept_queues_of_all_listeners_are_those_of_each() {
    let mut reactor = reactor();
    let mut ids = Vec::new();
    for (index, local) in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"].iter().enumerate() {
        let id = reactor
            .listen(local.parse().unwrap(), |_| Some(Echo))
            .unwrap();
        reactor.set_backlog(id, 10 + index as u32).unwrap();
        ids.push(id);
    }
    let address = reactor.local_addr(ids[1]).unwrap();
    let waiting = [client(address), client(address)];
    let queue = |id: Id, depth: u32, limit: u32| (id, AcceptQueue { depth, limit });
    let wanted = [
        queue(ids[0], 0, 10),
        queue(ids[1], 2, 11),
        queue(ids[2], 0, 12),
    ];

    assert_eq!(reactor.accept_queues(), wanted);
    let each = ids
        .iter()
        .map(|&id| (id, reactor.accept_queue(id).unwrap()));
    assert_eq!(each.collect::<Vec<_>>(), wanted);
    let views = reactor.snapshot().listeners;
    let shown = views
        .iter()
        .map(|view| (view.id, view.accept_queue.unwrap()));
    assert_eq!(shown.collect::<Vec<_>>(), wanted);
    drop(waiting);
}
