//! Six standard services. Each is a [`Handler`](crate::Handler) in a short file of its own, and
//! uses the public API only.
//!
//! | service | RFC | port | what a client receives |
//! |---|---|---|---|
//! | [`Echo`] | 862 | 7 | the bytes it sends |
//! | [`Discard`] | 863 | 9 | nothing |
//! | [`Daytime`] | 867 | 13 | one line with the date and time |
//! | [`Qotd`] | 865 | 17 | one quote |
//! | [`Chargen`] | 864 | 19 | characters until it closes |
//! | [`Time`] | 868 | 37 | four bytes: the seconds since 1900 |
//!
//! ```no_run
//! use doorkeeper::services::Echo;
//! use doorkeeper::{Config, Reactor};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut reactor = Reactor::new(Config::default())?;
//! reactor.listen("127.0.0.1:7007".parse().unwrap(), |_| Some(Echo))?;
//! reactor.run()
//! # }
//! ```

mod chargen;
mod daytime;
mod discard;
mod echo;
mod qotd;
mod say;
mod time;

pub use chargen::Chargen;
pub use daytime::Daytime;
pub use discard::Discard;
pub use echo::Echo;
pub use qotd::{Qotd, Quotes};
pub use time::Time;
