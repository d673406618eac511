//! The story of each connection as it happens: one line a system call, in the order of the calls.

use super::super::json::Json::{Float, Integer, Text};
use super::super::json::{Field, object};
use super::super::output;
use super::super::writer::{LeftOut, Writer};
use super::calls::{self, CallResult, Words};
use doorkeeper::{AcceptQueue, Call, Event, Id, ListenerState, Observer};
use std::fmt::{self, Write};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people: time, id, the call with its result, and its meaning.
    Text,
    /// For programs: a JSON object.
    Json,
}

/// The time since the start. It is shown as seconds with six decimals.
#[derive(Clone, Copy)]
pub(super) struct At(pub(super) Duration);

impl At {
    fn microseconds(self) -> u128 {
        self.0.as_micros()
    }
}

/// As `{:>11.6}` shows it, with integers, because to format a float takes several times as long.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.microseconds();
        write!(f, "{:>4}.{:06}", all / 1_000_000, all % 1_000_000)
    }
}

/// The field that every line begins with.
fn time(at: At) -> Field<'static> {
    ("at", Float(at.microseconds() as f64 / 1e6))
}

/// The fields that every line about a listener or a connection begins with.
fn about(at: At, id: &str) -> [Field<'_>; 2] {
    [time(at), ("id", Text(id))]
}

impl Form {
    /// The line for a change of an accept queue.
    pub(super) fn accept_queue(
        self,
        at: At,
        id: Id,
        address: SocketAddr,
        queue: AcceptQueue,
    ) -> String {
        let AcceptQueue { depth, limit } = queue;
        let id = id.to_string();
        match self {
            Form::Json => {
                let depth = [
                    ("depth", Integer(depth.into())),
                    ("limit", Integer(limit.into())),
                ];
                object(&[&about(at, &id), &depth])
            }
            Form::Text => {
                format!("{at} {id:<8} accept queue of {address}: {depth} of {limit}")
            }
        }
    }

    /// The line that counts the lines left out of the story, and of the log between them.
    pub(super) fn left_out(self) -> LeftOut {
        match self {
            Form::Json => output::left_out_json,
            Form::Text => output::left_out,
        }
    }

    fn listener_state(self, at: At, id: Id, state: ListenerState) -> String {
        let (id, state) = (id.to_string(), state.to_string());
        match self {
            Form::Json => object(&[&about(at, &id), &[("listener", Text(&state))]]),
            Form::Text => format!("{at} {id:<8} listener: {state}"),
        }
    }
}

/// What the poller reported of a source.
#[derive(Clone, Copy)]
struct Report {
    readable: bool,
    writable: bool,
    undrained: bool,
}

impl Form {
    /// epoll_wait(2) returned this number of events.
    fn wait(self, at: At, slept: Duration, events: usize) -> String {
        let (ms, count) = (slept.as_secs_f64() * 1e3, events as u64);
        match self {
            Form::Json => {
                let call = [("call", Text("epoll_wait")), ("result", Integer(count))];
                object(&[&[time(at)], &call])
            }
            Form::Text => {
                let shown = format!("epoll_wait() = {count}");
                format!("{at} {:<8} {shown:<46} slept {ms:.3} ms", "")
            }
        }
    }

    fn report(self, at: At, id: Id, report: Report) -> String {
        let Report {
            readable,
            writable,
            undrained,
        } = report;
        let id = id.to_string();
        match self {
            Form::Json => {
                let marks = [
                    ("readable", Integer(readable.into())),
                    ("writable", Integer(writable.into())),
                    ("undrained", Integer(undrained.into())),
                ];
                object(&[&about(at, &id), &marks])
            }
            Form::Text => {
                let marks = calls::readiness(readable, writable, undrained);
                format!("{at} {id:<8} reported: {marks}")
            }
        }
    }
}

/// The observer that makes the lines.
pub(crate) struct Narrator {
    writer: Writer,
    form: Form,
    start: Instant,
    /// epoll_ctl and epoll_wait too.
    shows_loop: bool,
}

impl Narrator {
    pub(crate) fn new(writer: &Writer, form: Form, shows_loop: bool, start: Instant) -> Narrator {
        Narrator {
            writer: writer.clone(),
            form,
            start,
            shows_loop,
        }
    }

    fn now(&self) -> At {
        At(self.start.elapsed())
    }

    fn call(&self, id: Id, call: &Call<'_>, result: CallResult<'_>) -> String {
        if self.form == Form::Json {
            return call_object(self.now(), id, call, result);
        }
        let mut line = String::with_capacity(160);
        // Writing to a String does not fail.
        let _ = write_call(&mut line, self.now(), id, call, result);
        line
    }
}

/// Time, id, the call with its result, and its meaning, in columns.
fn write_call(
    line: &mut String,
    at: At,
    id: Id,
    call: &Call<'_>,
    result: CallResult<'_>,
) -> fmt::Result {
    write!(line, "{at} ")?;
    let id_begins = line.len();
    write!(line, "{id}")?;
    pad(line, id_begins + 8);
    let call_begins = line.len();
    calls::write_call(line, call, None)?;
    line.push_str(" = ");
    calls::write_outcome(line, call, result)?;
    pad(line, call_begins + 46);
    calls::write_meaning(line, call, result, Words::Plain)
}

/// Ends a column: spaces to this length, and one more.
fn pad(line: &mut String, length: usize) {
    const SPACES: &str = "                                              ";
    let missing = length.saturating_sub(line.len()).min(SPACES.len());
    line.push_str(&SPACES[..missing]);
    line.push(' ');
}

fn call_object(at: At, id: Id, call: &Call<'_>, result: CallResult<'_>) -> String {
    let (id, mut texts) = (id.to_string(), [String::new(), String::new()]);
    let operation = calls::operation(call);
    let arguments: &[Field<'_>] = match call {
        Call::Socket { address } | Call::Bind { address } | Call::Connect { address } => {
            texts[0] = address.to_string();
            &[("address", Text(&texts[0]))]
        }
        Call::Listen { backlog } => &[("backlog", Integer((*backlog).into()))],
        Call::Accept {
            accepted: Some((peer, id)),
        } => {
            texts = [peer.to_string(), id.to_string()];
            &[("peer", Text(&texts[0])), ("connection", Text(&texts[1]))]
        }
        Call::Read { length, .. } | Call::Write { length, .. } => {
            &[("length", Integer(*length as u64))]
        }
        Call::Register { .. } | Call::Reregister { .. } | Call::Deregister => {
            texts[0] = calls::epoll_events(call);
            &[("operation", Text(operation)), ("events", Text(&texts[0]))]
        }
        _ => &[],
    };
    let kind = result
        .err()
        .map_or(String::new(), |error| format!("{:?}", error.kind()));
    let outcome: &[Field<'_>] = match result.map_err(io::Error::raw_os_error) {
        Ok(count) => &[("result", Integer(count as u64))],
        Err(Some(errno)) => &[
            ("errno", Integer(errno.unsigned_abs().into())),
            ("error", Text(&kind)),
        ],
        Err(None) => &[("error", Text(&kind))],
    };
    let name = [("call", Text(calls::name(call)))];
    object(&[&about(at, &id), &name, arguments, outcome])
}

impl Observer for Narrator {
    fn event(&mut self, event: &Event<'_>) {
        let line = match *event {
            Event::Call { ref call, .. } if calls::is_of_the_loop(call) && !self.shows_loop => {
                return;
            }
            Event::Call {
                id,
                ref call,
                result,
            } => self.call(id, call, result),
            Event::ListenerState { id, state } => self.form.listener_state(self.now(), id, state),
            Event::TurnStart { slept, events, .. } if self.shows_loop => {
                self.form.wait(self.now(), slept, events)
            }
            Event::Ready {
                id,
                readable,
                writable,
                undrained,
            } if self.shows_loop => {
                let report = Report {
                    readable,
                    writable,
                    undrained,
                };
                self.form.report(self.now(), id, report)
            }
            _ => return,
        };
        self.writer.write_soon(&line);
    }
}
