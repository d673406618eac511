//! The command line.

mod args;
mod bench;
mod bench_args;
mod book;
mod connect;
mod connect_args;
mod descriptors;
mod load;
mod logging;
mod narrate;
mod report;
mod serve;
mod serve_args;
mod signals;
mod story;
mod table;
mod teller;
mod trace;
mod values;
mod watchers;

use args::Command;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Why the program ends with a status other than 0. The message says what was wrong, where, and what would be right.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Status 2: the command line cannot be understood.
    Usage(String),
    /// Status 1: it was understood, and could not be done.
    Failed(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure::Usage(message.to_string())
    }

    pub(crate) fn failed(message: impl Display) -> Failure {
        Failure::Failed(message.to_string())
    }
}

pub(crate) fn main() -> ExitCode {
    let done = args::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Show(text) => print(&text),
        Command::Bench(options) => bench::run(&options),
        Command::Serve(options) => serve::run(*options),
        Command::Story => story::run(),
        Command::Connect(options) => connect::run(&options),
    });
    let (message, status) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "doorkeeper: {}",
        logging::one_line(&message)
    );
    ExitCode::from(status)
}

/// Prints to stdout; a reader that has gone away is a failure, not a panic.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::failed(format_args!("cannot write to standard output: {error}")))
}
