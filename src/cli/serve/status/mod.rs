//! `--status`: what the loop does, over HTTP on the same loop.

mod connections;
mod figures;
mod http;
mod last_turn;
mod live;
mod metrics;
mod server;
mod tally;

pub(super) use tally::Tally;

use super::super::Failure;
use super::args::Serve;
use doorkeeper::{Id, Observer, Reactor};
use figures::{Figures, Watcher};
use http::{Answer, Request, TEXT};
use live::Live;
use server::Clients;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tally::Owners;

const ENDPOINTS: &str =
    "there are / (a live page), /events (its data), /metrics, /healthz and /connections";

/// The value of the option.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A reply to a request.
enum Reply {
    Whole(Answer),
    /// Events, as long as the client reads them.
    Stream,
}

/// What --status keeps.
pub(super) struct Status {
    figures: Rc<RefCell<Figures>>,
    owners: Owners,
    tallies: RefCell<Vec<Rc<Tally>>>,
    /// The hosts of the command line, without the ports.
    hosts: Vec<String>,
    max_connections: usize,
    /// --reuse-port: other processes may listen on the same addresses.
    is_shared: bool,
    listeners: RefCell<Vec<Id>>,
    /// The listeners close once their accept queues are empty.
    is_leaving: Cell<bool>,
    start: Instant,
    clients: Clients,
    live: RefCell<Live>,
}

impl Status {
    pub(super) fn new(place: &Place, options: &Serve) -> Rc<Status> {
        let stall = options.config.stall_warning.unwrap_or(Duration::MAX);
        let sleeps_outside = options.observation.is_asked_for();
        Rc::new(Status {
            figures: Rc::new(RefCell::new(Figures::new(stall, sleeps_outside))),
            owners: Owners::default(),
            tallies: RefCell::default(),
            hosts: vec![place.host.clone()],
            max_connections: options.config.max_connections,
            is_shared: options.listen.reuse_port,
            listeners: RefCell::default(),
            is_leaving: Cell::default(),
            start: Instant::now(),
            clients: Clients::default(),
            live: RefCell::new(Live::new()),
        })
    }

    /// What the loop must notify.
    pub(super) fn observer(&self) -> Box<dyn Observer> {
        Box::new(Watcher(Rc::clone(&self.figures)))
    }

    /// The counters of a new listener.
    pub(super) fn tally(&self, service: &'static str) -> Rc<Tally> {
        let mut tallies = self.tallies.borrow_mut();
        let owners = Rc::clone(&self.owners);
        let tally = Rc::new(Tally::new(service, tallies.len(), owners));
        tallies.push(Rc::clone(&tally));
        tally
    }

    /// How many descriptors this takes.
    pub(super) fn descriptors(place: &Place) -> usize {
        // One more, because a client is accepted before the oldest is closed.
        place.addresses.len() + server::CLIENTS_MAX + 1
    }

    /// Opens the listeners. Returns their lines for standard output.
    pub(super) fn listen_all(
        self: &Rc<Status>,
        reactor: &mut Reactor,
        place: &Place,
    ) -> Result<String, Failure> {
        let mut lines = String::new();
        for &address in &place.addresses {
            let (id, bound) = server::listen(reactor, self, address).map_err(|error| {
                Failure::failed(format_args!(
                    "cannot listen for --status on {address}: {error}"
                ))
            })?;
            if !bound.ip().is_loopback() {
                log::warn!(
                    "--status listens on {bound}: whoever can connect there sees the addresses of all peers"
                );
            }
            self.listeners.borrow_mut().push(id);
            lines += &format!("listening status {bound}\n");
        }
        Ok(lines)
    }

    /// A shutdown begins. If other processes share the port, they answer from now on.
    pub(super) fn shut_down(&self, reactor: &mut Reactor) {
        if self.is_shared {
            self.is_leaving.set(true);
            for &id in &*self.listeners.borrow() {
                reactor.wake(id);
            }
        }
    }

    fn reply(&self, reactor: &Reactor, request: &Request) -> Reply {
        let takes_query = request.path == "/connections";
        if let (false, Some((name, _))) = (takes_query, request.query.first()) {
            let path = &request.path;
            return Reply::Whole(Answer::bad(format_args!("{path} takes no `{name}`")));
        }
        Reply::Whole(match request.path.as_str() {
            "/" => Answer::new("text/html; charset=utf-8", live::PAGE.to_string()),
            "/events" => return Reply::Stream,
            "/metrics" => Answer::new(metrics::KIND, metrics::text(self, reactor)),
            "/healthz" => self.health(reactor),
            "/connections" => connections::answer(self, reactor, &request.query),
            _ => Answer::error("404 Not Found", ENDPOINTS),
        })
    }

    fn health(&self, reactor: &Reactor) -> Answer {
        const UNAVAILABLE: &str = "503 Service Unavailable";
        let (open, max) = (reactor.stats().open, self.max_connections);
        if self.figures.borrow().is_shutting_down {
            let text = format!("shutting down: {open} connections are open");
            return Answer::error(UNAVAILABLE, text);
        }
        if open >= max {
            let text = format!("full: {open} of {max} connections are open");
            return Answer::error(UNAVAILABLE, text);
        }
        Answer::new(TEXT, format!("ok: {open} of {max} connections are open\n"))
    }
}
