//! What all turns share: the limits, the time, who watches, what is counted.

use crate::config::Config;
use crate::id::Id;
use crate::net::{Clock, Told};
use crate::observe::Eyes;
use crate::timers::Tick;
use std::cell::Cell;
use std::time::Duration;

pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// The time of this turn.
    pub(crate) now: Tick,
    pub(crate) eyes: Eyes,
    /// Bytes read from peers, and bytes the kernel took for peers.
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
}

impl Common {
    pub(crate) fn new(config: Config) -> Common {
        let eyes = Eyes::new(config.observed_bytes, config.stall_warning);
        Common {
            config,
            clock: Clock::new(),
            now: Tick::default(),
            eyes,
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    pub(crate) fn told(&self, id: Id) -> Told<'_> {
        Told {
            id,
            eyes: &self.eyes,
        }
    }

    pub(crate) fn add_sent(&self, count: usize) {
        self.sent.set(self.sent.get() + count as u64);
    }

    /// Whether so long has passed since then.
    pub(crate) fn is_over(&self, wait: Duration, since: Tick) -> bool {
        self.now >= since.after(wait)
    }
}
