//! The network in memory: a reactor, its handlers and their peers, without a kernel.
//!
//! A [`Sim`] is one world: its network, its time, and everything that runs in it. Its reactors are
//! ordinary ones; only their sockets, pollers and clocks are the simulation's. A [`Peer`] is the other
//! end of a connection, in the hands of the test. The time jumps to the next thing that happens, so an
//! hour of timeouts takes milliseconds.
//!
//! ```
//! use doorkeeper::sim::Sim;
//! use doorkeeper::{Config, Context, Handler};
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
//! # fn main() -> io::Result<()> {
//! let sim = Sim::new(1);
//! let server = sim.reactor(Config::default())?;
//! let address = "10.0.0.1:7".parse().unwrap();
//! server.borrow_mut().listen(address, |_| Some(Echo))?;
//! let peer = sim.connect(address);
//! peer.send(b"hello");
//! sim.run_until(|| peer.received() == b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! The network does what a network may: it splits bytes anywhere, lets reads and writes be short,
//! reports events that have no cause, and lets any side move first. Which of these happens follows from
//! the seed. The same seed is the same run. [`seeds`] runs a test with many seeds, [`explore`] with every
//! combination of these choices. [`conversation`] checks a handler against a peer that is written in a line.

mod conversation;
mod explore;
mod member;
mod peer;
mod quiet;
mod report;
mod run;
mod speaker;
mod story;
#[cfg(test)]
mod tests;

pub use crate::sys::sim::Choice;
pub use conversation::{Conversation, conversation};
pub use explore::{Explored, explore, seeds};
pub use peer::{Ending, Listening, Peer};
pub use run::Sim;
