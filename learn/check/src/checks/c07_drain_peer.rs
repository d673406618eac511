//! Everything that a peer has sent is read, and a peer that breaks its connection breaks no other.

use super::{Check, bystander, greet, look_at, still_served};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;

pub const CHECK: Check = Check {
    chapter: 7,
    title: "20000 bytes that arrive together all come back, and a reset ends one connection only",
    hint: "An edge-triggered poller reports that bytes have come, once, however many they are. Read until read says EAGAIN. \
           An error of read or write (ECONNRESET, EPIPE) ends that connection: close it and go on.",
    run: |subject| look_at(subject.start(), look),
};

const BYTES: u64 = 20_000;

const RESET: &str = "after another client reset its connection";
const END_AND_RESET: &str = "after another client ended its side and reset its connection";

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut bystander = bystander(program)?;
    let mut peer = Peer::connect(program.port)?;
    greet(&mut peer)?;
    program.stop();
    peer.push(2 + BYTES);
    program.go_on();
    let mut receipt = peer.exchange(2 + BYTES, 2 + BYTES);
    // The first two were there to know that the connection was accepted.
    receipt.got -= 2;
    receipt.wanted -= 2;
    receipt.complete()?;
    still_served(&mut bystander, "after that")?;

    resets(program, &mut bystander)?;
    still_served(&mut bystander, RESET)?;
    Ok(format!(
        "{BYTES} of {BYTES} bytes came back; a reset ended one connection only"
    ))
}

/// A reset that waits behind data, one that waits behind data and a FIN, and one that comes in answer to the echo.
fn resets(program: &Program, bystander: &mut Peer) -> Result<(), Failure> {
    // The first write to a connection that was reset fails with ECONNRESET. If a FIN came before, it fails with EPIPE, and
    // SIGPIPE ends a program that does not ignore it: write(2).
    for (has_ended, when) in [(false, RESET), (true, END_AND_RESET)] {
        let mut peer = Peer::connect(program.port)?;
        greet(&mut peer)?;
        program.stop();
        peer.push(100);
        if has_ended {
            peer.half_close();
        }
        peer.reset();
        program.go_on();
        still_served(bystander, when)?;
    }

    let mut peer = Peer::connect(program.port)?;
    greet(&mut peer)?;
    peer.push(100);
    peer.reset();
    Ok(())
}
