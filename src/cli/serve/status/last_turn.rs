//! The last turn of the loop that called a handler, for the live page.

use super::super::super::observe::{outcome, with_arguments};
use doorkeeper::{Callback, Event, Id};
use std::time::Duration;

/// Limit of the callbacks that are shown of one turn. The others are counted.
const BARS: usize = 64;

/// One callback.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) id: Id,
    pub(super) callback: Callback,
    pub(super) took: Duration,
    /// The system call before it, if it was for the same id.
    pub(super) call: Option<String>,
}

/// One turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    pub(super) number: u64,
    pub(super) slept: Duration,
    pub(super) events: usize,
    pub(super) queued: usize,
    pub(super) bars: Vec<Bar>,
    pub(super) left_out: u64,
    pub(super) took: Duration,
}

/// The turn that runs, and the last one that called a handler.
#[derive(Debug, Default)]
pub(super) struct LastTurn {
    current: Turn,
    shown: Turn,
    /// The last system call of the current turn, until a callback follows.
    call: Option<(Id, String)>,
}

impl LastTurn {
    pub(super) fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::TurnStart {
                number,
                slept,
                events,
                queued,
            } => {
                let mut bars = std::mem::take(&mut self.current.bars);
                bars.clear();
                self.current = Turn {
                    number,
                    slept,
                    events,
                    queued,
                    bars,
                    ..Turn::default()
                };
            }
            Event::Callback {
                id, callback, took, ..
            } => {
                let call = self.call.take();
                let call = call.filter(|(owner, _)| *owner == id).map(|(_, call)| call);
                self.current.add(Bar {
                    id,
                    callback,
                    took,
                    call,
                });
            }
            Event::Call {
                id,
                ref call,
                result,
            } if self.current.bars.len() < BARS => {
                let text = format!("{} = {}", with_arguments(call), outcome(call, result));
                self.call = Some((id, text));
            }
            _ => {}
        }
    }

    /// The last turn that called a handler, or else the last one.
    pub(super) fn shown(&self) -> Option<&Turn> {
        // There is no turn 0.
        (self.shown.number > 0).then_some(&self.shown)
    }

    /// The turn has ended. One without callbacks is shown only if there was no other.
    pub(super) fn ended(&mut self, took: Duration) {
        self.current.took = took;
        if !self.current.bars.is_empty() || self.shown.bars.is_empty() {
            std::mem::swap(&mut self.current, &mut self.shown);
        }
    }
}

impl Turn {
    fn add(&mut self, bar: Bar) {
        if self.bars.len() < BARS {
            self.bars.push(bar);
        } else {
            self.left_out += 1;
        }
    }
}
