//! What happens to a connection between its turns: other code acts on it, and layers are added.

use super::{Input, Machine, Pending};
use crate::buffers::LazyBacklog;
use crate::closed::Reason;
use crate::handler::{Context, Handler};
use crate::readiness::Readiness;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Machine {
    /// Lends the handler to other code, outside a turn. The next turn sends what that code writes, and
    /// does what it asked for.
    pub(crate) fn lend(
        &mut self,
        handler: &mut dyn Handler,
        cx: &mut Context<'_>,
        code: &mut dyn FnMut(&mut dyn Handler, &mut Context<'_>),
    ) {
        self.limit_room(cx);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            code(handler, cx);
            Ok(())
        }));
        if let Err(end) = self.value(outcome, cx) {
            self.half_close();
            self.pending = Pending::End(end.reason);
            // That of an earlier send belongs to another reason.
            cx.backlog.get_or_insert().send_error = end.error;
        }
        self.remove_timers(cx.backlog);
        cx.hold_output();
    }

    /// Ends the connection in its next turn. Until then it takes no more output. An earlier reason stays.
    pub(crate) fn end(&mut self, reason: Reason) {
        self.half_close();
        if reason == Reason::Aborted {
            self.ready.insert(Readiness::ABORTED);
        }
        if !matches!(self.pending, Pending::End(_)) {
            self.pending = Pending::End(reason);
        }
    }

    /// True if an abort was asked for, whatever is the reason of the end.
    pub(crate) fn was_aborted(&self) -> bool {
        self.ready.intersects(Readiness::ABORTED)
    }
}

/// Layers.
impl Machine {
    /// A layer takes the socket's place, below what is held. Returns the input that it is given, how much
    /// output was written before, and whether the FIN was read.
    pub(crate) fn add_layer(&mut self, backlog: &mut LazyBacklog) -> (Vec<u8>, usize, bool) {
        let ended = matches!(self.input, Input::Ended | Input::Reported);
        if ended {
            self.input = Input::Open;
        }
        self.ready.insert(Readiness::READABLE);
        let (input, output) = (backlog.input.as_slice().to_vec(), backlog.output.len());
        if let Some(held) = backlog.get_mut() {
            held.input.consume(input.len());
            held.wanted = 0;
        }
        // The receipt counts what the handler is offered.
        self.received -= input.len() as u64;
        (input, output, ended)
    }

    /// True if a write may take bytes.
    pub(crate) fn is_writable(&self) -> bool {
        self.ready.intersects(Readiness::WRITABLE)
    }

    /// `writable`: the socket may take bytes. `open`: and so may the layers over it.
    pub(crate) fn set_writable(&mut self, writable: bool, open: bool) {
        self.set(Readiness::WRITABLE, writable && open);
        self.set(Readiness::HANDSHAKE, !open);
    }

    fn set(&mut self, mark: Readiness, is_set: bool) {
        match is_set {
            true => self.ready.insert(mark),
            false => self.ready.remove(mark),
        };
    }

    /// All bytes that were received and sent.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.received, self.sent)
    }
}
