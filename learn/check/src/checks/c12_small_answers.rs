//! A small message costs one read and one write.

use super::{Check, NO_STRACE, Verdict, look_at, unserved};
use crate::peer::{PATIENCE, Peer, count_served};
use crate::program::{Program, Subject};
use crate::receipt::Failure;
use crate::trace::{Line, Trace};
use std::cmp::Reverse;
use std::collections::BTreeMap;

pub const CHECK: Check = Check {
    chapter: 12,
    title: "a small message costs one read and one write, and no other system call on its connection",
    hint: "A read that gives less than it was asked for has emptied the socket: the next one would only say EAGAIN. Bytes \
           that come later have an event of their own. One exception is the end of the stream: if the event says that the peer has \
           ended (EPOLLRDHUP), read until read returns 0.",
    run,
};

const PINGERS: usize = 8;
const FLOODERS: usize = 2;
const ROUNDS: u64 = 25;
const PING: u64 = 64;
const FLOOD: u64 = 32_768;

/// System calls on its connection for each message. A read that finds nothing makes it three. The cost of opening a connection
/// is in it, spread over the messages.
const LIMIT: f64 = 2.6;

fn run(subject: &Subject) -> Verdict {
    let Some(trace) = Trace::new() else {
        return Verdict::Unchecked(NO_STRACE.to_string());
    };
    look_at(subject.start_with(&trace.wrapper(), &[]), |program| {
        let peers = ping(program)?;
        program.end();
        judge(&trace.text()?, &peers)
    })
}

/// Every client sends, and waits until all have their answers, round after round.
fn ping(program: &Program) -> Result<Vec<Peer>, Failure> {
    let connect = |_| Peer::connect(program.port);
    let mut peers: Vec<Peer> = (0..FLOODERS + PINGERS)
        .map(connect)
        .collect::<Result<_, _>>()?;
    for round in 1..=ROUNDS {
        for (number, peer) in peers.iter_mut().enumerate() {
            let bytes = if number < FLOODERS { FLOOD } else { PING };
            peer.push(peer.sent + bytes);
        }
        let served = count_served(&mut peers, PATIENCE);
        let seen = format!(
            "{PINGERS} clients sent {PING} bytes and {FLOODERS} sent {FLOOD}: in round {round}, {served} of {} got all of them back",
            peers.len()
        );
        if served < peers.len() {
            return Err(unserved(seen, &peers));
        }
    }
    Ok(peers)
}

fn judge(trace: &str, peers: &[Peer]) -> Result<String, Failure> {
    let pingers = &peers[FLOODERS..];
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for line in trace.lines().filter_map(Line::parse) {
        if pingers.iter().any(|peer| line.is_about(peer.port)) {
            *calls.entry(line.name).or_default() += 1;
        }
    }
    let messages = (PINGERS as u64 * ROUNDS) as f64;
    let total = calls.values().sum::<usize>() as f64 / messages;
    let mut most: Vec<(&str, usize)> = calls.into_iter().collect();
    most.sort_by_key(|(_, count)| Reverse(*count));
    let share = |(name, count): &(&str, usize)| format!("{name} {:.1}", *count as f64 / messages);
    let shares: Vec<String> = most.iter().take(2).map(share).collect();
    let seen = format!(
        "a message of {PING} bytes cost {total:.1} system calls on its connection ({})",
        shares.join(", ")
    );
    // None at all: the program has ways that strace does not see.
    if total > LIMIT || total == 0.0 {
        return Err(seen.into());
    }
    Ok(seen)
}
