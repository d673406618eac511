//! The description of each command: the one source of its `--help`, its man page, and the
//! completions of the shells.

pub(crate) mod args;
mod completions;
mod help;
mod man;
#[cfg(test)]
mod tests;

use super::Failure;
use lexopt::Arg;

/// A command, or the program as a whole.
#[derive(Debug)]
pub(crate) struct Description {
    /// Empty for the program as a whole.
    pub(crate) command: &'static str,
    /// One sentence.
    pub(crate) about: &'static str,
    /// What follows the command, for each form.
    pub(crate) usage: &'static [&'static str],
    pub(crate) before: &'static [Part],
    pub(crate) options: &'static [&'static [Opt]],
    pub(crate) after: &'static [Part],
    pub(crate) exit_status: &'static str,
    /// The words that an operand can be; empty if it can be anything.
    pub(crate) operands: &'static [&'static str],
}

/// A part of the text around the options.
#[derive(Debug)]
pub(crate) enum Part {
    Text(&'static str),
    /// A title, and terms with their meaning.
    List(&'static str, &'static [(&'static str, &'static str)]),
}

/// An option and its meaning.
#[derive(Debug)]
pub(crate) struct Opt {
    short: Option<char>,
    long: Option<&'static str>,
    value: Value,
    text: &'static str,
}

/// The value of an option.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    None,
    /// Anything, by this name.
    Any(&'static str),
    File(&'static str),
    OneOf(&'static [&'static str]),
    /// None, or after `=` this word.
    OptionalWord(&'static str),
}

/// Which every command has.
pub(crate) const HELP: Opt = Opt {
    short: Some('h'),
    ..Opt::long("help", Value::None, "show this text")
};

impl Opt {
    pub(crate) const fn long(name: &'static str, value: Value, text: &'static str) -> Opt {
        Opt {
            short: None,
            long: Some(name),
            value,
            text,
        }
    }

    pub(crate) const fn short(name: char, text: &'static str) -> Opt {
        Opt {
            short: Some(name),
            long: None,
            value: Value::None,
            text,
        }
    }

    pub(crate) const fn both(short: char, long: &'static str, text: &'static str) -> Opt {
        Opt {
            short: Some(short),
            ..Opt::long(long, Value::None, text)
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> + use<> {
        let short = self.short.map(|name| format!("-{name}"));
        let long = self.long.map(|name| format!("--{name}"));
        short.into_iter().chain(long)
    }

    /// `-h, --help`, `--backlog N`, `--narrate[=json]`.
    fn term(&self) -> String {
        let names = self.names().collect::<Vec<_>>().join(", ");
        match self.value {
            Value::None => names,
            Value::Any(name) | Value::File(name) => format!("{names} {name}"),
            Value::OneOf(words) => format!("{names} {}", words.join("|")),
            Value::OptionalWord(word) => format!("{names}[={word}]"),
        }
    }

    /// The meaning in a few words: up to the first sign after which it goes into details.
    fn summary(&self) -> &'static str {
        let end = self.text.find([';', ':', '[', '(']);
        self.text[..end.unwrap_or(self.text.len())].trim_end()
    }

    fn is(&self, arg: &Arg<'_>) -> bool {
        match arg {
            Arg::Short(name) => self.short == Some(*name),
            Arg::Long(name) => self.long == Some(*name),
            Arg::Value(_) => false,
        }
    }
}

impl Description {
    /// `doorkeeper serve`.
    fn title(&self) -> String {
        format!("doorkeeper {}", self.command)
            .trim_end()
            .to_string()
    }

    /// `doorkeeper-serve`: the name of its man page.
    fn page(&self) -> String {
        self.title().replace(' ', "-")
    }

    pub(crate) fn options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().copied().flatten()
    }

    /// Refuses an option that is not described, so that every option of the program is.
    pub(crate) fn described<'a>(&self, arg: Arg<'a>) -> Result<Arg<'a>, Failure> {
        if matches!(arg, Arg::Value(_)) || self.options().any(|option| option.is(&arg)) {
            Ok(arg)
        } else {
            Err(self.unexpected(arg))
        }
    }

    pub(crate) fn unexpected(&self, arg: Arg<'_>) -> Failure {
        let title = self.title();
        Failure::usage(format_args!("{}; see `{title} --help`", arg.unexpected()))
    }
}
