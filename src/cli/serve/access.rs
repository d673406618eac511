//! Access records: one line of the log for each connection that a service has ended.

use super::super::logging::ACCESS;
use super::args::Kind;
use doorkeeper::Closed;
use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a connection's handler keeps for its record. Nothing, if there are no records: a handler
/// without fields takes no memory.
pub(super) trait Record: Clone + 'static {
    fn closed(&self, peer: SocketAddr, closed: &Closed);
}

impl Record for () {
    fn closed(&self, _: SocketAddr, _: &Closed) {}
}

/// The service and the listener of a connection.
#[derive(Clone, Debug)]
pub(super) struct Access {
    service: &'static str,
    /// Set once it is known, which is before the first connection.
    pub(super) listener: Rc<OnceCell<SocketAddr>>,
}

impl Access {
    /// `None` if the log does not show the records.
    pub(super) fn new(kind: Kind) -> Option<Access> {
        log::log_enabled!(target: ACCESS, log::Level::Debug).then(|| Access {
            service: kind.name(),
            listener: Rc::default(),
        })
    }
}

impl Record for Access {
    fn closed(&self, peer: SocketAddr, closed: &Closed) {
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
}
