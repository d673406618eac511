//! `doorkeeper story`: a server and a client in one loop, and every system call of both.

use super::Failure;
use super::observe::{
    Words, is_of_the_loop, meaning, outcome, readiness, with_arguments, with_descriptor,
};
use super::output;
use super::writer::Writer;
use doorkeeper::services::Echo;
use doorkeeper::{Call, Closed, Config, Context, Event, Handler, Id, Observer, Others, Reactor};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// Widths of the columns, in characters.
const ID: usize = 5;
const LISTENER: usize = 26;
const ACCEPTED: usize = 23;
const CLIENT: usize = 44;

/// Sends one line, half-closes, reads the echo, and stops the loop.
struct Client {
    is_open: Rc<Cell<bool>>,
}

impl Handler for Client {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(b"hello\n");
        cx.half_close();
        self.is_open.set(true);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, _: &Closed) {
        others.stop();
    }
}

/// A part of a line. A descriptor is known only after the turn.
enum Part {
    Text(String),
    DescriptorOf(Id),
}

/// A call, or what the poller reported.
struct Line {
    /// `None` if it concerns no socket alone.
    id: Option<Id>,
    parts: Vec<Part>,
    meaning: String,
}

/// Records the lines of a turn.
struct Recorder {
    lines: Rc<RefCell<Vec<Line>>>,
    shows_loop: bool,
}

impl Recorder {
    fn record(&self, id: Option<Id>, parts: Vec<Part>, meaning: String) {
        let line = Line { id, parts, meaning };
        self.lines.borrow_mut().push(line);
    }

    fn record_text(&self, id: Option<Id>, text: String, meaning: String) {
        self.record(id, vec![Part::Text(text)], meaning);
    }
}

impl Observer for Recorder {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Call { ref call, .. } if is_of_the_loop(call) && !self.shows_loop => {}
            Event::Call {
                id,
                ref call,
                result,
            } => {
                let meaning = meaning(call, result, Words::Story);
                self.record(Some(id), parts(id, call, result), meaning);
            }
            Event::TurnStart { slept, events, .. } if self.shows_loop => {
                let slept = format!("slept {:.1} ms", slept.as_secs_f64() * 1e3);
                self.record_text(None, format!("epoll_wait() = {events}"), slept);
            }
            Event::Ready {
                id,
                readable,
                writable,
                undrained,
            } if self.shows_loop => {
                let marks = readiness(readable, writable, undrained);
                self.record_text(Some(id), "reported".to_string(), marks);
            }
            _ => {}
        }
    }
}

/// The call with its descriptor, which socket and accept return and all others are given.
fn parts(id: Id, call: &Call<'_>, result: Result<usize, &io::Error>) -> Vec<Part> {
    use Part::{DescriptorOf, Text};
    let outcome = match call {
        Call::Socket { .. } => {
            let text = format!("{} = ", with_arguments(call));
            return vec![Text(text), DescriptorOf(id)];
        }
        Call::Accept {
            accepted: Some((_, new)),
        } => DescriptorOf(*new),
        _ => Text(outcome(call, result)),
    };
    // A mark that stands nowhere else in a call.
    let text = with_descriptor(call, "\0");
    let (before, after) = text.split_once('\0').unwrap_or((&text, ""));
    let (before, after) = (before.to_string(), format!("{after} = "));
    vec![Text(before), DescriptorOf(id), Text(after), outcome]
}

/// The columns, and what is needed to fill them.
struct Table {
    listener: Id,
    client: Id,
    descriptors: BTreeMap<Id, i32>,
    writer: Writer,
}

pub(crate) fn run(shows_loop: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format_args!("cannot run the story: {error}"));
    let writer = output::stdout().map_err(Failure::thread)?;
    tell(shows_loop, &writer).map_err(failed)?;
    output::finish_stdout(&writer)
}

fn tell(shows_loop: bool, writer: &Writer) -> io::Result<()> {
    let (lines, is_open) = (Rc::default(), Rc::default());
    let mut reactor = Reactor::new(Config::default())?;
    reactor.observe(Box::new(Recorder {
        lines: Rc::clone(&lines),
        shows_loop,
    }));
    let listener = reactor.listen(([127, 0, 0, 1], 0).into(), |_| Some(Echo))?;
    // The kernel completes the handshake by itself. To show this, the server accepts only when the
    // client is connected and has sent its line.
    reactor.pause(listener);
    let client = Client {
        is_open: Rc::clone(&is_open),
    };
    let client = reactor.connect(reactor.local_addr(listener)?, client)?;
    let mut table = Table {
        listener,
        client,
        descriptors: BTreeMap::new(),
        writer: writer.clone(),
    };
    table.write_header();
    while !reactor.is_done() {
        reactor.turn(None)?;
        table.write(&lines.take(), Some(&reactor));
        if is_open.replace(false) {
            reactor.resume(listener);
        }
    }
    // What is still open closes.
    drop(reactor);
    table.write(&lines.take(), None);
    Ok(())
}

impl Table {
    fn write_header(&self) {
        let line = format!(
            "{:ID$}{:LISTENER$}{:ACCEPTED$}{:CLIENT$}what it means",
            "id", "listener", "accepted socket", "client"
        );
        self.writer.write_soon(&line);
    }

    /// Writes the lines of a turn. The reactor knows the descriptors, unless it is dropped.
    fn write(&mut self, lines: &[Line], reactor: Option<&Reactor>) {
        for part in lines.iter().flat_map(|line| &line.parts) {
            if let (Part::DescriptorOf(id), Some(reactor)) = (part, reactor) {
                let socket = reactor.socket(*id);
                self.descriptors
                    .extend(socket.map(|socket| (*id, socket.as_raw_fd())));
            }
        }
        for line in lines {
            self.writer.write_soon(&self.shown(line));
        }
    }

    fn shown(&self, line: &Line) -> String {
        let text: String = line.parts.iter().map(|part| self.part(part)).collect();
        let id = line.id.map_or(String::new(), |id| id.to_string());
        let (before, width) = match line.id {
            None => (0, LISTENER),
            Some(id) if id == self.listener => (0, LISTENER),
            Some(id) if id == self.client => (LISTENER + ACCEPTED, CLIENT),
            Some(_) => (LISTENER, ACCEPTED),
        };
        let after = LISTENER + ACCEPTED + CLIENT - before - width;
        let meaning = &line.meaning;
        format!("{id:ID$}{:before$}{text:width$}{:after$}{meaning}", "", "")
    }

    fn part(&self, part: &Part) -> String {
        match part {
            Part::Text(text) => text.clone(),
            Part::DescriptorOf(id) => match self.descriptors.get(id) {
                Some(descriptor) => descriptor.to_string(),
                None => "?".to_string(),
            },
        }
    }
}
