//! The handle of other threads: stop and post.

use super::Reactor;
use crate::sys::Waker;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work for the loop.
pub(super) type Post = Box<dyn FnOnce(&mut Reactor) + Send>;

/// What other threads left since the loop last looked. Wake-ups coalesce, so this must be kept beside
/// them.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) stop: bool,
    pub(super) posts: Vec<Post>,
}

#[derive(Default)]
struct Inner {
    messages: Messages,
    closed: bool,
}

pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    waker: Waker,
}

impl Mailbox {
    pub(super) fn new(waker: Waker) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            inner: Mutex::default(),
            waker,
        })
    }

    pub(super) fn collect(&self) -> Messages {
        std::mem::take(&mut self.lock().messages)
    }

    /// The reactor is gone. Returns the posts that it never runs, to be dropped outside the lock,
    /// because a closure may own a [`Handle`].
    pub(super) fn close(&self) -> Vec<Post> {
        let mut inner = self.lock();
        inner.closed = true;
        std::mem::take(&mut inner.messages.posts)
    }

    /// No code of an embedder runs under the lock, so the content is whole even if a thread panicked
    /// while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// request stands, and is met when the loop next wakes.
    pub fn stop(&self) -> io::Result<()> {
        self.0.lock().messages.stop = true;
        self.0.waker.wake()
    }

    /// Makes the loop run a closure in phase 5 of a turn. Closures of one thread run in the order of
    /// their posts. A panic in one is caught, logged and counted.
    ///
    /// # Errors
    /// The closure itself, if the reactor is gone.
    pub fn post<F>(&self, work: F) -> Result<(), F>
    where
        F: FnOnce(&mut Reactor) + Send + 'static,
    {
        let mut inner = self.0.lock();
        if inner.closed {
            return Err(work);
        }
        inner.messages.posts.push(Box::new(work));
        let first = inner.messages.posts.len() == 1;
        drop(inner);
        // The first post wakes the loop; the others are collected with it.
        if first {
            let woken = self.0.waker.wake();
            woken.unwrap_or_else(|error| log::warn!("cannot wake the loop: {error}"));
        }
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
