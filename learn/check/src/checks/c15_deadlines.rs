//! Idle peers are closed on time, and waiting for that costs nothing.

use super::{Check, greet, look_at};
use crate::peer::{Peer, wait_for_any};
use crate::program::Program;
use crate::receipt::Failure;
use std::time::{Duration, Instant};

pub const CHECK: Check = Check {
    chapter: 15,
    title: "peers that are silent for IDLE_MS are closed on time, and waiting costs nothing",
    hint: "The environment variable IDLE_MS says after how many milliseconds of silence a peer is closed. Keep all deadlines in \
           one ordered set, and sleep until the first of them, not for a fixed time.",
    run: |subject| look_at(subject.start_with(&[], &[("IDLE_MS", "500")]), look),
};

const IDLE: Duration = Duration::from_millis(500);

/// A busy machine may be this late. The kernel rounds sleeps up to milliseconds.
const LATE: Duration = Duration::from_millis(500);
const EARLY: Duration = Duration::from_millis(2);

const SILENT: usize = 20;

/// How often the peer that is not idle sends.
const PAUSE: Duration = Duration::from_millis(200);

fn look(program: &mut Program) -> Result<String, Failure> {
    let (cpu, sleeps) = (program.cpu(), program.sleeps());
    // One peer alone: nothing but its deadline wakes the program.
    let mut latest = closed_within(&mut vec![silent_peer(program)?], IDLE + 2 * LATE)?;

    let mut active = Peer::connect(program.port)?;
    greet(&mut active)?;
    let silent: Result<_, _> = (0..SILENT).map(|_| silent_peer(program)).collect();
    let mut silent: Vec<(Instant, Peer)> = silent?;
    let mut asked = 0;
    while !silent.is_empty() {
        ask(&mut active)?;
        asked += 1;
        latest = latest.max(closed_within(&mut silent, PAUSE)?);
    }
    ask(&mut active)?;

    let cpu = program.cpu().saturating_sub(cpu);
    // Once for each answer and for each deadline, and as often again for reasons of its own.
    let allowed = 2 * (asked + 2 * SILENT as u64) + 10;
    let sleeps = program.sleeps().saturating_sub(sleeps);
    let seen = format!(
        "{SILENT} peers were silent for {} ms and closed, {} ms late at most; the program woke {sleeps} times and used {} ms of a \
         processor",
        IDLE.as_millis(),
        latest.as_millis(),
        cpu.as_millis()
    );
    if sleeps > allowed || cpu > Duration::from_millis(100) {
        return Err(seen.into());
    }
    Ok(seen)
}

/// A peer that has been served once, and the time before that.
fn silent_peer(program: &Program) -> Result<(Instant, Peer), Failure> {
    let mut peer = Peer::connect(program.port)?;
    let start = Instant::now();
    greet(&mut peer)?;
    Ok((start, peer))
}

fn ask(active: &mut Peer) -> Result<(), Failure> {
    active
        .echo(2)
        .map_err(|failure| failure.after("a peer that was not idle sent 2 bytes"))
}

/// Waits for silent peers to be closed; says how late the latest was.
fn closed_within(silent: &mut Vec<(Instant, Peer)>, pause: Duration) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut latest = Duration::ZERO;
    while let Some(rest) = pause.checked_sub(start.elapsed())
        && !silent.is_empty()
    {
        let mut failure = None;
        silent.retain_mut(|(since, peer)| {
            let closed = peer.is_closed_within(Duration::ZERO);
            let silent_for = since.elapsed();
            if closed && silent_for + EARLY < IDLE {
                failure = Some(format!(
                    "a peer was closed after {} ms",
                    silent_for.as_millis()
                ));
            } else if !closed && silent_for > IDLE + LATE {
                failure = Some(format!(
                    "a peer is still there after {} ms",
                    silent_for.as_millis()
                ));
            } else if closed {
                latest = latest.max(silent_for.saturating_sub(IDLE));
            }
            !closed
        });
        if let Some(failure) = failure {
            let seen = format!("IDLE_MS is {}: {failure} of silence", IDLE.as_millis());
            return Err(seen.into());
        }
        let peers: Vec<&Peer> = silent.iter().map(|(_, peer)| peer).collect();
        // Not longer than half of the time in which a peer may be late.
        wait_for_any(&peers, rest.min(LATE / 2));
    }
    Ok(latest)
}
