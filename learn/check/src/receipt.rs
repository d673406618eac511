//! The end of an exchange: complete, or a failure.

use crate::peer::PATIENCE;
use std::fmt;

/// Why an exchange is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// All that was awaited has come.
    Complete,
    /// Nothing happened for [`PATIENCE`].
    Silence,
    /// The program has ended the stream.
    Closed,
    /// The connection is broken.
    Broken(String),
    /// A byte has come back that was not sent at this place.
    Wrong,
}

/// The bytes that came back, and how it ended.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Bytes that came back since the connection began.
    pub got: u64,
    /// Bytes that had to.
    pub wanted: u64,
    /// Why it ended there.
    pub stop: Stop,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes came back", self.got, self.wanted)?;
        match &self.stop {
            Stop::Complete => Ok(()),
            Stop::Silence => write!(f, ", then nothing for {} s", PATIENCE.as_secs()),
            Stop::Closed => write!(f, ", then the end of the stream"),
            Stop::Broken(error) => write!(f, ", then {error}"),
            Stop::Wrong => write!(f, " as they were sent; the next one was another"),
        }
    }
}

impl Receipt {
    /// Everything has come back, and nothing else is known to have happened.
    pub fn complete(self) -> Result<(), Failure> {
        match self.stop {
            Stop::Complete => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Everything has come back, and then the end of the stream.
    pub fn complete_and_closed(self) -> Result<(), Failure> {
        match self.stop {
            Stop::Closed if self.got == self.wanted => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn failure(self) -> Failure {
        Failure {
            seen: self.to_string(),
            broken: matches!(self.stop, Stop::Closed | Stop::Broken(_)),
        }
    }
}

/// A sentence about something that must not be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// A sentence for the reader.
    pub seen: String,
    /// A connection broke, so the program may have ended.
    pub broken: bool,
}

impl Failure {
    /// The same, with the circumstances before it.
    pub fn after(mut self, what: impl fmt::Display) -> Failure {
        self.seen = format!("{what}: {}", self.seen);
        self
    }

    /// A connection broke.
    pub fn broken(seen: impl fmt::Display) -> Failure {
        Failure {
            seen: seen.to_string(),
            broken: true,
        }
    }
}

impl From<String> for Failure {
    fn from(seen: String) -> Failure {
        Failure {
            seen,
            broken: false,
        }
    }
}
