//! A peer that has ended its side still gets its answer, whole.

use super::{Check, bystander, greet, look_at, still_served};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;

pub const CHECK: Check = Check {
    chapter: 10,
    title: "a peer that half-closes gets every byte, whatever the size, and then the end",
    hint: "A read of 0 bytes says that the peer has ended its side: it will send no more (RFC 9293, section 3.6). It may still \
           read. Close the connection when all output is sent, not before.",
    run: |subject| look_at(subject.start(), look),
};

/// Small enough for any program to hold several, however little it allows itself.
const PIECE: u64 = 16_384;

/// More than the kernel's buffers take.
const MOST: u64 = 32 << 20;

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut bystander = bystander(program)?;
    for size in [2, 4096, 4097] {
        data_and_end_together(program, size)?;
    }
    let mut seen = String::new();
    for _ in 0..2 {
        let mut peer = Peer::connect_from_afar(program.port)?;
        let held = make_it_hold_output(program, &mut peer)?;
        let size = peer.sent;
        // The program meets the end while it holds output: it must not find room for that first.
        peer.half_close();
        program.bytes_held(&peer);
        half_closed(&mut peer, size)
            .map_err(|failure| failure.after(format!("the program held {held} bytes of output")))?;
        seen = format!(
            "a client sent {size} bytes and ended its side while the program held {held} of them"
        );
    }
    let mut peer = Peer::connect_from_afar(program.port)?;
    half_closed(&mut peer, 8 << 20)?;
    still_served(&mut bystander, "after that")?;
    Ok(format!("{seen}: all came back, then the end"))
}

/// The program finds the bytes and the end at the same time.
fn data_and_end_together(program: &Program, size: u64) -> Result<(), Failure> {
    let mut peer = Peer::connect(program.port)?;
    greet(&mut peer)?;
    program.stop();
    let total = peer.sent + size;
    peer.push(total);
    peer.half_close();
    program.go_on();
    half_closed(&mut peer, total)
        .map_err(|failure| failure.after("the last bytes and the end came together"))
}

fn half_closed(peer: &mut Peer, size: u64) -> Result<(), Failure> {
    let context = format!("a client sent {size} bytes, ended its side and read");
    let receipt = peer.exchange_to_end(size).complete_and_closed();
    receipt.map_err(|failure| failure.after(context))
}

/// Sends until the kernel takes no more of the program's output, so that the program has to keep some.
fn make_it_hold_output(program: &Program, peer: &mut Peer) -> Result<u64, Failure> {
    greet(peer)?;
    loop {
        peer.push(peer.sent + PIECE);
        let mut held = program.bytes_held(peer);
        if held > 0 {
            held = program.bytes_held_at_rest(peer);
        }
        if held > 0 || peer.is_over() || peer.sent > MOST {
            return Ok(held);
        }
    }
}
