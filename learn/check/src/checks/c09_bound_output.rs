//! A peer that never reads costs a bounded amount of memory.

use super::{Check, bystander, greet, look_at, still_served};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;
use std::time::Duration;

pub const CHECK: Check = Check {
    chapter: 9,
    title: "a peer that sends 64 MiB and does not read costs little memory, and loses nothing",
    hint: "Stop reading from a connection that has much output waiting. Its receive buffer fills, its window closes (RFC \
           9293, section 3.8.6), and the peer has to wait. Do not forget to read on when the output has gone: what waits in \
           the receive buffer had its event long ago.",
    run: |subject| look_at(subject.start(), look),
};

const BYTES: u64 = 64 << 20;
const LIMIT: u64 = 16 << 20;

/// After this long without progress the program is taken to read no more.
const QUIET: Duration = Duration::from_millis(500);

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut bystander = bystander(program)?;
    let mut peer = Peer::connect_from_afar(program.port)?;
    greet(&mut peer)?;
    let before = program.memory();
    peer.send_without_reading(BYTES, QUIET);
    let grown = program.memory().saturating_sub(before);
    let sent = peer.sent;
    let seen =
        format!("a client sent {sent} bytes and read none: the program grew by {grown} bytes");
    if grown > LIMIT {
        return Err(seen.into());
    }
    still_served(&mut bystander, &seen)?;
    peer.exchange(sent, sent)
        .complete()
        .map_err(|failure| failure.after(format!("{seen}; then the client began to read")))?;
    Ok(seen)
}
