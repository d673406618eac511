//! What the reactor logs of trouble that peers can cause at will: at most one line a second for each
//! kind.

use super::{Reactor, guard};
use crate::closed::{Closed, Reason};
use crate::id::Id;
use crate::time::Tick;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// One throttle for each kind of trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    accept: Throttle,
    register: Throttle,
    handler: Throttle,
    panic: Throttle,
}

/// Passes one line a second and counts those it suppresses, because a log that grows as fast as the
/// trouble is more trouble.
#[derive(Debug, Default)]
struct Throttle {
    next: Tick,
    suppressed: u64,
}

/// How many lines were suppressed before this one.
struct More(u64);

impl Throttle {
    /// Whether to log now, and how many lines were suppressed since the last.
    #[cold]
    fn pass(&mut self, now: Tick) -> Option<More> {
        const INTERVAL: Duration = Duration::from_secs(1);
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now.after(INTERVAL);
        Some(More(std::mem::take(&mut self.suppressed)))
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more like it since the last)"),
        }
    }
}

impl Reactor {
    pub(super) fn count_panic(&mut self, place: &str) {
        self.stats.panics += 1;
        if let Some(more) = self.troubles.panic.pass(self.common.now) {
            log::error!("{place} panicked{more}");
        }
    }

    pub(super) fn count_accept_error(&mut self, id: Id, error: &io::Error) {
        self.stats.accept_errors += 1;
        if let Some(more) = self.troubles.accept.pass(self.common.now) {
            log::warn!("listener {id}: accept: {error}{more}");
        }
    }

    pub(super) fn log_register_error(&mut self, id: Id, error: &io::Error) {
        if let Some(more) = self.troubles.register.pass(self.common.now) {
            log::warn!("connection {id}: the poller refused it: {error}{more}");
        }
    }

    pub(super) fn log_close(&mut self, id: Id, peer: SocketAddr, closed: &Closed) {
        match closed.reason {
            Reason::Panic => self.count_panic("a handler"),
            Reason::HandlerError => {
                if let Some(more) = self.troubles.handler.pass(self.common.now) {
                    log::warn!(
                        "connection {id} with {peer}: handler error{}{more}",
                        error_text(closed)
                    );
                }
            }
            _ => {}
        }
        log::debug!(
            "connection {id} with {peer} closed: {}{}; {} bytes received, {} sent, {} unsent, {} discarded, age {} ms",
            closed.reason,
            error_text(closed),
            closed.received,
            closed.sent,
            closed.unsent,
            closed.discarded,
            closed.age.as_millis() as u64
        );
    }
}

/// The text of the error. It is escaped to one line, because it may contain bytes of a peer.
fn error_text(closed: &Closed) -> String {
    let Some(error) = &closed.error else {
        return String::new();
    };
    // To print a handler's error runs the handler's code.
    let text = guard(|| error.to_string());
    let text = text.unwrap_or_else(|| "an error that panicked when it was printed".to_string());
    format!(" ({})", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_with_the_count_of_the_others() {
        let mut throttle = Throttle::default();
        let mut pass = |ms| {
            let more = throttle.pass(Tick::default().after(Duration::from_millis(ms)));
            more.map(|more| more.0)
        };
        assert_eq!(pass(0), Some(0));
        for ms in 1..1000 {
            assert_eq!(pass(ms), None);
        }
        assert_eq!(pass(1000), Some(999));
        assert_eq!(pass(1999), None);
        assert_eq!(pass(5000), Some(1));
    }
}
