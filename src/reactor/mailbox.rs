//! The handle of other threads: stop and post.

use super::Reactor;
use crate::sys::Waker;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work for the loop.
pub(super) type Post = Box<dyn FnOnce(&mut Reactor) + Send>;

/// What other threads left for the loop. Wake-ups coalesce, so this must be kept beside them.
pub(super) struct Mailbox {
    /// Stored before the loop is woken, and taken after.
    stop: AtomicBool,
    /// `None` once the reactor is gone.
    posts: Mutex<Option<Vec<Post>>>,
    /// How many closures wait: these, and those that the loop took and has not begun to run.
    waiting: AtomicUsize,
    waker: Waker,
    posts_max: usize,
}

impl Mailbox {
    pub(super) fn new(waker: Waker, posts_max: usize) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            stop: AtomicBool::new(false),
            posts: Mutex::new(Some(Vec::new())),
            waiting: AtomicUsize::new(0),
            waker,
            posts_max,
        })
    }

    pub(super) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::SeqCst)
    }

    /// Takes all posts. They count until they are [run](Mailbox::count_run).
    pub(super) fn take_posts(&self) -> Vec<Post> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// So many posts are run now, and leave room for others.
    pub(super) fn count_run(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// The reactor is gone. Returns the posts that it never runs, to be dropped outside the lock,
    /// because a closure may own a [`Handle`].
    pub(super) fn close(&self) -> Vec<Post> {
        self.lock().take().unwrap_or_default()
    }

    /// No code of an embedder runs under the lock, so the content is whole even if a thread panicked
    /// while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Post>>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Reactor`]'s handle for other threads. Clone it and send it where it is needed.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Mailbox>);

impl Handle {
    /// Makes [`Reactor::run`] return at the end of its current turn, or at once if it is called later.
    /// Connections stay open until the reactor is dropped, or run again.
    ///
    /// # Errors
    /// Those of the poller's waker (on Linux a write to an eventfd), which are not expected. The
    /// request stands, and is met when a handle next wakes the loop.
    pub fn stop(&self) -> io::Result<()> {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.waker.wake()
    }

    /// Makes the loop run a closure in phase 5 of a turn. Closures of one thread run in the order of
    /// their posts. A panic in one is caught, logged and counted. A turn runs at most
    /// [`Config::posts_per_turn`](crate::Config::posts_per_turn) of them. Those that wait when
    /// [`Reactor::run`] returns run in its next turns, or are dropped with it.
    ///
    /// # Errors
    /// Each hands the closure back: [`PostError::Full`] if
    /// [`Config::posts_max`](crate::Config::posts_max) closures wait, [`PostError::Closed`] if the
    /// reactor is gone.
    pub fn post<F>(&self, work: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut Reactor) + Send + 'static,
    {
        let mut lock = self.0.lock();
        let Some(posts) = &mut *lock else {
            return Err(PostError::Closed(work));
        };
        // Only this adds to it, under the lock.
        if self.0.waiting.load(Ordering::Relaxed) >= self.0.posts_max {
            return Err(PostError::Full(work));
        }
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        posts.push(Box::new(work));
        let first = posts.len() == 1;
        drop(lock);
        // The first post wakes the loop; the others are collected with it.
        if first {
            let woken = self.0.waker.wake();
            woken.unwrap_or_else(|error| log::warn!("cannot wake the loop: {error}"));
        }
        Ok(())
    }
}

/// Why [`Handle::post`] did not take a closure, and the closure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PostError<F> {
    /// [`Config::posts_max`](crate::Config::posts_max) closures wait. There is room again once the
    /// loop has begun to run some.
    Full(F),
    /// The reactor is gone.
    Closed(F),
}

impl<F> PostError<F> {
    /// The closure.
    pub fn into_inner(self) -> F {
        match self {
            PostError::Full(work) | PostError::Closed(work) => work,
        }
    }
}

impl<F> fmt::Debug for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "Full(..)",
            PostError::Closed(_) => "Closed(..)",
        })
    }
}

impl<F> fmt::Display for PostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "too many posted closures wait",
            PostError::Closed(_) => "the reactor is gone",
        })
    }
}

impl<F> Error for PostError<F> {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
