//! The counters.

use crate::closed::Reason;

/// Counters since the reactor was made; see [`Reactor::stats`](crate::Reactor::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Accepted connections for which the service returned `None` or panicked.
    pub turned_away: u64,
    /// Calls of accept(2) that failed. An empty accept queue is not counted.
    pub accept_errors: u64,
    /// Outgoing connections that were established, and connections that were adopted.
    pub connected: u64,
    /// Connections that are open now, and outgoing ones that are being established.
    pub open: usize,
    /// Bytes read from peers.
    pub bytes_received: u64,
    /// Bytes that the kernel took for peers.
    pub bytes_sent: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Readiness events from the poller.
    pub events: u64,
    /// Posted closures that were run ([`Handle::post`](crate::Handle::post)).
    pub posts: u64,
    /// Panics caught in handlers, layers, services, timers, posted closures and watched sources.
    pub panics: u64,
    pub(crate) closed: [u64; Reason::ALL.len()],
}

impl Stats {
    /// The number of connections that ended for this reason.
    pub fn closed(&self, reason: Reason) -> u64 {
        self.closed[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
