//! A TCP server and client on one hand-written, single-threaded readiness loop, small enough to read in an afternoon.
//!
//! The listening socket is a doorkeeper, the kernel's queue of connection requests is its waiting room, and
//! [`backlog`](ListenOptions::backlog) is the size of that room. A [`Reactor`] keeps listeners and connections; a [`Service`]
//! makes a [`Handler`] for each client let in; a [`Context`] is what a handler may do. A client is a handler given to
//! [`Reactor::connect`], on the same loop.
//!
//! ```text
//!    ┌─▶ 1 wait     sleep in the poller until readiness, a deadline or a wake-up; do not sleep while ids are queued
//!    │   2 note     mark each event's source readable / writable / closed, queue its id (at most once)
//!    │   3 expire   queue the ids whose deadlines have passed
//!    │   4 drive    give every id queued before this phase one bounded turn
//!    │   5 apply    carry out what handlers queued (close) and what other threads posted
//!    └── 6 reap     free the slots closed in this turn
//! ```
//!
//! ```no_run
//! use doorkeeper::{Config, Context, Handler, Reactor};
//! use std::io;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
//!         Ok(cx.write(input))
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     let mut reactor = Reactor::new(Config::default())?;
//!     reactor.listen("127.0.0.1:7007".parse().unwrap(), |_peer| Some(Echo))?;
//!     reactor.run()
//! }
//! ```
//!
//! # In a program of its own
//! Another thread reaches the loop by its [`Handle`]. A host with its own loop gives the reactor a [`turn`](Reactor::turn) when its
//! descriptor is readable or its [deadline](Reactor::next_deadline) has come. A host's own sources can live on this loop, by
//! [`Reactor::watch`]. Sockets opened elsewhere are [adopted](Reactor::adopt_stream).
//!
//! # Watching it run
//! [`Reactor::observe`] tells an [`Observer`] every system call and what it came to, every turn and every callback;
//! [`Reactor::snapshot`] shows everything there is; [`Reactor::accept_queue`] how full a waiting room is;
//! [`Config::stall_warning`] names a callback that holds the loop. While nobody watches, nothing is computed.
//!
//! # Features
//! `services` (default) adds the six standard services and brings jiff, for dates; `cli` (default) adds the program. A library
//! wants neither: `default-features = false` leaves mio, slab, log and socket2.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod buffers;
mod closed;
mod common;
mod config;
mod connection;
pub mod frame;
mod handler;
mod id;
mod observe;
mod peer;
#[cfg(any(test, doorkeeper_pieces))]
#[doc(hidden)]
pub mod pieces;
mod reactor;
mod readiness;
#[cfg(feature = "services")]
pub mod services;
mod sys;
mod time;

pub use closed::{Closed, Reason};
pub use config::{Config, ConnectOptions, ListenOptions};
pub use handler::{Context, Handler, Service};
pub use id::Id;
/// The poller library, in the version whose sources [`Reactor::watch`] takes.
pub use mio;
pub use observe::{
    AcceptQueue, Budget, Call, Callback, ConnectionState, ConnectionView, Event, ListenerState,
    ListenerView, Observer, Overflows, Snapshot, Stats,
};
pub use reactor::{Handle, Next, Reactor};
pub use time::TimerKey;

/// The examples in README.md compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples in docs/observing.md compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/observing.md")]
struct Observing;

/// The examples in docs/embedding.md compile and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
