//! Handlers that several tests use.

use doorkeeper::{Closed, Context, Handler, Reason};
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Sends back what it receives, as far as there is room.
pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

/// Sends back whole lines only, so a part of a line stays unconsumed.
pub struct EchoLines;

impl Handler for EchoLines {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let last = input.iter().rposition(|&byte| byte == b'\n');
        let whole = last.map_or(0, |at| at + 1);
        Ok(cx.write(&input[..whole]))
    }
}

/// Consumes everything and sends nothing.
pub struct Discard;

impl Handler for Discard {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// Sends these bytes to whoever connects, and finishes.
pub struct Say(pub &'static [u8]);

impl Handler for Say {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(self.0);
        cx.finish();
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

/// A [`Closed`] that outlives its callback.
#[derive(Debug)]
pub struct Receipt {
    pub reason: Reason,
    pub error: Option<(ErrorKind, String)>,
    pub received: u64,
    pub sent: u64,
    pub undelivered: Option<u64>,
    pub unsent: u64,
    pub discarded: u64,
    pub age: Duration,
}

impl Receipt {
    pub fn of(closed: &Closed) -> Receipt {
        let error = closed.error.as_ref();
        Receipt {
            reason: closed.reason,
            error: error.map(|error| (error.kind(), error.to_string())),
            received: closed.received,
            sent: closed.sent,
            undelivered: closed.undelivered,
            unsent: closed.unsent,
            discarded: closed.discarded,
            age: closed.age,
        }
    }

    /// The reason, and the bytes received, sent, unsent and discarded: for one assertion.
    pub fn figures(&self) -> (Reason, u64, u64, u64, u64) {
        (
            self.reason,
            self.received,
            self.sent,
            self.unsent,
            self.discarded,
        )
    }
}
