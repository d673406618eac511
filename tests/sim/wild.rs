//! A handler that does anything a handler may do, and holds every answer of the reactor against what
//! is promised.

use crate::running::address;
use doorkeeper::sim::Sim;
use doorkeeper::{Closed, Context, Handler, Id, Others, Reactor, Reason, TimerKey};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
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

/// What one handler saw and did.
#[derive(Default)]
pub struct Record {
    pub opened: u32,
    pub closed: u32,
    pub consumed: usize,
    pub written: usize,
    pub id: Option<Id>,
    /// The addresses of this side and of the other.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    pub receipt: Option<(Reason, u64, u64)>,
    /// Whether `on_drain` has to come.
    pub undrained: bool,
    writes: u32,
    drains: u32,
    eof: bool,
    /// It asked for its end, so what the callback returns does not count.
    aborted: bool,
}

/// What all handlers of a run share.
#[derive(Default)]
pub struct Shared {
    pub records: Vec<Record>,
    ids: Vec<Id>,
    /// The number of connections and of timers that may still be made.
    pub connections: usize,
    pub timers: usize,
    pub output_max: usize,
    pub received: u64,
    pub sent: u64,
    pub panics: u64,
    /// The checks that failed in callbacks.
    pub faults: Vec<String>,
}

/// The payload of a panic that the run decides.
struct Wanted;

pub type Everything = Rc<RefCell<Shared>>;

pub struct Wild {
    sim: Sim,
    shared: Everything,
    number: usize,
    /// It writes nothing any more.
    quiet: bool,
}

impl Wild {
    pub fn new(sim: &Sim, shared: &Everything) -> Wild {
        let mut all = shared.borrow_mut();
        all.records.push(Record::default());
        Wild {
            sim: sim.clone(),
            shared: Rc::clone(shared),
            number: all.records.len() - 1,
            quiet: false,
        }
    }

    fn record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.shared.borrow_mut().records[self.number])
    }

    fn check_alive(&self) {
        self.record(|record| assert_eq!((record.opened, record.closed), (1, 0)));
    }

    fn write(&self, cx: &mut Context<'_>) {
        if self.quiet {
            return;
        }
        let from = self.record(|record| record.written);
        let (room, length) = (cx.room(), self.sim.choose(300));
        let count = cx.write(&bytes(from, length));
        let most = length.min(room);
        assert_eq!(count, most, "write takes what there is room for");
        self.record(|record| record.wrote(count));
    }

    fn another(&self) -> Option<Id> {
        another(&self.sim, &self.shared)
    }

    /// A few random acts.
    fn act(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..self.sim.choose(4) {
            match self.sim.choose(28) {
                0..8 => self.write(cx),
                8..10 => self.set_timer(cx),
                10 => {
                    cx.cancel_timer(TimerKey(self.sim.choose(3) as u64));
                }
                11..13 => {
                    let own = cx.id();
                    cx.others.wake(own);
                }
                13 if self.sim.choose(2) == 0 => cx.half_close(),
                14 if self.sim.choose(2) == 0 => cx.finish(),
                15 if self.sim.choose(6) == 0 => {
                    cx.abort();
                    self.record(|record| record.aborted = true);
                }
                16 if self.sim.choose(6) == 0 => return Err(io::Error::other("wild")),
                17 if self.sim.choose(6) == 0 => {
                    self.shared.borrow_mut().panics += 1;
                    std::panic::panic_any(Wanted)
                }
                18 => self.quiet = self.sim.choose(2) == 0,
                19..26 => self.act_elsewhere(cx.id(), &mut cx.others)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn set_timer(&self, cx: &mut Context<'_>) {
        let key = TimerKey(self.sim.choose(3) as u64);
        cx.set_timer(key, Duration::from_millis(self.sim.choose(2000) as u64));
    }

    /// What a handler may do to the rest of the loop, also in its `on_close`.
    fn act_elsewhere(&self, own: Id, others: &mut Others<'_>) -> io::Result<()> {
        let id = self.another();
        match (self.sim.choose(8), id) {
            (0..2, Some(id)) if id != own => send(&self.shared, others, id, self.sim.choose(300)),
            (2, Some(id)) => drop(others.wake(id)),
            (3, Some(id)) if self.sim.choose(2) == 0 => drop(others.half_close(id)),
            (4, Some(id)) if self.sim.choose(4) == 0 => match self.sim.choose(2) {
                0 => drop(others.close(id)),
                _ => self.abort(others, own, id),
            },
            (5, _) => self.connect(others)?,
            (6, id) => self.after(others, id)?,
            _ => {}
        }
        Ok(())
    }

    fn abort(&self, others: &mut Others<'_>, own: Id, id: Id) {
        others.abort(id);
        if id == own {
            self.record(|record| record.aborted = true);
        }
    }

    fn connect(&self, others: &mut Others<'_>) -> io::Result<()> {
        if self.shared.borrow().connections == 0 {
            return Ok(());
        }
        self.shared.borrow_mut().connections -= 1;
        let port = if self.sim.choose(4) == 0 { 9 } else { 7 };
        let to = SocketAddr::new(address().ip(), port);
        let id = others.connect(to, Wild::new(&self.sim, &self.shared))?;
        self.shared.borrow_mut().ids.push(id);
        // Nothing is taken before it is established.
        assert_eq!((others.send(id, b"early"), others.room(id)), (0, 0));
        Ok(())
    }

    /// A timer of no connection, which reaches one from outside all callbacks.
    fn after(&self, others: &mut Others<'_>, id: Option<Id>) -> io::Result<()> {
        if self.shared.borrow().timers == 0 {
            return Ok(());
        }
        self.shared.borrow_mut().timers -= 1;
        let (sim, shared) = (self.sim.clone(), Rc::clone(&self.shared));
        let wait = Duration::from_millis(self.sim.choose(500) as u64);
        let timer = others.after(wait, move |reactor| act_outside(&sim, &shared, reactor, id))?;
        if self.sim.choose(4) == 0 {
            assert!(others.close(timer));
        }
        Ok(())
    }
}

impl Record {
    fn wrote(&mut self, count: usize) {
        self.written += count;
        self.undrained |= count > 0;
        self.writes += u32::from(count > 0);
    }
}

fn another(sim: &Sim, shared: &Everything) -> Option<Id> {
    let ids = &shared.borrow().ids;
    (!ids.is_empty()).then(|| ids[sim.choose(ids.len())])
}

/// The number of the record of an open connection, and what was written to it.
fn open_record(shared: &Everything, id: Id) -> Option<(usize, usize)> {
    let all = shared.borrow();
    let mut records = all.records.iter().enumerate();
    let found = records.find(|(_, record)| record.id == Some(id) && record.closed == 0);
    found.map(|(number, record)| (number, record.written))
}

/// Writes to another connection.
fn send(shared: &Everything, others: &mut Others<'_>, id: Id, length: usize) {
    let Some((number, from)) = open_record(shared, id) else {
        return;
    };
    let room = others.room(id);
    let count = others.send(id, &bytes(from, length));
    assert_eq!(count, length.min(room), "send takes what there is room for");
    shared.borrow_mut().records[number].wrote(count);
}

/// What code may do that is given the reactor.
fn act_outside(sim: &Sim, shared: &Everything, reactor: &mut Reactor, id: Option<Id>) {
    let Some(id) = id else {
        return;
    };
    match sim.choose(5) {
        0..2 => {
            if let Some((number, from)) = open_record(shared, id) {
                let count = reactor.send(id, &bytes(from, sim.choose(300)));
                shared.borrow_mut().records[number].wrote(count);
            }
        }
        2 => drop(reactor.wake(id)),
        3 if sim.choose(2) == 0 => drop(reactor.half_close(id)),
        4 if sim.choose(4) == 0 => drop(reactor.close(id)),
        4 if sim.choose(3) == 0 => drop(reactor.abort(id)),
        _ => {}
    }
}

/// The program's own acts between two turns.
pub fn act_as_program(sim: &Sim, shared: &Everything, reactor: &mut Reactor, listener: Id) {
    match sim.choose(12) {
        0..3 => act_outside(sim, shared, reactor, another(sim, shared)),
        3 => drop(reactor.pause(listener)),
        4..6 => drop(reactor.resume(listener)),
        6 => {
            let id = another(sim, shared);
            let post = move |reactor: &mut Reactor| {
                if let Some(id) = id {
                    reactor.wake(id);
                }
            };
            assert!(reactor.handle().post(post).is_ok());
        }
        _ => {}
    }
}

/// The callbacks.
impl Wild {
    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (id, ends) = (cx.id(), (cx.local()?, cx.peer()));
        self.record(|record| {
            record.opened += 1;
            (record.id, record.ends) = (Some(id), Some(ends));
        });
        self.check_alive();
        let mut shared = self.shared.borrow_mut();
        if !shared.ids.contains(&id) {
            shared.ids.push(id);
        }
        drop(shared);
        self.act(cx)
    }

    fn data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.check_alive();
        let from = self.record(|record| record.consumed);
        assert!(
            !input.is_empty() && *input == bytes(from, input.len()),
            "input in order"
        );
        // What a callback consumes that fails or aborts counts as discarded.
        self.act(cx)?;
        let count = match self.sim.choose(8) {
            7 => 0,
            _ => 1 + self.sim.choose(input.len()),
        };
        if count < input.len() && self.sim.choose(4) > 0 {
            let own = cx.id();
            cx.others.wake(own);
        }
        self.record(|record| record.consumed += if record.aborted { 0 } else { count });
        Ok(count)
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        // A spent budget puts it off by a turn, in which another connection may have written.
        let (room, output_max) = (cx.room(), self.shared.borrow().output_max);
        self.record(|record| {
            record.drains += 1;
            assert!(record.drains <= record.writes, "nothing was written");
            record.undrained = room < output_max;
        });
        self.act(cx)
    }

    fn eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check_alive();
        self.record(|record| assert!(!std::mem::replace(&mut record.eof, true), "one end"));
        self.act(cx)?;
        if self.sim.choose(3) > 0 {
            cx.finish();
        }
        Ok(())
    }

    fn timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.check_alive();
        self.act(cx)
    }

    fn close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let id = closed.id;
        let mut shared = self.shared.borrow_mut();
        shared.ids.retain(|&other| other != id);
        shared.received += closed.received;
        shared.sent += closed.sent;
        let record = &mut shared.records[self.number];
        record.closed += 1;
        record.receipt = Some((closed.reason, closed.received, closed.sent));
        let (consumed, written) = (record.consumed as u64, record.written as u64);
        assert_eq!(closed.received, consumed + closed.discarded, "{closed:?}");
        assert_eq!(closed.sent + closed.unsent, written, "{closed:?}");
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
        kept(&self.shared.clone(), || self.open(cx))
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        kept(&self.shared.clone(), || self.data(cx, input))
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        kept(&self.shared.clone(), || self.drain(cx))
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        kept(&self.shared.clone(), || self.eof(cx))
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        kept(&self.shared.clone(), || self.timer(cx, key))
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        kept(&self.shared.clone(), || self.close(others, closed))
    }
}
