//! A TCP relay: each connection it accepts is connected to the target.
//! `cargo run --example relay [ADDRESS [TARGET]]`.
//!
//! It shows backpressure from end to end. Both sides have the same handler. A side sends its input
//! to the other side and consumes no more than that takes, so a slow reader at one end slows the
//! sender at the other, and the relay's buffers stay bounded. When one peer ends its output, the
//! relay passes on all of it and then half-closes the other side, so an answer can still come back.

use doorkeeper::{Arrival, Closed, Config, Context, Handler, Id, Others, Reactor, Reason};
use std::cell::Cell;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::rc::Rc;

/// One of the two connections of a client.
#[derive(Debug)]
pub struct Side {
    /// The other connection of the pair.
    other: Id,
    /// This side holds input that the other one had no room for; and the reverse.
    waits: Rc<Cell<bool>>,
    other_waits: Rc<Cell<bool>>,
    /// The peer has ended its output, and some of its bytes are not passed on yet.
    ending: bool,
}

impl Handler for Side {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.on_drain(cx)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let taken = cx.others.send(self.other, input);
        self.waits.set(taken < input.len());
        if self.ending && taken == input.len() {
            cx.others.half_close(self.other);
        }
        Ok(taken)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        // There is room: the other side is offered the input again that it did not consume.
        if self.other_waits.get() {
            cx.others.wake(self.other);
        }
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.ending = cx.unread() > 0;
        if !self.ending {
            cx.others.half_close(self.other);
        }
        Ok(())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        // If this side finished in good order, the other does too. An error ends both sides.
        if closed.reason != Reason::Finished {
            eprintln!("{}: {}", closed.peer, closed.reason);
            others.abort(self.other);
        }
    }
}

/// A service that connects each client to `target`.
pub fn relay(target: SocketAddr) -> impl FnMut(&mut Arrival<'_>) -> Option<Side> {
    move |arrival| {
        let [near, far] = [(); 2].map(|()| Rc::<Cell<bool>>::default());
        let onward = Side {
            other: arrival.id,
            waits: Rc::clone(&far),
            other_waits: Rc::clone(&near),
            ending: false,
        };
        Some(Side {
            other: arrival.others.connect(target, onward).ok()?,
            waits: near,
            other_waits: far,
            ending: false,
        })
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
    let id = reactor.listen(own, relay(target))?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
