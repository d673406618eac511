//! A client that is silent does not hold up others.

use super::{Check, bystander, look_at, still_served};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;

pub const CHECK: Check = Check {
    chapter: 5,
    title: "a second client is served while the first is silent",
    hint: "A blocking read waits for one peer. Let epoll (or poll) wait for all sockets at once, the listener among them, and \
           read only from a socket that is reported. If waiting fails with EINTR, wait again: signal(7).",
    run: |subject| look_at(subject.start(), look),
};

fn look(program: &mut Program) -> Result<String, Failure> {
    // Served once, so that it is known to be accepted; silent from then on.
    let mut first = bystander(program)?;
    let mut second = Peer::connect(program.port)?;
    second.echo(2).map_err(|failure| {
        failure.after("a first client was served and is silent, a second one sent 2 bytes")
    })?;
    still_served(&mut first, "after a second client was served")?;
    Ok("a second client was served while the first was silent: 2 of 2 bytes came back".to_string())
}
