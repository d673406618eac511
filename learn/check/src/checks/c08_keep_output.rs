//! Output that the kernel does not take at once is sent later.

use super::{Check, bystander, look_at, still_served};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;
use std::time::Duration;

pub const CHECK: Check = Check {
    chapter: 8,
    title: "a peer that reads late gets every byte of 8 MiB",
    hint: "A non-blocking write takes what the socket's send buffer has room for, which may be less than all, or nothing \
           (EAGAIN). Keep the rest with the connection, and send it when the poller reports the socket writable.",
    run: |subject| look_at(subject.start(), look),
};

const BYTES: u64 = 8 << 20;

/// After this long without progress the kernel's buffers are taken to be full.
const QUIET: Duration = Duration::from_millis(300);

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut bystander = bystander(program)?;
    let mut peer = Peer::connect_from_afar(program.port)?;
    peer.send_without_reading(BYTES, QUIET);
    let unread = peer.sent;
    still_served(&mut bystander, "while a client does not read")?;
    peer.exchange(BYTES, BYTES).complete().map_err(|failure| {
        failure.after(format!("a client sent {unread} bytes, then began to read"))
    })?;
    Ok(format!(
        "a client sent {unread} bytes before it began to read: all {BYTES} bytes came back"
    ))
}
