//! What an observer can see of a reactor, and what must hold of it.

use crate::wild::Everything;
use doorkeeper::{Budget, Call, Callback, Config, Event, Id, Observer};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// From how many bytes on a message for another connection leaves at once.
pub const AT_ONCE: usize = 4096;

/// What one connection did so far.
#[derive(Default)]
struct Seen {
    open: bool,
    eof: bool,
    shutdown: bool,
    closed: bool,
    /// The last send: its turn, and the bytes that the kernel took.
    sent: Option<(u64, usize)>,
    fin: bool,
    /// The last turn with timers, and how many it called.
    timers: (u64, usize),
}

/// Sees every event. What does not hold is in `faults`, because a panic would only remove it.
pub struct Auditor {
    turn: u64,
    turn_budget_bytes: usize,
    timers_per_turn: usize,
    shared: Everything,
    /// The deadlines that passed in this turn.
    passed: usize,
    seen: HashMap<Id, Seen>,
    faults: Rc<RefCell<Vec<String>>>,
}

/// The faults that the auditor found.
#[derive(Clone, Default)]
pub struct Faults(Rc<RefCell<Vec<String>>>);

impl Faults {
    #[track_caller]
    pub fn check(&self) {
        let faults = self.0.borrow();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

impl Drop for Auditor {
    /// A panic would remove it in silence.
    fn drop(&mut self) {
        self.check(false, || "the auditor was removed".to_string());
    }
}

impl Auditor {
    pub fn new(config: &Config, faults: &Faults, shared: &Everything) -> Auditor {
        Auditor {
            shared: Rc::clone(shared),
            turn: 0,
            turn_budget_bytes: config.turn_budget_bytes,
            timers_per_turn: config.timers_per_turn,
            passed: 0,
            seen: HashMap::new(),
            faults: Rc::clone(&faults.0),
        }
    }

    fn check(&self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.faults.borrow_mut().push(words());
        }
    }

    fn call(&mut self, id: Id, call: &Call<'_>, moved: Option<usize>) {
        let seen = self.seen.entry(id).or_default();
        let (ended, fin) = (seen.closed, seen.fin);
        match call {
            Call::Write { .. } => {
                seen.sent = moved.map(|count| (self.turn, count)).or(seen.sent);
                self.shared.borrow_mut().sent(id, moved.unwrap_or_default());
                self.check(!ended && !fin, || format!("{id} writes after its end"));
            }
            Call::Read { .. } => {
                let allowed = self.shared.borrow_mut().may_read(id);
                self.check(!ended, || format!("{id} reads after its end"));
                self.check(allowed, || format!("{id} reads beside too much output"));
            }
            Call::Shutdown => {
                seen.fin = true;
                self.check(!ended && !fin, || format!("{id} sends a second FIN"));
            }
            Call::Accept { .. } => {}
            _ => {}
        }
    }

    fn callback(&mut self, id: Id, callback: Callback) {
        let (turn, budget, timers) = (self.turn, self.turn_budget_bytes, self.timers_per_turn);
        let seen = self.seen.entry(id).or_default();
        let (open, eof, closed) = (seen.open, seen.eof, seen.closed);
        let holds = match callback {
            Callback::Service => return,
            // Each handler of a connection has its own, and hears the end.
            Callback::Open => {
                (seen.open, seen.eof) = (true, false);
                !closed
            }
            Callback::Data => open && !closed,
            Callback::Timer => {
                let (at, count) = seen.timers;
                seen.timers = (turn, 1 + if at == turn { count } else { 0 });
                open && !closed && seen.timers.1 <= timers
            }
            Callback::Eof => open && !closed && !std::mem::replace(&mut seen.eof, true),
            Callback::Shutdown => open && !closed && !std::mem::replace(&mut seen.shutdown, true),
            Callback::Close => !std::mem::replace(&mut seen.closed, true),
            // In the turn that sent the last of the output, unless the budget is spent. After a large
            // message that left at once, in the turn that this brought.
            Callback::Drain => {
                let later = |(at, count): (u64, usize)| match count < budget {
                    _ if count >= AT_ONCE => turn - at <= 1,
                    true => at == turn,
                    false => at < turn,
                };
                open && !closed && seen.sent.is_some_and(later)
            }
            _ => true,
        };
        let sent = seen.sent;
        self.check(holds, || {
            format!("turn {turn}: {callback} of {id}, {open} {eof} {closed}, sent {sent:?}")
        });
    }
}

impl Observer for Auditor {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::TurnStart { number, .. } => {
                let before = std::mem::replace(&mut self.turn, number);
                self.passed = 0;
                self.check(before == 0 || number == before + 1, || {
                    format!("turn {number} follows {before}")
                });
            }
            Event::DeadlinePassed { id } => {
                self.passed += 1;
                self.check(self.passed <= self.timers_per_turn, || {
                    format!("the deadline of {id} is beyond the budget")
                });
            }
            Event::TurnEnd { number } => {
                self.check(number == self.turn, || format!("turn {number} ends"));
            }
            Event::Call {
                id,
                ref call,
                result,
            } => self.call(id, call, result.ok()),
            Event::Callback { id, callback, .. } => self.callback(id, callback),
            Event::BudgetSpent {
                id,
                budget: Budget::Bytes,
            } => {
                let closed = self.seen.get(&id).is_some_and(|seen| seen.closed);
                self.check(!closed, || format!("the budget of {id} is spent"));
            }
            _ => {}
        }
    }
}
