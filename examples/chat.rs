//! A chat: a line from one member is sent to all others. `cargo run --example chat [ADDRESS]`, then
//! `nc` in several terminals.
//!
//! It shows connections that reach each other. Handlers share the list of members (in an `Rc`,
//! because all run on one thread) and send by id. A member that does not read fills only its own
//! output buffer. `room_of` tells how many bytes `send` would take. A line that does not fit is
//! left out as a whole, and when the member reads again it is told how many lines it missed.

use doorkeeper::frame::{Decoded, Lines};
use doorkeeper::{Closed, Config, Context, Handler, Id, Others, Reactor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::rc::Rc;

/// The longest line, in bytes. A longer one is an error; without a maximum, a line that never ends
/// would be waited for.
const LINE_MAX: usize = 1024;

/// The members, and how many lines each has missed.
pub type Members = Rc<RefCell<BTreeMap<Id, usize>>>;

struct Member {
    members: Members,
    lines: Lines,
}

impl Member {
    /// Sends a line to all other members, to each as a whole or not at all.
    fn tell_others(&self, cx: &mut Context<'_>, line: &[u8]) {
        let name = format!("{}: ", cx.peer());
        let message = [name.as_bytes(), line, b"\n"].concat();
        for (&id, missed) in self.members.borrow_mut().iter_mut() {
            if id == cx.id() {
                continue;
            }
            // A member that missed lines is told how many before it gets the next one.
            if *missed == 0 && cx.others.room(id) >= message.len() {
                cx.others.send(id, &message);
            } else {
                *missed += 1;
            }
        }
    }
}

impl Handler for Member {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.members.borrow_mut().insert(cx.id(), 0);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let mut consumed = 0;
        while let Decoded::Frame { payload, size } = self.lines.decode(&input[consumed..])? {
            self.tell_others(cx, payload);
            consumed += size;
        }
        Ok(consumed)
    }

    /// All output was sent, so there is room again.
    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let missed = self
            .members
            .borrow_mut()
            .get_mut(&cx.id())
            .map_or(0, std::mem::take);
        if missed > 0 {
            cx.write(format!("* you missed {missed} lines\n").as_bytes());
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.members.borrow_mut().remove(&closed.id);
    }
}

/// A member of the chat.
pub fn member(members: Members) -> impl Handler {
    let lines = Lines::new(LINE_MAX);
    Member { members, lines }
}

fn main() -> Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7100".to_string());
    let members = Members::default();
    let mut reactor = Reactor::new(Config::default())?;
    let id = reactor.listen(address.parse().map_err(Error::other)?, move |_| {
        Some(member(Rc::clone(&members)))
    })?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
