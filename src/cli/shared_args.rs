//! The options that `serve` and `connect` share.

use super::Failure;
use super::describe::{HELP, Opt, Value};
use super::logging;
use super::observe::{Form, Observation};
use super::values::{duration, number, path, value};
use doorkeeper::Config;
use lexopt::{Arg, Parser};
use std::time::Duration;

pub(super) const OPTIONS: &[Opt] = &[
    Opt::long(
        "log",
        Value::OneOf(&["text", "json"]),
        "the form of the log; as JSON, one object a record [text]",
    ),
    Opt::long(
        "narrate",
        Value::OptionalWord("json"),
        "write each system call of each connection, and what it means, to standard error; as \
         JSON, one object a line. accept, read and write stand for the system calls accept4, \
         recvfrom and sendto",
    ),
    Opt::long(
        "loop",
        Value::None,
        "narrate epoll_ctl and epoll_wait too, and what the poller reported",
    ),
    Opt::long(
        "trace",
        Value::File("FILE"),
        "write a trace of the loop for Perfetto or chrome://tracing",
    ),
    Opt::long(
        "trace-max",
        Value::Any("BYTES"),
        "limit of its size; the last event of the trace counts the events that are left out \
         [67108864]",
    ),
    HELP,
];

/// A trace has room for its header and for the count of events left out.
const TRACE_LEAST: u64 = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) enum Shared {
    IdleTimeout,
    Log,
    Narrate,
    Loop,
    Trace,
    TraceMax,
}

impl Shared {
    pub(super) fn find(arg: &Arg<'_>) -> Option<Shared> {
        match arg {
            Arg::Long("idle-timeout") => Some(Shared::IdleTimeout),
            Arg::Long("log") => Some(Shared::Log),
            Arg::Long("loop") => Some(Shared::Loop),
            Arg::Long("narrate") => Some(Shared::Narrate),
            Arg::Long("trace") => Some(Shared::Trace),
            Arg::Long("trace-max") => Some(Shared::TraceMax),
            _ => None,
        }
    }

    pub(super) fn parse(
        self,
        parser: &mut Parser,
        config: &mut Config,
        observation: &mut Observation,
        log: &mut logging::Form,
    ) -> Result<(), Failure> {
        match self {
            Shared::IdleTimeout => config.idle_timeout = idle_timeout(parser)?,
            Shared::Log => *log = log_form(&value(parser)?)?,
            Shared::Narrate => observation.narrate = Some(narrate(parser)?),
            Shared::Loop => observation.narrate_loop = true,
            Shared::Trace => observation.trace = Some(path(parser)?),
            Shared::TraceMax => observation.trace_max = Some(trace_max(parser)?),
        }
        Ok(())
    }
}

fn idle_timeout(parser: &mut Parser) -> Result<Option<Duration>, Failure> {
    let word = value(parser)?;
    if word == "none" {
        return Ok(None);
    }
    let timeout = duration(&word, "--idle-timeout")?;
    if timeout.is_zero() {
        return Err(Failure::usage(
            "--idle-timeout 0 would close every connection at once; `none` means no timeout",
        ));
    }
    Ok(Some(timeout))
}

fn log_form(word: &str) -> Result<logging::Form, Failure> {
    match word {
        "text" => Ok(logging::Form::Text),
        "json" => Ok(logging::Form::Json),
        _ => Err(Failure::usage(format_args!(
            "--log {word}: must be text or json"
        ))),
    }
}

fn narrate(parser: &mut Parser) -> Result<Form, Failure> {
    match parser.optional_value() {
        None => Ok(Form::Text),
        Some(word) if word == "json" => Ok(Form::Json),
        Some(word) => {
            let word = word.to_string_lossy();
            Err(Failure::usage(format_args!(
                "--narrate={word}: must be --narrate=json, or --narrate alone for text"
            )))
        }
    }
}

fn trace_max(parser: &mut Parser) -> Result<u64, Failure> {
    let most = number(parser, "--trace-max", 1)?;
    if most < TRACE_LEAST {
        return Err(Failure::usage(format_args!(
            "--trace-max {most}: must be at least {TRACE_LEAST} bytes"
        )));
    }
    Ok(most)
}
