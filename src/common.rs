//! What every turn shares: the limits, the time, the observer, the byte counters.

use crate::buffers::Places;
use crate::config::Config;
use crate::id::Id;
use crate::observe::{CallScope, Event, Observation};
use crate::time::{Clock, Tick};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A part of the reactor of its own, so that a turn can borrow it while the sources and the output
/// buffer are borrowed mutably.
pub(crate) struct Common {
    /// The limits of the reactor; in the turn of a connection that has its own, these.
    pub(crate) config: Config,
    /// The most that a connection can have written in a turn so far, for the invariants.
    #[cfg(feature = "sim")]
    pub(crate) most_written: usize,
    /// The clock can end a connection with these that has not finished.
    pub(crate) has_time_limit: bool,
    /// The limits of the reactor.
    reactor: Config,
    /// By slot: what a connection has of its own, as far as any has.
    own: Vec<Own>,
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

/// A span of `min_rate`: when it began, and how many bytes the connection had moved before.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) since: Tick,
    pub(crate) before: u64,
}

/// What a connection has of its own.
#[derive(Default)]
struct Own {
    /// Its limits, where they are not the reactor's.
    limits: Option<Rc<Config>>,
    /// Its current span, if it has a `min_rate`.
    span: Cell<Span>,
}

impl Common {
    pub(crate) fn new(config: Config) -> Common {
        Common {
            observation: Observation::new(config.observed_bytes, config.stall_warning),
            #[cfg(feature = "sim")]
            most_written: config.most_written(),
            has_time_limit: config.has_time_limit(),
            reactor: config.copy(),
            config,
            own: Vec::new(),
            clock: Clock::new(),
            now: Tick::default(),
            places: Places::default(),
            shutdown_until: None,
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// The limits of a connection: its own, or those of the reactor.
    pub(crate) fn limits(&self, id: Id) -> &Config {
        let own = self.own.get(id.slot());
        match own.and_then(|own| own.limits.as_deref()) {
            Some(limits) => limits,
            None => &self.reactor,
        }
    }

    /// The turn of a connection with limits of its own begins.
    pub(crate) fn use_limits(&mut self, id: Id) {
        self.config = self.limits(id).copy();
        self.has_time_limit = self.config.has_time_limit();
    }

    /// And it ends.
    pub(crate) fn use_common_limits(&mut self) {
        self.config = self.reactor.copy();
        self.has_time_limit = self.config.has_time_limit();
    }

    /// A connection is established. True if it has limits of its own.
    pub(crate) fn begin_limits(&mut self, id: Id, own: Option<Rc<Config>>, since: Tick) -> bool {
        let has_own = own.is_some();
        #[cfg(feature = "sim")]
        if let Some(own) = &own {
            self.most_written = self.most_written.max(own.most_written());
        }
        if has_own || self.config.rate().is_some() {
            if self.own.len() <= id.slot() {
                self.own.resize_with(id.slot() + 1, Own::default);
            }
            let span = Cell::new(Span { since, before: 0 });
            self.own[id.slot()] = Own { limits: own, span };
        }
        has_own
    }

    /// The connection has closed.
    pub(crate) fn forget_limits(&mut self, id: Id) {
        if let Some(own) = self.own.get_mut(id.slot()) {
            own.limits = None;
        }
    }

    pub(crate) fn span(&self, id: Id) -> Span {
        let own = self.own.get(id.slot());
        own.map_or(Span::default(), |own| own.span.get())
    }

    pub(crate) fn begin_span(&self, id: Id, before: u64) {
        if let Some(own) = self.own.get(id.slot()) {
            let since = self.now;
            own.span.set(Span { since, before });
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
