//! A whole answer in one write, as three of the services send it.

use crate::Context;
use std::io;

/// Writes a short answer and finishes. An answer that does not fit is an error, because half of it
/// would look like the whole.
pub(super) fn say(cx: &mut Context<'_>, answer: &[u8]) -> io::Result<()> {
    if cx.write(answer) < answer.len() {
        return Err(io::Error::other(format!(
            "output_max_bytes has no room for an answer of {} bytes",
            answer.len()
        )));
    }
    cx.finish();
    Ok(())
}
