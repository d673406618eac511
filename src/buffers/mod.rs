//! Buffers: the bounded queue, and what a connection holds from one turn to the next.

mod backlog;
mod places;
mod queue;
mod timers;

pub(crate) use backlog::{Backlog, LazyBacklog};
pub(crate) use places::Places;
pub(crate) use queue::ByteQueue;
pub(crate) use timers::Timers;
