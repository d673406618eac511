//! A kernel in memory: TCP as a program sees it, and a network that is free to do what networks do.
//!
//! A [`World`] has sockets, processes and a time. A [`Process`] has descriptors and one poller. The
//! types of `sys` hold either a kernel's socket or one of these, and nothing above them knows which.
//!
//! - A call on a socket changes its state and puts a *flight* on its way: a SYN, a segment, a reset.
//!   On a plain network each flight arrives within the call that sends it, as on loopback. Otherwise
//!   the simulation decides which flight arrives next, and how much of it.
//! - A change *wakes* a socket, which only puts it on its poller's ready list. The flags are the level
//!   at the fetch, and a socket without an asked flag is dropped from the list then.
//! - The time moves only when the simulation says so. Every freedom is asked of one [`Chooser`].
//!
//! The rules are those of Linux 6.18, in the words of the kernel's functions where they are named. The
//! tests of this folder run the same calls on the kernel and here, and compare every result.

mod apart;
mod calls;
mod chooser;
mod environment;
mod errno;
mod handles;
mod network;
mod ports;
mod ready;
mod socket;
#[cfg(test)]
mod tests;
mod world;

pub use chooser::Choice;
pub(crate) use chooser::{CHOICES, Decisions, Made, RECURRING};
pub(crate) use environment::{asked_run, is_unwinding, test_name};
pub(crate) use handles::{Process, SharedWorld, Socket, Waker};
pub(crate) use world::{CallKind, Route, World};
