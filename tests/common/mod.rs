//! What the tests share. Every step has a time limit, so a hang fails the test instead of stopping
//! it.
// Each test binary uses a part of this.
#![allow(dead_code, unused_imports)]

mod client;
mod example;
mod handlers;
mod layers;
mod missing;
mod panics;
mod process;
mod program;
mod reactors;
mod speaker;

pub use client::*;
pub use example::*;
pub use handlers::*;
pub use layers::*;
pub use missing::*;
pub use panics::*;
pub use process::*;
pub use program::*;
pub use reactors::*;
pub use speaker::*;

use std::time::Duration;

/// Longer than any single step of a test takes, unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A default value with some fields set: `set(|config: &mut Config| config.backlog = 5)`.
pub fn set<T: Default>(change: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    change(&mut value);
    value
}
