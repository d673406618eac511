//! Character generator (RFC 864): a pattern of printable characters, without end.

use crate::{Context, Handler};
use std::io;

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
/// peer closes.
///
/// It writes when all earlier output has been sent, so it is never ahead of the socket by more than
/// [`output_max_bytes`](crate::Config::output_max_bytes).
#[derive(Clone, Copy, Debug, Default)]
pub struct Chargen {
    /// The offset of the next byte in the pattern.
    at: usize,
}

impl Chargen {
    fn fill(&mut self, cx: &mut Context<'_>) {
        while cx.room() > 0 {
            self.at = (self.at + cx.write(&PATTERN[self.at..])) % PERIOD;
        }
    }
}

impl Handler for Chargen {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.fill(cx);
        Ok(())
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}
