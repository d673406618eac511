//! Reaching the loop from other threads.

use crate::reactor::Reactor;
use mio::Waker;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work for the loop.
pub(crate) type Post = Box<dyn FnOnce(&mut Reactor) + Send>;

/// What was left for the loop since it last looked. Wake-ups coalesce, so what they are about has to lie beside them.
#[derive(Default)]
pub(crate) struct Mail {
    pub(crate) stop: bool,
    pub(crate) posts: Vec<Post>,
}

#[derive(Default)]
struct Inner {
    mail: Mail,
    gone: bool,
}

pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            inner: Mutex::default(),
            waker,
        })
    }

    pub(crate) fn collect(&self) -> Mail {
        std::mem::take(&mut self.lock().mail)
    }

    /// The loop is gone. What it will never run is dropped here, outside the lock, for a closure may own a [`Handle`].
    pub(crate) fn close(&self) {
        let unread = {
            let mut inner = self.lock();
            inner.gone = true;
            std::mem::take(&mut inner.mail)
        };
        drop(unread);
    }

    /// No code of an embedder runs under the lock, so what it guards is whole even if a thread died holding it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Reactor`]'s handle for other threads: clone it and send it where it is needed.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Mailbox>);

impl Handle {
    /// Makes [`Reactor::run`] return at the end of its current turn, or at once if it is called later. What is open stays open
    /// until the reactor is dropped, or run again.
    ///
    /// # Errors
    /// Those of the poller's waker (on Linux, a write to an eventfd), which are not to be expected. The request stands
    /// nevertheless, and is met when the loop next wakes.
    pub fn stop(&self) -> io::Result<()> {
        self.0.lock().mail.stop = true;
        self.0.waker.wake()
    }

    /// Has the loop run a closure in phase 5 of a turn. Closures of one thread run in the order of their posts. A panic in one
    /// is caught, logged and counted.
    ///
    /// # Errors
    /// The closure itself, if the reactor is gone.
    pub fn post<F>(&self, work: F) -> Result<(), F>
    where
        F: FnOnce(&mut Reactor) + Send + 'static,
    {
        let mut inner = self.0.lock();
        if inner.gone {
            return Err(work);
        }
        inner.mail.posts.push(Box::new(work));
        let first = inner.mail.posts.len() == 1;
        drop(inner);
        // The first post wakes the loop for all that follow until it looks.
        if first {
            self.0
                .waker
                .wake()
                .unwrap_or_else(|error| log::warn!("cannot wake the loop: {error}"));
        }
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
