//! `doorkeeper manual` and `doorkeeper completions`: texts made from the descriptions.

use super::super::Failure;
use super::super::args::{COMMANDS, Command, NAMES, PROGRAM, show};
use super::super::values::text;
use super::{Description, HELP, Part, completions};
use lexopt::{Arg, Parser};

pub(crate) const MANUAL: Description = Description {
    command: "manual",
    about: "Print the man page of the program or of a command.",
    usage: &["[COMMAND]"],
    before: &[Part::Text(
        "The page is for man(1), as in `doorkeeper manual serve | man -l -`.",
    )],
    options: &[&[HELP]],
    after: &[],
    exit_status: "0 done, 1 failed, 2 wrong usage.",
    operands: &NAMES,
};

pub(crate) const COMPLETIONS: Description = Description {
    command: "completions",
    about: "Print a script that completes the command line in a shell.",
    usage: &["bash|zsh|fish"],
    before: &[Part::List(
        "Where the shells look for it",
        &[
            (
                "bash",
                "~/.local/share/bash-completion/completions/doorkeeper",
            ),
            ("zsh", "a file _doorkeeper in a folder of $fpath"),
            ("fish", "~/.config/fish/completions/doorkeeper.fish"),
        ],
    )],
    options: &[&[HELP]],
    after: &[],
    exit_status: "0 done, 1 failed, 2 wrong usage.",
    operands: &["bash", "zsh", "fish"],
};

pub(crate) fn manual(parser: &mut Parser) -> Result<Command, Failure> {
    let Some(word) = operand(&MANUAL, parser)? else {
        return show(parser, &PROGRAM.man(&COMMANDS));
    };
    match COMMANDS.into_iter().find(|one| one.command == word) {
        Some(command) => show(parser, &command.man(&[&[&PROGRAM], &COMMANDS[..]].concat())),
        None if word == "--help" => show(parser, &MANUAL.help()),
        None => Err(wrong(&MANUAL, &word)),
    }
}

pub(crate) fn completions(parser: &mut Parser) -> Result<Command, Failure> {
    let word = operand(&COMPLETIONS, parser)?;
    let script = match word.as_deref() {
        Some("bash") => completions::bash(&PROGRAM, &COMMANDS),
        Some("zsh") => completions::zsh(&PROGRAM, &COMMANDS),
        Some("fish") => completions::fish(&PROGRAM, &COMMANDS),
        Some("--help") => COMPLETIONS.help(),
        word => return Err(wrong(&COMPLETIONS, word.unwrap_or("no word"))),
    };
    show(parser, &script)
}

/// The only operand, or `--help`.
fn operand(command: &Description, parser: &mut Parser) -> Result<Option<String>, Failure> {
    let Some(arg) = parser.next().map_err(Failure::usage)? else {
        return Ok(None);
    };
    match command.described(arg)? {
        Arg::Value(word) => Ok(Some(text(word)?)),
        _ => Ok(Some("--help".to_string())),
    }
}

fn wrong(command: &Description, word: &str) -> Failure {
    let (name, known) = (command.command, command.operands.join(", "));
    Failure::usage(format_args!("{name}: {word}: must be one of {known}"))
}
