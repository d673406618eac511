//! The log: one line a record on standard error, whatever the record holds.

use super::output;
use env_logger::{Builder, Env, Target, fmt::Formatter};
use jiff::Timestamp;
use log::Record;
use std::io::{self, Write};

/// Hands each record to the thread that writes standard error, so that logging never blocks.
struct Queue;

impl Write for Queue {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        output::error_line(String::from_utf8_lossy(record).trim_end_matches('\n'));
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log, at `info` unless RUST_LOG says otherwise. Panics are logged too: the reactor
/// catches a panic of a callback, so it is an error to report and not the end of the program.
pub(crate) fn start() {
    Builder::from_env(Env::default().default_filter_or("info"))
        .format(line)
        .target(Target::Pipe(Box::new(Queue)))
        .init();
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

fn line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (time, level, target) = (
        Timestamp::now().strftime("%FT%T%.3fZ"),
        record.level(),
        record.target(),
    );
    writeln!(
        out,
        "{time} {level:5} {target}: {}",
        one_line(&record.args().to_string())
    )
}

/// Escapes control characters, because bytes of a peer or of a file name must neither look like
/// lines of the log nor control the terminal.
pub(crate) fn one_line(message: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    message.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_stays_on_one_line_and_off_the_terminal() {
        assert_eq!(
            one_line("it's \"ü\"\r\nINFO fake\u{1b}[2J\u{9b}"),
            "it's \"ü\"\\r\\nINFO fake\\u{1b}[2J\\u{9b}"
        );
    }
}
