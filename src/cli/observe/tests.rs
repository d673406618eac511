//! Every line that the narration has, in both forms.

use super::super::writer::{Sink, Writer};
use super::narrate::At;
use super::{Budget, Form, Narrator, Observers, Words, meaning, with_descriptor};
use doorkeeper::{
    AcceptQueue, Arrival, Call, Config, Event, Id, ListenerState, Observer, Reactor, Reported,
};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Lines(Arc<Mutex<String>>);

impl Sink for Lines {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(lines).unwrap();
        self.0.lock().unwrap().push_str(text);
        Ok(lines.len())
    }
}

/// 0.0 and 1.1.
fn ids() -> [Id; 2] {
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    [(); 2].map(|()| {
        let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
        reactor.listen(any, service).unwrap()
    })
}

/// Every call with every result that has words of its own.
fn calls(accepted: Id) -> Vec<(Call<'static>, Result<usize, io::Error>)> {
    let address = "192.0.2.1:7".parse().unwrap();
    let failed = |errno: Errno| Err(errno.into());
    let read = || Call::Read {
        length: 9,
        bytes: b"",
    };
    let write = || Call::Write {
        length: 9,
        bytes: b"",
    };
    let [all, readable] = [true, false].map(|writable| Reported {
        readable: true,
        writable,
        urgent: writable,
    });
    let newcomer = Some((address, accepted));
    vec![
        (Call::Socket { address }, Ok(0)),
        (Call::Bind { address }, Ok(0)),
        (Call::Bind { address }, failed(Errno::ADDRINUSE)),
        (Call::Listen { backlog: 5 }, Ok(0)),
        (Call::Connect { address }, Ok(0)),
        (Call::Connect { address }, failed(Errno::INPROGRESS)),
        (Call::Connect { address }, failed(Errno::NETUNREACH)),
        (Call::SocketError, Ok(0)),
        (Call::SocketError, failed(Errno::CONNREFUSED)),
        (Call::Accept { accepted: newcomer }, Ok(0)),
        (Call::Accept { accepted: None }, Ok(0)),
        (Call::Accept { accepted: None }, failed(Errno::AGAIN)),
        (Call::Accept { accepted: None }, failed(Errno::MFILE)),
        (read(), Ok(7)),
        (read(), Ok(0)),
        (read(), failed(Errno::AGAIN)),
        (read(), failed(Errno::CONNRESET)),
        (write(), Ok(9)),
        (write(), Ok(8)),
        (write(), failed(Errno::AGAIN)),
        (write(), failed(Errno::PIPE)),
        (write(), failed(Errno::NOBUFS)),
        (write(), Err(io::ErrorKind::WriteZero.into())),
        (Call::Register { reported: all }, Ok(0)),
        (Call::Reregister { reported: readable }, Ok(0)),
        (Call::Deregister, Ok(0)),
        (Call::Shutdown, Ok(0)),
        (Call::Close, Ok(0)),
    ]
}

/// The lines of these events, and of a change of an accept queue.
fn narrate(form: Form, shows_loop: bool) -> String {
    let text = Arc::<Mutex<String>>::default();
    let writer = Writer::start(Lines(Arc::clone(&text)), form.left_out()).unwrap();
    let start = Instant::now() - Duration::from_secs(1);
    let ([id, accepted], mut narrator) = (ids(), Narrator::new(&writer, form, shows_loop, start));
    narrator.event(&Event::TurnStart {
        number: 1,
        slept: Duration::from_micros(2500),
        events: 3,
        queued: 4,
    });
    for (readable, writable, undrained) in [(true, false, false), (false, true, true)] {
        narrator.event(&Event::Ready {
            id,
            readable,
            writable,
            undrained,
        });
    }
    for (call, result) in calls(accepted) {
        let result = result.as_ref().copied();
        narrator.event(&Event::Call { id, call, result });
    }
    let state = ListenerState::Full;
    narrator.event(&Event::ListenerState { id, state });
    assert!(writer.flush());
    std::mem::take(&mut *text.lock().unwrap())
}

/// Without the time, which is about a second, and without the error's kind, whose name depends on
/// the version of Rust.
fn timeless(line: &str) -> String {
    let (time, rest) = match line.strip_prefix("{\"at\":") {
        Some(line) => line.split_once(',').unwrap(),
        None => line.split_at(12),
    };
    let seconds: f64 = time.trim_ascii().parse().unwrap();
    assert!((1.0..10.0).contains(&seconds), "{line}");
    let is_json = line.starts_with('{');
    let kindless = rest.split(",\"error\"").next().unwrap();
    if is_json {
        format!("{{{kindless}\n")
    } else {
        format!("{rest}\n")
    }
}

#[test]
fn every_call_has_its_line_in_both_forms() {
    let all = narrate(Form::Text, true);
    let lines: String = all.lines().map(timeless).collect();
    assert_eq!(lines, include_str!("tests/text.txt"));
    let all = narrate(Form::Json, true);
    let lines: String = all.lines().map(timeless).collect();
    assert_eq!(lines, include_str!("tests/json.txt"));
    for (words, kind) in [("\"errno\":32", "BrokenPipe"), ("\"write\"", "WriteZero")] {
        let line = |line: &&str| line.contains(words) && line.contains(kind);
        let line: Value = serde_json::from_str(all.lines().find(line).unwrap()).unwrap();
        assert_eq!(line["error"], kind);
    }
}

#[test]
fn the_calls_of_the_poller_are_left_out_unless_asked_for() {
    for (form, wanted) in [
        (Form::Text, include_str!("tests/text.txt")),
        (Form::Json, include_str!("tests/json.txt")),
    ] {
        let wanted = wanted.lines().filter(|line| {
            let is_of_the_loop = ["epoll_", "reported:", "\"readable\""];
            !is_of_the_loop.iter().any(|word| line.contains(word))
        });
        let wanted: String = wanted.map(|line| format!("{line}\n")).collect();
        let all = narrate(form, false);
        assert_eq!(all.lines().map(timeless).collect::<String>(), wanted);
    }
}

#[test]
fn a_change_of_an_accept_queue_has_its_line_in_both_forms() {
    let ([id, _], address) = (ids(), "127.0.0.1:7".parse().unwrap());
    let (depth, limit) = (3, 5);
    let line = |form: Form| {
        let at = At(Duration::from_micros(12_034_567));
        form.accept_queue(at, id, address, AcceptQueue { depth, limit })
    };
    assert_eq!(
        line(Form::Text),
        "  12.034567 0.0      accept queue of 127.0.0.1:7: 3 of 5"
    );
    let object: Value = serde_json::from_str(&line(Form::Json)).unwrap();
    assert_eq!(
        object,
        json!({ "at": 12.034567, "id": "0.0", "depth": 3, "limit": 5 })
    );
}

#[test]
fn the_story_has_descriptors_and_words_of_its_own() {
    let told = |call: &Call<'_>, result: Result<usize, &io::Error>| {
        let meaning = meaning(call, result, Words::Story);
        (with_descriptor(call, "4"), meaning)
    };
    let pair = |call: &str, meaning: &str| (call.to_string(), meaning.to_string());
    let listen = "the doorkeeper is at the door; the waiting room has 5 places";
    assert_eq!(
        told(&Call::Listen { backlog: 5 }, Ok(0)),
        pair("listen(4, 5)", listen)
    );
    let (accept, empty) = (Call::Accept { accepted: None }, Errno::AGAIN.into());
    assert_eq!(
        told(&accept, Err(&empty)),
        pair("accept(4)", "the waiting room is empty")
    );
    let full = Errno::MFILE.into();
    let too_many = "Too many open files (os error 24)";
    assert_eq!(told(&accept, Err(&full)), pair("accept(4)", too_many));
}

/// A trace. It says when it is dropped, by its sender.
struct Alive(#[expect(dead_code, reason = "it is dropped")] Sender<()>);

impl Sink for Alive {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        Ok(lines.len())
    }
}

/// A thread that waits for more lines would lose those that it has when the program ends.
#[test]
fn the_end_of_the_observers_is_the_end_of_the_traces_thread() {
    let (alive, end) = channel();
    let tracer = Writer::start(Alive(alive), super::trace::left_out).unwrap();
    let now = Instant::now();
    drop(Observers {
        start: now,
        narrator: None,
        tracer: Some(tracer),
        queues: BTreeMap::new(),
        budget: Budget::new(),
        sum_at: now,
    });
    let ended = end.recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
}
