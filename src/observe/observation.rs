//! Whether the loop is observed, and the notifications.
//!
//! Without an observer no event is made: an event is a closure that is not called, and no clock is
//! read.

use super::{Call, Callback, Event, Observer};
use crate::guard::{discard, guard};
use crate::id::Id;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The observer, if there is one, and the limit on the time of a callback.
pub(crate) struct Observation {
    observer: Cell<Option<Box<dyn Observer>>>,
    observed: Cell<bool>,
    /// Callbacks are timed.
    timed: Cell<bool>,
    /// How many bytes of a read or a write an observer is shown.
    shown_bytes: usize,
    /// Callbacks that take longer are logged.
    stall: Option<Duration>,
}

/// A callback that returned, and how many other ids were queued meanwhile.
pub(crate) struct Returned {
    pub(crate) id: Id,
    pub(crate) peer: SocketAddr,
    pub(crate) callback: Callback,
    pub(crate) queued: usize,
}

impl Observation {
    pub(crate) fn new(shown_bytes: usize, stall: Option<Duration>) -> Observation {
        Observation {
            observer: Cell::new(None),
            observed: Cell::new(false),
            timed: Cell::new(stall.is_some()),
            shown_bytes,
            stall,
        }
    }

    pub(crate) fn set_observer(&self, observer: Box<dyn Observer>) {
        self.remove_observer();
        self.observer.set(Some(observer));
        self.observed.set(true);
        self.timed.set(true);
    }

    /// True if there is an observer. Built with `--cfg doorkeeper_unobserved` there never is one,
    /// which measures what this costs.
    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        !cfg!(doorkeeper_unobserved) && self.observed.get()
    }

    #[inline]
    pub(crate) fn notify<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        if self.is_observed() {
            self.notify_observer(event);
        }
    }

    /// Out of line, so that the path of every message contains one test only.
    #[cold]
    fn notify_observer<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        self.deliver(&event());
    }

    /// A panic removes the observer, because an observer must not disturb what it observes.
    fn deliver(&self, event: &Event<'_>) {
        let mut observer = self.observer.take();
        let told = guard(|| {
            if let Some(observer) = &mut observer {
                observer.event(event);
            }
        });
        self.observer.set(observer);
        if told.is_none() {
            log::error!("the observer panicked and is removed");
            self.remove_observer();
        }
    }

    /// Drops the observer, if there is one.
    pub(crate) fn remove_observer(&self) {
        self.observed.set(false);
        self.timed.set(self.stall.is_some());
        let observer = self.observer.take();
        if !discard(observer) {
            log::error!("the observer panicked when it was dropped");
        }
    }

    /// The part of a payload that an observer is shown.
    pub(crate) fn shown<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[..bytes.len().min(self.shown_bytes)]
    }

    /// True if callbacks are timed: there is an observer or a stall limit.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.timed.get()
    }

    /// The time, if callbacks are timed.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        if self.timed.get() {
            Some(Instant::now())
        } else {
            None
        }
    }

    /// Reports how long a callback took, and logs it if that was too long.
    #[inline(always)]
    pub(crate) fn returned(&self, started: Option<Instant>, returned: impl FnOnce() -> Returned) {
        if let Some(started) = started {
            self.report(started.elapsed(), returned());
        }
    }

    #[cold]
    fn report(&self, took: Duration, returned: Returned) {
        let Returned {
            id,
            peer,
            callback,
            queued,
        } = returned;
        self.notify(|| Event::Callback {
            id,
            peer,
            callback,
            took,
        });
        if self.stall.is_some_and(|limit| took > limit) {
            let took = took.as_millis() as u64;
            log::warn!(
                "connection {id} with {peer}: {callback} held the loop for {took} ms; {queued} others waited"
            );
        }
    }
}

/// The source that a system call is made for, and the observation it is reported to.
#[derive(Clone, Copy)]
pub(crate) struct CallScope<'a> {
    pub(crate) id: Id,
    pub(crate) observation: &'a Observation,
}

impl CallScope<'_> {
    /// Reports a call. It need not be fast: read and write test first whether there is an observer.
    #[inline(never)]
    pub(crate) fn notify(&self, call: Call<'_>, result: Result<usize, &io::Error>) {
        let id = self.id;
        self.observation
            .notify(move || Event::Call { id, call, result });
    }

    /// Reports a call that moves no bytes, and passes its result on.
    pub(crate) fn report(&self, call: Call<'static>, result: io::Result<()>) -> io::Result<()> {
        self.notify(call, result.as_ref().map(|()| 0));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Observation, Observer};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    /// Counts events. The third is too much for it.
    struct Frail(Rc<Cell<u32>>);

    impl Observer for Frail {
        fn event(&mut self, _: &Event<'_>) {
            self.0.set(self.0.get() + 1);
            assert!(self.0.get() < 3);
        }
    }

    #[test]
    fn an_observer_that_panicked_costs_nothing_any_more() {
        let stall = Duration::from_secs(1);
        for (limit, is_timed) in [(None, false), (Some(stall), true)] {
            let observation = Observation::new(0, limit);
            let state = || {
                let is_timed = observation.is_timed();
                assert_eq!(observation.start().is_some(), is_timed);
                (observation.is_observed(), is_timed)
            };
            assert_eq!(state(), (false, is_timed));
            let seen = Rc::new(Cell::new(0));
            observation.set_observer(Box::new(Frail(Rc::clone(&seen))));
            for count in 1..=5 {
                let is_observed = count <= 3;
                assert_eq!(state(), (is_observed, is_observed || is_timed));
                observation.notify(|| Event::TurnEnd { number: count });
                assert_eq!(seen.get() as u64, count.min(3));
            }
        }
    }
}
