//! The example `http`, with real clients.

mod common;

use common::{Example, PATIENCE, built, client, descriptors, have, peak, read_all};
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Output, Stdio};

const LINE: &str = "abcdefghijklmnopqrstuvwxyz\n";
const HELLO: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";

/// Runs a program with this input, ended after a time that only a hang reaches.
fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("timeout")
        .args([&PATIENCE.as_secs().to_string(), program])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program that ends early closes its input; what it says is checked by the caller.
    let writing = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    output
}

fn curl(args: &[&str], input: &[u8]) -> Vec<u8> {
    run("curl", &[&["-sS"], args].concat(), input).stdout
}

fn text(program: &str, args: &[&str]) -> String {
    String::from_utf8(run(program, args, b"").stdout).unwrap()
}

fn url(example: &Example, path: &str) -> String {
    format!("http://{}{path}", example.address)
}

/// Sends the bytes, ends, and reads to the end.
fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = client(address);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    String::from_utf8(read_all(&mut stream).unwrap()).unwrap()
}

#[test]
fn http_says_hello_to_curl_and_keeps_the_connection() {
    if !have("curl") {
        return;
    }
    let example = Example::start("http");
    let page = url(&example, "/");
    assert_eq!(curl(&["-i", &page], b""), HELLO.as_bytes());
    let head = HELLO.strip_suffix("Hello, world!\n").unwrap();
    assert_eq!(curl(&["-I", &page], b""), head.as_bytes());
    let lines = url(&example, "/lines/2");
    let connects = ["-w", "%{num_connects}\n", &page, &lines, &page];
    let wanted = format!("Hello, world!\n1\n{LINE}{LINE}0\nHello, world!\n0\n");
    assert_eq!(String::from_utf8(curl(&connects, b"")).unwrap(), wanted);
    // HTTP/1.0 has no chunks.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
    let answer = curl(&["-0i", &lines], b"");
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        format!("{head}{LINE}{LINE}")
    );
}

#[test]
fn http_streams_a_long_body_to_curl_in_flat_memory() {
    if !have("curl") {
        return;
    }
    let example = Example::start("http");
    let body = curl(&[&url(&example, "/lines/2000000")], b"");
    assert!(
        body == LINE.repeat(2_000_000).as_bytes(),
        "{} bytes",
        body.len()
    );
    let slow = ["--limit-rate", "10M", &url(&example, "/lines/750001")];
    let body = curl(&slow, b"");
    assert!(
        body == LINE.repeat(750_001).as_bytes(),
        "{} bytes",
        body.len()
    );
    let peak = peak(example.child.id());
    assert!(peak < 16 << 20, "{peak} bytes");
}

#[test]
fn http_echoes_a_body_of_known_length_and_one_in_chunks_to_curl() {
    if !have("curl") {
        return;
    }
    let example = Example::start("http");
    let page = url(&example, "/echo");
    // 27 and 256 have no common factor, so a piece that is lost or moved is seen.
    let body: Vec<u8> = (0..10_000_000_u32).map(|i| (i ^ (i / 27)) as u8).collect();
    let goes_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let expect = "Expect: 100-continue";
    let posted = ["-i", "-H", expect, "--data-binary", "@-", &page];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10000000\r\n\r\n";
    let wanted = [goes_on.as_bytes(), head.as_bytes(), &body].concat();
    assert!(curl(&posted, &body) == wanted, "of a known length");
    let put = ["-i", "-H", expect, "-T", "-", &page];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let wanted = [goes_on.as_bytes(), head.as_bytes(), &body].concat();
    assert!(curl(&put, &body) == wanted, "in chunks");
    let peak = peak(example.child.id());
    assert!(peak < 16 << 20, "{peak} bytes");
}

#[test]
fn http_serves_ab_with_and_without_keep_alive() {
    if !have("ab") {
        return;
    }
    let example = Example::start("http");
    let page = url(&example, "/");
    for (option, kept) in [("-q", 0), ("-k", 2000)] {
        let report = text("ab", &[option, "-q", "-n", "2000", "-c", "50", &page]);
        let number = |name: &str| -> u64 {
            let line = report.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.unwrap_or("0").parse().unwrap()
        };
        assert_eq!(number("Complete requests:"), 2000, "{report}");
        assert_eq!(number("Failed requests:"), 0, "{report}");
        assert_eq!(number("Non-2xx responses:"), 0, "{report}");
        assert_eq!(number("HTML transferred:"), 28_000, "{report}");
        assert_eq!(number("Keep-Alive requests:"), kept, "{report}");
    }
}

#[test]
fn http_serves_wrk() {
    if !have("wrk") {
        return;
    }
    let example = Example::start("http");
    let report = text("wrk", &["-d1s", "-t1", "-c50", &url(&example, "/")]);
    assert!(report.contains("Requests/sec:"), "{report}");
    assert!(
        !report.contains("Socket errors") && !report.contains("Non-2xx"),
        "{report}"
    );
}

#[test]
fn http_serves_h2load_with_pipelined_requests() {
    if !have("h2load") {
        return;
    }
    let example = Example::start("http");
    let args = ["--h1", "-n", "4000", "-c", "20", "-m", "16"];
    let report = text(
        "h2load",
        &[&args[..], &[&url(&example, "/lines/100")]].concat(),
    );
    assert!(
        report.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{report}"
    );
}

#[test]
fn http_answers_pipelined_requests_in_their_order_also_after_a_half_close() {
    let example = Example::start("http");
    let requests = "GET /lines/38456 HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /\
        POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nField: value\r\n\r\n\
        GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = talk(example.address, requests);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    // 128 lines of 27 bytes are 0xd80, and the last 56 are 0x5e8.
    let chunk = |length: &str, lines| format!("{length}\r\n{}\r\n", LINE.repeat(lines));
    let lines = chunk("d80", 128).repeat(300) + &chunk("5e8", 56);
    let wanted = format!(
        "{chunked}{lines}0\r\n\r\n{head}Content-Length: 5\r\n\r\nGET /\
         {chunked}3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n{HELLO}"
    );
    assert!(answer == wanted, "{answer}");
    // Without input that waits, the end is seen while the body is written.
    let answer = talk(
        example.address,
        "GET /lines/38456 HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert!(answer == format!("{chunked}{lines}0\r\n\r\n"), "{answer}");
}

#[test]
fn http_refuses_what_could_be_taken_for_two_requests_and_ends() {
    let example = Example::start("http");
    let long = "x".repeat(20_000);
    let many = "A: b\r\n".repeat(100);
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505"),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "501"),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), "431"),
        (&format!("GET / HTTP/1.1\r\n{many}Host: x\r\n\r\n"), "431"),
        (
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "400",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
            "400",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            "501",
        ),
        (
            "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n",
            "417",
        ),
    ] {
        let answer = talk(
            example.address,
            &format!("{request}GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        );
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        let ends = !matches!(status, "404") && !request.starts_with("DELETE");
        assert_eq!(
            answer.contains("\r\nConnection: close\r\n"),
            ends,
            "{request}: {answer}"
        );
        assert_eq!(answer.ends_with(HELLO), !ends, "{request}: {answer}");
    }
}

/// The FIN of a close comes when the descriptor is gone, and that of `finish` before.
#[test]
fn with_close_when_sent_the_connection_is_gone_when_its_end_is_seen() {
    for (args, open) in [(&[][..], 1), (&["close-when-sent"][..], 0)] {
        let example = Example::start_with("http", args);
        let before = descriptors(example.child.id());
        let mut stream = client(example.address);
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let answer = String::from_utf8(read_all(&mut stream).unwrap()).unwrap();
        assert!(answer.ends_with("\r\n\r\nHello, world!\n"), "{answer}");
        let more = descriptors(example.child.id()) - before;
        assert_eq!(more, open, "{args:?}");
    }
    let mut command = Command::new(built("http"));
    let output = command.args(["127.0.0.1:0", "close"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is not close-when-sent"), "{said}");
}
