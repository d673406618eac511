//! The server's address, and how to connect to it.

use super::counters::Counters;
use doorkeeper::{ConnectOptions, Handler, Others, Reactor};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// The pause before a connection that failed is replaced, so that a server that is gone does not keep
/// the load busy.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
}

impl Target {
    /// Replaces a connection that failed, unless the measurement is over.
    pub(crate) fn connect_again(
        &self,
        others: &mut Others<'_>,
        counters: &Rc<Counters>,
        next: impl Handler,
    ) {
        if counters.end.get().is_some() {
            return;
        }
        let (target, failed) = (self.clone(), Rc::clone(counters));
        let connect = move |reactor: &mut Reactor| {
            if let Err(error) = reactor.connect_with(target.address, &target.options, next) {
                failed.fail(error.to_string());
            }
        };
        if let Err(error) = others.after(PAUSE, connect) {
            counters.fail(error.to_string());
        }
    }
}
