//! What the words of the command line mean: which command it is. Each command reads its own words.

use super::Failure;
use super::bench_args::{self, Bench};
use super::connect_args::{self, Connect};
use super::serve_args::{self, Serve};
use lexopt::{Arg, Parser};
use std::ffi::OsString;

const HELP: &str = "\
A TCP server and client on one readiness loop.

Usage: doorkeeper COMMAND [ARGUMENT]...

Commands:
  serve      serve echo, discard, daytime, qotd, chargen and time
  connect    join standard input and output to a server
  bench      load a server, and measure how it answers
  story      run a server and a client in one loop, and show every call

Options:
  -h, --help       this text; `doorkeeper COMMAND --help` tells of a command
  -V, --version    the version

Exit status: 0 done, 1 failed, 2 wrong usage.
";

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print a text.
    Show(String),
    Serve(Box<Serve>),
    Connect(Box<Connect>),
    Bench(Box<Bench>),
    Story,
}

pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let mut parser = Parser::from_args(words);
    match parser.next().map_err(Failure::usage)? {
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Show(HELP.to_string())),
        Some(Arg::Short('V') | Arg::Long("version")) => Ok(Command::Show(format!(
            "doorkeeper {}\n",
            env!("CARGO_PKG_VERSION")
        ))),
        Some(Arg::Value(word)) if word == "serve" => serve_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "connect" => connect_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "bench" => bench_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "story" => match parser.next().map_err(Failure::usage)? {
            None => Ok(Command::Story),
            Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Show(HELP.to_string())),
            Some(other) => Err(Failure::usage(format_args!(
                "{}; `story` takes no arguments",
                other.unexpected()
            ))),
        },
        Some(Arg::Value(word)) => {
            let word = word.to_string_lossy();
            let message =
                "the commands are `serve`, `connect`, `bench` and `story`; see `doorkeeper --help`";
            Err(Failure::usage(format_args!(
                "unknown command `{word}`; {message}"
            )))
        }
        Some(option) => Err(Failure::usage(format_args!(
            "{}; see `doorkeeper --help`",
            option.unexpected()
        ))),
        None => Err(Failure::usage(
            "a command is missing; try `doorkeeper serve`, or see `doorkeeper --help`",
        )),
    }
}
