//! A handler that does anything a handler may do, and holds every answer of the reactor against what
//! is promised.

mod elsewhere;
mod model;

pub use elsewhere::{act_as_program, know, options};
pub use model::{Bounds, Everything, Record, Shared};

use doorkeeper::sim::Sim;
use doorkeeper::{Closed, Context, Handler, Limits, MinRate, Others, TimerKey};
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

/// The byte at a position of each stream, in both directions.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

pub fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(pattern).collect()
}

/// From 1, and the most if nothing is chosen: a run that is shortened has room.
pub fn up_to(sim: &Sim, most: usize) -> usize {
    most - sim.choose(most)
}

/// Limits for one listener or one outgoing connection; `None` half of the time.
pub fn own_limits(sim: &Sim) -> Option<(Limits, Bounds)> {
    if sim.choose(2) == 0 {
        return None;
    }
    let mut own = Bounds {
        input: up_to(sim, 500),
        output: up_to(sim, 600),
        output_hard: up_to(sim, 4000),
        closes_when_sent: false,
    };
    let mut limits = Limits::default();
    limits.input_max_bytes = Some(own.input);
    limits.output_max_bytes = Some(own.output);
    limits.output_hard_max_bytes = Some(own.output_hard);
    match sim.choose(8) {
        1 => limits.idle_timeout = Some(Duration::from_millis(1 + sim.choose(2000) as u64)),
        2 => limits.linger_timeout = Some(Duration::from_millis(sim.choose(2000) as u64)),
        3 => limits.linger_max_bytes = Some(sim.choose(1000) as u64),
        4 => {
            own.closes_when_sent = true;
            limits.close_when_sent = Some(true);
        }
        5 => limits.max_lifetime = Some(Duration::from_millis(1 + sim.choose(9000) as u64)),
        6 => {
            let span = Duration::from_millis(1 + sim.choose(4000) as u64);
            let bytes = sim.choose(2000) as u64;
            limits.min_rate = Some(MinRate { bytes, span });
        }
        _ => {}
    }
    Some((limits, own))
}

/// The payload of a panic that the run decides.
struct Wanted;

pub struct Wild {
    sim: Sim,
    shared: Everything,
    /// That of its connection's record.
    pub number: usize,
    /// That of the handler, among those of its connection.
    handler: u32,
    /// It writes nothing any more.
    quiet: bool,
}

impl Wild {
    /// `bounds`: those of its connection, where they are not the reactor's.
    pub fn new(sim: &Sim, shared: &Everything, bounds: Option<Bounds>) -> Wild {
        let mut all = shared.borrow_mut();
        let bounds = bounds.unwrap_or(all.bounds);
        all.records.push(Record::default());
        let record = all.records.last_mut().unwrap();
        (record.is_new, record.bounds) = (true, bounds);
        Wild {
            sim: sim.clone(),
            shared: Rc::clone(shared),
            number: all.records.len() - 1,
            handler: 0,
            quiet: false,
        }
    }

    fn record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.shared.borrow_mut().records[self.number])
    }

    /// It has the connection: none took over.
    fn check_handler(&self) {
        self.record(|record| assert_eq!(record.handler, self.handler, "the handler was replaced"));
    }

    fn check_alive(&self) {
        self.check_handler();
        self.record(|record| {
            assert!(record.opened > 0 && record.closed == 0);
            assert!(!record.is_new, "on_open comes first");
            assert!(!record.finished && !record.doomed, "it was finished");
        });
    }

    /// A few random acts.
    fn act(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..self.sim.choose(4) {
            match self.sim.choose(36) {
                0..8 => self.write(cx),
                8..10 => self.set_timer(cx),
                10 => self.cancel_timer(cx),
                11..13 => {
                    let own = cx.id();
                    let woken = cx.others.wake(own);
                    self.record(|record| record.woken |= woken);
                }
                13 if self.sim.choose(2) == 0 => {
                    cx.half_close();
                    self.record(Record::half_close);
                }
                14 if self.sim.choose(2) == 0 => {
                    cx.finish();
                    self.record(Record::finish);
                }
                15 if self.sim.choose(6) == 0 => {
                    cx.abort();
                    self.record(Record::abort);
                }
                16 if self.sim.choose(6) == 0 => return Err(io::Error::other("wild")),
                17 if self.sim.choose(6) == 0 => self.panic(),
                18 => self.quiet = self.sim.choose(2) == 0,
                19..26 => self.act_elsewhere(cx.id(), &mut cx.others)?,
                26..29 => self.write_all(cx)?,
                29..31 => self.want(cx)?,
                31 => self.become_another(cx),
                32 => {
                    cx.finish_when_quiet();
                    self.record(Record::finish_when_quiet);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn panic(&self) {
        // It ends the connection once.
        if !self.record(|record| record.doomed) {
            self.shared.borrow_mut().panics += 1;
            self.record(Record::abort);
            std::panic::panic_any(Wanted)
        }
    }

    /// Another handler from now on.
    fn become_another(&self, cx: &mut Context<'_>) {
        let handler = self.record(Record::become_handler);
        cx.become_handler(Wild {
            sim: self.sim.clone(),
            shared: Rc::clone(&self.shared),
            number: self.number,
            handler,
            quiet: self.quiet,
        });
    }
}

/// Input and output.
impl Wild {
    fn write(&self, cx: &mut Context<'_>) {
        if self.quiet {
            return;
        }
        let (from, ended) = self.record(|record| (record.written, record.ended));
        let (room, length) = (cx.room(), self.sim.choose(300));
        self.check_room(cx, ended);
        let count = cx.write(&bytes(from, length));
        let most = length.min(room);
        assert_eq!(count, most, "write takes what there is room for");
        self.shared.borrow_mut().wrote(cx.id(), count);
    }

    /// It takes all, or the connection ends.
    fn write_all(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let length = match self.sim.choose(4) {
            3 => self.sim.choose(3000),
            _ => self.sim.choose(300),
        };
        let (id, shared) = (cx.id(), self.shared.borrow());
        let (from, ended) = (
            shared.records[self.number].written,
            shared.records[self.number].ended,
        );
        let bounds = shared.records[self.number].bounds;
        let (output_max, unsent) = (bounds.output, shared.unsent(self.number));
        let most = bounds.output_hard.max(output_max);
        drop(shared);
        self.check_room(cx, ended);
        let room = cx.room();
        match cx.write_all(&bytes(from, length)) {
            Ok(()) => {
                assert!(!ended, "nothing is taken after the end");
                assert!(
                    unsent.is_none_or(|unsent| unsent + length <= most),
                    "too much is taken"
                );
                let less = room.saturating_sub(length);
                assert_eq!(cx.room(), less, "what is taken takes room");
                self.shared.borrow_mut().wrote(id, length);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                assert!(ended, "a broken pipe before the end");
                Ok(())
            }
            Err(error) => {
                assert!(!ended, "nothing is too much after the end");
                // Where there is room, it says how much waits.
                let waits = if room > 0 { output_max - room } else { from };
                let waits = unsent.unwrap_or(waits);
                assert!(
                    waits + length > most,
                    "{waits} and {length} are not too much"
                );
                self.record(Record::abort);
                match self.sim.choose(2) {
                    0 => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    fn check_room(&self, cx: &Context<'_>, ended: bool) {
        let shared = self.shared.borrow();
        let (room, output_max) = (cx.room(), shared.records[self.number].bounds.output);
        assert_eq!(room, cx.others.room(cx.id()));
        match (ended, shared.unsent(self.number)) {
            (true, _) => assert_eq!(room, 0, "room after the end"),
            (false, None) => assert!(room <= output_max, "too much room"),
            (false, Some(unsent)) => {
                let most = output_max.saturating_sub(unsent);
                assert_eq!(room, most, "room beside {unsent} bytes");
            }
        }
    }

    fn want(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let total = self.sim.choose(500);
        let most = self.record(|record| record.bounds.input);
        let wanted = cx.want(total);
        assert_eq!(wanted.is_ok(), total <= most, "{total} of {most}");
        if wanted.is_ok() {
            self.record(|record| record.wanted = total);
        }
        Ok(())
    }
}

/// Timers.
impl Wild {
    fn set_timer(&self, cx: &mut Context<'_>) {
        let key = self.sim.choose(3) as u64;
        let wait = Duration::from_millis(self.sim.choose(2000) as u64);
        cx.set_timer(TimerKey(key), wait);
        let due = self.sim.now() + wait.max(Duration::from_nanos(1));
        self.record(|record| record.timers.insert(key, due));
    }

    fn cancel_timer(&self, cx: &mut Context<'_>) {
        let key = self.sim.choose(3) as u64;
        let cancelled = cx.cancel_timer(TimerKey(key));
        // What is asked for is done after the callback, so a timer may be there that will be removed.
        self.record(|record| {
            let known = record.timers.remove(&key).is_some();
            // It may have ended quietly before other code half-closed it.
            let ended_quietly = record.was_quiet && !record.quiet;
            let ends = record.finished || record.doomed || ended_quietly;
            assert!(cancelled == known || ends, "timer {key}");
        });
    }
}

/// The callbacks.
impl Wild {
    /// One callback, and what holds after it.
    fn called<T>(
        &mut self,
        cx: &mut Context<'_>,
        code: impl FnOnce(&mut Wild, &mut Context<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        kept(&self.shared.clone(), || {
            let result = code(self, cx);
            let unread = cx.unread();
            self.record(|record| record.returned(unread));
            result
        })
    }

    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (id, ends) = (cx.id(), (cx.local()?, cx.peer()));
        self.check_handler();
        self.record(|record| {
            assert!(std::mem::replace(&mut record.is_new, false), "on_open once");
            assert!(!record.doomed && record.closed == 0);
            record.opened += 1;
            assert!(record.id.is_none_or(|known| known == id));
            (record.id, record.ends) = (Some(id), Some(ends));
        });
        let mut shared = self.shared.borrow_mut();
        if !shared.ids.contains(&id) {
            shared.ids.push(id);
        }
        drop(shared);
        self.act(cx)
    }

    fn data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.check_alive();
        self.record(|record| record.offer(input));
        let shared = self.shared.borrow();
        let unsent = shared.unsent(self.number).unwrap_or_default();
        assert!(
            unsent <= shared.records[self.number].bounds.output,
            "input beside {unsent} bytes of output"
        );
        drop(shared);
        // What a callback consumes that fails or aborts counts as discarded.
        self.act(cx)?;
        let count = match self.sim.choose(8) {
            7 => 0,
            _ => 1 + self.sim.choose(input.len()),
        };
        if count < input.len() && self.sim.choose(4) > 0 {
            let own = cx.id();
            let woken = cx.others.wake(own);
            self.record(|record| record.woken |= woken);
        }
        self.record(|record| {
            record.consumed += if record.doomed { 0 } else { count };
            record.returned(input.len() - count);
        });
        Ok(count)
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        // A spent budget puts it off by a turn, in which another connection may have written.
        let room = cx.room();
        self.record(|record| {
            record.drains += 1;
            assert!(record.drains <= record.writes, "nothing was written");
            record.undrained = room < record.bounds.output && !record.ended;
        });
        self.act(cx)
    }

    fn eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        self.record(|record| assert!(!std::mem::replace(&mut record.eof, true), "one end"));
        self.act(cx)?;
        match self.sim.choose(4) {
            0 => {}
            1 => {
                cx.finish_when_quiet();
                self.record(Record::finish_when_quiet);
            }
            _ => {
                cx.finish();
                self.record(Record::finish);
            }
        }
        Ok(())
    }

    fn timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.check_alive();
        let due = self.record(|record| record.timers.remove(&key.0));
        assert!(due.is_some_and(|due| due <= self.sim.now()), "{due:?}");
        self.act(cx)
    }

    fn close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        self.check_handler();
        let id = closed.id;
        let mut shared = self.shared.borrow_mut();
        shared.ids.retain(|&other| other != id);
        shared.received += closed.received;
        shared.sent += closed.sent;
        let record = &mut shared.records[self.number];
        record.closed += 1;
        record.receipt = Some((closed.reason, closed.received, closed.sent));
        record.check_receipt(closed);
        drop(shared);
        assert_eq!((others.room(id), others.send(id, b"late")), (0, 0));
        // It has no result that could be wrong.
        let _ = self.act_elsewhere(id, others);
    }
}

/// The reactor survives a panic, and so would a check that fails in a callback. It is kept.
fn kept<T>(shared: &Everything, callback: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(callback)).unwrap_or_else(|panic| {
        if !panic.is::<Wanted>() {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            shared.borrow_mut().faults.extend(text);
        }
        std::panic::resume_unwind(panic)
    })
}

impl Handler for Wild {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.called(cx, Wild::open)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        kept(&self.shared.clone(), || self.data(cx, input))
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.called(cx, Wild::drain)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.called(cx, Wild::eof)
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.called(cx, |wild, cx| {
            wild.check_alive();
            wild.record(|record| record.woken = false);
            wild.act(cx)
        })
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        self.called(cx, |wild, cx| wild.timer(cx, key))
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.called(cx, |wild, cx| {
            wild.check_alive();
            let told = wild.record(|record| std::mem::replace(&mut record.told_shutdown, true));
            assert!(!told && cx.is_shutting_down(), "on_shutdown once");
            wild.act(cx)
        })
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        kept(&self.shared.clone(), || self.close(others, closed))
    }
}
