//! A TCP server and client on one hand-written, single-threaded readiness loop.
//!
//! A [`Reactor`] owns listeners and connections. For each accepted connection the listener's
//! service, a closure, makes a [`Handler`]; a [`Context`] is what a callback can do. An outgoing connection is a handler that
//! is given to [`Reactor::connect`], on the same loop.
//!
//! ```text
//!    ┌─▶ 1 wait     sleep in the poller until readiness, a deadline or a wake-up; do not sleep while ids are queued
//!    │   2 enqueue  record the readiness of each event on its source, and queue the source's id (at most once)
//!    │   3 expire   queue the ids whose deadlines have passed
//!    │   4 drive    give every id queued before this phase one bounded turn
//!    │   5 apply    close what handlers asked to close, and run what other threads posted
//!    └── 6 reap     free the slots that were closed in this turn
//! ```
//!
//! Everything that can make progress only queues an id; one queue drives each id for one bounded
//! turn.
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
//!     reactor.listen("127.0.0.1:7007".parse().unwrap(), |_| Some(Echo))?;
//!     reactor.run()
//! }
//! ```
//!
//! [`frame`] finds lines and other frames in the input, without I/O.
//!
//! # Embedding
//! Another thread reaches the loop through its [`Handle`]. A program with its own loop calls
//! [`turn`](Reactor::turn) when the reactor's descriptor is readable or its
//! [deadline](Reactor::next_deadline) has passed. [`Reactor::watch`] puts other sources of mio on
//! this loop. [`Reactor::adopt_stream`] and [`Reactor::adopt_listener`] take over sockets that were
//! opened elsewhere.
//!
//! # Observing
//! [`Reactor::observe`] reports every system call with its result, every turn and every callback to
//! an [`Observer`]. [`Reactor::snapshot`] returns the state of everything as data.
//! [`Reactor::accept_queue`] returns the depth of a listener's accept queue (Linux only).
//! [`Config::stall_warning`] logs callbacks that take too long. Without an observer nothing is
//! computed for it.
//!
//! # Features
//! - `services` (default): the six standard services. It adds jiff, for dates.
//! - `cli` (default): the program.
//! - `sim`: a network in memory, to test handlers and the reactor itself over everything that a
//!   network can do. It adds no dependency.
//!
//! A library needs neither. With `default-features = false` the dependencies are mio, slab, log and
//! socket2, and beneath them libc.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod buffers;
mod closed;
mod common;
mod config;
mod connection;
mod errno;
pub mod frame;
mod guard;
mod handler;
mod id;
mod layers;
mod observe;
mod peer;
#[cfg(any(test, doorkeeper_pieces))]
#[doc(hidden)]
pub mod pieces;
mod reactor;
mod readiness;
#[cfg(feature = "services")]
pub mod services;
#[cfg(feature = "sim")]
pub mod sim;
mod sys;
mod time;

pub use closed::{Closed, Reason};
pub use config::{Config, ConnectOptions, Keepalive, Limits, ListenOptions, MinRate};
pub use handler::{Arrival, AsAny, Context, Handler, Others};
pub use id::Id;
pub use layers::{Layer, Layered};
/// The poller library, in the version whose sources [`Reactor::watch`] takes.
pub use mio;
pub use observe::{
    AcceptQueue, Budget, Call, Callback, ConnectionState, ConnectionView, Event, ListenerState,
    ListenerView, Observer, Overflows, Reported, Snapshot, Stats,
};
pub use reactor::{Handle, Next, PostError, Reactor};
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

/// The examples in docs/testing.md compile and run.
#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../docs/testing.md")]
struct Testing;
