//! Chat: a line from one goes to all the others. `cargo run --example chat [ADDRESS]`, then `nc` from several terminals.
//!
//! What to see here: handlers share a list of members (one thread, so `Rc` will do) and reach each other by id. `room_of`
//! tells what `send` would take. A member that does not read fills its own buffer and no more; a line that does not fit is not
//! sent in part, but left out whole, and the member is told how many it missed once it reads again.

use doorkeeper::{Closed, Config, Context, Handler, Id, Reactor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::rc::Rc;

/// A longer line is an error: it would otherwise be waited for without end.
const LINE_MAX: usize = 1024;

/// Who is here, and how many lines each missed.
type Members = Rc<RefCell<BTreeMap<Id, usize>>>;

struct Member {
    members: Members,
}

impl Member {
    /// Gives a line to everyone else, whole or not at all.
    fn tell_others(&self, cx: &mut Context<'_>, line: &[u8]) {
        let name = format!("{}: ", cx.peer());
        let message = [name.as_bytes(), line, b"\n"].concat();
        for (&id, missed) in self.members.borrow_mut().iter_mut() {
            if id == cx.id() {
                continue;
            }
            // Whoever missed a line is told so before it gets the next.
            if *missed == 0 && cx.room_of(id) >= message.len() {
                cx.send(id, &message);
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
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let line = input[consumed..consumed + length].trim_ascii_end();
            if line.len() > LINE_MAX {
                return Err(Error::other("line too long"));
            }
            self.tell_others(cx, line);
            consumed += length + 1;
        }
        if input.len() - consumed > LINE_MAX {
            Err(Error::other("line too long"))
        } else {
            Ok(consumed)
        }
    }

    /// Everything has left, so there is room again.
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

    fn on_close(&mut self, cx: &mut Context<'_>, _closed: &Closed) {
        self.members.borrow_mut().remove(&cx.id());
    }
}

fn main() -> Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7100".to_string());
    let members = Members::default();
    let mut reactor = Reactor::new(Config::default())?;
    let service = move |_peer| {
        Some(Member {
            members: Rc::clone(&members),
        })
    };
    let id = reactor.listen(address.parse().map_err(Error::other)?, service)?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
