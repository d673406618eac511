//! A TCP relay: each connection it accepts is connected to the target.
//! `cargo run --example relay [ADDRESS [TARGET]]`.
//!
//! It shows backpressure from end to end. Both sides have the same handler. A side sends its input
//! to the other side and consumes no more than that takes, so a slow reader at one end slows the
//! sender at the other, and the relay's buffers stay bounded. When one peer ends its output, the
//! relay passes on all of it and then half-closes the other side, so an answer can still come back.

use doorkeeper::{Closed, Config, Context, Handler, Id, Others, Reactor, Reason};
use std::io::{Error, Result};
use std::net::SocketAddr;

enum Other {
    /// An accepted connection, before the relay connects to the target.
    Target(SocketAddr),
    /// The other connection of the pair.
    Side(Id),
}

struct Side {
    other: Other,
    /// The peer has ended its output, and some of its bytes are not passed on yet.
    ending: bool,
}

impl Side {
    fn other(&self) -> Option<Id> {
        match self.other {
            Other::Side(id) => Some(id),
            Other::Target(_) => None,
        }
    }
}

impl Handler for Side {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        match self.other {
            Other::Target(target) => {
                let onward = Side {
                    other: Other::Side(cx.id()),
                    ending: false,
                };
                self.other = Other::Side(cx.others.connect(target, onward)?);
            }
            // The target is connected: offer the other side its input again.
            Other::Side(other) => _ = cx.others.wake(other),
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let Some(other) = self.other() else {
            return Ok(0);
        };
        let taken = cx.others.send(other, input);
        if self.ending && taken == input.len() {
            cx.others.half_close(other);
        }
        Ok(taken)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        // There is room: offer the other side the input that it did not consume.
        self.other().map(|other| cx.others.wake(other));
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.ending = cx.unread() > 0;
        if let Some(other) = self.other().filter(|_| !self.ending) {
            cx.others.half_close(other);
        }
        Ok(())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        // If this side finished in good order, the other does too. An error ends both sides.
        if let Some(other) = self.other().filter(|_| closed.reason != Reason::Finished) {
            eprintln!("{}: {}", closed.peer, closed.reason);
            others.abort(other);
        }
    }
}

/// The accepted side of a relay to `target`.
pub fn relay(target: SocketAddr) -> impl Handler {
    Side {
        other: Other::Target(target),
        ending: false,
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut address = |default: &str| {
        args.next()
            .unwrap_or(default.to_string())
            .parse()
            .map_err(Error::other)
    };
    let (own, target) = (address("127.0.0.1:7000")?, address("127.0.0.1:7007")?);
    let mut reactor = Reactor::new(Config::default())?;
    let id = reactor.listen(own, move |_| Some(relay(target)))?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
