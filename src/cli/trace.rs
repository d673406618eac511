//! What the loop does as a trace that [Perfetto] and chrome://tracing open, in the Trace Event Format: turns and callbacks are
//! slices on one track, connections asynchronous spans, waiting rooms and pending output counters.
//!
//! [Perfetto]: https://ui.perfetto.dev

use super::teller::{Sink, Teller};
use doorkeeper::{Call, Event, Id, Observer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

/// A file that is a whole JSON array whenever the program ends: each write begins where the closing bracket stands, and brings
/// another one.
pub(crate) struct TraceFile {
    file: File,
    /// Where the closing bracket stands.
    end: u64,
    most: u64,
    left_out: u64,
}

/// What is kept free for the last word.
const RESERVE: u64 = 256;

impl TraceFile {
    pub(crate) fn create(path: &Path, most: u64) -> io::Result<TraceFile> {
        let mut file = File::create(path)?;
        let names = [("process_name", "doorkeeper"), ("thread_name", "loop")];
        let names = names.map(|(what, name)| {
            format!("{{\"name\":\"{what}\",\"ph\":\"M\",\"ts\":0,\"pid\":1,\"tid\":1,\"args\":{{\"name\":\"{name}\"}}}}")
        });
        let text = format!("[{}", names.join(",\n"));
        file.write_all(format!("{text}\n]\n").as_bytes())?;
        Ok(TraceFile {
            file,
            end: text.len() as u64,
            most,
            left_out: 0,
        })
    }

    /// Replaces the closing bracket; one call, so that there is no moment without one.
    fn put(&mut self, text: &str) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(format!("{text}\n]\n").as_bytes())
    }
}

impl Sink for TraceFile {
    fn take(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            if self.left_out == 0
                && self.end + (text.len() + line.len()) as u64 + RESERVE <= self.most
            {
                text.push_str(",\n");
                text.push_str(line);
            } else {
                self.left_out += 1;
            }
        }
        let last = if self.left_out > 0 {
            format!(",\n{}", left_out(self.left_out))
        } else {
            String::new()
        };
        self.put(&format!("{text}{last}"))?;
        self.end += text.len() as u64;
        Ok(())
    }

    fn left_out(&self) -> fn(u64) -> String {
        left_out
    }
}

fn left_out(count: u64) -> String {
    format!(
        "{{\"name\":\"left out\",\"ph\":\"i\",\"s\":\"g\",\"ts\":0,\"pid\":1,\"tid\":1,\"args\":{{\"events\":{count}}}}}"
    )
}

pub(crate) struct Tracer {
    teller: Rc<Teller>,
    /// The turn that is on: how many events it has, and when it began, in microseconds.
    turn: (usize, f64),
    /// What the spans that have begun are of.
    spans: BTreeMap<Id, &'static str>,
}

impl Tracer {
    pub(crate) fn new(teller: &Rc<Teller>) -> Tracer {
        Tracer {
            teller: Rc::clone(teller),
            turn: (0, 0.0),
            spans: BTreeMap::new(),
        }
    }

    fn now(&self) -> f64 {
        self.teller.seconds() * 1e6
    }

    fn slice(&self, name: &str, begin: f64, end: f64, args: &str) {
        let took = (end - begin).max(0.0);
        self.teller.tell(format!(
            "{{\"name\":\"{name}\",\"ph\":\"X\",\"ts\":{begin:.3},\"dur\":{took:.3},\"pid\":1,\"tid\":1,\"args\":{{{args}}}}}"
        ));
    }

    /// A moment in the span of a connection or a listener: its begin, its end, or something between.
    fn span(&self, phase: char, id: Id, name: &str, args: &str) {
        let at = self.now();
        self.teller.tell(format!(
            "{{\"name\":\"{name}\",\"cat\":\"connection\",\"ph\":\"{phase}\",\"id\":\"{id}\",\"ts\":{at:.3},\"pid\":1,\"tid\":1,\"args\":{{{args}}}}}"
        ));
    }

    fn begin(&mut self, id: Id, name: &'static str, args: &str) {
        if self.spans.insert(id, name).is_none() {
            self.span('b', id, name, args);
        }
    }

    fn call(&mut self, id: Id, call: &Call<'_>, result: Result<usize, &io::Error>) {
        match (call, result) {
            (
                Call::Accept {
                    accepted: Some((peer, id)),
                },
                Ok(_),
            ) => self.begin(*id, "connection", &format!("\"peer\":\"{peer}\"")),
            (Call::Connect { address }, _) => {
                self.begin(id, "connection", &format!("\"peer\":\"{address}\""))
            }
            (Call::Read { .. }, Ok(count)) => {
                self.span('n', id, "read", &format!("\"bytes\":{count}"))
            }
            (Call::Write { .. }, Ok(count)) => {
                self.span('n', id, "write", &format!("\"bytes\":{count}"))
            }
            (Call::Shutdown, Ok(_)) => self.span('n', id, "shutdown", ""),
            (Call::Listen { backlog }, Ok(_)) => {
                self.begin(id, "listener", &format!("\"backlog\":{backlog}"))
            }
            (Call::Close, _) => {
                if let Some(name) = self.spans.remove(&id) {
                    self.span('e', id, name, "");
                }
            }
            _ => {}
        }
    }
}

impl Observer for Tracer {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::TurnStart { events, .. } => self.turn = (*events, self.now()),
            Event::TurnEnd { number } => {
                let (events, begin) = self.turn;
                self.slice(
                    "turn",
                    begin,
                    self.now(),
                    &format!("\"number\":{number},\"events\":{events}"),
                );
            }
            Event::Callback {
                id, callback, took, ..
            } => {
                let now = self.now();
                self.slice(
                    &callback.to_string(),
                    now - took.as_secs_f64() * 1e6,
                    now,
                    &format!("\"id\":\"{id}\""),
                );
            }
            Event::Call { id, call, result } => self.call(*id, call, *result),
            _ => {}
        }
    }
}

/// A value that changes.
pub(crate) fn counter(teller: &Teller, name: &str, value: u64) {
    let at = teller.seconds() * 1e6;
    teller.tell(format!(
        "{{\"name\":\"{name}\",\"ph\":\"C\",\"ts\":{at:.3},\"pid\":1,\"tid\":1,\"args\":{{\"value\":{value}}}}}"
    ));
}
