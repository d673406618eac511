//! The first word of the command line: the command. Each command parses its own arguments.

use super::Failure;
use super::bench::args::{self as bench_args, Bench};
use super::connect::args::{self as connect_args, Connect};
use super::room::Room;
use super::serve::args::{self as serve_args, Serve};
use lexopt::{Arg, Parser};
use std::ffi::OsString;

const HELP: &str = "\
A TCP server and client on one readiness loop.

Usage: doorkeeper COMMAND [ARGUMENT]...

Commands:
  serve      serve echo, discard, daytime, qotd, chargen and time
  connect    connect standard input and output to a server
  bench      load a server and measure its answers
  story      run a server and a client in one loop and show every system call
  room       fill an accept queue client by client, and then accept

Options:
  -h, --help       show this text; `doorkeeper COMMAND --help` describes COMMAND
  -V, --version    show the version

Exit status: 0 done, 1 failed, 2 wrong usage.
";

const STORY_HELP: &str = "\
Run a server and a client in one loop and show every system call of both.

Usage: doorkeeper story

The story is one line a call, in two columns: the server's calls and the
client's. accept, read and write stand for the system calls accept4, recvfrom
and sendto.

Options:
  -h, --help    show this text

Exit status: 0 done, 1 failed, 2 wrong usage.
";

const ROOM_HELP: &str = "\
Show how an accept queue fills, client by client, and how it empties.

Usage: doorkeeper room BACKLOG CLIENTS

A server on 127.0.0.1 calls listen with this backlog (0 to 65535), and does not
accept. The clients (1 to 400) connect one after the other. Each has a line:
the result of connect, what it was told then, and the accept queue. Then the
server accepts, until the last client is in, and shows how long after its
connect each was connected. A SYN that meets a full queue is dropped. The
client's kernel sends it again, first after 1 s.

Options:
  -h, --help    show this text

Exit status: 0 done, 1 failed, 2 wrong usage.
";

/// What the program does.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print a text.
    Show(String),
    Serve(Box<Serve>),
    Connect(Box<Connect>),
    Bench(Box<Bench>),
    Story,
    Room(Room),
}

pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let mut parser = Parser::from_args(words);
    match parser.next().map_err(Failure::usage)? {
        Some(Arg::Short('h') | Arg::Long("help")) => show(&mut parser, HELP),
        Some(Arg::Short('V') | Arg::Long("version")) => show(
            &mut parser,
            concat!("doorkeeper ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
        Some(Arg::Value(word)) if word == "serve" => serve_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "connect" => connect_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "bench" => bench_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "story" => story(&mut parser),
        Some(Arg::Value(word)) if word == "room" => room(&mut parser),
        Some(Arg::Value(word)) => {
            let word = word.to_string_lossy();
            let known = "the commands are `serve`, `connect`, `bench`, `story` and `room`; \
                see `doorkeeper --help`";
            Err(Failure::usage(format_args!(
                "unknown command `{word}`; {known}"
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

/// The command that prints a text. Nothing may follow the option that asked for it.
pub(crate) fn show(parser: &mut Parser, text: &str) -> Result<Command, Failure> {
    match parser.next().map_err(Failure::usage)? {
        None => Ok(Command::Show(text.to_string())),
        Some(other) => Err(Failure::usage(format_args!(
            "{}; nothing follows --help or --version",
            other.unexpected()
        ))),
    }
}

fn room(parser: &mut Parser) -> Result<Command, Failure> {
    let mut words = Vec::new();
    loop {
        match parser.next().map_err(Failure::usage)? {
            None => return Room::new(words).map(Command::Room),
            Some(Arg::Short('h') | Arg::Long("help")) => return show(parser, ROOM_HELP),
            Some(Arg::Value(word)) => words.push(word),
            Some(other) => return Err(Failure::usage(other.unexpected())),
        }
    }
}

fn story(parser: &mut Parser) -> Result<Command, Failure> {
    match parser.next().map_err(Failure::usage)? {
        None => Ok(Command::Story),
        Some(Arg::Short('h') | Arg::Long("help")) => show(parser, STORY_HELP),
        Some(other) => Err(Failure::usage(format_args!(
            "{}; `story` takes no arguments",
            other.unexpected()
        ))),
    }
}
