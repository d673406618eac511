//! Buffers: the bounded queue, and what a connection holds beyond its slot.

mod backlog;
mod queue;

pub(crate) use backlog::{Backlog, LazyBacklog};
pub(crate) use queue::ByteQueue;
