//! The story of each connection as it happens: one line a system call, in the order of the calls.

use super::super::json::Json::{self, Float, Integer, Object, Text};
use super::super::output;
use super::super::writer::{LeftOut, Writer};
use super::calls::{self, CallResult, Words};
use doorkeeper::{AcceptQueue, Call, Event, Id, ListenerState, Observer};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people: time, id, the call with its result, and its meaning.
    Text,
    /// For programs: a JSON object.
    Json,
    /// For people, a server and a client side by side.
    Columns,
}

/// Widths of the columns, in characters. The second has room for `connect(ADDRESS) = EINPROGRESS`
/// and a space.
const SERVER_COLUMN: usize = 38;
const CLIENT_COLUMN: usize = 40;

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
            _ => format!("{at:>11.6} {id:<8} accept queue of {address}: {depth} of {limit}"),
        }
    }

    /// The line that counts the lines left out of the story, and of the log between them.
    pub(super) fn left_out(self) -> LeftOut {
        match self {
            Form::Json => output::left_out_json,
            _ => output::left_out,
        }
    }

    fn listener_state(self, at: f64, id: Id, state: ListenerState) -> String {
        let (id, state) = (id.to_string(), state.to_string());
        match self {
            Form::Json => {
                Object(&[&about(at, &id)[..], &[("listener", Text(&state))]].concat()).to_line()
            }
            _ => format!("{at:>11.6} {id:<8} listener: {state}"),
        }
    }
}

/// The observer that makes the lines.
pub(crate) struct Narrator {
    writer: Writer,
    form: Form,
    start: Instant,
    /// The outgoing connections of a story in columns: their calls stand in the client's column.
    clients: Vec<Id>,
    /// A socket() whose column only the next call decides: the call, and its meaning.
    held: Option<(String, String)>,
}

impl Narrator {
    pub(crate) fn new(writer: &Writer, form: Form, start: Instant) -> Narrator {
        if form == Form::Columns {
            writer.write_soon(&format!(
                "{:<SERVER_COLUMN$}{:<CLIENT_COLUMN$}what it means",
                "server", "client"
            ));
        }
        Narrator {
            writer: writer.clone(),
            form,
            start,
            clients: Vec::new(),
            held: None,
        }
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn narrate(&mut self, id: Id, call: &Call<'_>, result: CallResult<'_>) {
        let words = match self.form {
            Form::Columns => Words::Story,
            Form::Text => Words::Plain,
            Form::Json => {
                let line = object(self.seconds(), id, call, result);
                return self.writer.write_soon(&line);
            }
        };
        let shown = format!(
            "{} = {}",
            calls::with_arguments(call),
            calls::outcome(call, result)
        );
        let meaning = calls::meaning(call, result, words);
        if self.form == Form::Columns {
            return self.narrate_in_columns(id, call, shown, meaning);
        }
        let (at, id) = (self.seconds(), id.to_string());
        self.writer
            .write_soon(&format!("{at:>11.6} {id:<8} {shown:<46} {meaning}"));
    }

    fn narrate_in_columns(&mut self, id: Id, call: &Call<'_>, shown: String, meaning: String) {
        match call {
            // The next call is of the same socket, and shows whether it is the server's or the
            // client's.
            Call::Socket { .. } => {
                self.held = Some((shown, meaning));
                return;
            }
            Call::Connect { .. } => self.clients.push(id),
            _ => {}
        }
        let is_client = self.clients.contains(&id);
        let indent = if is_client { SERVER_COLUMN } else { 0 };
        for (shown, meaning) in self.held.take().into_iter().chain([(shown, meaning)]) {
            let shown = format!("{:indent$}{shown}", "");
            let width = SERVER_COLUMN + CLIENT_COLUMN;
            let line = format!("{shown:<width$}{meaning}");
            self.writer.write_soon(&line);
        }
    }
}

fn object(at: f64, id: Id, call: &Call<'_>, result: CallResult<'_>) -> String {
    let (id, mut texts) = (id.to_string(), [String::new(), String::new()]);
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
        match event {
            Event::Call { id, call, result } => {
                self.narrate(*id, call, *result);
            }
            Event::ListenerState { id, state } if self.form != Form::Columns => {
                let line = self.form.listener_state(self.seconds(), *id, *state);
                self.writer.write_soon(&line);
            }
            _ => {}
        }
    }
}
