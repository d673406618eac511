//! A layer between a connection's handler and its socket: TLS, compression, framing.
//!
//! It lies below the state machine of the connection, in the place of the socket. So everything that a
//! handler can ask for, and everything that other code can do to the connection by its id, acts on plain
//! bytes as it does without a layer.

mod layer;
mod layered;
mod level;
mod stack;

pub use layer::Layer;
pub use layered::Layered;
pub(crate) use level::{Level, LevelLimits};
pub(crate) use stack::{Layers, Stack};
