//! What is kept of each connection that a service accepts: its access record in the log, and the
//! figures of its listener for --status.

use super::super::logging::ACCESS;
use super::args::Kind;
use super::status::{Status, Tally};
use doorkeeper::{Closed, Id};
use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a connection's handler keeps for this. Nothing, if nothing is kept: a handler without
/// fields takes no memory.
pub(super) trait Record: Clone + 'static {
    fn accepted(&self, _: Id) {}
    /// It is closed before it has a handler.
    fn turned_away(&self) {}
    /// It is closed, because its source is at the limit.
    fn cut_off(&self) {}
    /// `peer` is the client, if a proxy forwards the connection.
    fn closed(&self, peer: SocketAddr, closed: &Closed);
}

impl Record for () {
    fn closed(&self, _: SocketAddr, _: &Closed) {}
}

/// The service and the listener of a connection.
#[derive(Debug)]
pub(super) struct Access {
    service: &'static str,
    /// Set once it is known, which is before the first connection.
    pub(super) listener: OnceCell<SocketAddr>,
    is_logged: bool,
    pub(super) tally: Option<Rc<Tally>>,
}

impl Access {
    /// `None` if the log does not show the records, and there is no --status.
    pub(super) fn new(kind: Kind, status: Option<&Status>) -> Option<Rc<Access>> {
        let service = kind.name();
        let is_logged = log::log_enabled!(target: ACCESS, log::Level::Debug);
        let access = Access {
            service,
            listener: OnceCell::new(),
            is_logged,
            tally: status.map(|status| status.tally(service)),
        };
        (is_logged || status.is_some()).then(|| Rc::new(access))
    }

    fn log(&self, peer: SocketAddr, closed: &Closed) {
        let service = self.service;
        let listener = self
            .listener
            .get()
            .map_or(String::new(), SocketAddr::to_string);
        let (reason, age) = (&closed.reason, closed.age.as_millis() as u64);
        let error = closed
            .error
            .as_ref()
            .map_or(String::new(), |error| format!(" ({error})"));
        log::debug!(
            target: ACCESS,
            service,
            listener:%,
            peer:%,
            reason:%,
            received = closed.received,
            sent = closed.sent,
            unsent = closed.unsent,
            age_ms = age;
            "{service} on {listener}: {peer}: {reason}{error}; {} bytes received, {} sent, {age} ms",
            closed.received,
            closed.sent
        );
    }

    fn tally(&self, count: impl FnOnce(&Tally)) {
        if let Some(tally) = &self.tally {
            count(tally);
        }
    }
}

impl Record for Rc<Access> {
    fn accepted(&self, id: Id) {
        self.tally(|tally| tally.accepted(id));
    }

    fn turned_away(&self) {
        self.tally(Tally::turned_away);
    }

    fn cut_off(&self) {
        self.tally(Tally::cut_off);
    }

    fn closed(&self, peer: SocketAddr, closed: &Closed) {
        self.tally(|tally| tally.closed(closed));
        if self.is_logged {
            self.log(peer, closed);
        }
    }
}
