//! What is promised of one connection, as its handlers and the code around them see it.

use super::pattern;
use doorkeeper::{Closed, Config, ConnectionState, ConnectionView, Id, Reason};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// The limits of a connection that its handlers can see.
#[derive(Clone, Copy, Default)]
pub struct Bounds {
    pub input: usize,
    pub output: usize,
    pub output_hard: usize,
    pub closes_when_sent: bool,
}

impl Bounds {
    pub fn of(config: &Config) -> Bounds {
        Bounds {
            input: config.input_max_bytes,
            output: config.output_max_bytes,
            output_hard: config.output_hard_max_bytes,
            closes_when_sent: config.close_when_sent,
        }
    }
}

/// What the handlers of one connection saw and did.
#[derive(Default)]
pub struct Record {
    pub opened: u32,
    pub closed: u32,
    pub consumed: usize,
    pub written: usize,
    /// Seen by an observer, if there is one.
    pub sent: usize,
    pub id: Option<Id>,
    pub bounds: Bounds,
    /// It comes from a listener, so it is established from the start.
    pub accepted: bool,
    /// The addresses of this side and of the other.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    pub receipt: Option<(Reason, u64, u64)>,
    /// Whether `on_drain` has to come.
    pub undrained: bool,
    pub writes: u32,
    pub drains: u32,
    pub eof: bool,
    /// Whether `on_wake` has to come.
    pub woken: bool,
    pub told_shutdown: bool,
    /// Its output was ended, by a half-close or more.
    pub ended: bool,
    /// It was finished: it hears no more than `on_open`, if that has to come, and `on_close`.
    pub finished: bool,
    /// It was aborted, or lent code panicked: it hears `on_close` only.
    pub doomed: bool,
    /// A quiet end was asked for, and not replaced. It was once.
    pub quiet: bool,
    pub was_quiet: bool,
    /// Other code sent much since the last callback. If that failed, the end is the next one.
    pub may_have_failed: bool,
    /// When each timer is due.
    pub timers: BTreeMap<u64, Duration>,
    /// Input is not offered before this much is there.
    pub wanted: usize,
    /// And less was there when that was asked for.
    pub waits: bool,
    /// All input that was offered so far, counted from the first byte.
    pub offered: usize,
    /// How much there is in all, if that is known because less than what is wanted was offered.
    pub all: Option<usize>,
    /// The handlers that were made for it, and the one that has it.
    pub handlers: u32,
    pub handler: u32,
    /// The handler has to hear `on_open`.
    pub is_new: bool,
    /// This callback asked for another handler.
    pub changes: bool,
}

impl Record {
    /// Asked for by any code.
    pub fn half_close(&mut self) {
        (self.ended, self.quiet) = (true, false);
    }

    pub fn finish(&mut self) {
        self.half_close();
        self.finished = true;
        self.timers.clear();
    }

    pub fn abort(&mut self) {
        self.half_close();
        self.doomed = true;
    }

    pub fn finish_when_quiet(&mut self) {
        match self.ended {
            true => self.finish(),
            false => (self.quiet, self.was_quiet) = (true, true),
        }
    }

    pub fn become_handler(&mut self) -> u32 {
        self.handlers += 1;
        (self.handler, self.is_new, self.changes) = (self.handlers, true, true);
        // The old one drops out of all that is not the connection's own.
        (self.quiet, self.undrained, self.eof) = (false, false, false);
        self.handler
    }

    /// A callback, or lent code, is over. `unread` bytes of input are left.
    pub fn returned(&mut self, unread: usize) {
        self.may_have_failed = false;
        if std::mem::take(&mut self.changes) {
            self.wanted = 0;
            self.timers.clear();
            self.offered = self.consumed;
        }
        if self.finished || self.doomed {
            self.timers.clear();
        }
        self.waits = unread < self.wanted;
    }

    pub fn wrote(&mut self, count: usize) {
        self.written += count;
        // A handler is told nothing of what another one wrote.
        self.undrained |= count > 0 && !self.changes;
        self.writes += u32::from(count > 0);
        // Other code's large output leaves at once.
        self.may_have_failed |= count >= 4096;
    }

    /// Input is offered: in order, and no less than what is wanted unless the peer has ended.
    pub fn offer(&mut self, input: &[u8]) {
        let from = self.consumed;
        let in_order = input
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == pattern(from + at));
        assert!(!input.is_empty() && in_order, "input in order");
        let all = from + input.len();
        if input.len() < self.wanted {
            self.all = self.all.or(Some(all));
        }
        let (offered, wanted) = (input.len(), self.wanted);
        assert!(
            self.all.is_none_or(|ended| all == ended),
            "{offered} bytes are offered, {wanted} are wanted, and the peer has not ended"
        );
        (self.wanted, self.waits, self.offered) = (0, false, all);
    }

    pub fn check_receipt(&self, closed: &Closed) {
        let (consumed, written) = (self.consumed as u64, self.written as u64);
        assert_eq!(closed.received, consumed + closed.discarded, "{closed:?}");
        assert_eq!(closed.sent + closed.unsent, written, "{closed:?}");
        if self.doomed {
            let reasons = [Reason::Aborted, Reason::Panic, Reason::HandlerError];
            let broken = [Reason::Reset, Reason::Io, Reason::ReactorDropped];
            let fits = reasons.contains(&closed.reason) || broken.contains(&closed.reason);
            // Before it was established there was nothing to abort.
            assert!(fits || self.opened == 0, "aborted, and {closed:?}");
        }
        if self.quiet && closed.reason == Reason::Finished {
            assert!(self.timers.is_empty(), "a quiet end with a timer");
            assert_eq!(closed.unsent, 0, "a quiet end with output");
        }
    }

    /// What must have happened once nothing moves any more before time passes.
    pub fn check_rest(&self, view: &ConnectionView, now: Duration, shuts_down: bool) {
        if self.closed > 0 || view.state == ConnectionState::Connecting {
            return;
        }
        let words = format!("{view:?}");
        let finishing = view.state == ConnectionState::Finishing;
        assert!(self.opened > 0 && !self.is_new, "on_open: {words}");
        assert!(!self.doomed, "it was aborted: {words}");
        assert!(finishing || !self.finished, "it was finished: {words}");
        if finishing {
            let quiet = self.quiet && self.timers.is_empty();
            let asked = self.finished || quiet || self.was_quiet && !self.quiet;
            return assert!(asked, "an end that was not asked for: {words}");
        }
        let late = self.timers.values().any(|&due| due <= now);
        assert!(!late, "a timer is late: {:?}, {words}", self.timers);
        assert!(!self.woken, "on_wake: {words}");
        if view.pending_out > 0 {
            return;
        }
        assert!(!self.undrained, "on_drain: {words}");
        let peer_ended = view.state == ConnectionState::PeerEnded;
        assert!(self.eof || !peer_ended, "on_eof: {words}");
        let unread = view.pending_in;
        assert_eq!(view.received as usize, self.consumed + unread, "{words}");
        let waits = self.waits && unread < self.wanted && !self.eof;
        let (received, offered) = (view.received as usize, self.offered);
        assert!(
            waits || offered == received,
            "{offered} are offered: {words}"
        );
        let busy = unread > 0 && !self.eof || !self.timers.is_empty();
        assert!(
            !self.quiet || busy,
            "it is quiet, and not finished: {words}"
        );
        let told = self.told_shutdown || !shuts_down;
        assert!(told || view.readable, "on_shutdown: {words}");
    }
}

/// What all handlers of a run share.
#[derive(Default)]
pub struct Shared {
    pub records: Vec<Record>,
    pub ids: Vec<Id>,
    /// The number of connections and of timers that may still be made.
    pub connections: usize,
    pub timers: usize,
    /// The limits of the reactor.
    pub bounds: Bounds,
    pub received: u64,
    pub sent: u64,
    pub panics: u64,
    pub shuts_down: bool,
    pub is_observed: bool,
    /// The checks that failed in callbacks.
    pub faults: Vec<String>,
}

pub type Everything = Rc<RefCell<Shared>>;

impl Shared {
    /// The record of a connection that has not closed.
    pub fn open(&mut self, id: Id) -> Option<&mut Record> {
        let mut records = self.records.iter_mut();
        records.find(|record| record.id == Some(id) && record.closed == 0)
    }

    pub fn wrote(&mut self, id: Id, count: usize) {
        if let Some(record) = self.open(id) {
            record.wrote(count);
        }
    }

    /// The kernel took some of it.
    pub fn sent(&mut self, id: Id, count: usize) {
        if let Some(record) = self.open(id) {
            record.sent += count;
        }
    }

    /// Output that waits, if an observer sees what is sent.
    pub fn unsent(&self, number: usize) -> Option<usize> {
        let record = &self.records[number];
        self.is_observed.then(|| record.written - record.sent)
    }

    /// Beside too much output nothing is read, unless it is thrown away.
    pub fn may_read(&mut self, id: Id) -> bool {
        self.open(id).is_none_or(|record| {
            record.finished || record.written - record.sent <= record.bounds.output
        })
    }
}
