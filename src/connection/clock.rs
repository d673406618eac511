//! The limits in time: for which reason the clock ends a connection, and by when it needs a turn.

use super::Machine;
use crate::buffers::LazyBacklog;
use crate::closed::Reason;
use crate::common::Common;
use crate::config::{Config, MinRate};
use crate::id::Id;
use crate::time::Tick;
use std::time::Duration;

impl Machine {
    /// The timeout that applies now, and the reason for which it ends the connection.
    fn timeout(&self, config: &Config) -> (Option<Duration>, Reason) {
        match self.lingers() {
            true => (Some(config.linger_timeout), Reason::LingerTimeout),
            false => (config.idle_timeout, Reason::IdleTimeout),
        }
    }

    /// The reason for which the clock ends the connection now.
    pub(crate) fn overdue(&self, id: Id, common: &Common) -> Option<Reason> {
        let config = common.limits(id);
        let has_passed =
            |wait: Option<Duration>, since| wait.is_some_and(|wait| common.has_passed(wait, since));
        let (wait, reason) = self.timeout(config);
        if has_passed(wait, self.active) {
            return Some(reason);
        }
        if has_passed(config.max_lifetime, self.opened) {
            return Some(Reason::LifetimeOver);
        }
        let (rate, span) = (self.rate(config)?, common.span(id));
        let is_slow = self.received + self.sent - span.before < rate.bytes;
        (is_slow && common.has_passed(rate.span, span.since)).then_some(Reason::TooSlow)
    }

    /// The least rate that applies now. None while lingering, which has a timeout of its own.
    fn rate(&self, config: &Config) -> Option<MinRate> {
        config.rate().filter(|_| !self.lingers())
    }

    /// After a span in which enough bytes moved, the next one begins.
    pub(crate) fn renew_span(&self, id: Id, common: &Common) {
        let rate = self.rate(common.limits(id));
        if rate.is_some_and(|rate| common.has_passed(rate.span, common.span(id).since)) {
            self.begin_span(id, common);
        }
    }

    /// A span begins, with the bytes moved so far. Adding a layer needs this too: input that becomes the
    /// layer's is taken off `received`, which must not fall below the start of the span.
    pub(crate) fn begin_span(&self, id: Id, common: &Common) {
        common.begin_span(id, self.received + self.sent);
    }

    /// True if the deadline may have come nearer. Those of the idle timeout and of a span only ever move
    /// away, and that of the lifetime stays.
    pub(crate) fn has_near_deadline(&self, backlog: &LazyBacklog) -> bool {
        self.lingers() || backlog.timers.next().is_some()
    }

    /// The time by which the connection needs a turn.
    pub(crate) fn deadline(&self, backlog: &LazyBacklog, id: Id, common: &Common) -> Option<Tick> {
        let config = common.limits(id);
        let idle = self.timeout(config).0.map(|wait| self.active.after(wait));
        let lifetime = config.max_lifetime.map(|most| self.opened.after(most));
        let span = self
            .rate(config)
            .map(|rate| common.span(id).since.after(rate.span));
        let limits = idle.into_iter().chain(lifetime).chain(span);
        limits.chain(backlog.timers.next()).min()
    }
}
