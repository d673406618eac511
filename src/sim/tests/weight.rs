//! The bytes that a reactor allocates for each connection. They must not grow with their number.

use crate::reactor::Reactor;
use crate::sim::Sim;
use crate::{Config, Context, Handler, Id, ListenOptions, Reason};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Clients of one address: it has fewer ports than that.
const PER_ADDRESS: usize = 20_000;

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

struct Client;

impl Handler for Client {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// Counts what the server allocates: the code that it is given runs the server alone, and what the
/// simulated kernel allocates meanwhile is not counted.
#[derive(Default)]
struct Meter {
    live: i64,
    most: i64,
}

impl Meter {
    fn take<T>(&mut self, code: impl FnOnce() -> T) -> T {
        let mut result = None;
        let info = allocation_counter::measure(|| result = Some(code()));
        self.most = self.most.max(self.live + info.bytes_max as i64);
        self.live += info.bytes_current;
        result.expect("it ran")
    }
}

/// A server, and a client that connects many times. They have their turns from here, and not from the
/// simulation, so that the server's can be told apart.
struct Many {
    sim: Sim,
    server: Rc<RefCell<Reactor>>,
    client: Rc<RefCell<Reactor>>,
    meter: Meter,
}

impl Many {
    fn new(max_connections: usize) -> Many {
        let sim = Sim::plain();
        sim.set_ports(1024..=65_535);
        let client = sim.reactor(Config::default()).unwrap();
        let config = Config {
            max_connections,
            idle_timeout: Some(Duration::from_secs(3600)),
            ..Config::default()
        };
        let options = ListenOptions {
            backlog: max_connections as u32,
            ..ListenOptions::default()
        };
        let mut meter = Meter::default();
        let server = meter.take(|| {
            let server = sim.reactor(config).unwrap();
            let any = SocketAddr::from(([0, 0, 0, 0], 7));
            let listening = server
                .borrow_mut()
                .listen_with(any, &options, |_| Some(Echo));
            listening.unwrap();
            server
        });
        Many {
            sim,
            server,
            client,
            meter,
        }
    }

    /// Turns of both until nothing moves.
    fn run_now(&mut self) {
        loop {
            let server = self.take_turns(&Rc::clone(&self.server), 1, true);
            let client = self.take_turns(&Rc::clone(&self.client), 0, false);
            if !server && !client {
                return;
            }
        }
    }

    fn take_turns(&mut self, reactor: &RefCell<Reactor>, process: usize, counted: bool) -> bool {
        let mut moved = false;
        let now = self.sim.world.borrow().now();
        let may_move = || {
            let due = reactor.borrow().next_turn().is_some_and(|next| next <= now);
            due || self.sim.world.borrow_mut().is_ready(process)
        };
        while may_move() {
            let turn = || reactor.borrow_mut().turn(Some(Duration::ZERO)).unwrap();
            match counted {
                true => self.meter.take(turn),
                false => turn(),
            }
            moved = true;
        }
        moved
    }

    fn connect(&mut self, count: usize) -> Vec<Id> {
        let connect = |number: usize| {
            let to = SocketAddr::from(([10, 0, (number / PER_ADDRESS) as u8, 1], 7));
            self.client.borrow_mut().connect(to, Client).unwrap()
        };
        let ids: Vec<Id> = (0..count).map(connect).collect();
        // All are in the accept queue before the server has a turn.
        self.take_turns(&Rc::clone(&self.client), 0, false);
        self.run_now();
        assert_eq!(self.server.borrow().stats().open, count);
        ids
    }

    fn talk(&mut self, ids: &[Id]) {
        let before = self.server.borrow().stats().bytes_sent;
        for &id in ids {
            assert_eq!(self.client.borrow_mut().send(id, b"x"), 1);
        }
        self.run_now();
        let sent = self.server.borrow().stats().bytes_sent - before;
        assert_eq!(sent, ids.len() as u64);
    }

    fn time_out(&mut self) {
        let until = self.sim.world.borrow().now();
        let until = until.after(Duration::from_secs(3601));
        self.sim.world.borrow_mut().advance(until);
        self.run_now();
    }
}

/// Bytes for each connection, beyond those of a reactor that has none and few slots.
struct Weight {
    idle: i64,
    /// While tables grow by copying, and while all connections end.
    most: i64,
}

fn weigh(count: usize) -> Weight {
    let without = Many::new(1).meter.live;
    let mut many = Many::new(count);
    let ids = many.connect(count);
    let idle = many.meter.live;
    many.talk(&ids);
    // The loop's own tables may have grown, by less than a byte for each message.
    let after_one = many.meter.live;
    let kept = after_one - idle;
    assert!(
        kept < 64 * 1024 + count as i64,
        "{kept} bytes after a message"
    );
    many.talk(&ids);
    assert_eq!(many.meter.live, after_one, "a message leaves nothing");
    many.time_out();
    let stats = many.server.borrow().stats();
    assert_eq!(stats.closed(Reason::IdleTimeout), count as u64);
    // Once more, in the slots that became free.
    many.connect(count);
    let each = |bytes: i64| (bytes - without) / count as i64;
    Weight {
        idle: each(idle),
        most: each(many.meter.most),
    }
}

/// With a million: `DOORKEEPER_SCALE=1000000`, as for the times in tests/sim/scale.rs.
#[test]
fn scale_of_the_bytes_of_a_connection() {
    let largest = std::env::var("DOORKEEPER_SCALE").map_or(10_000, |text| text.parse().unwrap());
    assert!(largest >= 1000, "{largest} are too few");
    // 20,000 are more than the slots that are reserved.
    let counts = [1000, 10_000, 20_000, 100_000, 1_000_000];
    let mut first = None;
    for count in counts
        .into_iter()
        .filter(|&count| count <= largest.max(20_000))
    {
        let Weight { idle, most } = weigh(count);
        if count != 20_000 {
            println!(
                "scale {{\"connections\":{count},\"idle_bytes\":{idle},\"most_bytes\":{most}}}"
            );
        }
        // Up to 10,000 connections the tables are as large as they are reserved.
        assert!(idle <= 160 || count > 10_000, "{idle} bytes");
        // A table doubles when it is full: then twice as many places as are used, and while it is copied
        // half as many more.
        let first = *first.get_or_insert(idle);
        assert!(idle <= first * 2, "{idle} bytes, {first} of 1000");
        assert!(most <= first * 3, "{most} bytes, {first} of 1000");
    }
}
