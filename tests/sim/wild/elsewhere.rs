//! What handlers, timers and the program do to connections that are not their own.

use super::model::{Bounds, Everything, Record};
use super::{Wanted, Wild, bytes, own_limits};
use crate::audit::AT_ONCE;
use crate::running::address;
use doorkeeper::sim::Sim;
use doorkeeper::{ConnectOptions, Context, Id, Limits, Others, Reactor};
use std::io;
use std::net::SocketAddr;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

/// What a handler may do to the rest of the loop, also in its `on_close`.
impl Wild {
    pub(super) fn act_elsewhere(&self, own: Id, others: &mut Others<'_>) -> io::Result<()> {
        let id = another(&self.sim, &self.shared);
        match (self.sim.choose(8), id) {
            (0..2, Some(id)) if id != own => self.send(others, id),
            (2, Some(id)) => {
                let woken = others.wake(id);
                note(&self.shared, id, woken, |record| record.woken = true);
            }
            (3, Some(id)) if self.sim.choose(2) == 0 => {
                let ended = others.half_close(id);
                note(&self.shared, id, ended, Record::half_close);
            }
            (4, Some(id)) if self.sim.choose(4) == 0 => match self.sim.choose(2) {
                0 => {
                    let finished = others.close(id);
                    note(&self.shared, id, finished, Record::finish);
                }
                _ => {
                    let aborted = others.abort(id);
                    note(&self.shared, id, aborted, Record::abort);
                }
            },
            (5, _) => self.connect(others)?,
            (6, id) => self.after(others, id)?,
            _ => {}
        }
        Ok(())
    }

    fn send(&self, others: &mut Others<'_>, id: Id) {
        let length = length(&self.sim);
        let Some(from) = written(&self.shared, id) else {
            return;
        };
        let room = others.room(id);
        assert!(room == 0 || !self.has_ended(id), "room after the end");
        let count = others.send(id, &bytes(from, length));
        assert_eq!(count, length.min(room), "send takes what there is room for");
        self.shared.borrow_mut().wrote(id, count);
    }

    fn has_ended(&self, id: Id) -> bool {
        let mut shared = self.shared.borrow_mut();
        shared.open(id).is_some_and(|record| record.ended)
    }

    fn connect(&self, others: &mut Others<'_>) -> io::Result<()> {
        if self.shared.borrow().connections == 0 {
            return Ok(());
        }
        self.shared.borrow_mut().connections -= 1;
        let port = if self.sim.choose(4) == 0 { 9 } else { 7 };
        let to = SocketAddr::new(address().ip(), port);
        let own = own_limits(&self.sim);
        let (options, bounds) = options(own);
        let own = bounds.as_ref().map(|own| own.output);
        let output_max = own.unwrap_or(self.shared.borrow().bounds.output);
        let handler = Wild::new(&self.sim, &self.shared, bounds);
        let number = handler.number;
        let connecting = others.connect_with(to, &options, handler);
        if connecting.is_err() {
            // The reactor is being dropped. The handler never had a connection.
            self.shared.borrow_mut().records[number].closed = 1;
        }
        let id = connecting?;
        know(&self.shared, number, id);
        // What is sent before it is established waits.
        assert_eq!(others.room(id), output_max);
        if self.sim.choose(2) == 1 {
            self.send(others, id);
        }
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

/// Of a message to another connection: one in four is large enough to leave at once.
fn length(sim: &Sim) -> usize {
    let least = if sim.choose(4) == 1 { AT_ONCE } else { 0 };
    least + sim.choose(300)
}

/// The options that have these limits.
pub fn options(own: Option<(Limits, Bounds)>) -> (ConnectOptions, Option<Bounds>) {
    let mut options = ConnectOptions::default();
    let (limits, bounds) = own.unzip();
    options.limits = limits.unwrap_or_default();
    (options, bounds)
}

fn another(sim: &Sim, shared: &Everything) -> Option<Id> {
    let ids = &shared.borrow().ids;
    (!ids.is_empty()).then(|| ids[sim.choose(ids.len())])
}

/// From now on other code can reach it.
pub fn know(shared: &Everything, number: usize, id: Id) {
    let mut shared = shared.borrow_mut();
    shared.records[number].id = Some(id);
    shared.ids.push(id);
}

/// What was written to an open connection.
fn written(shared: &Everything, id: Id) -> Option<usize> {
    let mut shared = shared.borrow_mut();
    shared.open(id).map(|record| record.written)
}

/// Notes what was asked of a connection, which is open exactly if that was taken.
fn note(shared: &Everything, id: Id, taken: bool, change: impl FnOnce(&mut Record)) {
    if let Some(record) = shared.borrow_mut().open(id).filter(|_| taken) {
        change(record);
    }
}

/// What code may do that is given the reactor.
fn act_outside(sim: &Sim, shared: &Everything, reactor: &mut Reactor, id: Option<Id>) {
    let Some(id) = id else {
        return;
    };
    match sim.choose(8) {
        0..2 => {
            if let Some(from) = written(shared, id) {
                let count = reactor.send(id, &bytes(from, length(sim)));
                shared.borrow_mut().wrote(id, count);
            }
        }
        2 => {
            let woken = reactor.wake(id);
            note(shared, id, woken, |record| record.woken = true);
        }
        3 if sim.choose(2) == 0 => {
            let ended = reactor.half_close(id);
            note(shared, id, ended, Record::half_close);
        }
        4 if sim.choose(4) == 0 => {
            let finished = reactor.close(id);
            note(shared, id, finished, Record::finish);
        }
        4 if sim.choose(3) == 0 => {
            let aborted = reactor.abort(id);
            note(shared, id, aborted, Record::abort);
        }
        5..8 => lend(shared, reactor, id),
        _ => {}
    }
}

/// The handler is lent exactly if the connection has not closed and the code does not panic.
fn lend(shared: &Everything, reactor: &mut Reactor, id: Id) {
    let open = shared.borrow_mut().open(id).is_some();
    let before = shared.borrow().panics;
    let lent = reactor.with(id, |wild: &mut Wild, cx| wild.lent(cx));
    let panicked = shared.borrow().panics > before;
    assert!(
        shared.borrow().faults.is_empty(),
        "{:?}",
        shared.borrow().faults
    );
    assert_eq!(lent.is_some(), open && !panicked, "lent");
}

impl Wild {
    /// As in a callback, at any time.
    fn lent(&mut self, cx: &mut Context<'_>) {
        super::kept(&self.shared.clone(), || {
            let early = self.record(|record| {
                assert_eq!(record.closed, 0);
                record.opened == 0 && !record.accepted
            });
            self.check_handler();
            match early {
                true => self.act_early(cx),
                // An error is no more than a result here.
                false => {
                    self.note_quiet_end(cx);
                    drop(self.act(cx));
                }
            }
            let unread = cx.unread();
            self.record(|record| record.returned(unread));
        });
    }

    /// A quiet end, and the failure of what other code sent, show only now, because no callback tells them.
    fn note_quiet_end(&self, cx: &mut Context<'_>) {
        let ended = cx.write_all(b"").is_err();
        self.record(|record| {
            let may_have_ended = record.ended || record.was_quiet || record.may_have_failed;
            assert!(may_have_ended || !ended, "no end was asked for");
            match ended {
                true if record.quiet => record.finish(),
                true => record.half_close(),
                false => {}
            }
        });
    }

    /// Before it is established there is nothing to write to, and nothing that could end.
    fn act_early(&mut self, cx: &mut Context<'_>) {
        assert_eq!((cx.room(), cx.write(b"early"), cx.unread()), (0, 0, 0));
        assert!(cx.write_all(b"early").is_err());
        match self.sim.choose(8) {
            1 => cx.finish(),
            2 => cx.finish_when_quiet(),
            3 => cx.abort(),
            4 => cx.set_timer(doorkeeper::TimerKey(0), Duration::ZERO),
            5 => drop(cx.want(1)),
            6 => self.become_another(cx),
            7 if !self.record(|record| record.doomed) => {
                self.shared.borrow_mut().panics += 1;
                self.record(Record::abort);
                panic_any(Wanted)
            }
            _ => {}
        }
    }
}

/// The program's own acts between two turns.
pub fn act_as_program(sim: &Sim, shared: &Everything, reactor: &mut Reactor, listener: Id) {
    match sim.choose(12) {
        0..3 | 7..9 => act_outside(sim, shared, reactor, another(sim, shared)),
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
        9 if sim.choose(12) == 1 => {
            reactor.shutdown(Duration::from_secs(sim.choose(30) as u64));
            shared.borrow_mut().shuts_down = true;
        }
        _ => {}
    }
}
