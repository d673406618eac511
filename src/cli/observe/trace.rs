//! A trace of the loop in the Trace Event Format, which [Perfetto] and chrome://tracing open. Turns
//! and callbacks are slices on one track, connections and listeners asynchronous spans, accept
//! queues and pending output counters.
//!
//! [Perfetto]: https://ui.perfetto.dev

use super::super::json::Json::{Float, Integer, Object, Text};
use super::super::json::{Field, object};
use super::super::writer::{Sink, Writer};
use super::calls::CallResult;
use doorkeeper::{Call, Event, Id, Observer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A file that is a whole JSON array between two writes. Each write begins at the closing bracket
/// and brings a new one. In the midst of a write the bracket can be missing, as the format allows
/// (Trace Event Format, "JSON Array Format").
pub(crate) struct TraceFile {
    path: PathBuf,
    file: File,
    /// Offset of the tail: the count of events left out, if there are any, and the closing bracket.
    end: u64,
    max_bytes: u64,
    left_out: u64,
}

/// Bytes of the tail. It always has this size, so that on a full disk it can be written again in
/// the space that it has.
const TAIL: usize = 160;

/// An event on one line. `more` are the fields that only its kind has, and `args` what it shows.
/// All events are of one thread of one process.
fn event(name: &str, phase: &str, at: f64, more: &[Field<'_>], args: &[Field<'_>]) -> String {
    let begin = [
        ("name", Text(name)),
        ("ph", Text(phase)),
        ("ts", Float(rounded(at))),
        ("pid", Integer(1)),
        ("tid", Integer(1)),
    ];
    object(&[&begin, more, &[("args", Object(args))]])
}

/// Microseconds with three decimals.
fn rounded(microseconds: f64) -> f64 {
    (microseconds * 1e3).round() / 1e3
}

/// The event that counts events left out. It is shorter than the tail.
pub(super) fn left_out(count: u64) -> String {
    let args = [("events", Integer(count))];
    event("left out", "i", 0.0, &[("s", Text("g"))], &args)
}

impl TraceFile {
    /// # Errors
    /// Those of opening and writing the file; `InvalidInput` if it is a pipe or a device, which
    /// cannot be written over.
    pub(crate) fn create(path: &Path, max_bytes: u64) -> io::Result<TraceFile> {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            let problem = "it must be a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let file = File::create(path)?;
        let names = [("process_name", "doorkeeper"), ("thread_name", "loop")];
        let names = names.map(|(what, name)| event(what, "M", 0.0, &[], &[("name", Text(name))]));
        let mut trace = TraceFile {
            path: path.to_path_buf(),
            file,
            end: 0,
            max_bytes,
            left_out: 0,
        };
        trace.append(&format!("[{}", names.join(",\n")))?;
        Ok(trace)
    }

    /// Writes over the tail, and a new tail after it, in one write.
    fn append(&mut self, text: &str) -> io::Result<()> {
        let all = format!("{text}{}", self.tail());
        self.file.write_all_at(all.as_bytes(), self.end)?;
        self.end += text.len() as u64;
        Ok(())
    }

    fn tail(&self) -> String {
        let count = match self.left_out {
            0 => String::new(),
            count => format!(",\n{}", left_out(count)),
        };
        // White space may follow the bracket (RFC 8259, section 2).
        format!("{:<width$}\n", format!("{count}\n]"), width = TAIL - 1)
    }

    /// A write failed, and may have written a part. Makes the file whole again, without the events
    /// of that write.
    fn repair(&mut self, error: &io::Error) {
        log::error!(
            "--trace {}: {error}: all further events are left out",
            self.path.display()
        );
        let tail = self.tail();
        let repaired = self
            .file
            .write_all_at(tail.as_bytes(), self.end)
            .and_then(|()| self.file.set_len(self.end + TAIL as u64));
        if let Err(error) = repaired {
            log::error!("--trace {}: it is cut: {error}", self.path.display());
        }
    }
}

impl Sink for TraceFile {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (mut text, mut count) = (String::new(), 0);
        let events = lines
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        for event in events {
            let end = self.end as usize + text.len() + event.len() + TAIL;
            if self.left_out == 0 && end as u64 + 2 <= self.max_bytes {
                text.push_str(",\n");
                text.push_str(&String::from_utf8_lossy(event));
                count += 1;
            } else {
                self.left_out += 1;
            }
        }
        if let Err(error) = self.append(&text) {
            self.left_out += count;
            self.repair(&error);
        }
        Ok(lines.len())
    }
}

/// The observer that makes the events.
pub(crate) struct Tracer {
    writer: Writer,
    start: Instant,
    /// The current turn: its number of readiness events, and its start in microseconds.
    turn: (usize, f64),
    /// The names of the spans that are open.
    spans: BTreeMap<Id, &'static str>,
}

impl Tracer {
    pub(crate) fn new(writer: &Writer, start: Instant) -> Tracer {
        Tracer {
            writer: writer.clone(),
            start,
            turn: (0, 0.0),
            spans: BTreeMap::new(),
        }
    }

    fn slice(&self, name: &str, begin: f64, end: f64, args: &[Field<'_>]) {
        let took = [("dur", Float(rounded((end - begin).max(0.0))))];
        self.writer
            .write_soon(&event(name, "X", begin, &took, args));
    }

    /// An event of the span of a connection or a listener. `phase` is b (begin), n (an instant) or
    /// e (end).
    fn span(&self, phase: &str, id: Id, name: &str, args: &[Field<'_>]) {
        let id = id.to_string();
        let more = [("cat", Text("connection")), ("id", Text(&id))];
        let at = now(self.start);
        self.writer.write_soon(&event(name, phase, at, &more, args));
    }

    fn begin(&mut self, id: Id, name: &'static str, args: &[Field<'_>]) {
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
            ) => self.begin(*id, "connection", &[("peer", Text(&peer.to_string()))]),
            (Call::Connect { address }, _) => {
                let peer = address.to_string();
                self.begin(id, "connection", &[("peer", Text(&peer))]);
            }
            (Call::Read { .. }, Ok(count)) => {
                self.span("n", id, "read", &[("bytes", Integer(count as u64))])
            }
            (Call::Write { .. }, Ok(count)) => {
                self.span("n", id, "write", &[("bytes", Integer(count as u64))])
            }
            (Call::Shutdown, Ok(_)) => self.span("n", id, "shutdown", &[]),
            (Call::Listen { backlog }, Ok(_)) => {
                self.begin(id, "listener", &[("backlog", Integer((*backlog).into()))])
            }
            (Call::Close, _) => {
                if let Some(name) = self.spans.remove(&id) {
                    self.span("e", id, name, &[]);
                }
            }
            _ => {}
        }
    }
}

impl Observer for Tracer {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::TurnStart { events, .. } => self.turn = (*events, now(self.start)),
            Event::TurnEnd { number } => {
                let (events, begin) = self.turn;
                let args = [
                    ("number", Integer(*number)),
                    ("events", Integer(events as u64)),
                ];
                self.slice("turn", begin, now(self.start), &args);
            }
            Event::Callback {
                id, callback, took, ..
            } => {
                let end = now(self.start);
                let begin = end - took.as_secs_f64() * 1e6;
                let (name, id) = (callback.to_string(), id.to_string());
                self.slice(&name, begin, end, &[("id", Text(&id))]);
            }
            Event::Call { id, call, result } => self.call(*id, call, *result),
            _ => {}
        }
    }
}

fn now(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

/// Writes the current value of a counter.
pub(super) fn counter(writer: &Writer, start: Instant, name: &str, value: u64) {
    let args = [("value", Integer(value))];
    writer.write_soon(&event(name, "C", now(start), &[], &args));
}

#[cfg(test)]
mod tests {
    use super::super::super::writer::{Sink, Writer};
    use super::{Tracer, left_out};
    use doorkeeper::{Arrival, Call, Callback, Config, Event, Observer, Reactor};
    use serde_json::Value;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Sink for Lines {
        fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(lines);
            Ok(lines.len())
        }
    }

    #[test]
    fn a_callback_is_a_slice_as_long_as_it_took() {
        let lines = Arc::default();
        let writer = Writer::start(Lines(Arc::clone(&lines)), left_out).unwrap();
        let start = Instant::now() - Duration::from_secs(1);
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        let id = reactor
            .listen(any, |_| Some(doorkeeper::services::Echo))
            .unwrap();
        Tracer::new(&writer, start).event(&Event::Callback {
            id,
            peer: any,
            callback: Callback::Data,
            took: Duration::from_millis(250),
        });
        assert!(writer.flush());
        let slice: Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
        assert_eq!(
            (&slice["name"], &slice["dur"]),
            (&"on_data".into(), &250e3.into())
        );
        // It ends now, a second after the start.
        let end = slice["ts"].as_f64().unwrap() + 250e3;
        assert!((1e6..1e7).contains(&end), "{slice}");
    }

    #[test]
    fn a_turn_and_the_span_of_each_source_have_their_events() {
        let lines = Arc::default();
        let writer = Writer::start(Lines(Arc::clone(&lines)), left_out).unwrap();
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let address: SocketAddr = ([127, 0, 0, 1], 0).into();
        let [id, accepted] = [(); 2].map(|()| {
            let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
            reactor.listen(address, service).unwrap()
        });
        let mut tracer = Tracer::new(&writer, Instant::now());
        tracer.event(&Event::TurnStart {
            number: 7,
            slept: Duration::ZERO,
            events: 3,
            queued: 0,
        });
        tracer.event(&Event::TurnEnd { number: 7 });
        let blocked = io::ErrorKind::WouldBlock.into();
        let (length, bytes) = (9, &b""[..]);
        let newcomer = Some((address, accepted));
        for (id, call, result) in [
            (id, Call::Listen { backlog: 5 }, Ok(0)),
            (id, Call::Listen { backlog: 6 }, Ok(0)),
            (id, Call::Accept { accepted: newcomer }, Ok(0)),
            (accepted, Call::Read { length, bytes }, Ok(5)),
            (accepted, Call::Read { length, bytes }, Err(&blocked)),
            (accepted, Call::Write { length, bytes }, Ok(4)),
            (accepted, Call::Write { length, bytes }, Err(&blocked)),
            (accepted, Call::Shutdown, Ok(0)),
            (accepted, Call::Close, Ok(0)),
            (accepted, Call::Close, Ok(0)),
            (accepted, Call::Connect { address }, Err(&blocked)),
            (id, Call::Close, Ok(0)),
        ] {
            tracer.event(&Event::Call { id, call, result });
        }
        assert!(writer.flush());
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        let told: Vec<String> = text
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                let part = |name: &str| event[name].as_str().unwrap_or("-").to_string();
                [
                    part("name"),
                    part("ph"),
                    part("id"),
                    event["args"].to_string(),
                ]
                .join(" ")
            })
            .collect();
        assert_eq!(
            told,
            [
                r#"turn X - {"events":3,"number":7}"#,
                r#"listener b 0.0 {"backlog":5}"#,
                r#"connection b 1.1 {"peer":"127.0.0.1:0"}"#,
                r#"read n 1.1 {"bytes":5}"#,
                r#"write n 1.1 {"bytes":4}"#,
                "shutdown n 1.1 {}",
                "connection e 1.1 {}",
                r#"connection b 1.1 {"peer":"127.0.0.1:0"}"#,
                "listener e 0.0 {}",
            ]
        );
    }
}
