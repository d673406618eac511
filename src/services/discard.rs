//! Discard (RFC 863): every byte is discarded.

use crate::{Context, Handler};
use std::io;

/// Reads until the peer ends or the loop shuts down, and sends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Handler for Discard {
    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    /// All is consumed by then, and timers of a wrapper must not keep the connection open.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }
}
