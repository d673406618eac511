//! Character generator (RFC 864): a pattern of printable characters, without end.

use crate::{Closed, Context, Handler, Others, TimerKey};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

/// The 95 printable characters of ASCII, beginning with the space.
const RING: usize = 95;
/// Characters in a line, without its CR LF.
const LINE: usize = 72;
const LINE_BYTES: usize = LINE + 2;
/// After this many bytes the pattern repeats: line `n` begins with character `n` of the 95.
const PERIOD: usize = RING * LINE_BYTES;

/// The whole pattern once, computed when the program is built.
static PATTERN: [u8; PERIOD] = pattern();

const fn pattern() -> [u8; PERIOD] {
    let mut bytes = [0; PERIOD];
    let mut at = 0;
    while at < PERIOD {
        let (line, column) = (at / LINE_BYTES, at % LINE_BYTES);
        bytes[at] = match column {
            LINE => b'\r',
            column if column > LINE => b'\n',
            _ => b' ' + ((line + column) % RING) as u8,
        };
        at += 1;
    }
    bytes
}

/// Sends a pattern of lines of 72 characters, without end. Each line begins one character further
/// in the 95 printable characters, as inetd does it. Input is discarded. The pattern ends when the
/// peer closes, or the loop shuts down.
///
/// It writes when all earlier output has been sent, so it is never ahead of the socket by more than
/// [`output_max_bytes`](crate::Config::output_max_bytes). All its connections on a thread write about
/// 512 KiB in one turn of the loop, and the others wait in a queue for the next turn, because an
/// endless supply must not delay services that are asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chargen {
    /// The offset of the next byte in the pattern.
    at: usize,
    /// Its place in the queue, if it waits.
    ticket: Option<u64>,
}

/// After this many bytes in a turn, no other connection begins to write in it.
const SHARED: usize = 512 * 1024;

/// Only this many of those who wait may be the next, so that each has its turn.
const FIRST: usize = 8;

/// Asks again in the next turn.
const NEXT_TURN: TimerKey = TimerKey(0);

thread_local! {
    /// Handlers share nothing but the thread of their loop.
    static SUPPLY: RefCell<Supply> = RefCell::default();
}

/// What the connections of a thread have written in a turn, and who waits.
#[derive(Default)]
struct Supply {
    turn: Option<Instant>,
    written: usize,
    waiting: BTreeSet<u64>,
    tickets: u64,
}

impl Supply {
    /// True if a connection may write now. If not, it gets a ticket, unless it has one.
    fn admits(&mut self, now: Instant, ticket: &mut Option<u64>) -> bool {
        // All callbacks of a turn see one time.
        if self.turn.replace(now) != Some(now) {
            self.written = 0;
        }
        let is_next = match ticket {
            Some(ticket) => self.waiting.iter().take(FIRST).any(|first| first == ticket),
            None => self.waiting.is_empty(),
        };
        if is_next && self.written < SHARED {
            self.leave(ticket);
            return true;
        }
        if ticket.is_none() {
            self.tickets += 1;
            self.waiting.insert(self.tickets);
            *ticket = Some(self.tickets);
        }
        false
    }

    fn leave(&mut self, ticket: &mut Option<u64>) {
        if let Some(ticket) = ticket.take() {
            self.waiting.remove(&ticket);
        }
    }
}

impl Chargen {
    fn fill(&mut self, cx: &mut Context<'_>) {
        let is_admitted = |supply: &mut Supply| supply.admits(cx.now(), &mut self.ticket);
        if !SUPPLY.with_borrow_mut(is_admitted) {
            cx.set_timer(NEXT_TURN, Duration::ZERO);
            return;
        }
        let room = cx.room();
        while cx.room() > 0 {
            self.at = (self.at + cx.write(&PATTERN[self.at..])) % PERIOD;
        }
        SUPPLY.with_borrow_mut(|supply| supply.written += room);
    }
}

impl Handler for Chargen {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    /// It never has nothing to send.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _key: TimerKey) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    /// The pattern has no end, so any place is as good as another.
    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, _others: &mut Others<'_>, _closed: &Closed) {
        SUPPLY.with_borrow_mut(|supply| supply.leave(&mut self.ticket));
    }
}
