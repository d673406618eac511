//! When to accept.

use crate::observe::ListenerState;
use crate::timers::Tick;
use std::time::Duration;

/// How long a listener waits before it tries again for a descriptor it could not have.
const BACKOFF: Duration = Duration::from_millis(100);

/// Whether the doorkeeper lets anyone in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// At `max_connections`. Newcomers stay in the waiting room until someone leaves.
    Full,
    /// Out of descriptors or memory. Tried again at this time, and whenever a connection of ours closes.
    Backoff(Tick),
    /// Letting in those who wait already, and then closing.
    Draining,
}

/// What stopped a round of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The waiting room is empty (EAGAIN).
    Empty,
    /// Descriptors or memory ran out.
    Exhausted,
    /// The budget of the turn is spent; others have theirs first.
    Budget,
    /// `max_connections` are open.
    House,
}

/// The admission of one listener.
///
/// The poller is edge-triggered: it tells of an arrival once. So `waiting` stays set from the event until accept itself says
/// that the room is empty, whatever errors come between; an edge that an error uses up is how servers come to stand still.
#[derive(Debug)]
pub(crate) struct Admission {
    state: State,
    waiting: bool,
}

impl Admission {
    pub(crate) fn new() -> Admission {
        Admission {
            state: State::Open,
            waiting: true,
        }
    }

    /// Someone arrived.
    pub(crate) fn arrival(&mut self) {
        self.waiting = true;
    }

    /// From now on only those who wait already, if there are any: accept will tell.
    pub(crate) fn drain(&mut self) {
        self.state = State::Draining;
        self.waiting = true;
    }

    /// Whether to try accept now. `retry`: descriptors may have become free.
    pub(crate) fn may_accept(&self, now: Tick, retry: bool) -> bool {
        self.waiting
            && match self.state {
                State::Backoff(until) => retry || now >= until,
                State::Open | State::Full | State::Draining => true,
            }
    }

    /// Notes what stopped a round, and says whether the listener has no more to do: a draining one, when nobody waits or
    /// nobody more can be let in.
    pub(crate) fn stopped(&mut self, stop: Stop, now: Tick) -> bool {
        self.waiting = stop != Stop::Empty;
        if self.state != State::Draining {
            self.state = match stop {
                Stop::Empty | Stop::Budget => State::Open,
                Stop::Exhausted => State::Backoff(now.after(BACKOFF)),
                Stop::House => State::Full,
            };
        }
        self.state == State::Draining && stop != Stop::Budget
    }

    /// What to tell of it.
    pub(crate) fn door(&self) -> ListenerState {
        match self.state {
            State::Open => ListenerState::Accepting,
            State::Full => ListenerState::Full,
            State::Backoff(_) => ListenerState::Backoff,
            State::Draining => ListenerState::ShuttingDown,
        }
    }

    /// Whether the next turn can go on at once.
    pub(crate) fn wants_turn(&self) -> bool {
        self.waiting && matches!(self.state, State::Open | State::Draining)
    }

    /// Whether a connection that leaves may let the next one in.
    pub(crate) fn is_held_up(&self) -> bool {
        self.waiting && matches!(self.state, State::Full | State::Backoff(_))
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        match self.state {
            State::Backoff(until) => Some(until),
            State::Open | State::Full | State::Draining => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever happens, in every order up to six steps: as long as someone may be waiting, the listener has a turn coming,
    /// a deadline, or hears of the next one to leave.
    #[test]
    fn nobody_in_the_waiting_room_is_forgotten() {
        fn walk(steps: &mut Vec<Option<Stop>>) {
            let (mut admission, mut anyone) = (Admission::new(), true);
            for step in &*steps {
                match *step {
                    None => {
                        admission.arrival();
                        anyone = true;
                    }
                    Some(stop) => {
                        admission.stopped(stop, Tick(0));
                        anyone = stop != Stop::Empty;
                    }
                }
            }
            let comes_back =
                admission.wants_turn() || admission.is_held_up() || admission.deadline().is_some();
            assert!(!anyone || comes_back, "{steps:?}");
            assert!(anyone || !admission.wants_turn(), "{steps:?}");
            if steps.len() < 6 {
                for step in [
                    None,
                    Some(Stop::Empty),
                    Some(Stop::Exhausted),
                    Some(Stop::Budget),
                    Some(Stop::House),
                ] {
                    steps.push(step);
                    walk(steps);
                    steps.pop();
                }
            }
        }
        walk(&mut Vec::new());
    }

    #[test]
    fn backoff_ends_by_time_or_when_someone_leaves() {
        let mut admission = Admission::new();
        admission.stopped(Stop::Exhausted, Tick(0));
        let until = admission.deadline().unwrap();
        assert!(!admission.may_accept(Tick(until.0 - 1), false));
        assert!(admission.may_accept(Tick(until.0 - 1), true));
        assert!(admission.may_accept(until, false));
    }
}
