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
                self.call = None;
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

#[cfg(test)]
mod tests {
    use super::{BARS, LastTurn, Turn};
    use doorkeeper::{Arrival, Call, Callback, Config, Event, Id, Reactor};
    use std::time::Duration;

    fn ids() -> [Id; 2] {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        [(); 2].map(|()| {
            let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
            reactor.listen(any, service).unwrap()
        })
    }

    fn start(last: &mut LastTurn, number: u64) {
        last.event(&Event::TurnStart {
            number,
            slept: Duration::from_millis(number),
            events: 2,
            queued: 3,
        });
    }

    fn read(last: &mut LastTurn, id: Id) {
        let (length, bytes) = (9, &b"hello"[..]);
        let (call, result) = (Call::Read { length, bytes }, Ok(5));
        last.event(&Event::Call { id, call, result });
    }

    fn callback(last: &mut LastTurn, id: Id) {
        last.event(&Event::Callback {
            id,
            peer: "127.0.0.1:1".parse().unwrap(),
            callback: Callback::Data,
            took: Duration::from_micros(7),
        });
    }

    fn calls(turn: &Turn) -> Vec<Option<&str>> {
        turn.bars.iter().map(|bar| bar.call.as_deref()).collect()
    }

    #[test]
    fn a_callback_has_the_call_before_it_if_it_is_of_the_same_source() {
        let ([one, other], mut last) = (ids(), LastTurn::default());
        assert!(last.shown().is_none());
        start(&mut last, 1);
        read(&mut last, one);
        callback(&mut last, one);
        callback(&mut last, one);
        read(&mut last, one);
        callback(&mut last, other);
        callback(&mut last, one);
        last.ended(Duration::from_millis(5));
        let turn = last.shown().unwrap();
        assert_eq!(calls(turn), [Some("read(9) = 5"), None, None, None]);
        assert_eq!((turn.number, turn.events, turn.queued), (1, 2, 3));
        assert_eq!((turn.slept.as_millis(), turn.took.as_millis()), (1, 5));
        assert_eq!(turn.bars[2].id, other);
        assert_eq!(turn.bars[2].callback, Callback::Data);
        assert_eq!(turn.bars[2].took.as_micros(), 7);
    }

    #[test]
    fn a_callback_does_not_have_the_call_of_an_earlier_turn() {
        let ([id, _], mut last) = (ids(), LastTurn::default());
        start(&mut last, 1);
        callback(&mut last, id);
        read(&mut last, id);
        last.ended(Duration::ZERO);
        start(&mut last, 2);
        callback(&mut last, id);
        last.ended(Duration::ZERO);
        assert_eq!(calls(last.shown().unwrap()), [None]);
    }

    #[test]
    fn the_last_turn_with_callbacks_is_shown() {
        let ([id, _], mut last) = (ids(), LastTurn::default());
        let mut turn = |number, callbacks| {
            start(&mut last, number);
            (0..callbacks).for_each(|_| callback(&mut last, id));
            last.ended(Duration::ZERO);
            let shown = last.shown().unwrap();
            (shown.number, shown.bars.len())
        };
        assert_eq!(turn(1, 0), (1, 0));
        assert_eq!(turn(2, 0), (2, 0));
        assert_eq!(turn(3, 2), (3, 2));
        assert_eq!(turn(4, 0), (3, 2));
        assert_eq!(turn(5, 1), (5, 1));
    }

    #[test]
    fn a_turn_with_too_many_callbacks_says_how_many_are_left_out() {
        let ([id, _], mut last) = (ids(), LastTurn::default());
        start(&mut last, 1);
        for _ in 0..BARS + 3 {
            read(&mut last, id);
            callback(&mut last, id);
        }
        // No callback will take it, so its text is not made.
        assert_eq!(last.call, None);
        last.ended(Duration::ZERO);
        let turn = last.shown().unwrap();
        assert_eq!((turn.bars.len(), turn.left_out), (BARS, 3));
        assert!(calls(turn).iter().all(Option::is_some));
    }
}
