//! Clients that arrive together are all accepted.

use super::{Check, look_at, unserved};
use crate::peer::{PATIENCE, Peer, count_served};
use crate::program::Program;
use crate::receipt::Failure;

pub const CHECK: Check = Check {
    chapter: 6,
    title: "five clients that arrive together are all served",
    hint: "An edge-triggered poller reports that clients have come, once, however many they are. Accept until accept says \
           EAGAIN. The program is stopped while they connect: if it ended, it took EINTR for an error (signal(7)).",
    run: |subject| look_at(subject.start(), look),
};

const CLIENTS: usize = 5;

fn look(program: &mut Program) -> Result<String, Failure> {
    program.stop();
    let connect = |_| Peer::connect(program.port);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(connect).collect::<Result<_, _>>()?;
    for peer in &mut peers {
        peer.push(2);
    }
    program.go_on();
    let served = count_served(&mut peers, PATIENCE);
    let seen = format!("{CLIENTS} clients arrived together: {served} of them were served");
    if served < CLIENTS {
        return Err(unserved(seen, &peers));
    }
    Ok(seen)
}
