//! A TCP relay: who connects here is connected onward. `cargo run --example relay [ADDRESS [TARGET]]`.
//!
//! What to see here: both sides are the same handler. What one side reads it sends to the other, and consumes no more than the
//! other takes: a slow reader at one end holds back the sender at the other, and nothing piles up between. The end of one side
//! is carried across as a half-close, once all before it was passed on, so an answer can still come back.

use doorkeeper::{Closed, Config, Context, Handler, Id, Reactor, Reason};
use std::io::{Error, Result};
use std::net::SocketAddr;

enum Other {
    /// We were let in, and the way onward is yet to be asked for.
    Target(SocketAddr),
    Side(Id),
}

struct Side {
    other: Other,
    /// Our peer has ended, and some of what it sent is still to be passed on.
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
                self.other = Other::Side(cx.connect(target, onward)?);
            }
            // Connected: what has come in meanwhile may go on.
            Other::Side(other) => {
                cx.wake(other);
            }
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let Some(other) = self.other() else {
            return Ok(0);
        };
        let taken = cx.send(other, input);
        if self.ending && taken == input.len() {
            cx.half_close_of(other);
        }
        Ok(taken)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        // There is room here: what the other side left lying is offered to it again.
        self.other().map(|other| cx.wake(other));
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.ending = cx.unread() > 0;
        if let Some(other) = self.other().filter(|_| !self.ending) {
            cx.half_close_of(other);
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        // In good order both sides end by themselves. A trouble of one is the other's too.
        if let Some(other) = self.other().filter(|_| closed.reason != Reason::Finished) {
            eprintln!("{}: {}", cx.peer(), closed.reason);
            cx.close(other);
        }
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
    let id = reactor.listen(own, move |_peer| {
        Some(Side {
            other: Other::Target(target),
            ending: false,
        })
    })?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
