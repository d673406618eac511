//! A reactor of a simulation: its poller and its clock are those of a simulated process.

use super::Reactor;
use crate::config::Config;
use crate::sys::Poller;
use crate::sys::sim::Process;
use crate::time::{Clock, Tick};
use std::io;

impl Reactor {
    pub(crate) fn simulated(config: Config, process: Process) -> io::Result<Reactor> {
        config.check()?;
        let clock = Clock::simulated(process.clock());
        let mut reactor = Reactor::with_poller(config, Poller::simulated(process)?)?;
        reactor.common.clock = clock;
        Ok(reactor)
    }

    /// As after so many sources.
    #[cfg(test)]
    pub(crate) fn set_next_serial(&mut self, serial: u32) {
        self.sources.set_next_serial(serial);
    }

    /// The time by which it needs a turn, without an event.
    pub(crate) fn next_turn(&self) -> Option<Tick> {
        if self.has_work() {
            return Some(Tick::default());
        }
        self.next_tick()
    }
}
