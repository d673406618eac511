//! A trace of the loop in the Trace Event Format, which [Perfetto] and chrome://tracing open. Turns and callbacks are slices on one
//! track, connections and listeners asynchronous spans, accept queues and pending output counters.
//!
//! [Perfetto]: https://ui.perfetto.dev

use super::super::writer::{Sink, Writer};
use super::calls::CallResult;
use doorkeeper::{Call, Event, Id, Observer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

/// A file that is a whole JSON array between two writes: each write begins at the closing bracket and brings a new one.
pub(crate) struct TraceFile {
    file: File,
    /// Offset of the closing bracket.
    end: u64,
    max_bytes: u64,
    left_out: u64,
}

/// Bytes kept free for the event that counts those left out.
const RESERVE: u64 = 256;

/// Adds the fields that every event has: all are of one thread of one process.
fn event(mut fields: Value, microseconds: f64) -> Value {
    fields["ts"] = json!(rounded(microseconds));
    fields["pid"] = json!(1);
    fields["tid"] = json!(1);
    fields
}

/// Microseconds with three decimals.
fn rounded(microseconds: f64) -> f64 {
    (microseconds * 1e3).round() / 1e3
}

fn left_out(count: u64) -> String {
    let fields = json!({ "name": "left out", "ph": "i", "s": "g", "args": { "events": count } });
    event(fields, 0.0).to_string()
}

impl TraceFile {
    pub(crate) fn create(path: &Path, max_bytes: u64) -> io::Result<TraceFile> {
        let mut file = File::create(path)?;
        let names = [("process_name", "doorkeeper"), ("thread_name", "loop")];
        let names = names.map(|(what, name)| {
            event(
                json!({ "name": what, "ph": "M", "args": { "name": name } }),
                0.0,
            )
            .to_string()
        });
        let text = format!("[{}", names.join(",\n"));
        file.write_all(format!("{text}\n]\n").as_bytes())?;
        Ok(TraceFile {
            file,
            end: text.len() as u64,
            max_bytes,
            left_out: 0,
        })
    }

    /// Replaces the closing bracket in one write, so that the file has one before and after it.
    fn append(&mut self, text: &str) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(format!("{text}\n]\n").as_bytes())
    }
}

impl Sink for TraceFile {
    fn write_lines(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            let end = self.end + (text.len() + line.len()) as u64;
            if self.left_out == 0 && end + RESERVE <= self.max_bytes {
                text.push_str(",\n");
                text.push_str(line);
            } else {
                self.left_out += 1;
            }
        }
        // The next write replaces the count by a later one.
        let count = if self.left_out > 0 {
            format!(",\n{}", left_out(self.left_out))
        } else {
            String::new()
        };
        self.append(&format!("{text}{count}"))?;
        self.end += text.len() as u64;
        Ok(())
    }

    fn left_out(&self) -> fn(u64) -> String {
        left_out
    }
}

/// The observer that makes the events.
pub(crate) struct Tracer {
    writer: Rc<Writer>,
    /// The current turn: its number of readiness events, and its start in microseconds.
    turn: (usize, f64),
    /// The names of the spans that are open.
    spans: BTreeMap<Id, &'static str>,
}

impl Tracer {
    pub(crate) fn new(writer: &Rc<Writer>) -> Tracer {
        Tracer {
            writer: Rc::clone(writer),
            turn: (0, 0.0),
            spans: BTreeMap::new(),
        }
    }

    fn slice(&self, name: &str, begin: f64, end: f64, args: Value) {
        let took = rounded((end - begin).max(0.0));
        let fields = json!({ "name": name, "ph": "X", "dur": took, "args": args });
        self.writer.write(event(fields, begin).to_string());
    }

    /// An event of the span of a connection or a listener. `phase` is b (begin), n (an instant) or e (end).
    fn span(&self, phase: &str, id: Id, name: &str, args: Value) {
        let id = id.to_string();
        let fields =
            json!({ "name": name, "cat": "connection", "ph": phase, "id": id, "args": args });
        self.writer
            .write(event(fields, now(&self.writer)).to_string());
    }

    fn begin(&mut self, id: Id, name: &'static str, args: Value) {
        if self.spans.insert(id, name).is_none() {
            self.span("b", id, name, args);
        }
    }

    fn call(&mut self, id: Id, call: &Call<'_>, result: CallResult<'_>) {
        match (call, result) {
            (
                Call::Accept {
                    accepted: Some((peer, id)),
                },
                Ok(_),
            ) => self.begin(*id, "connection", json!({ "peer": peer.to_string() })),
            (Call::Connect { address }, _) => {
                self.begin(id, "connection", json!({ "peer": address.to_string() }))
            }
            (Call::Read { .. }, Ok(count)) => self.span("n", id, "read", json!({ "bytes": count })),
            (Call::Write { .. }, Ok(count)) => {
                self.span("n", id, "write", json!({ "bytes": count }))
            }
            (Call::Shutdown, Ok(_)) => self.span("n", id, "shutdown", json!({})),
            (Call::Listen { backlog }, Ok(_)) => {
                self.begin(id, "listener", json!({ "backlog": backlog }))
            }
            (Call::Close, _) => {
                if let Some(name) = self.spans.remove(&id) {
                    self.span("e", id, name, json!({}));
                }
            }
            _ => {}
        }
    }
}

impl Observer for Tracer {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::TurnStart { events, .. } => self.turn = (*events, now(&self.writer)),
            Event::TurnEnd { number } => {
                let (events, begin) = self.turn;
                let args = json!({ "number": number, "events": events });
                self.slice("turn", begin, now(&self.writer), args);
            }
            Event::Callback {
                id, callback, took, ..
            } => {
                let end = now(&self.writer);
                let begin = end - took.as_secs_f64() * 1e6;
                let args = json!({ "id": id.to_string() });
                self.slice(&callback.to_string(), begin, end, args);
            }
            Event::Call { id, call, result } => self.call(*id, call, *result),
            _ => {}
        }
    }
}

fn now(writer: &Writer) -> f64 {
    writer.seconds() * 1e6
}

/// Writes the current value of a counter.
pub(super) fn counter(writer: &Writer, name: &str, value: u64) {
    let fields = json!({ "name": name, "ph": "C", "args": { "value": value } });
    writer.write(event(fields, now(writer)).to_string());
}
