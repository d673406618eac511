//! Character generator (RFC 864): a pattern of printable characters, without end.

use crate::{Context, Handler};
use std::io;

/// The 95 printable characters of ASCII, from the space on.
const RING: usize = 95;
/// Characters on a line, before its CR LF.
const LINE: usize = 72;
const LINE_BYTES: usize = LINE + 2;
/// After this many bytes the pattern begins anew: line `n` begins with character `n` of the ring, and there are 95 of them.
const PERIOD: usize = RING * LINE_BYTES;

/// The whole pattern once, made when the program is built.
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

/// Sends the pattern, 72 characters to a line, each line one character further round the ring, as inetd does. What the peer
/// sends is thrown away; it ends the pattern by closing.
///
/// It writes when all that it wrote has left, so it is never ahead of the socket by more than
/// [`output_max_bytes`](crate::Config::output_max_bytes).
#[derive(Clone, Copy, Debug, Default)]
pub struct Chargen {
    /// Where in the pattern the next byte is.
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
