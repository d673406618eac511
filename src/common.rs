//! What every turn shares: the limits, the time, the observer, the byte counters.

use crate::buffers::Places;
use crate::config::Config;
use crate::id::Id;
use crate::observe::{CallScope, Event, Observation};
use crate::time::{Clock, Tick};
use std::cell::Cell;
use std::time::Duration;

/// A part of the reactor of its own, so that a turn can borrow it while the sources and the output
/// buffer are borrowed mutably.
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// The time of this turn.
    pub(crate) now: Tick,
    /// Shutting down: when `run` returns although connections are open.
    pub(crate) shutdown_until: Option<Tick>,
    pub(crate) observation: Observation,
    pub(crate) places: Places,
    /// Bytes read from all peers, and bytes that the kernel took for them. Cells, because a turn has
    /// only a shared reference.
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
}

impl Common {
    pub(crate) fn new(config: Config) -> Common {
        Common {
            observation: Observation::new(config.observed_bytes, config.stall_warning),
            config,
            clock: Clock::new(),
            now: Tick::default(),
            places: Places::default(),
            shutdown_until: None,
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// What a system call for this id needs in order to be observed.
    pub(crate) fn scope(&self, id: Id) -> CallScope<'_> {
        CallScope {
            id,
            observation: &self.observation,
        }
    }

    /// Notifies the observer, if there is one.
    #[inline]
    pub(crate) fn notify<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        self.observation.notify(event);
    }

    pub(crate) fn add_received(&self, count: usize) {
        self.received.set(self.received.get() + count as u64);
    }

    pub(crate) fn add_sent(&self, count: usize) {
        self.sent.set(self.sent.get() + count as u64);
    }

    /// True if at least `wait` has passed since `since`.
    pub(crate) fn has_passed(&self, wait: Duration, since: Tick) -> bool {
        self.now >= since.after(wait)
    }
}
