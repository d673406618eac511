//! Buffers: the bounded queue, and what a connection holds from one turn to the next.

mod backlog;
mod queue;
mod timers;

pub(crate) use backlog::{Backlog, LazyBacklog};
pub(crate) use queue::ByteQueue;
pub(crate) use timers::Timers;
