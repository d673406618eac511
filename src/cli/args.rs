//! The first word of the command line: the command. Each command parses its own arguments.

use super::Failure;
use super::bench::args::{self as bench_args, Bench};
use super::connect::args::{self as connect_args, Connect};
use super::describe::{self, Description, Opt, Part, Value};
use super::room::Room;
use super::serve::args::{self as serve_args, Serve};
use super::serve::description as serve_description;
use super::version;
use lexopt::{Arg, Parser};
use std::ffi::OsString;

pub(crate) const PROGRAM: Description = Description {
    command: "",
    about: "A TCP server and client on one readiness loop.",
    usage: &["COMMAND [ARGUMENT]..."],
    before: &[Part::List(
        "Commands",
        &[
            (
                "serve",
                "serve echo, discard, daytime, qotd, chargen and time",
            ),
            ("connect", "connect standard input and output to a server"),
            ("bench", "load a server and measure its answers"),
            (
                "story",
                "run a server and a client in one loop and show every system call",
            ),
            (
                "room",
                "fill an accept queue client by client, and then accept",
            ),
            ("manual", "print a man page"),
            ("completions", "print a script for a shell's completion"),
        ],
    )],
    options: &[&[
        Opt::both(
            'h',
            "help",
            "show this text; `doorkeeper COMMAND --help` describes COMMAND",
        ),
        Opt::both(
            'V',
            "version",
            "show the version, and the commit that it was built from",
        ),
    ]],
    after: &[],
    exit_status: "0 done, 1 failed, 2 wrong usage.",
    operands: &NAMES,
};

pub(crate) const NAMES: [&str; 7] = [
    "serve",
    "connect",
    "bench",
    "story",
    "room",
    "manual",
    "completions",
];

pub(crate) const COMMANDS: [&Description; 7] = [
    &serve_description::DESCRIPTION,
    &connect_args::DESCRIPTION,
    &bench_args::DESCRIPTION,
    &STORY,
    &ROOM,
    &describe::args::MANUAL,
    &describe::args::COMPLETIONS,
];

const STORY: Description = Description {
    command: "story",
    about: "Run a server and a client in one loop and show every system call of both.",
    usage: &["[--loop]"],
    before: &[Part::Text(
        "The story is one line a call, in three columns: the listener's calls, those of the socket \
         that accept returned, and the client's. Each call has its descriptor. Before it stands the \
         id that the loop has for the socket. accept, read and write stand for the system calls \
         accept4, recvfrom and sendto.",
    )],
    options: &[&[
        Opt::long(
            "loop",
            Value::None,
            "show epoll_ctl and epoll_wait too, and what the poller reported",
        ),
        describe::HELP,
    ]],
    after: &[],
    exit_status: "0 done, 1 failed, 2 wrong usage.",
    operands: &[],
};

const ROOM: Description = Description {
    command: "room",
    about: "Show how an accept queue fills, client by client, and how it empties.",
    usage: &["BACKLOG CLIENTS"],
    before: &[Part::Text(
        "A server on 127.0.0.1 calls listen with this backlog (0 to 65535), and does not accept. The \
         clients (1 to 400) connect one after the other. Each has a line: the result of connect, \
         what it was told then, and the accept queue. Then the server accepts, until the last \
         client is in, and shows how long after its connect each was connected. A SYN that meets a \
         full queue is dropped. The client's kernel sends it again, first after 1 s.",
    )],
    options: &[&[describe::HELP]],
    after: &[],
    exit_status: "0 done, 1 failed, 2 wrong usage.",
    operands: &[],
};

/// What the program does.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print a text.
    Show(String),
    Serve(Box<Serve>),
    Connect(Box<Connect>),
    Bench(Box<Bench>),
    /// Whether the poller's calls are shown too.
    Story(bool),
    Room(Room),
}

pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let mut parser = Parser::from_args(words);
    match parser.next().map_err(Failure::usage)? {
        Some(Arg::Short('h') | Arg::Long("help")) => show(&mut parser, &PROGRAM.help()),
        Some(Arg::Short('V') | Arg::Long("version")) => show(&mut parser, &version::line()),
        Some(Arg::Value(word)) if word == "serve" => serve_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "connect" => connect_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "bench" => bench_args::parse(&mut parser),
        Some(Arg::Value(word)) if word == "story" => story(&mut parser),
        Some(Arg::Value(word)) if word == "room" => room(&mut parser),
        Some(Arg::Value(word)) if word == "manual" => describe::args::manual(&mut parser),
        Some(Arg::Value(word)) if word == "completions" => describe::args::completions(&mut parser),
        Some(Arg::Value(word)) => {
            let word = word.to_string_lossy();
            let known = NAMES.join(", ");
            Err(Failure::usage(format_args!(
                "unknown command `{word}`; the commands are {known}; see `doorkeeper --help`"
            )))
        }
        Some(option) => Err(PROGRAM.unexpected(option)),
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
            Some(Arg::Short('h') | Arg::Long("help")) => return show(parser, &ROOM.help()),
            Some(Arg::Value(word)) => words.push(word),
            Some(other) => return Err(Failure::usage(other.unexpected())),
        }
    }
}

fn story(parser: &mut Parser) -> Result<Command, Failure> {
    let mut shows_loop = false;
    loop {
        match parser.next().map_err(Failure::usage)? {
            None => return Ok(Command::Story(shows_loop)),
            Some(Arg::Long("loop")) => shows_loop = true,
            Some(Arg::Short('h') | Arg::Long("help")) => return show(parser, &STORY.help()),
            Some(other) => {
                return Err(Failure::usage(format_args!(
                    "{}; `story` takes no arguments but --loop",
                    other.unexpected()
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, PROGRAM, parse};

    #[test]
    fn every_described_option_is_parsed() {
        let all = [&PROGRAM].into_iter().chain(COMMANDS);
        for (command, option) in all.flat_map(|one| one.options().map(move |option| (one, option)))
        {
            for name in option.names() {
                let words = [command.command, &name].into_iter();
                let words = words.filter(|word| !word.is_empty()).map(Into::into);
                // A missing value is its only fault.
                if let Err(failure) = parse(words) {
                    let failure = format!("{failure:?}");
                    assert!(!failure.contains("invalid option"), "{failure}");
                }
            }
        }
    }
}
