//! Without a free descriptor a program waits, uses no processor, and serves all clients in the end.

use super::{Check, bystander, look_at, still_served, unserved};
use crate::peer::{PATIENCE, Peer, count_served, wait_for_any};
use crate::program::Program;
use crate::receipt::Failure;
use std::time::{Duration, Instant};

pub const CHECK: Check = Check {
    chapter: 11,
    title: "with ten descriptors for forty clients it waits, and serves them all in the end",
    hint: "accept fails with EMFILE when no descriptor is free (accept(2)). The client stays in the accept queue, and no \
           event follows when a descriptor is free again. Do not end, do not try again at once: try again after a while, or \
           when a connection has ended.",
    run: |subject| look_at(subject.start(), look),
};

const DESCRIPTORS: u64 = 10;
const CLIENTS: usize = 40;

/// For how long the processor time of the starved program is measured, how much it may use, and for how long it may be awake: on
/// a busy machine it may have to wait for a processor.
const STARVED: Duration = Duration::from_secs(1);
const CPU: Duration = Duration::from_millis(100);
const AWAKE: Duration = Duration::from_millis(700);

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut bystander = bystander(program)?;
    program.limit_descriptors(DESCRIPTORS)?;
    program.stop();
    let connect = |_| Peer::connect(program.port);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(connect).collect::<Result<_, _>>()?;
    for peer in &mut peers {
        peer.push(2);
    }
    program.go_on();
    let first = count_served(&mut peers, Duration::from_millis(300));
    let seen = format!(
        "{DESCRIPTORS} descriptors were free for {CLIENTS} clients: {first} were served at once"
    );
    if peers.iter().any(Peer::is_over) {
        return Err(unserved(seen, &peers));
    }
    still_served(&mut bystander, &seen)?;

    let before = (program.cpu(), program.awake());
    let start = Instant::now();
    std::thread::sleep(STARVED);
    let used = program.cpu().saturating_sub(before.0);
    let awake = program.awake().saturating_sub(before.1);
    let share = |time: Duration| 100 * time.as_millis() / start.elapsed().as_millis();
    let seen = format!("{seen}, and waiting cost {} % of a processor", share(used));
    if used > CPU {
        return Err(seen.into());
    }
    if awake > AWAKE {
        let seen = format!("{seen}: it was awake for {} % of the time", share(awake));
        return Err(seen.into());
    }
    let left = serve_in_turn(peers);
    if left > 0 {
        let seen = format!("{seen}; the served ones left, but {left} were never served");
        return Err(seen.into());
    }
    still_served(&mut bystander, "after that")?;
    Ok(format!(
        "{seen}; the served ones left, and all others were served"
    ))
}

/// Each client leaves when it is served, which frees a descriptor. Returns how many never are.
fn serve_in_turn(mut peers: Vec<Peer>) -> usize {
    loop {
        peers.retain(|peer| !peer.is_served());
        if peers.is_empty() || !wait_for_any(&peers, PATIENCE) {
            return peers.len();
        }
        for peer in &mut peers {
            peer.pull(peer.sent);
        }
        if peers.iter().any(Peer::is_over) {
            return peers.len();
        }
    }
}
