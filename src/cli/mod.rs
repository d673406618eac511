//! The command line.

mod args;
mod bench;
mod connect;
mod describe;
mod descriptors;
mod json;
mod logging;
mod observe;
mod output;
mod ports;
mod race;
mod room;
mod serve;
mod shared_args;
mod signals;
mod story;
mod timer;
mod values;
mod version;
mod writer;

use args::Command;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// The reason that the program ends with a status other than 0. The message says what is wrong,
/// where, and what would be right.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Status 2: the command line is wrong.
    Usage(String),
    /// Status 1: the command line is right, but the command failed.
    Failed(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure::Usage(message.to_string())
    }

    pub(crate) fn failed(message: impl Display) -> Failure {
        Failure::Failed(message.to_string())
    }

    /// The loop could not be made.
    pub(crate) fn start(error: io::Error) -> Failure {
        Failure::failed(format_args!("cannot start the loop: {error}"))
    }

    /// A thread could not be started.
    pub(crate) fn thread(error: io::Error) -> Failure {
        Failure::failed(format_args!("cannot start a thread: {error}"))
    }

    pub(crate) fn stdout(error: &io::Error) -> Failure {
        Failure::failed(format_args!("cannot write to standard output: {error}"))
    }

    /// A turn failed: the only error that ends the loop.
    pub(crate) fn poller(error: io::Error) -> Failure {
        Failure::failed(format_args!("the poller failed: {error}"))
    }
}

pub(crate) fn main() -> ExitCode {
    let done = args::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Show(text) => print(&text),
        Command::Bench(options) => bench::run(&options),
        Command::Serve(options) => serve::run(*options),
        Command::Story(shows_loop) => story::run(shows_loop),
        Command::Room(options) => room::run(options),
        Command::Connect(options) => connect::run(&options),
    });
    let (message, status) = match done {
        Ok(()) => (None, 0),
        Err(Failure::Failed(message)) => (Some(message), 1),
        Err(Failure::Usage(message)) => (Some(message), 2),
    };
    if let Some(message) = message {
        logging::fatal(&message);
    }
    output::finish_stderr();
    ExitCode::from(status)
}

/// Prints to standard output. A reader that closed its end is a failure, not a panic. This blocks,
/// so no loop may be running.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::stdout(&error))
}
