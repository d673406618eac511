//! Standard output and standard error, written by threads, because a pipe that nobody reads or a
//! stopped terminal blocks a write.

use super::Failure;
use super::json::Json::Integer;
use super::json::object;
use super::writer::{Sink, Writer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Stderr, Stdout, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Bytes of one write(2). A pipe takes as many at once (PIPE_BUF, pipe(7)), so a slow reader is
/// noticed piece by piece.
const PIECE: usize = 4096;

/// A standard stream. It is written through its descriptor, not through the standard library's
/// lock, which a blocked write holds.
struct Stream<F>(F);

impl<F: AsFd + Send> Sink for Stream<F> {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let piece = &lines[..lines.len().min(PIECE)];
        loop {
            match rustix::io::write(&self.0, piece) {
                // Another program that shares the stream has set O_NONBLOCK.
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                result => return Ok(result?),
            }
        }
    }
}

pub(crate) fn left_out(count: u64) -> String {
    format!("({count} lines left out)")
}

pub(crate) fn left_out_json(count: u64) -> String {
    object(&[&[("left_out", Integer(count))]])
}

/// The writer of standard error, for the log, the story and messages, so that their lines keep
/// their order. `None` if the system has no thread left.
pub(crate) fn stderr() -> Option<&'static Writer> {
    static STDERR: OnceLock<Option<Writer>> = OnceLock::new();
    let start = || Writer::start(Stream::<Stderr>(io::stderr()), left_out).ok();
    STDERR.get_or_init(start).as_ref()
}

/// Queues a line for standard error.
pub(crate) fn error_line(line: &str) {
    match stderr() {
        Some(writer) => writer.write(line),
        None => {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// A writer of standard output, of which there must be one at a time.
pub(crate) fn stdout() -> io::Result<Writer> {
    Writer::start(Stream::<Stdout>(io::stdout()), left_out)
}

/// Prints to standard output, and waits for a slow reader, but not for ever. True if everything is
/// written; if not, the thread goes on.
///
/// # Errors
/// Standard output takes nothing more: its reader has closed it, or its disk is full.
pub(crate) fn print_with_patience(text: &str) -> Result<bool, Failure> {
    let writer = stdout().map_err(Failure::thread)?;
    writer.write_text(text);
    let is_written = writer.flush();
    writer.close();
    match writer.take_error() {
        Some(error) => Err(Failure::stdout(&error)),
        None => Ok(is_written),
    }
}

/// Ends the writer of standard output of a command that prints as it runs.
pub(crate) fn finish_stdout(writer: &Writer) -> Result<(), Failure> {
    let is_written = writer.finish();
    match writer.take_error() {
        Some(error) => Err(Failure::stdout(&error)),
        None if is_written => Ok(()),
        None => Err(Failure::failed(
            "cannot write to standard output: its reader is slow, and lines are left out",
        )),
    }
}

/// Waits until standard error is written, within limits.
pub(crate) fn finish_stderr() {
    if let Some(writer) = stderr() {
        writer.finish_last();
    }
}

#[cfg(test)]
mod tests {
    use super::{left_out, left_out_json};
    use serde_json::{Value, json};

    #[test]
    fn a_gap_is_told_in_both_forms() {
        assert_eq!(left_out(3), "(3 lines left out)");
        let value: Value = serde_json::from_str(&left_out_json(3)).unwrap();
        assert_eq!(value, json!({ "left_out": 3 }));
    }
}
