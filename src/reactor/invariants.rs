//! What holds after every turn. It is checked in simulations only, because only these know what is
//! true of a socket: a reactor learns it from calls and events.
//!
//! Nothing that can move is forgotten: it is queued, or its deadline is armed, or the poller is going
//! to report it. Each limit and each budget holds. The statistics are what the sockets did.

use super::Reactor;
use super::outgoing::Outgoing;
use super::sources::{Connection, Listener, Source};
use crate::connection::invariants::Outside;
use crate::id::Id;
use crate::observe::ListenerState;
use crate::readiness::Readiness;
use crate::sys::sim::{CallKind, Process};

type Check = Result<(), String>;

fn holds(condition: bool, words: impl FnOnce() -> String) -> Check {
    match condition {
        true => Ok(()),
        false => Err(words()),
    }
}

impl Reactor {
    /// The number of sources, which is what a check of all of them costs.
    pub(crate) fn sources(&self) -> usize {
        self.sources.count()
    }

    /// The budgets of the last turn.
    pub(crate) fn check_turn(&self) -> Check {
        let Some(process) = self.poller.process() else {
            return Ok(());
        };
        let calls = process.calls();
        let config = &self.common.config;
        for some in calls.chunk_by(|one, next| (one.socket, one.kind) == (next.socket, next.kind)) {
            let (bytes, most) = match some[0].kind {
                CallKind::Read => (config.turn_budget_bytes, 1),
                CallKind::Write => (self.common.most_written, 3),
                CallKind::Accept => (0, config.accept_budget),
                CallKind::RegisterAgain => (0, 0),
            };
            let moved: usize = some.iter().map(|call| call.bytes).sum();
            let words = || {
                let (kind, count) = (some[0].kind, some.len());
                format!("{count} times {kind:?} in one turn, of {moved} bytes")
            };
            holds(some.len() <= most && moved <= bytes, words)?;
        }
        holds(self.output.is_empty(), || {
            "output of a turn is left in the shared buffer".to_string()
        })
    }

    /// Everything else.
    pub(crate) fn check_sources(&self) -> Check {
        let Some(process) = self.poller.process() else {
            return Ok(());
        };
        self.sources.check()?;
        self.check_statistics(process)?;
        for (id, source) in self.sources.iter() {
            let pending = self.sources.pending(id).unwrap_or_default();
            let words = match source {
                Source::Connection(connection) => self.check_connection(id, connection, pending),
                Source::Listener(listener) => self.check_listener(id, listener, pending),
                Source::Outgoing(outgoing) => self.check_outgoing(id, outgoing, pending),
                Source::Watch(_) | Source::After(_) | Source::Away | Source::Closed => Ok(()),
            };
            words.map_err(|words| format!("{id}: {words}"))?;
        }
        Ok(())
    }

    fn check_statistics(&self, process: &Process) -> Check {
        let (stats, totals) = (self.stats(), process.totals());
        let counted = (stats.bytes_received, stats.bytes_sent, stats.accepted);
        let truth = (totals.read, totals.written, totals.accepted);
        holds(counted == truth, || {
            format!("received, sent and accepted are {truth:?}, and counted as {counted:?}")
        })?;
        let sockets = self.sources.iter().filter(|(_, source)| match source {
            Source::Connection(_) | Source::Listener(_) => true,
            Source::Outgoing(outgoing) => outgoing.socket.is_some(),
            _ => false,
        });
        let accepted = self.sources.iter().filter(|(_, source)| match source {
            Source::Connection(connection) => connection
                .socket
                .truth()
                .is_some_and(|truth| truth.accepted),
            _ => false,
        });
        let (accepted, most) = (accepted.count(), self.common.config.max_connections);
        holds(accepted <= most, || {
            format!("{accepted} connections are accepted, which are more than {most}")
        })?;
        let (sockets, open) = (sockets.count(), process.open());
        holds(sockets == open, || {
            format!("{open} descriptors are open for {sockets} sources")
        })
    }

    fn check_connection(&self, id: Id, connection: &Connection, pending: Readiness) -> Check {
        let (machine, backlog) = (&connection.machine, &connection.backlog);
        let config = self.common.limits(id);
        if let Some(truth) = connection.socket.truth() {
            let outside = Outside {
                backlog,
                config,
                truth,
                pending,
            };
            match Reactor::layers_of(connection) {
                Some(layers) => {
                    let (writable, wire) = (layers.is_writable(), layers.has_wire());
                    machine.check_layered(&outside, wire && !writable)?;
                    holds(
                        pending.intersects(Readiness::QUEUED) || !(wire && writable),
                        || "a layer's bytes can be sent, and it is not queued".to_string(),
                    )?;
                }
                None => machine.check(&outside)?,
            }
        }
        let queued = pending.intersects(Readiness::QUEUED);
        let (needed, armed) = (
            machine.deadline(backlog, id, &self.common),
            self.deadlines.get(id.slot()),
        );
        holds(
            queued || needed.is_none_or(|needed| armed.is_some_and(|armed| armed <= needed)),
            || format!("its deadline is {needed:?}, and armed is {armed:?}"),
        )?;
        holds(
            pending.intersects(Readiness::ARMED) == armed.is_some(),
            || "it is marked as armed, and is not, or the reverse".to_string(),
        )
    }

    fn check_listener(&self, id: Id, listener: &Listener, pending: Readiness) -> Check {
        let Some(truth) = listener.socket.truth() else {
            return Ok(());
        };
        let admission = &listener.admission;
        let backs_off = self.deadlines.get(id.slot()).is_some();
        let is_full = self.sources.open >= self.common.config.max_connections;
        let waits_for_slot = admission.is_listed && is_full;
        let comes_back = match admission.state {
            ListenerState::Paused => true,
            ListenerState::Backoff => backs_off,
            ListenerState::Full => waits_for_slot,
            ListenerState::ShuttingDown => {
                waits_for_slot || admission.deadline().is_some() && backs_off
            }
            _ => false,
        };
        let known = truth.reported || pending.intersects(Readiness::QUEUED);
        holds(truth.queued == 0 || comes_back || known, || {
            format!("{} wait, and nothing tells it", truth.queued)
        })
    }

    fn check_outgoing(&self, id: Id, outgoing: &Outgoing, pending: Readiness) -> Check {
        let queued = pending.intersects(Readiness::QUEUED);
        let Some(socket) = &outgoing.socket else {
            return holds(queued, || "it is not tried, and not queued".to_string());
        };
        let deadline = outgoing.deadline(&self.common.config);
        holds(self.deadlines.get(id.slot()) == Some(deadline), || {
            "its deadline is not armed".to_string()
        })?;
        let done = socket
            .truth()
            .is_some_and(|truth| !truth.connects && !truth.reported);
        holds(queued || !done, || {
            "it has a result, and nothing tells it".to_string()
        })
    }
}
