//! The story of each connection as it happens: one line a system call, in the order of the calls.

use super::super::json::Json::{self, Float, Integer, Object, Text};
use super::super::output;
use super::super::writer::{LeftOut, Writer};
use super::calls::{self, CallResult, Words};
use doorkeeper::{AcceptQueue, Call, Event, Id, ListenerState, Observer};
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

/// Seconds with six decimals, which is what JSON shows.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// The fields that every line about a listener or a connection begins with.
fn about(at: f64, id: &str) -> [(&str, Json<'_>); 2] {
    [("at", Float(rounded(at))), ("id", Text(id))]
}

impl Form {
    /// The line for a change of an accept queue.
    pub(super) fn accept_queue(
        self,
        at: f64,
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
                Object(&[&about(at, &id)[..], &depth].concat()).to_line()
            }
            Form::Text => {
                format!("{at:>11.6} {id:<8} accept queue of {address}: {depth} of {limit}")
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

    fn listener_state(self, at: f64, id: Id, state: ListenerState) -> String {
        let (id, state) = (id.to_string(), state.to_string());
        match self {
            Form::Json => {
                Object(&[&about(at, &id)[..], &[("listener", Text(&state))]].concat()).to_line()
            }
            Form::Text => format!("{at:>11.6} {id:<8} listener: {state}"),
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
    fn wait(self, at: f64, slept: Duration, events: usize) -> String {
        let (ms, count) = (slept.as_secs_f64() * 1e3, events as u64);
        match self {
            Form::Json => {
                let call = [("call", Text("epoll_wait")), ("result", Integer(count))];
                Object(&[&[("at", Float(rounded(at)))][..], &call].concat()).to_line()
            }
            Form::Text => {
                let shown = format!("epoll_wait() = {count}");
                format!("{at:>11.6} {:<8} {shown:<46} slept {ms:.3} ms", "")
            }
        }
    }

    fn report(self, at: f64, id: Id, report: Report) -> String {
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
                Object(&[&about(at, &id)[..], &marks].concat()).to_line()
            }
            Form::Text => {
                let marks = calls::readiness(readable, writable, undrained);
                format!("{at:>11.6} {id:<8} reported: {marks}")
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

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn call(&self, id: Id, call: &Call<'_>, result: CallResult<'_>) -> String {
        let at = self.seconds();
        if self.form == Form::Json {
            return object(at, id, call, result);
        }
        let arguments = calls::with_arguments(call);
        let shown = format!("{arguments} = {}", calls::outcome(call, result));
        let meaning = calls::meaning(call, result, Words::Plain);
        let id = id.to_string();
        format!("{at:>11.6} {id:<8} {shown:<46} {meaning}")
    }
}

fn object(at: f64, id: Id, call: &Call<'_>, result: CallResult<'_>) -> String {
    let (id, mut texts) = (id.to_string(), [String::new(), String::new()]);
    let operation = calls::operation(call);
    let arguments: &[(&str, Json<'_>)] = match call {
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
    let outcome: &[(&str, Json<'_>)] = match result.map_err(io::Error::raw_os_error) {
        Ok(count) => &[("result", Integer(count as u64))],
        Err(Some(errno)) => &[
            ("errno", Integer(errno.unsigned_abs().into())),
            ("error", Text(&kind)),
        ],
        Err(None) => &[("error", Text(&kind))],
    };
    let name = [("call", Text(calls::name(call)))];
    Object(&[&about(at, &id)[..], &name, arguments, outcome].concat()).to_line()
}

impl Observer for Narrator {
    fn event(&mut self, event: &Event<'_>) {
        let at = self.seconds();
        let line = match *event {
            Event::Call { ref call, .. } if calls::is_of_the_loop(call) && !self.shows_loop => {
                return;
            }
            Event::Call {
                id,
                ref call,
                result,
            } => self.call(id, call, result),
            Event::ListenerState { id, state } => self.form.listener_state(at, id, state),
            Event::TurnStart { slept, events, .. } if self.shows_loop => {
                self.form.wait(at, slept, events)
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
                self.form.report(at, id, report)
            }
            _ => return,
        };
        self.writer.write_soon(&line);
    }
}
