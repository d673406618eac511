//! An HTTP/1.1 server (RFC 9112) on the parser of the crate httparse. `cargo run --example http
//! [ADDRESS [close-when-sent]]`, then `curl http://127.0.0.1:7080/`.
//!
//! - `GET /` answers `Hello, world!`.
//! - `GET /lines/N` answers N lines in chunks, which `on_drain` writes. However long the body is, at
//!   most `output_max_bytes` of it are in memory, and it is made as fast as the client reads.
//! - `POST /echo` and `PUT /echo` answer with the body, of a known length or in chunks, while it comes.
//!
//! It shows a protocol with states. The next request is read when the last answer is written
//! (keep-alive); requests that came meanwhile (pipelining) are input that is not consumed. It needs no
//! `on_eof`: a client that half-closes after its last request gets all answers.
//!
//! With `close-when-sent` a connection closes at once after its last answer, and does not wait for the
//! client's end. That costs less, and a client that sends anything later can lose the answer (section 9.6).
//!
//! The default limits do, because a body is never held: only the head of a request must fit in
//! `input_max_bytes`. Left out: the field `Date`, targets in absolute form, and ranges.

use doorkeeper::{Config, Context, Handler, Reactor};
use httparse::{EMPTY_HEADER, Request, Status};
use std::io::{Error, Result, Write};

/// The longest head of a request, in bytes. A longer one is refused.
const HEAD_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
const LINE: &[u8] = b"abcdefghijklmnopqrstuvwxyz\n";
const LINES_PER_CHUNK: u64 = 128;
/// No chunk is larger, with the lines before and after it. `output_max_bytes` must not be less.
pub(crate) const CHUNK_MAX: usize = LINE.len() * LINES_PER_CHUNK as usize + 16;

/// What a connection does next. The numbers say how much is left.
#[derive(Clone, Copy, Default)]
enum State {
    /// Reads the head of a request.
    #[default]
    Head,
    /// Writes lines. The input waits.
    Lines(u64),
    /// Passes on a body of known length.
    Body(u64),
    /// Reads the line before a chunk.
    ChunkStart,
    /// Passes on a chunk, and then CR LF.
    Chunk(u64),
    /// Reads the fields after the last chunk.
    Trailer,
}

#[derive(Default)]
pub(crate) struct Connection {
    state: State,
    /// Another request may follow.
    keep_alive: bool,
    /// The client is to be answered in HTTP/1.1, which has chunks.
    is_1_1: bool,
}

impl Handler for Connection {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let mut consumed = 0;
        while cx.room() > 0 {
            match self.step(cx, &input[consumed..])? {
                0 => break,
                size => consumed += size,
            }
        }
        Ok(consumed)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        match self.state {
            State::Lines(left) => self.write_lines(cx, left),
            _ => Ok(()),
        }
    }
}

impl Connection {
    /// Does what the state says. Returns how much of the input it consumed; 0 if it needs more input,
    /// or more room.
    fn step(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        match self.state {
            State::Head => self.read_head(cx, input),
            State::Lines(_) => Ok(0),
            State::Body(left) => {
                let passed = pass(cx, input, left);
                self.state = State::Body(left - passed as u64);
                if left == passed as u64 {
                    self.end_answer(cx);
                }
                Ok(passed)
            }
            State::ChunkStart => self.start_chunk(cx, input),
            State::Chunk(0) => self.end_chunk(cx, input),
            State::Chunk(left) => {
                let passed = pass(cx, input, left);
                self.state = State::Chunk(left - passed as u64);
                Ok(passed)
            }
            State::Trailer => self.read_trailer(cx, input),
        }
    }

    fn read_head(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut request = Request::new(&mut fields);
        let parsed = match request.parse(input) {
            Ok(Status::Complete(size)) if size <= HEAD_MAX => {
                Head::of(&request).map(|it| (it, size))
            }
            Ok(Status::Partial) if input.len() <= HEAD_MAX => return Ok(0),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                Err("431 Request Header Fields Too Large")
            }
            Err(httparse::Error::Version) => Err("505 HTTP Version Not Supported"),
            Err(_) => Err("400 Bad Request"),
        };
        match parsed {
            Ok((head, size)) => {
                self.keep_alive = head.keep_alive;
                self.is_1_1 = request.version == Some(1);
                self.answer(cx, &request, &head)?;
                Ok(size)
            }
            // Where the request ends is not known, so no other can follow.
            Err(status) => {
                self.keep_alive = false;
                self.answer_text(cx, status, status, true)?;
                Ok(input.len())
            }
        }
    }

    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request<'_, '_>,
        head: &Head,
    ) -> Result<()> {
        let (method, path) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        if matches!((method, path), ("POST" | "PUT", "/echo")) {
            return self.answer_echo(cx, head);
        }
        // Only `/echo` reads a body; with any other the connection ends after the answer.
        self.keep_alive &= matches!(head.body, Body::Length(0));
        let lines = path
            .strip_prefix("/lines/")
            .and_then(|count| count.parse().ok());
        match (method, path, lines) {
            ("GET" | "HEAD", "/", _) => {
                self.answer_text(cx, "200 OK", "Hello, world!", method == "GET")
            }
            ("GET" | "HEAD", _, Some(count)) => self.answer_lines(cx, count, method == "GET"),
            ("GET" | "HEAD" | "POST" | "PUT", ..) => self.answer_text(
                cx,
                "404 Not Found",
                "There is no such page.",
                method != "HEAD",
            ),
            _ => self.answer_text(cx, "501 Not Implemented", "There is no such method.", true),
        }
    }

    fn answer_text(
        &mut self,
        cx: &mut Context<'_>,
        status: &str,
        text: &str,
        with_body: bool,
    ) -> Result<()> {
        self.write_head(
            cx,
            status,
            &format!("Content-Length: {}\r\n", text.len() + 1),
        )?;
        if with_body {
            writeln!(cx, "{text}")?;
        }
        self.end_answer(cx);
        Ok(())
    }

    /// Only begins the answer. The rest follows when this is sent.
    fn answer_lines(&mut self, cx: &mut Context<'_>, count: u64, with_body: bool) -> Result<()> {
        // Without chunks, the end of the connection is the end of the body.
        self.keep_alive &= self.is_1_1;
        let framing = if self.is_1_1 {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        self.write_head(cx, "200 OK", framing)?;
        if with_body {
            self.state = State::Lines(count);
        } else {
            self.end_answer(cx);
        }
        Ok(())
    }

    fn answer_echo(&mut self, cx: &mut Context<'_>, head: &Head) -> Result<()> {
        if head.expects_continue {
            cx.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match head.body {
            Body::Length(length) => {
                self.write_head(cx, "200 OK", &format!("Content-Length: {length}\r\n"))?;
                self.state = State::Body(length);
                if length == 0 {
                    self.end_answer(cx);
                }
            }
            Body::Chunks => {
                self.write_head(cx, "200 OK", "Transfer-Encoding: chunked\r\n")?;
                self.state = State::ChunkStart;
            }
        }
        Ok(())
    }

    fn write_head(&self, cx: &mut Context<'_>, status: &str, framing: &str) -> Result<()> {
        let connection = match (self.keep_alive, self.is_1_1) {
            (false, _) => "Connection: close\r\n",
            (true, false) => "Connection: keep-alive\r\n",
            (true, true) => "",
        };
        write!(
            cx,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{framing}{connection}\r\n"
        )
    }

    /// Writes as many chunks as there is room for.
    fn write_lines(&mut self, cx: &mut Context<'_>, mut left: u64) -> Result<()> {
        while left > 0 && cx.room() >= CHUNK_MAX {
            let count = left.min(LINES_PER_CHUNK);
            let lines = LINE.repeat(count as usize);
            if self.is_1_1 {
                write!(cx, "{:x}\r\n", lines.len())?;
            }
            cx.write_all(&lines)?;
            if self.is_1_1 {
                cx.write_all(b"\r\n")?;
            }
            left -= count;
        }
        self.state = State::Lines(left);
        if left == 0 {
            if self.is_1_1 {
                cx.write_all(b"0\r\n\r\n")?;
            }
            self.end_answer(cx);
        }
        Ok(())
    }

    fn start_chunk(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        match httparse::parse_chunk_size(input) {
            Ok(Status::Complete((size, 0))) => {
                self.state = State::Trailer;
                Ok(size)
            }
            Ok(Status::Complete((size, length))) => {
                write!(cx, "{length:x}\r\n")?;
                self.state = State::Chunk(length);
                Ok(size)
            }
            Ok(Status::Partial) if input.len() <= HEAD_MAX => Ok(0),
            _ => Err(Error::other("the line before a chunk is wrong")),
        }
    }

    fn end_chunk(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        match input {
            [] | [b'\r'] => Ok(0),
            [b'\r', b'\n', ..] => {
                cx.write_all(b"\r\n")?;
                self.state = State::ChunkStart;
                Ok(2)
            }
            _ => Err(Error::other("a chunk is longer than it says")),
        }
    }

    fn read_trailer(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        match httparse::parse_headers(input, &mut [EMPTY_HEADER; FIELDS_MAX]) {
            Ok(Status::Complete((size, _))) => {
                cx.write_all(b"0\r\n\r\n")?;
                self.end_answer(cx);
                Ok(size)
            }
            Ok(Status::Partial) if input.len() <= HEAD_MAX => Ok(0),
            _ => Err(Error::other("the fields after the last chunk are wrong")),
        }
    }

    fn end_answer(&mut self, cx: &mut Context<'_>) {
        self.state = State::Head;
        if !self.keep_alive {
            cx.finish();
        }
    }
}

/// Writes at most `left` bytes of the input, as much as there is room for, and returns how many.
fn pass(cx: &mut Context<'_>, input: &[u8], left: u64) -> usize {
    let length = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    cx.write(&input[..length])
}

enum Body {
    Length(u64),
    Chunks,
}

/// What the head of a request says of the connection and of the body.
struct Head {
    keep_alive: bool,
    expects_continue: bool,
    body: Body,
}

impl Head {
    /// # Errors
    /// The status of the answer. A body whose length is in doubt is refused, because what follows it
    /// could be taken for another request (RFC 9112, section 6.3 and 11.2).
    fn of(request: &Request<'_, '_>) -> std::result::Result<Head, &'static str> {
        const BAD: &str = "400 Bad Request";
        let is_1_1 = request.version == Some(1);
        let (mut length, mut chunks, mut hosts, mut expects_continue) = (None, false, 0, false);
        let (mut close, mut keep) = (false, is_1_1);
        for field in request.headers.iter() {
            let value = std::str::from_utf8(field.value).map_err(|_| BAD)?.trim();
            match &field.name.to_ascii_lowercase()[..] {
                "host" => hosts += 1,
                "connection" => {
                    for option in value.split(',').map(str::trim) {
                        close |= option.eq_ignore_ascii_case("close");
                        keep |= option.eq_ignore_ascii_case("keep-alive");
                    }
                }
                "expect" if value.eq_ignore_ascii_case("100-continue") => expects_continue = is_1_1,
                "expect" => return Err("417 Expectation Failed"),
                "content-length" if length.is_none() && !value.starts_with('+') => {
                    length = Some(value.parse().map_err(|_| BAD)?);
                }
                "transfer-encoding" if !value.eq_ignore_ascii_case("chunked") => {
                    return Err("501 Not Implemented");
                }
                "transfer-encoding" if is_1_1 && !chunks => chunks = true,
                "content-length" | "transfer-encoding" => return Err(BAD),
                _ => {}
            }
        }
        if (is_1_1 && hosts != 1) || (chunks && length.is_some()) {
            return Err(BAD);
        }
        Ok(Head {
            keep_alive: keep && !close,
            expects_continue,
            body: if chunks {
                Body::Chunks
            } else {
                Body::Length(length.unwrap_or(0))
            },
        })
    }
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:7080");
    let mut config = Config::default();
    config.close_when_sent = match std::env::args().nth(2).as_deref() {
        None => false,
        Some("close-when-sent") => true,
        Some(other) => return Err(Error::other(format!("{other:?} is not close-when-sent"))),
    };
    let mut reactor = Reactor::new(config)?;
    let id = reactor.listen(address.parse().map_err(Error::other)?, |_| {
        Some(Connection::default())
    })?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
