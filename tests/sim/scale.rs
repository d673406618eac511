//! Many connections in one reactor. What it does for each is counted and must not grow with their
//! number; the processor time is printed. With a million, and with src/sim/tests/weight.rs, which counts the
//! bytes, into a table and a chart: `./benches/run --scale`

use crate::running::Echo;
use doorkeeper::sim::Sim;
use doorkeeper::{Arrival, Config, Context, Handler, Id, ListenOptions, Reactor, Reason};
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Clients of one address: it has fewer ports than that.
const PER_ADDRESS: usize = 20_000;
const BUSY: usize = 1000;

struct Client(Rc<Cell<usize>>);

impl Handler for Client {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + input.len());
        Ok(input.len())
    }
}

/// A server and a client with many connections between them.
struct Many {
    sim: Sim,
    server: Rc<RefCell<Reactor>>,
    client: Rc<RefCell<Reactor>>,
    listener: Id,
    count: usize,
    received: Rc<Cell<usize>>,
}

impl Many {
    fn new(count: usize) -> Many {
        let sim = Sim::plain();
        sim.set_ports(1024..=65_535);
        let mut config = Config::default();
        config.max_connections = count;
        config.idle_timeout = Some(Duration::from_secs(3600));
        let server = sim.reactor(config).unwrap();
        let client = sim.reactor(Config::default()).unwrap();
        let mut options = ListenOptions::default();
        options.backlog = count as u32;
        let any = SocketAddr::from(([0, 0, 0, 0], 7));
        let service = |_: &mut Arrival<'_>| Some(Echo);
        let listening = server.borrow_mut().listen_with(any, &options, service);
        Many {
            sim,
            server,
            client,
            listener: listening.unwrap(),
            count,
            received: Rc::default(),
        }
    }

    /// All clients are in the accept queue, and then the listener accepts them.
    fn connect(&self, times: &mut Times) -> Vec<Id> {
        self.server.borrow_mut().pause(self.listener);
        self.sim.run_now();
        let to = |number: usize| {
            let host = (number / PER_ADDRESS) as u8;
            SocketAddr::from(([10, 0, host, 1], 7))
        };
        let connect = |number| {
            let handler = Client(Rc::clone(&self.received));
            self.client
                .borrow_mut()
                .connect(to(number), handler)
                .unwrap()
        };
        let ids = times.take(self.count, || {
            let ids: Vec<Id> = (0..self.count).map(connect).collect();
            self.sim.run_now();
            ids
        });
        let depth = |many: &Many| {
            many.server
                .borrow()
                .accept_queue(many.listener)
                .unwrap()
                .depth
        };
        assert_eq!(depth(self) as usize, self.count);
        times.take(self.count, || {
            self.server.borrow_mut().resume(self.listener);
            self.sim.run_now();
        });
        assert_eq!(self.server.borrow().stats().open, self.count);
        ids
    }

    /// Each of these sends a message, and gets it back. Returns the events of the server for them.
    fn talk(&self, ids: &[Id]) -> u64 {
        let (before, received) = (self.server.borrow().stats().events, self.received.get());
        for &id in ids {
            assert_eq!(self.client.borrow_mut().send(id, b"x"), 1);
        }
        self.sim.run_now();
        assert_eq!(self.received.get(), received + ids.len());
        self.server.borrow().stats().events - before
    }
}

/// Processor time of this thread, in nanoseconds (clock_gettime(2)): other programs on the machine change it
/// little.
fn now() -> i128 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// What is timed, in this order.
const NAMES: [&str; 6] = [
    "connect",
    "accept",
    "busy",
    "all_busy",
    "idle_timeout",
    "close",
];

/// Nanoseconds for each connection or message.
#[derive(Default)]
struct Times(Vec<i128>);

impl Times {
    fn take<T>(&mut self, count: usize, work: impl FnOnce() -> T) -> T {
        let before = now();
        let result = work();
        self.0.push((now() - before) / count as i128);
        result
    }
}

fn run(count: usize) -> Times {
    let mut times = Times::default();
    let many = Many::new(count);
    let ids = many.connect(&mut times);
    let busy = &ids[..BUSY.min(count)];
    times.take(busy.len() * 20, || {
        for _ in 0..20 {
            assert_eq!(many.talk(busy), busy.len() as u64, "an event a message");
        }
    });
    times.take(count, || {
        assert_eq!(many.talk(&ids), count as u64, "an event a message")
    });
    times.take(count, || many.sim.run_for(Duration::from_secs(3601)));
    let stats = many.server.borrow().stats();
    assert_eq!(stats.closed(Reason::IdleTimeout), count as u64);
    assert_eq!(many.client.borrow().stats().open, 0);
    // Once more, in the slots that became free.
    let ids = many.connect(&mut Times::default());
    times.take(count, || {
        for id in ids {
            assert!(many.client.borrow_mut().close(id));
        }
        many.sim.run_now();
    });
    assert_eq!(many.server.borrow().stats().open, 0);
    times
}

#[test]
fn what_a_connection_takes_does_not_grow_with_their_number() {
    let most = std::env::var("DOORKEEPER_SCALE").map_or(10_000, |text| text.parse().unwrap());
    let mut count = 1000;
    while count <= most {
        let Times(times) = run(count);
        let times = NAMES.iter().zip(times);
        let times: String = times
            .map(|(name, time)| format!(",\"{name}\":{time}"))
            .collect();
        println!("scale {{\"connections\":{count}{times}}}");
        count *= 10;
    }
}
