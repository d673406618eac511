//! The name of a connection that is gone names nothing.

use super::{Check, look_at};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;
use std::time::Duration;

pub const CHECK: Check = Check {
    chapter: 14,
    title: "an order that comes too late does not reach a newcomer",
    hint: "Two lines are orders, each in one send: `who` is answered with a line, the name of the own connection (one word); \
           `close NAME` closes the connection of that name. A slot, and a descriptor too, gets a new owner as soon as it is \
           free. Add a serial that never returns, and compare it wherever a name is used.",
    run: |subject| look_at(subject.start(), look),
};

/// One of them gets the slot, or the descriptor, of the closed connection.
const NEWCOMERS: usize = 3;

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut boss = Peer::connect(program.port)?;
    let mut victim = Peer::connect(program.port)?;
    let name = name_of(&mut victim)?;
    boss.say(&format!("close {name}\n"))?;
    if !victim.is_closed_within(Duration::from_secs(3)) {
        let seen = format!("`close {name}` was sent, but connection {name} is still open");
        return Err(seen.into());
    }

    let newcomers: Result<Vec<Peer>, Failure> = (0..NEWCOMERS)
        .map(|_| Peer::connect(program.port))
        .collect();
    let mut newcomers = newcomers?;
    let mut names = Vec::new();
    for newcomer in &mut newcomers {
        names.push(name_of(newcomer)?);
    }
    boss.say(&format!("close {name}\n"))?;
    // An order is echoed once it is carried out; the first one was, too.
    for _ in 0..2 {
        boss.hear()?;
    }
    for (newcomer, own) in newcomers.iter_mut().zip(&names) {
        name_of(newcomer).map_err(|_| {
            format!("{name} was closed, then {own} came; a late `close {name}` closed the newcomer")
        })?;
    }
    Ok(format!(
        "{name} was closed, then {} came; a late `close {name}` closed none of them",
        names.join(", ")
    ))
}

fn name_of(peer: &mut Peer) -> Result<String, Failure> {
    peer.say("who\n")?;
    let name = peer
        .hear()
        .map_err(|failure| failure.after("`who` was not answered"))?;
    if name == "who" {
        let seen = "`who` was echoed: its connections have no names";
        return Err(seen.to_string().into());
    }
    Ok(name)
}
