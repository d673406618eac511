//! The log: one line a record on standard error, whatever is in it.

use env_logger::{Builder, Env, fmt::Formatter};
use jiff::Timestamp;
use log::Record;
use std::io::{self, Write};

/// Starts the log, at `info` unless RUST_LOG says otherwise, and sends panics there too: one that the reactor catches is
/// trouble to be reported, not the end of the program.
pub(crate) fn start() {
    Builder::from_env(Env::default().default_filter_or("info")).format(line).init();
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Control characters are escaped: what a peer sent may be in the message, and must not look like lines of ours or speak to
/// the terminal.
fn line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (time, level, target) = (Timestamp::now().strftime("%FT%T%.3fZ"), record.level(), record.target());
    let message = record.args().to_string();
    write!(out, "{time} {level:5} {target}: ")?;
    for c in message.chars() {
        if c.is_control() { write!(out, "{}", c.escape_default())? } else { write!(out, "{c}")? }
    }
    writeln!(out)
}
