//! The comparison.

use super::super::world::Rule;
use super::script::{Op, script};
use super::side::Side;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each script has an address of its own, so no other script can listen at a port that it closed.
fn address(number: u64) -> Ipv4Addr {
    let [.., a, b] = ((number % 60_000) as u32 + 1000).to_be_bytes();
    Ipv4Addr::new(127, 77, a, b)
}

/// What the simulation answers.
fn simulated(number: u64, script: &[Op], broken: Option<Rule>) -> Vec<String> {
    let mut side = Side::simulation(address(number), broken);
    side.run(script);
    side.log
}

/// The first result that differs. The kernel has more time in each further try: an acknowledgement
/// may be later than was waited for, and a script may be so slow that a SYN was sent again.
fn difference(number: u64, broken: Option<Rule>) -> Option<String> {
    let script = script(number);
    let simulation = simulated(number, &script, broken);
    let mut found = None;
    for attempt in 0..5 {
        let patience = Duration::from_millis(90 + 30 * attempt);
        let mut kernel = Side::kernel(address(number), patience);
        kernel.run(&script);
        let real = &kernel.log;
        let at = (0..real.len()).find(|&at| real[at] != simulation[at])?;
        let late = if kernel.is_late() { " (late)" } else { "" };
        found = Some(format!(
            "script {number}{late}\n  {}\nkernel:     {}\nsimulation: {}",
            real[..at].join("\n  "),
            real[at],
            simulation[at]
        ));
    }
    found
}

/// Runs scripts on many threads, because each sleeps most of its time, until `enough` differ.
fn compare(numbers: Range<u64>, broken: Option<Rule>, enough: usize) -> Vec<String> {
    let (next, found) = (AtomicU64::new(numbers.start), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end || found.lock().unwrap().len() >= enough {
                break;
            }
            if let Some(difference) = difference(number, broken) {
                found.lock().unwrap().push(difference);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap()
}

/// 2,000 scripts, or those that DOORKEEPER_SCRIPTS names, as in `2000..9000`.
#[test]
fn scripts_have_the_results_that_they_have_on_linux() {
    let mut numbers = 0..2000;
    if let Ok(text) = std::env::var("DOORKEEPER_SCRIPTS") {
        let (from, to) = text.split_once("..").unwrap();
        numbers = from.parse().unwrap()..to.parse().unwrap();
    }
    let found = compare(numbers, None, 6);
    assert!(found.is_empty(), "these differ:\n{}", found.join("\n\n"));
}

#[test]
fn a_broken_rule_of_the_kernel_is_found() {
    let rules = [
        Rule::HalfClose,
        Rule::ResetOnUnread,
        Rule::OneMore,
        Rule::Edge,
        Rule::KeptByReset,
        Rule::OwnShutdown,
    ];
    for rule in rules {
        let found = compare(0..2000, Some(rule), 1);
        assert!(!found.is_empty(), "{rule:?} is broken, and nothing differs");
    }
}

/// A comparison finds only what its scripts reach.
#[test]
fn the_scripts_reach_every_kind_of_result() {
    let mut lines = String::new();
    for number in 0..2000 {
        lines.push_str(&simulated(number, &script(number), None).join("\n"));
    }
    let after = |op: &str, result: &str| {
        let mut lines = lines.lines().filter(|line| line.starts_with(op));
        lines.any(|line| line.ends_with(result) || line.contains(&format!(": {result}")))
    };
    for (op, results) in [
        ("Accept", "stream|WouldBlock"),
        ("Connect", "stream"),
        (
            "Read",
            "0|WouldBlock|NotConnected|ConnectionRefused|ConnectionReset",
        ),
        (
            "Write",
            "BrokenPipe|WouldBlock|ConnectionRefused|ConnectionReset",
        ),
        ("Drain", "then 0|read: true, all of it: Some(true)"),
        ("Fill", "wrote: true, then WouldBlock"),
        ("Shutdown", "()|NotConnected"),
        (
            "TakeError",
            "()|BrokenPipe|ConnectionRefused|ConnectionReset",
        ),
        ("PeerAddr", "Some|NotConnected"),
        ("AcceptQueue", "Some(AcceptQueue { depth: 3, limit: 2 })"),
        ("Pass", "passed"),
        (
            "Wait",
            "0 Readiness(1)|0 Readiness(3)|0 Readiness(4)|0 Readiness(7)|1000 Readiness(1)",
        ),
    ] {
        for result in results.split('|') {
            assert!(after(op, result), "no {op} with the result {result}");
        }
    }
}
