//! The first step of a turn: the readiness marks, and one read.

use super::{Endpoint, Input, Machine};
use crate::buffers::Backlog;
use crate::config::Config;
use crate::handler::Context;
use crate::observe::{Budget, Event};
use crate::readiness::Readiness;
use std::io::{self, ErrorKind};

impl Machine {
    /// Takes the marks of this turn, and reads once if there may be input and there is space for it.
    /// Returns how many bytes were read into `buffer`.
    #[inline(always)]
    pub(super) fn receive<E: Endpoint>(
        &mut self,
        marks: Readiness,
        buffer: &mut [u8],
        endpoint: &E,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        // Marks that are the slot's, such as QUEUED and ARMED, are added too and mean nothing here.
        self.ready.insert(marks);
        if !marks.intersects(Readiness::READABLE)
            && self.overdue(cx.others.id, cx.others.common).is_some()
        {
            // Before a connection times out, it is read and written once more: a turn takes a bounded
            // number of events, so its own event may still be in the poller.
            self.ready
                .insert(Readiness::READABLE.union(Readiness::WRITABLE));
        }
        if !self.ready.intersects(Readiness::INPUT) {
            return Ok(0);
        }
        // Held input and new input must fit together, because they are offered as one slice. At the limit
        // the peer is not read: the kernel's buffer fills, and TCP stops the peer.
        let (mut most, held) = (buffer.len(), &*cx.backlog);
        if held.is_allocated() {
            let space = self.space(held, &cx.others.common.config);
            if space == 0 {
                return Ok(0);
            }
            if self.awaits_more(held.input.len(), held.wanted) {
                return self.receive_wanted(most, endpoint, cx);
            }
            most = most.min(space);
        }
        self.read(&mut buffer[..most], endpoint, cx)
    }

    /// Reads what the handler wants to where it is held, so that much input is not copied.
    #[cold]
    fn receive_wanted<E: Endpoint>(
        &mut self,
        budget: usize,
        endpoint: &E,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let (common, held) = (cx.others.common, cx.backlog.get_or_insert());
        let most = budget.min(held.wanted - held.input.len());
        let mut input = std::mem::take(&mut held.input);
        input.make_place(held.wanted, &common.places);
        let result = self.read(input.free(most), endpoint, cx);
        input.filled(*result.as_ref().unwrap_or(&0));
        // An idle connection owns no buffer.
        if input.is_empty() {
            input.clear(&common.places);
        }
        cx.backlog.get_or_insert().input = input;
        // It is offered in this turn if it is enough, or if the peer has ended.
        self.ready.insert(Readiness::WOKEN);
        result.map(|_| 0)
    }

    /// Reads once into `place`, and draws the consequences.
    #[inline(always)]
    fn read<E: Endpoint>(
        &mut self,
        place: &mut [u8],
        endpoint: &E,
        cx: &Context<'_>,
    ) -> io::Result<usize> {
        let count = match endpoint.read(place, cx.scope()) {
            Ok(0) => return self.read_end(endpoint, cx),
            Ok(count) => count,
            Err(error) => return self.read_error(error),
        };
        // While lingering, `active` is when that began, so that a peer that sends cannot prolong it.
        if !self.lingers() {
            self.active = cx.others.common.now;
        }
        self.received += count as u64;
        cx.others.common.add_received(count);
        if count < place.len() && !endpoint.has_more() {
            // A short read took all there was, so the read that would return WouldBlock is saved. The
            // next bytes make a new edge (epoll(7), question 9).
            self.ready.remove(Readiness::READABLE);
        } else if count == cx.others.common.config.turn_budget_bytes {
            let (id, budget) = (cx.others.id, Budget::Bytes);
            cx.others
                .common
                .notify(|| Event::BudgetSpent { id, budget });
        }
        Ok(count)
    }

    /// How many bytes can be read.
    ///
    /// Reading stops while output is full and input is unconsumed. Full output alone does not stop it,
    /// because a handler may pass its input on to another connection: if two such connections each
    /// waited until the other reads, both would wait for ever. Such a handler never has more output than
    /// `output_max_bytes`; with more, which only `write_all` takes, reading stops.
    pub(super) fn space(&self, held: &Backlog, config: &Config) -> usize {
        let (input, output) = (held.input.len(), held.output.len());
        let stuck = input > 0 && output >= config.output_max_bytes;
        let choked = output > config.output_max_bytes;
        // A handshake is input that output waits for.
        let is_handshake = self.ready.intersects(Readiness::HANDSHAKE);
        if (stuck || choked) && !is_handshake && !self.discards() {
            0
        } else {
            config.input_max_bytes - input
        }
    }

    /// The peer's FIN was read (recv(2): 0). After it a read returns 0 for ever, also if the peer
    /// resets: only SO_ERROR tells, once. So it is asked if the poller reported an error.
    #[cold]
    fn read_end<E: Endpoint>(&mut self, endpoint: &E, cx: &Context<'_>) -> io::Result<usize> {
        if self.ready.remove(Readiness::ERROR) {
            endpoint.take_error(cx.scope())?;
        }
        self.ready.remove(Readiness::INPUT);
        self.input = match self.input {
            Input::Open => Input::Ended,
            Input::Discarding => Input::Discarded,
            ended => ended,
        };
        Ok(0)
    }

    #[cold]
    fn read_error(&mut self, error: io::Error) -> io::Result<usize> {
        match error.kind() {
            ErrorKind::WouldBlock => drop(self.ready.remove(Readiness::INPUT)),
            // The marks stay, so the next turn tries again.
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
        Ok(0)
    }
}
