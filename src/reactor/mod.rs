//! The loop. The files of this folder know each other: a turn of a source is a method of the reactor,
//! and a callback of a watched source or a posted closure is given the reactor.
//!
//! Everything that can make progress (an event, a deadline, a spent budget, a request of a handler or
//! of another thread) only queues an id. Phase 4 drives each id for one bounded turn, and nothing is
//! driven from anywhere else.

mod after;
mod api;
mod connection;
#[cfg(feature = "sim")]
mod invariants;
mod layered;
mod listener;
mod mailbox;
mod outgoing;
#[cfg(feature = "sim")]
mod simulated;
mod sources;
mod trouble;
mod watch;

pub use mailbox::{Handle, PostError};
pub use watch::Next;

use crate::closed::Reason;
use crate::common::Common;
use crate::errno::failure;
use crate::guard::{discard, guard};
use crate::handler::LoopOps;
use crate::id::Id;
use crate::observe::{Event, Stats};
use crate::readiness::Readiness;
use crate::sys::{Polled, Poller};
use crate::time::{Deadlines, Tick};
use mailbox::{Mailbox, Post};
use sources::Sources;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use trouble::Troubles;

/// A single-threaded readiness loop with its listeners and connections.
///
/// ```
/// use doorkeeper::{Config, Context, Handler, Reactor};
/// use std::io;
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
///         Ok(cx.write(input))
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let mut reactor = Reactor::new(Config::default())?;
/// let id = reactor.listen("127.0.0.1:0".parse().unwrap(), |_| Some(Echo))?;
/// println!("listening on {}", reactor.local_addr(id)?);
/// # reactor.handle().stop()?;
/// reactor.run()
/// # }
/// ```
pub struct Reactor {
    common: Common,
    poller: Poller,
    sources: Sources,
    deadlines: Deadlines,
    /// Input is read into this buffer, one for all connections.
    input: Box<[u8]>,
    /// Callbacks of a turn write into this buffer, one for all connections. Empty between turns.
    output: Vec<u8>,
    stats: Stats,
    troubles: Troubles,
    mailbox: Arc<Mailbox>,
    /// Posted closures that were taken out of the mailbox, the oldest last.
    posts: Vec<Post>,
    /// Posted closures may be here or in the mailbox.
    posts_wait: bool,
    /// A callback is borrowing the reactor.
    lent: bool,
}

impl Reactor {
    /// Turns until [`Handle::stop`], [`Others::stop`](crate::Others::stop), or the end of a
    /// [`shutdown`](Reactor::shutdown).
    ///
    /// # Errors
    /// Those of the poller. Every other failure ends one connection, one listener or one outgoing
    /// connection. Also an error if a callback of this loop calls it, as for [`turn`](Reactor::turn).
    pub fn run(&mut self) -> io::Result<()> {
        self.check_not_lent()?;
        self.note_time();
        while !self.is_done() {
            self.do_turn(None)?;
        }
        self.sources.stopping = false;
        Ok(())
    }

    /// One turn of the loop: all six phases, once.
    ///
    /// It sleeps for at most `limit`, and not at all while ids are queued. `Some(Duration::ZERO)`
    /// never sleeps. `None` sleeps until something happens, or for a part of the time to a deadline
    /// that is far away.
    ///
    /// # Errors
    /// Those of the poller; a signal (EINTR) is not one, the turn then finds nothing ready. Also an
    /// error, and nothing is done, if a callback or a posted closure of this loop calls it: turns do
    /// not nest.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.check_not_lent()?;
        if limit != Some(Duration::ZERO) {
            self.note_time();
        }
        self.do_turn(limit)
    }

    fn do_turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.wait(limit)?;
        self.enqueue_events();
        self.expire();
        self.drive();
        self.apply();
        self.reap();
        let number = self.stats.turns;
        self.common.notify(move || Event::TurnEnd { number });
        Ok(())
    }

    /// Phase 1: sleep until an event, a deadline or a wake-up. Do not sleep while ids are queued.
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let limit = if self.has_work() || self.sources.stopping {
            Some(Duration::ZERO)
        } else {
            limit.into_iter().chain(self.time_left()).min()
        };
        let mut before = self.common.now;
        if self.common.observation.is_observed() {
            before = self.common.clock.now();
        }
        self.poller.wait(limit)?;
        // The one reading of the clock in a turn: all callbacks of the turn see this time.
        self.common.now = self.common.clock.now();
        self.stats.turns += 1;
        self.notify_turn_start(before);
        Ok(())
    }

    /// Phase 2: add the marks of each event to its source, and queue its id. A stale id marks nothing: its
    /// serial is not that of the slot. So no event can reach a new source in a reused slot.
    fn enqueue_events(&mut self) {
        let mut events = 0;
        for event in self.poller.events() {
            events += 1;
            match event {
                Polled::Ready(id, readiness) => {
                    let known = self.sources.add_event(id, readiness);
                    if self.common.observation.is_observed() {
                        self.notify_ready(id, readiness, known);
                    }
                }
                Polled::Message => {
                    self.sources.stopping |= self.mailbox.take_stop();
                    self.posts_wait = true;
                }
            }
        }
        self.stats.events += events;
        let (turns, queued) = (self.stats.turns, self.sources.queued());
        log::trace!("turn {turns}: {events} events, {queued} queued");
    }

    /// Phase 3: queue the ids whose deadlines have passed, within a budget. The others stay in the heap,
    /// and the next turn does not sleep.
    fn expire(&mut self) {
        for _ in 0..self.common.config.timers_per_turn {
            let Some(slot) = self.deadlines.pop_due(self.common.now) else {
                return;
            };
            if let Some(id) = self.sources.enqueue_due(slot) {
                self.common.notify(|| Event::DeadlinePassed { id });
            }
        }
    }

    /// Phase 4: one bounded turn for every id queued before this phase. Ids that these turns queue
    /// have theirs in the next turn of the loop, so no source can keep the others from theirs.
    fn drive(&mut self) {
        self.sources.begin_round();
        while let Some(id) = self.sources.next_in_round() {
            self.drive_source(id);
        }
    }

    /// Phase 5: close what handlers asked to close, and run what other threads posted. What these ask
    /// for waits for the next turn.
    fn apply(&mut self) {
        if !self.sources.closing.is_empty() {
            for id in std::mem::take(&mut self.sources.closing) {
                self.close_now(id, Reason::Closed);
            }
        }
        if self.posts_wait {
            self.run_posts();
        }
    }

    #[inline(never)]
    fn run_posts(&mut self) {
        self.collect_posts();
        let count = self.posts.len().min(self.common.config.posts_per_turn);
        self.mailbox.count_run(count);
        self.stats.posts += count as u64;
        for _ in 0..count {
            let Some(post) = self.posts.pop() else {
                return;
            };
            if self.lend(post).is_none() {
                self.count_panic("a posted closure");
            }
        }
        // Beside those that were left, others may have come, whose wake-up was this turn's.
        self.collect_posts();
        self.posts_wait = !self.posts.is_empty();
    }

    /// Takes what is in the mailbox, once everything taken before was run.
    fn collect_posts(&mut self) {
        if self.posts.is_empty() {
            self.posts = self.mailbox.take_posts();
            self.posts.reverse();
        }
    }

    /// Phase 6: free the slots closed in this turn. Not earlier, because events of this turn may name
    /// them. A free slot, and with it a descriptor, lets listeners accept that waited for one.
    fn reap(&mut self) {
        if self.sources.free_closed() {
            self.wake_listeners();
        }
    }
}

impl Reactor {
    /// How long the loop can sleep before its deadlines. The last turn may have taken long, so the
    /// clock is read again if a deadline is near. Beyond 2 × FAR seconds, sleep half of the time that
    /// was left at the last turn, without reading the clock again.
    fn time_left(&self) -> Option<Duration> {
        const FAR: u64 = 5;
        let deadline = self.next_tick()?;
        let half = deadline.since(self.common.now).as_secs() / 2;
        let far = half > FAR;
        Some(if far {
            Duration::from_secs(half)
        } else {
            deadline.since(self.common.clock.now())
        })
    }

    fn next_tick(&self) -> Option<Tick> {
        let next = self.deadlines.next();
        match self.common.shutdown_until {
            Some(until) => Some(next.map_or(until, |next| next.min(until))),
            None => next,
        }
    }

    fn has_work(&self) -> bool {
        self.sources.queued() > 0 || !self.sources.closing.is_empty() || self.posts_wait
    }

    fn is_shut_down(&self) -> bool {
        let nothing_left = || self.sources.open == 0 && self.sources.listeners.is_empty();
        self.common
            .shutdown_until
            .is_some_and(|until| self.common.now >= until || nothing_left())
    }

    fn check_not_lent(&self) -> io::Result<()> {
        if self.lent {
            let message = "a callback of this loop cannot turn it";
            return Err(failure(io::ErrorKind::Other, message));
        }
        Ok(())
    }

    /// Runs an embedder's code that is given the reactor. `None` if it panicked.
    fn lend<R>(&mut self, code: impl FnOnce(&mut Reactor) -> R) -> Option<R> {
        self.lent = true;
        let result = guard(|| code(self));
        self.lent = false;
        result
    }

    fn notify_turn_start(&self, before: Tick) {
        self.common.notify(move || Event::TurnStart {
            number: self.stats.turns,
            slept: self.common.now.since(before),
            events: self.poller.events().count(),
            queued: self.sources.queued(),
        });
    }

    #[cold]
    fn notify_ready(&self, id: Id, marks: Readiness, known: bool) {
        self.common.notify(|| match known {
            true => Event::ready(id, marks),
            false => Event::Stale { id },
        });
    }
}

/// Closes everything. Each handler's `on_close` is called with [`Reason::ReactorDropped`]. Posted
/// closures that did not run are dropped.
impl Drop for Reactor {
    fn drop(&mut self) {
        self.sources.ending = true;
        for slot in 0..self.sources.slots() {
            if let Some(id) = self.sources.id_in(slot) {
                self.close_now(id, Reason::ReactorDropped);
            }
        }
        self.posts.append(&mut self.mailbox.close());
        while let Some(post) = self.posts.pop() {
            if !discard(post) {
                self.count_panic("the drop of a posted closure");
            }
        }
        self.common.observation.remove_observer();
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reactor = f.debug_struct("Reactor");
        reactor
            .field("config", &self.common.config)
            .field("stats", &self.stats);
        reactor.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Here the loop's time is 0, and the clock shows some time since then.
    #[test]
    fn the_loop_sleeps_half_way_to_a_far_deadline_and_all_the_way_to_a_near_one() {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        assert_eq!(reactor.time_left(), None);
        let second = Duration::from_secs(1);
        reactor.deadlines.arm(7, Tick::default().after(60 * second));
        assert_eq!(reactor.time_left(), Some(30 * second));
        reactor.common.now = Tick::default().after(46 * second);
        assert_eq!(reactor.time_left(), Some(7 * second));
        // The deadline is near, so the clock is read.
        reactor.common.now = Tick::default().after(52 * second);
        let left = reactor.time_left().unwrap();
        assert!((50 * second..60 * second).contains(&left), "{left:?}");
        reactor.shutdown(20 * second);
        let left = reactor.time_left().unwrap();
        assert!((10 * second..20 * second).contains(&left), "{left:?}");
    }
}
