//! The examples, as they are, over every network.

use crate::running::address;
use doorkeeper::sim::{self, Ending, Listening, Peer, Sim};
use doorkeeper::{Arrival, Config, Reactor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/calculator.rs"]
mod calculator;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/chat.rs"]
mod chat;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/http.rs"]
mod http;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/kv.rs"]
mod kv;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/relay.rs"]
mod relay;

#[test]
fn the_calculator_answers_every_line_on_every_network() {
    let calculator = || {
        let calculator = sim::conversation(|| calculator::Calculator);
        calculator.answer_max(calculator::ANSWER_MAX)
    };
    let zero = b"error: division by zero\n";
    let sums = calculator()
        .send(b"2 + 3\n-4 * 25\r\n")
        .expect(b"5\n-100\n");
    let more = sums.send(b"7 / 0\n8 / 0\n9 / 0\n");
    // More than there is room for at once.
    let more = more.expect(zero).expect(zero).expect(zero);
    more.half_close().expect_end().check();
    let unended = calculator().send(b"2 + 3").half_close();
    unended
        .expect(b"error: the last line has no end\n")
        .expect_end()
        .check();
}

#[test]
fn the_key_value_server_replies_to_every_command_on_every_network() {
    let mut config = Config::default();
    config.output_hard_max_bytes = 2 * kv::COMMAND_MAX;
    let kv = sim::conversation(kv::Client::default);
    let kv = kv.config(config);
    // One input, because the splits of several are combined.
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n".as_slice();
    let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let kv = kv.send(&[b"PING\r\n", set, get, b"INCR n\r\n"].concat());
    let kv = kv.expect(b"+PONG\r\n").expect(b"+OK\r\n");
    let kv = kv.expect(b"$2\r\n\r\n\r\n").expect(b":1\r\n");
    kv.half_close().expect_end().check();
}

/// What one member of a chat saw.
#[derive(Default)]
struct Seen {
    lines: BTreeMap<String, Vec<String>>,
    missed: usize,
}

fn seen(peer: &Peer) -> Seen {
    let mut seen = Seen::default();
    let received = String::from_utf8(peer.received()).unwrap();
    assert!(
        received.is_empty() || received.ends_with('\n'),
        "{received:?}"
    );
    for line in received.lines() {
        if let Some(rest) = line.strip_prefix("* you missed ") {
            seen.missed += rest
                .strip_suffix(" lines")
                .unwrap()
                .parse::<usize>()
                .unwrap();
            continue;
        }
        let (from, text) = line.split_once(": ").unwrap();
        let lines = seen.lines.entry(from.to_string()).or_default();
        lines.push(text.to_string());
    }
    seen
}

/// Three members: two talk, one of them does not read for a while, and one leaves in any way.
fn a_chat(sim: &Sim) {
    let buffer = || 200 - sim.choose(200);
    sim.set_buffers(buffer(), buffer());
    let mut config = Config::default();
    config.output_max_bytes = 200 - sim.choose(100);
    let members = chat::Members::default();
    let server = sim.reactor(config).unwrap();
    let all = Rc::clone(&members);
    let chat = move |_: &mut Arrival<'_>| Some(chat::member(Rc::clone(&all)));
    server.borrow_mut().listen(address(), chat).unwrap();
    let peers: Vec<Peer> = (0..3).map(|_| sim.connect(address())).collect();
    sim.run_until(|| members.borrow().len() == 3);
    let names: Vec<String> = peers
        .iter()
        .map(|peer| peer.local_addr().unwrap().to_string())
        .collect();
    let leaves = sim.choose(3);
    if sim.choose(2) == 1 {
        peers[1].stop_reading();
    }
    let count = 1 + sim.choose(10);
    let lines = |from: usize| (0..count).map(move |number| format!("line {number} of {from}"));
    for (first, second) in lines(0).zip(lines(1)) {
        peers[0].send(format!("{first}\r\n").as_bytes());
        peers[1].send(format!("{second}\n").as_bytes());
        if sim.choose(2) == 1 {
            sim.run_now();
        }
    }
    sim.run_now();
    peers[1].read_all();
    sim.run_now();
    for (from, to) in [(0, 1), (1, 0)] {
        let seen = seen(&peers[to]);
        let got = seen.lines.get(&names[from]).cloned().unwrap_or_default();
        // What came is in order, and what is missing was counted.
        let mut all = lines(from);
        assert!(
            got.iter().all(|line| all.any(|said| said == *line)),
            "{got:?}"
        );
        assert_eq!(got.len() + seen.missed, count);
        assert!(!seen.lines.contains_key(&names[to]), "its own lines");
    }
    match leaves {
        0 => peers[2].half_close(),
        1 => peers[2].close(),
        _ => peers[2].reset(),
    }
    sim.run_now();
    assert_eq!(members.borrow().len(), 2, "members of the chat");
}

#[test]
fn the_chat_loses_no_line_silently_and_forgets_who_left() {
    sim::seeds(0..500, a_chat);
}

fn a_relay(sim: &Sim) -> (Rc<RefCell<Reactor>>, Listening, Peer) {
    let buffer = || 900 - sim.choose(900);
    sim.set_buffers(buffer(), buffer());
    let mut config = Config::default();
    config.output_max_bytes = 600 - sim.choose(600);
    config.input_max_bytes = 600 - sim.choose(600);
    let target = "10.0.0.2:9".parse().unwrap();
    let listening = sim.listen(target, 1).unwrap();
    let server = sim.reactor(config).unwrap();
    let relaying = server.borrow_mut().listen(address(), relay::relay(target));
    assert!(relaying.is_ok());
    let client = sim.connect(address());
    (server, listening, client)
}

fn text(seed: usize) -> Vec<u8> {
    (0..2000).map(|at| ((at * seed) % 251) as u8).collect()
}

#[test]
fn the_relay_passes_everything_and_each_end_in_both_directions() {
    sim::seeds(0..500, |sim| {
        let (server, listening, client) = a_relay(sim);
        client.send(&text(3));
        client.half_close();
        sim.run_until(|| listening.waiting() == 1);
        let target = listening.accept().unwrap();
        // Before or after the client's end.
        let early = sim.choose(2) == 1;
        let answer = || {
            target.send(&text(7));
            target.half_close();
        };
        if early {
            answer();
        }
        sim.run_until(|| target.ending().is_some());
        assert_eq!(target.ending(), Some(Ending::Fin));
        assert!(target.received() == text(3));
        if !early {
            answer();
        }
        sim.run_until(|| client.ending().is_some());
        assert_eq!(client.ending(), Some(Ending::Fin));
        assert!(client.received() == text(7));
        sim.run_to_rest();
        assert_eq!(server.borrow().stats().open, 0);
    });
}

#[test]
fn the_relay_closes_both_sides_when_one_is_gone() {
    sim::seeds(0..500, |sim| {
        let (server, listening, client) = a_relay(sim);
        client.send(&text(3));
        sim.run_until(|| listening.waiting() == 1);
        let target = listening.accept().unwrap();
        sim.run_for(Duration::from_millis(sim.choose(2) as u64));
        let (gone, other) = match sim.choose(2) {
            0 => (&client, &target),
            _ => (&target, &client),
        };
        gone.reset();
        sim.run_until(|| other.ending().is_some());
        sim.run_to_rest();
        assert_eq!(server.borrow().stats().open, 0);
    });
}

#[test]
fn the_relay_closes_a_client_whose_target_refuses() {
    sim::seeds(0..100, |sim| {
        let (server, listening, client) = a_relay(sim);
        drop(listening);
        sim.run_until(|| client.ending().is_some());
        sim.run_to_rest();
        assert_eq!(server.borrow().stats().open, 0);
    });
}

#[test]
fn the_http_server_answers_every_request_on_every_network() {
    let http = sim::conversation(http::Connection::default).answer_max(http::CHUNK_MAX);
    let get = b"GET /lines/1 HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
    let put = b"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let http = http.send(&[get, put, b"A\r\n0123456789\r\n0\r\n\r\n"].concat());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = "1b\r\nabcdefghijklmnopqrstuvwxyz\n\r\n0\r\n\r\n";
    let http = http.expect(format!("{head}{line}").as_bytes());
    let http = http.expect(format!("{head}a\r\n0123456789\r\n0\r\n\r\n").as_bytes());
    http.half_close().expect_end().check();
}

/// The answer with a text, as its head and its body.
fn http_text(status: &str, close: bool, text: &str) -> [String; 2] {
    let close = if close { "Connection: close\r\n" } else { "" };
    let length = text.len() + 1;
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    [format!("{head}{close}\r\n"), format!("{text}\n")]
}

#[test]
fn the_http_server_keeps_the_connection_and_answers_what_is_pipelined() {
    let http = sim::conversation(http::Connection::default).answer_max(http::CHUNK_MAX);
    let first = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
    let last = b"GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let http = http.send(&[first, last].concat());
    let [head, _] = http_text("200 OK", false, "Hello, world!");
    let http = http.expect(head.as_bytes());
    let answer = http_text("404 Not Found", true, "There is no such page.").concat();
    http.expect(answer.as_bytes()).expect_end().check();
}

#[test]
fn the_http_server_asks_for_a_body_that_waits() {
    let http = sim::conversation(http::Connection::default).answer_max(http::CHUNK_MAX);
    let head =
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let http = http.send(head.as_bytes());
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n";
    let http = http.expect(format!("HTTP/1.1 100 Continue\r\n\r\n{answer}").as_bytes());
    let http = http.send(b"abc").expect(b"abc");
    http.half_close().expect_end().check();
}

#[test]
fn the_http_server_refuses_what_it_cannot_read_and_ends() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n",
            "417 Expectation Failed",
        ),
        (
            "GET / HTTP/3.0\r\nHost: x\r\n\r\n",
            "505 HTTP Version Not Supported",
        ),
    ] {
        let http = sim::conversation(http::Connection::default).answer_max(http::CHUNK_MAX);
        let answer = http_text(status, true, status).concat();
        let http = http.send(request.as_bytes()).expect(answer.as_bytes());
        http.expect_end().check();
    }
}
