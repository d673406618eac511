//! What the reactor counts.

use crate::handler::Reason;

/// Counters since the reactor was made; see [`Reactor::stats`](crate::Reactor::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections taken out of a waiting room.
    pub accepted: u64,
    /// Accepted connections for which the service returned `None` or panicked.
    pub turned_away: u64,
    /// Calls of accept that failed, save for an empty waiting room.
    pub accept_errors: u64,
    /// Outgoing connections that were established, and connections that were adopted.
    pub connected: u64,
    /// Connections that are open now, those still being established included.
    pub open: usize,
    /// Bytes read from peers.
    pub bytes_received: u64,
    /// Bytes the kernel took for peers.
    pub bytes_sent: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Readiness events the poller gave.
    pub events: u64,
    /// Panics caught in handlers, services and posted closures.
    pub panics: u64,
    pub(crate) closed: [u64; Reason::ALL.len()],
}

impl Stats {
    /// How many connections ended for this reason.
    pub fn closed(&self, reason: Reason) -> u64 {
        self.closed[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
