//! Buffers: the bounded queue, and what a connection holds from one turn to the next.

mod backlog;
mod queue;

pub(crate) use backlog::{Backlog, LazyBacklog};
pub(crate) use queue::ByteQueue;
