//! `doorkeeper room`: how an accept queue fills while nobody accepts, and how it empties.

use super::Failure;
use super::observe::outcome;
use super::output;
use super::values::text;
use super::writer::Writer;
use doorkeeper::{
    AcceptQueue, Arrival, Call, Closed, Config, Context, Event, Handler, Id, ListenOptions,
    Observer, Others, Reactor,
};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The limit of the clients. Each takes two descriptors, and a limit of 1024 is usual.
const CLIENTS_MAX: u32 = 400;

/// How long a client is given that finds the queue full. On the loopback a SYN is answered before
/// connect(2) returns.
const FULL: Duration = Duration::from_millis(20);

/// How long any other client is given, and how long a queue without a depth counts as not full.
const PATIENCE: Duration = Duration::from_secs(30);
const NO_DEPTH: Duration = Duration::from_millis(200);

/// How long the depth of the queue is awaited after a client has connected. The client's end is
/// complete before the server's.
const DEPTH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    backlog: u32,
    clients: u32,
}

impl Room {
    /// `words` follow the command.
    pub(super) fn new(words: Vec<OsString>) -> Result<Room, Failure> {
        let words: Vec<String> = words.into_iter().map(text).collect::<Result<_, _>>()?;
        let [backlog, clients] = words.as_slice() else {
            return Err(Failure::usage(
                "`room` takes two numbers, BACKLOG and CLIENTS, as in `doorkeeper room 2 5`",
            ));
        };
        Ok(Room {
            backlog: number("BACKLOG", backlog, 0, u16::MAX.into())?,
            clients: number("CLIENTS", clients, 1, CLIENTS_MAX)?,
        })
    }
}

fn number(name: &str, word: &str, least: u32, most: u32) -> Result<u32, Failure> {
    let parsed = word.parse().ok();
    let parsed = parsed.filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| {
        Failure::usage(format_args!(
            "{name} {word}: must be a whole number from {least} to {most}"
        ))
    })
}

/// What the callbacks and the observer have seen.
#[derive(Default)]
struct Seen {
    /// The result of the last connect(2).
    connect: String,
    /// The clients' own addresses, and how long they waited; `None` before they are connected.
    clients: Vec<Option<(SocketAddr, Duration)>>,
    /// The peers of the accepted connections, in order.
    accepted: Vec<SocketAddr>,
    /// The end of a client that never connected.
    failed: Option<String>,
}

type Shared = Rc<RefCell<Seen>>;

/// A client. It keeps its connection open.
struct Client {
    index: usize,
    start: Instant,
    seen: Shared,
}

impl Handler for Client {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let waited = self.start.elapsed();
        self.seen.borrow_mut().clients[self.index] = Some((cx.local()?, waited));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let failed = format!("client {}: {}", self.index + 1, closed.reason);
        self.seen.borrow_mut().failed.get_or_insert(failed);
    }
}

/// The server's end of a connection. It keeps it open.
struct Guest;

impl Handler for Guest {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// Records the result of connect(2).
struct Ear(Shared);

impl Observer for Ear {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Call { call, result, .. } = event {
            if let Call::Connect { .. } = call {
                self.0.borrow_mut().connect = outcome(call, *result);
            }
        }
    }
}

/// The listener, the clients, and where to tell of them.
struct Experiment {
    reactor: Reactor,
    listener: Id,
    address: SocketAddr,
    seen: Shared,
    writer: Writer,
}

pub(crate) fn run(room: Room) -> Result<(), Failure> {
    let writer = output::stdout().map_err(Failure::thread)?;
    let failed = |error: io::Error| Failure::failed(format_args!("cannot show the room: {error}"));
    let mut experiment = Experiment::start(room, &writer).map_err(failed)?;
    experiment.fill(room).map_err(failed)?;
    experiment.empty(room).map_err(failed)?;
    output::finish_stdout(&writer)
}

impl Experiment {
    fn start(room: Room, writer: &Writer) -> io::Result<Experiment> {
        let mut config = Config::default();
        // A turn accepts one, so that the queue is seen between two.
        config.accept_budget = 1;
        config.connect_timeout = PATIENCE;
        let mut reactor = Reactor::new(config)?;
        let seen = Shared::default();
        let mut options = ListenOptions::default();
        options.backlog = room.backlog;
        let accepted = Rc::clone(&seen);
        let service = move |arrival: &mut Arrival<'_>| {
            accepted.borrow_mut().accepted.push(arrival.peer);
            Some(Guest)
        };
        let listener = reactor.listen_with(([127, 0, 0, 1], 0).into(), &options, service)?;
        reactor.pause(listener);
        reactor.observe(Box::new(Ear(Rc::clone(&seen))));
        Ok(Experiment {
            address: reactor.local_addr(listener)?,
            reactor,
            listener,
            seen,
            writer: writer.clone(),
        })
    }

    /// Connects one client after the other.
    fn fill(&mut self, room: Room) -> io::Result<()> {
        let Room { backlog, clients } = room;
        self.say(&format!(
            "backlog {backlog}, clients {clients}: nobody accepts"
        ));
        self.say("client  connect      then       accept queue");
        let mut is_dropped = false;
        for index in 0..clients as usize {
            let is_connected = self.connect(index)?;
            let then = if is_connected { "connected" } else { "nothing" };
            let connect = self.seen.borrow().connect.clone();
            let queue = self.queue_shown();
            self.say(&format!(
                "{:>6}  {connect:<11}  {then:<9}  {queue}",
                index + 1
            ));
            is_dropped |= !is_connected;
        }
        if is_dropped {
            self.say("nothing: the SYN was dropped, and the kernel sends it again after 1 s");
        }
        Ok(())
    }

    /// Connects a client. True if it is connected soon.
    fn connect(&mut self, index: usize) -> io::Result<bool> {
        let seen = Rc::clone(&self.seen);
        seen.borrow_mut().clients.push(None);
        seen.borrow_mut().connect.clear();
        let before = self.queue();
        let client = Client {
            index,
            start: Instant::now(),
            seen: Rc::clone(&seen),
        };
        self.reactor.connect(self.address, client)?;
        let patience = match before {
            // Linux lets one more in than the limit.
            Some(queue) if queue.depth > queue.limit => FULL,
            Some(_) => PATIENCE,
            None => NO_DEPTH,
        };
        self.turn_until(patience, |_| seen.borrow().clients[index].is_some())?;
        let is_connected = seen.borrow().clients[index].is_some();
        if is_connected && before.is_some() {
            self.turn_until(DEPTH, |one| one.queue() != before)?;
        }
        Ok(is_connected)
    }

    /// Accepts, until every client is connected and accepted.
    fn empty(&mut self, room: Room) -> io::Result<()> {
        self.say("the server accepts");
        self.say("client  connected    accept queue");
        self.reactor.resume(self.listener);
        let mut shown = vec![false; room.clients as usize];
        while shown.contains(&false) {
            self.reactor.turn(Some(PATIENCE))?;
            self.check()?;
            let queue = self.queue_shown();
            for (index, waited) in self.accepted() {
                if !std::mem::replace(&mut shown[index], true) {
                    let waited = waited.as_secs_f64();
                    self.say(&format!("{:>6}  after {waited:.1} s  {queue}", index + 1));
                }
            }
        }
        Ok(())
    }

    /// The clients that are connected and accepted, in the order of accept, and how long each waited
    /// until it was connected.
    fn accepted(&self) -> Vec<(usize, Duration)> {
        let seen = self.seen.borrow();
        let find = |peer: &SocketAddr| {
            let mut clients = seen.clients.iter().enumerate();
            clients.find_map(|(index, client)| match client {
                Some((address, waited)) if address == peer => Some((index, *waited)),
                _ => None,
            })
        };
        seen.accepted.iter().filter_map(find).collect()
    }

    fn turn_until(
        &mut self,
        patience: Duration,
        is_done: impl Fn(&Experiment) -> bool,
    ) -> io::Result<()> {
        let until = Instant::now() + patience;
        while !is_done(self) && Instant::now() < until {
            self.reactor.turn(Some(Duration::from_millis(1)))?;
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match &self.seen.borrow().failed {
            Some(failed) => Err(io::Error::other(failed.clone())),
            None => Ok(()),
        }
    }

    fn queue(&self) -> Option<AcceptQueue> {
        self.reactor.accept_queue(self.listener)
    }

    fn queue_shown(&self) -> String {
        let shown = |AcceptQueue { depth, limit }| format!("{depth} of {limit}");
        self.queue().map_or("unknown".to_string(), shown)
    }

    fn say(&self, line: &str) {
        self.writer.write(line);
    }
}

#[cfg(test)]
mod tests {
    use super::{Experiment, Room};
    use crate::cli::output::left_out;
    use crate::cli::writer::{Sink, Writer};
    use std::io;
    use std::time::Duration;

    struct Nowhere;

    impl Sink for Nowhere {
        fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
            Ok(lines.len())
        }
    }

    #[test]
    fn a_client_that_cannot_connect_is_named() {
        let room = Room {
            backlog: 2,
            clients: 3,
        };
        let writer = Writer::start(Nowhere, left_out).unwrap();
        let mut experiment = Experiment::start(room, &writer).unwrap();
        experiment.reactor.close(experiment.listener);
        experiment.reactor.turn(Some(Duration::ZERO)).unwrap();
        let failed = experiment.fill(room).unwrap_err();
        assert_eq!(failed.to_string(), "client 1: refused");
        writer.close();
    }
}
