//! Echo (RFC 862): every byte is sent back.

use crate::{Context, Handler};
use std::io;

/// Sends back every byte until the peer ends; the rest of the echo is still delivered then. It
/// consumes only as much as it can send back, so a peer that does not read its echo is not read
/// either. When the loop shuts down, the echo of what has arrived is the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if cx.is_shutting_down() {
            self.on_shutdown(cx)?;
        }
        Ok(())
    }

    /// What is not consumed is sent back first, in the next turns.
    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if cx.unread() == 0 {
            cx.finish();
        }
        Ok(())
    }
}
