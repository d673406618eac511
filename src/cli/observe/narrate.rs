//! The story of each connection as it happens: one line a system call, in the order of the calls.

use super::super::output;
use super::super::writer::{LeftOut, Writer};
use super::calls::{self, CallResult, Words};
use doorkeeper::{AcceptQueue, Call, Event, Id, ListenerState, Observer};
use serde_json::{Value, json};
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
                json!({ "at": rounded(at), "id": id, "depth": depth, "limit": limit }).to_string()
            }
            _ => format!("{at:>11.6} {id:<8} accept queue of {address}: {depth} of {limit}"),
        }
    }

    /// The line that counts the lines left out of the story, and of the log between them.
    pub(super) fn left_out(self) -> LeftOut {
        match self {
            Form::Json => |count| json!({ "left_out": count }).to_string(),
            _ => output::left_out,
        }
    }

    fn listener_state(self, at: f64, id: Id, state: ListenerState) -> String {
        let (id, state) = (id.to_string(), state.to_string());
        match self {
            Form::Json => json!({ "at": rounded(at), "id": id, "listener": state }).to_string(),
            _ => format!("{at:>11.6} {id:<8} listener: {state}"),
        }
    }
}

/// The observer that makes the lines.
pub(crate) struct Narrator {
    writer: Writer,
    form: Form,
    start: Instant,
    /// The outgoing connections: their calls stand in the client's column.
    clients: Vec<Id>,
    /// A socket() whose column only the next call decides: the call, and its meaning.
    held: Option<(String, String)>,
}

impl Narrator {
    pub(crate) fn new(writer: &Writer, form: Form, start: Instant) -> Narrator {
        if form == Form::Columns {
            writer.write(&format!(
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
                let line = object(self.seconds(), id, call, result).to_string();
                return self.writer.write(&line);
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
            .write(&format!("{at:>11.6} {id:<8} {shown:<46} {meaning}"));
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
            self.writer.write(&line);
        }
    }
}

fn object(at: f64, id: Id, call: &Call<'_>, result: CallResult<'_>) -> Value {
    let mut object = json!({ "at": rounded(at), "id": id.to_string(), "call": calls::name(call) });
    match call {
        Call::Socket { address } | Call::Bind { address } | Call::Connect { address } => {
            object["address"] = json!(address.to_string());
        }
        Call::Listen { backlog } => object["backlog"] = json!(backlog),
        Call::Accept {
            accepted: Some((peer, id)),
        } => {
            object["peer"] = json!(peer.to_string());
            object["connection"] = json!(id.to_string());
        }
        Call::Read { length, .. } | Call::Write { length, .. } => object["length"] = json!(length),
        _ => {}
    }
    match result {
        Ok(count) => object["result"] = json!(count),
        Err(error) => {
            object["error"] = json!(format!("{:?}", error.kind()));
            if let Some(errno) = error.raw_os_error() {
                object["errno"] = json!(errno);
            }
        }
    }
    object
}

impl Observer for Narrator {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Call { id, call, result } => {
                self.narrate(*id, call, *result);
                if matches!(call, Call::Close) {
                    self.clients.retain(|client| client != id);
                }
            }
            Event::ListenerState { id, state } if self.form != Form::Columns => {
                let line = self.form.listener_state(self.seconds(), *id, *state);
                self.writer.write(&line);
            }
            _ => {}
        }
    }
}
