//! What the machine shows of itself.

use super::Stream;
use crate::held::Holding;
use crate::id::Id;
use crate::phase::{Input, Output, Phase};
use crate::readiness::Readiness;
use crate::snapshot::{ConnectionState, ConnectionView};
use crate::timers::Tick;
use std::net::SocketAddr;

impl Stream {
    pub(crate) fn view(
        &self,
        id: Id,
        peer: SocketAddr,
        held: &Holding,
        now: Tick,
    ) -> ConnectionView {
        let state = match (self.phase, self.output, self.input) {
            (Phase::Finishing | Phase::Lingering, ..) => ConnectionState::Finishing,
            (_, Output::Ending | Output::Ended, _) => ConnectionState::HalfClosed,
            (_, Output::Open, Input::Ended | Input::Told) => ConnectionState::PeerEnded,
            (_, Output::Open, _) => ConnectionState::Open,
        };
        ConnectionView {
            id,
            peer,
            state,
            readable: self.can.has(Readiness::INPUT),
            writable: self.can.has(Readiness::WRITABLE),
            pending_in: held.input().len(),
            pending_out: held.output().len(),
            age: now.since(self.opened),
            idle: now.since(self.active),
            received: self.received,
            sent: self.sent,
        }
    }
}
