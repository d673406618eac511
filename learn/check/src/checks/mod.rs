//! The checks of chapters 05 to 15, and that of 01.

mod c01_call_order;
mod c05_the_loop;
mod c06_drain_accept;
mod c07_drain_peer;
mod c08_keep_output;
mod c09_bound_output;
mod c10_half_close;
mod c11_out_of_descriptors;
mod c12_small_answers;
mod c13_fair_turns;
mod c14_names;
mod c15_deadlines;

use crate::peer::Peer;
use crate::program::{Program, Subject};
use crate::receipt::Failure;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The verdict on a program, with what was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has the behaviour that the chapter asks for.
    Pass(String),
    /// It does not have it.
    Fail(String),
    /// Something that the check needs is missing.
    Unchecked(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Pass(seen) => write!(f, "pass: {seen}"),
            Verdict::Fail(seen) => write!(f, "FAIL: {seen}"),
            Verdict::Unchecked(missing) => write!(f, "NOT CHECKED: {missing}"),
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// The number of its chapter.
    pub chapter: u8,
    /// The behaviour that it asks for.
    pub title: &'static str,
    /// A hint for a program that fails.
    pub hint: &'static str,
    run: fn(&Subject) -> Verdict,
}

/// The check of chapter 01. It is not about a loop yet, so no step passes it.
pub const FIRST: Check = c01_call_order::CHECK;

/// The checks of the ladder, in the order of the chapters.
pub const CHECKS: [Check; 11] = [
    c05_the_loop::CHECK,
    c06_drain_accept::CHECK,
    c07_drain_peer::CHECK,
    c08_keep_output::CHECK,
    c09_bound_output::CHECK,
    c10_half_close::CHECK,
    c11_out_of_descriptors::CHECK,
    c12_small_answers::CHECK,
    c13_fair_turns::CHECK,
    c14_names::CHECK,
    c15_deadlines::CHECK,
];

impl Check {
    /// Starts the program, looks at it, and ends it.
    pub fn run(&self, subject: &Subject) -> Verdict {
        (self.run)(subject)
    }
}

/// How many checks are run at once. They wait more than they work.
const AT_ONCE: usize = 4;

/// Runs all checks, several at once, and returns the verdicts in the order of the chapters. So it is for programs that choose a
/// free port.
pub fn run_all(subject: impl Fn(u8) -> Subject + Sync) -> Vec<(u8, Verdict)> {
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run_some = || {
        while let Some(check) = CHECKS.get(next.fetch_add(1, Relaxed)) {
            let verdict = check.run(&subject(check.chapter));
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.push((check.chapter, verdict));
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(run_some))));
    let mut verdicts = verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|(chapter, _)| *chapter);
    verdicts
}

/// Runs a check on a program that has started, or says why it has not. A failure also says if the program has ended.
fn look_at(
    started: Result<Program, String>,
    look: impl FnOnce(&mut Program) -> Result<String, Failure>,
) -> Verdict {
    let mut program = match started {
        Ok(program) => program,
        Err(seen) => return Verdict::Fail(seen),
    };
    match look(&mut program) {
        Ok(seen) => Verdict::Pass(seen),
        Err(failure) if failure.broken => Verdict::Fail(failure.seen + &program.obituary()),
        Err(failure) => Verdict::Fail(failure.seen),
    }
}

/// The reason where strace is missing.
const NO_STRACE: &str = "strace is missing, so system calls cannot be counted";

/// Some clients were not served.
fn unserved(seen: String, peers: &[Peer]) -> Failure {
    Failure {
        seen,
        broken: peers.iter().any(Peer::is_over),
    }
}

/// A client that is served, and then silent. Every check has one, because a server that serves one client at a time passes
/// many of them otherwise.
fn bystander(program: &Program) -> Result<Peer, Failure> {
    let mut peer = Peer::connect(program.port)?;
    peer.echo(2)
        .map_err(|failure| failure.after("a first client sent 2 bytes"))?;
    Ok(peer)
}

/// One more client is served, so that it is known to be accepted.
fn greet(peer: &mut Peer) -> Result<(), Failure> {
    peer.echo(2)
        .map_err(|failure| failure.after("another client sent 2 bytes"))
}

/// The bystander is served again.
fn still_served(bystander: &mut Peer, when: &str) -> Result<(), Failure> {
    bystander
        .echo(2)
        .map_err(|failure| failure.after(format!("{when}, another client sent 2 bytes")))
}
