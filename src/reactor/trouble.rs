//! What the reactor logs of trouble that peers can cause at will: at most one line a second for each
//! kind.

use super::Reactor;
use crate::closed::{Closed, Reason};
use crate::guard::guard;
use crate::id::Id;
use crate::observe::Throttle;
use std::io;

/// One throttle for each kind of trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    accept: Throttle,
    pub(super) register: Throttle,
    handler: Throttle,
    panic: Throttle,
}

impl Reactor {
    #[cold]
    #[inline(never)]
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

    pub(super) fn log_close(&mut self, closed: &Closed) {
        let (id, peer) = (closed.id, closed.peer);
        match closed.reason {
            Reason::Panic => self.count_panic("a handler"),
            Reason::HandlerError => {
                if let Some(more) = self.troubles.handler.pass(self.common.now) {
                    log::warn!(
                        "connection {id} with {peer}: handler error{}{more}",
                        cause(closed)
                    );
                }
            }
            _ => {}
        }
        let reason = closed.reason;
        log::debug!(
            "connection {id} with {peer} closed: {reason}{}; {closed}",
            cause(closed)
        );
    }
}

/// The text of the error. It is escaped to one line, because it may contain bytes of a peer.
fn cause(closed: &Closed) -> String {
    let Some(error) = &closed.error else {
        return String::new();
    };
    // To print a handler's error runs the handler's code.
    let text = guard(|| error.to_string());
    let text = text.unwrap_or_else(|| "an error that panicked when it was printed".to_string());
    format!(" ({})", text.escape_debug())
}
