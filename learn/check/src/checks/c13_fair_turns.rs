//! A flooder does not hold up a small message.

use super::{Check, NO_STRACE, Verdict, greet, look_at};
use crate::peer::{PATIENCE, Peer};
use crate::program::{Program, Subject};
use crate::receipt::Failure;
use crate::trace::{Line, Trace};
use std::time::Instant;

pub const CHECK: Check = Check {
    chapter: 13,
    title: "a small message waits for at most two turns of a flooder",
    hint: "Reading until EAGAIN takes as long as the peer likes. Give each connection a bounded turn, say one read. A connection that has \
           more goes to the end of a queue, and the program does not sleep while anyone is in it.",
    run,
};

const FLOOD: u64 = 4 << 20;

/// Two reads, however large, or many reads that are no more than this together.
const READS: usize = 2;
const BYTES: i64 = 65_536;

fn run(subject: &Subject) -> Verdict {
    let Some(trace) = Trace::new() else {
        return Verdict::Unchecked(NO_STRACE.to_string());
    };
    look_at(subject.start_with(&trace.wrapper(), &[]), |program| {
        let (flooder, pinger) = flood(program)?;
        program.end();
        judge(&trace.text()?, &flooder, &pinger)
    })
}

/// The flooder's bytes and the small message are both there when the program goes on.
fn flood(program: &Program) -> Result<(Peer, Peer), Failure> {
    let mut flooder = Peer::connect(program.port)?;
    let mut pinger = Peer::connect(program.port)?;
    greet(&mut flooder)?;
    greet(&mut pinger)?;
    program.stop();
    flooder.push(FLOOD);
    pinger.push(4);
    program.go_on();
    flood_until_answered(&mut flooder, &mut pinger)
        .map_err(|failure| failure.after("beside a flooder, a client sent 2 bytes"))?;
    flooder
        .exchange(FLOOD, FLOOD)
        .complete()
        .map_err(|failure| failure.after("a flooder sent and received all the time"))?;
    Ok((flooder, pinger))
}

/// The flooder sends and receives all the while.
fn flood_until_answered(flooder: &mut Peer, pinger: &mut Peer) -> Result<(), Failure> {
    let mut progress = Instant::now();
    loop {
        pinger.pull(4);
        if pinger.is_served() || pinger.is_over() || progress.elapsed() > PATIENCE {
            return pinger.exchange(4, 4).complete();
        }
        if flooder.push(FLOOD) | flooder.pull(FLOOD) {
            progress = Instant::now();
        }
    }
}

/// Counts the flooder's bytes that the program read between going on and answering.
fn judge(trace: &str, flooder: &Peer, pinger: &Peer) -> Result<String, Failure> {
    let lines: Vec<Line<'_>> = trace.lines().filter_map(Line::parse).collect();
    let is_start = |line: &Line<'_>| line.name == "SIGCONT";
    let start = lines.iter().rposition(is_start);
    let start = start.ok_or("strace saw no SIGCONT".to_string())?;
    let is_answer = |line: &&Line<'_>| !(line.writes() && line.is_about(pinger.port));
    let before = lines[start..].iter().take_while(is_answer);
    let turns = before.filter(|line| line.reads() && line.is_about(flooder.port));
    let bytes: Vec<i64> = turns.filter_map(|line| line.result).collect();
    let total: i64 = bytes.iter().sum();
    let seen = format!(
        "a small message came behind a flooder: {total} bytes of the flooder, in {} reads, were read before its answer",
        bytes.len()
    );
    if bytes.len() > READS && total > BYTES {
        return Err(seen.into());
    }
    Ok(seen)
}
