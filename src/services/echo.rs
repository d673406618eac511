//! Echo (RFC 862): every byte comes back.

use crate::{Context, Handler};
use std::io;

/// Sends back what it receives until the peer closes, and then the rest. It takes no more than it can send back, so a peer
/// that does not read is not read either.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}
