//! A TCP server on one hand-written, single-threaded readiness loop, small enough to read in an afternoon.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod admission;
mod buffer;
mod config;
mod context;
mod drive;
mod handle;
mod handler;
mod held;
mod id;
mod net;
mod peer;
mod reactor;
mod readiness;
#[cfg(feature = "services")]
pub mod services;
mod sources;
mod stats;
mod stream;
mod throttle;
mod timers;

pub use config::{Config, ListenOptions};
pub use context::Context;
pub use handle::Handle;
pub use handler::{Closed, Handler, Reason, Service, TimerKey};
pub use id::Id;
pub use reactor::Reactor;
pub use stats::Stats;
