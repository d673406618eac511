//! What holds of a connection between turns. It is checked in simulations only, because only these
//! know what is true of a socket: a program learns it from calls and events.

use super::{Input, Machine, Output};
use crate::buffers::LazyBacklog;
use crate::config::Config;
use crate::readiness::Readiness;

/// What is true of a simulated socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    /// It is an attempt that has no result.
    pub(crate) connects: bool,
    /// It comes from an accept queue.
    pub(crate) accepted: bool,
    /// A read returns bytes, the end or an error.
    pub(crate) readable: bool,
    /// It has a pending error.
    pub(crate) broken: bool,
    /// The poller is going to report it.
    pub(crate) reported: bool,
    /// The poller is going to report it once there is more space for output: some of it has not
    /// arrived, or a reset is on its way.
    pub(crate) awaits_space: bool,
    /// The poller was asked for write readiness.
    pub(crate) asks_space: bool,
    pub(crate) sent_fin: bool,
    /// It is closed in both directions.
    pub(crate) over: bool,
    /// The connections in its accept queue.
    pub(crate) queued: usize,
    /// All bytes that were read and written.
    pub(crate) read: u64,
    pub(crate) written: u64,
}

/// What is known of a connection apart from its machine.
pub(crate) struct Outside<'a> {
    pub(crate) backlog: &'a LazyBacklog,
    pub(crate) config: &'a Config,
    pub(crate) truth: Truth,
    /// The marks since its last turn.
    pub(crate) pending: Readiness,
}

impl Machine {
    /// In words, the first invariant that does not hold.
    pub(crate) fn check(&self, outside: &Outside<'_>) -> Result<(), &'static str> {
        for (holds, words) in self
            .wakeups(outside)
            .into_iter()
            .chain(self.limits(outside))
            .chain(self.sums(outside))
        {
            if !holds {
                return Err(words);
            }
        }
        Ok(())
    }

    /// The same for a connection with layers, which translate what the socket reads and writes. `waits`:
    /// bytes of a layer wait until the socket takes more.
    pub(crate) fn check_layered(
        &self,
        outside: &Outside<'_>,
        waits: bool,
    ) -> Result<(), &'static str> {
        let [moves, _, input, error, _, asked] = self.wakeups(outside);
        let told = outside.truth.awaits_space || outside.truth.reported;
        let output = (
            !waits || told,
            "a layer's bytes wait, and nothing tells that there is space",
        );
        let wakeups = [moves, input, error, asked, output];
        let checks = wakeups.into_iter().chain(self.limits(outside));
        let failed = checks.into_iter().find(|(holds, _)| !holds);
        failed.map_or(Ok(()), |(_, words)| Err(words))
    }

    /// What can move is queued, marked, or going to be reported.
    fn wakeups(&self, outside: &Outside<'_>) -> [(bool, &'static str); 6] {
        let Outside {
            backlog,
            config,
            truth,
            pending,
        } = outside;
        let queued = pending.intersects(Readiness::QUEUED);
        let knows = |marks| self.ready.union(*pending).intersects(marks) || truth.reported;
        let reads = matches!(self.input, Input::Open | Input::Discarding);
        let sends = !backlog.output.is_empty();
        let ends = self.output == Output::Ending && !sends;
        [
            (
                queued || !self.wants_turn(backlog, config),
                "it can make progress, and is not queued",
            ),
            (queued || !ends, "its FIN can be sent, and it is not queued"),
            (
                !(reads && truth.readable) || knows(Readiness::INPUT),
                "there is input, and nothing tells it",
            ),
            (
                !truth.broken || knows(Readiness::INPUT),
                "the socket has an error, and nothing tells it",
            ),
            (
                // After a short write from outside a turn, the next turn asks the poller.
                queued || !sends || knows(Readiness::WRITABLE) || truth.awaits_space,
                "output waits, and nothing tells that there is space",
            ),
            (
                self.awaits_writable == truth.asks_space,
                "the poller is not asked for what the machine takes it to be",
            ),
        ]
    }

    fn limits(&self, outside: &Outside<'_>) -> [(bool, &'static str); 4] {
        let Outside {
            backlog,
            config,
            pending,
            ..
        } = outside;
        let queued = pending.intersects(Readiness::QUEUED);
        let (input, output) = (backlog.input.len(), backlog.output.len());
        let owned = [backlog.input.capacity(), backlog.output.capacity()];
        [
            (
                input <= config.input_max_bytes
                    && output <= config.output_hard_max_bytes.max(config.output_max_bytes),
                "it holds more than its limits",
            ),
            (
                owned[0] <= config.input_max_bytes
                    && (owned[1] <= config.output_max_bytes || output > 0),
                "its buffers are larger than their limits",
            ),
            (
                (input > 0 || owned[0] == 0) && (output > 0 || owned[1] == 0),
                "an empty buffer has memory",
            ),
            (
                queued || !backlog.is_allocated() || !backlog.is_empty(),
                "it holds nothing, and has memory",
            ),
        ]
    }

    fn sums(&self, outside: &Outside<'_>) -> [(bool, &'static str); 4] {
        let truth = &outside.truth;
        let ended = self.output == Output::Ended;
        [
            (!truth.connects, "it is not established"),
            (
                self.received == truth.read,
                "it did not count what it received",
            ),
            (self.sent == truth.written, "it did not count what it sent"),
            (
                ended == truth.sent_fin || truth.over,
                "its output and that of the socket have not ended alike",
            ),
        ]
    }
}
