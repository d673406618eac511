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
    /// The limits in force: those of the reactor, except in the turn of a connection that has limits of
    /// its own. For any other connection than that of this turn, ask [`limits`](Common::limits).
    pub(crate) config: Config,
    /// The most that a connection can have written in a turn so far, for the invariants.
    #[cfg(feature = "sim")]
    pub(crate) most_written: usize,
    /// With the limits in force, time alone can end a connection that has not finished.
    pub(crate) has_time_limit: bool,
    /// The limits of the reactor, whatever is in force.
    reactor_config: Config,
    /// By slot: what a connection has of its own. Only as long as the highest slot of a connection that
    /// had something needs; empty if none had.
    own: Vec<Own>,
    pub(crate) clock: Clock,
    /// The time of this turn.
    pub(crate) now: Tick,
    /// Shutting down: when `run` returns although connections are open.
    pub(crate) shutdown_until: Option<Tick>,
    pub(crate) observation: Observation,
    /// Large buffers that are used again, for input that a handler wants as a whole.
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
    /// Its current span. It means nothing without a `min_rate`.
    span: Cell<Span>,
}

impl Common {
    pub(crate) fn new(config: Config) -> Common {
        Common {
            observation: Observation::new(config.observed_bytes, config.stall_warning),
            #[cfg(feature = "sim")]
            most_written: config.most_written(),
            has_time_limit: config.has_time_limit(),
            reactor_config: config.copy(),
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

    /// The limits of a connection, its own or those of the reactor, whichever turn this is.
    pub(crate) fn limits(&self, id: Id) -> &Config {
        let own = self.own.get(id.slot());
        match own.and_then(|own| own.limits.as_deref()) {
            Some(limits) => limits,
            None => &self.reactor_config,
        }
    }

    /// Puts the limits of this connection in force, for its turn.
    pub(crate) fn use_limits_of(&mut self, id: Id) {
        self.config = self.limits(id).copy();
        self.has_time_limit = self.config.has_time_limit();
    }

    /// Puts those of the reactor in force again.
    pub(crate) fn use_reactor_limits(&mut self) {
        self.config = self.reactor_config.copy();
        self.has_time_limit = self.config.has_time_limit();
    }

    /// Keeps the limits of a connection that is established now, if it has its own, and begins its first
    /// span. True if it has its own.
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

    /// The connection has closed. Its span may stay: the next connection in the slot begins its own, if it has
    /// a `min_rate`.
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

    /// The part of the input buffer that the turn's limits allow: without held input, one read fills it.
    #[inline]
    pub(crate) fn input_of_turn<'b>(&self, input: &'b mut [u8]) -> &'b mut [u8] {
        let most = self.config.input_max_bytes.min(input.len());
        &mut input[..most]
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
