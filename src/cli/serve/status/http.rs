//! Requests and answers: a small part of HTTP/1.1 (RFC 9112). The parser is the httparse crate.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};

/// Limit of a request's head, in bytes, and of its fields.
pub(super) const HEAD_MAX: usize = 8192;
const FIELDS_MAX: usize = 64;

/// A request that is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    /// The names and values of the query, without escapes.
    pub(super) query: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: &'static str,
    kind: &'static str,
    pub(super) body: String,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    pub(super) fn new(kind: &'static str, body: String) -> Answer {
        let status = "200 OK";
        Answer { status, kind, body }
    }

    /// A text of one line.
    pub(super) fn error(status: &'static str, text: impl Display) -> Answer {
        let body = format!("{text}\n");
        Answer {
            status,
            kind: TEXT,
            body,
        }
    }

    pub(super) fn bad(text: impl Display) -> Answer {
        Answer::error("400 Bad Request", text)
    }

    /// The bytes to send.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Answer { status, kind, body } = self;
        let allow = if status.starts_with("405") {
            "Allow: GET\r\n"
        } else {
            ""
        };
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}{FIELDS}\r\n{body}")
            .into_bytes()
    }
}

/// Fields of every answer. A page of another origin can neither read nor embed what is here, and no
/// page loads anything from elsewhere.
const FIELDS: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'\r\n";

/// The head of an endless answer: a stream of events.
pub(super) fn stream_head() -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{FIELDS}\r\n").into_bytes()
}

/// The request in this input; `None` if more must come.
///
/// # Errors
/// The answer to a request that is refused.
pub(super) fn parse(input: &[u8], hosts: &[String]) -> Result<Option<Request>, Answer> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(input) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => {}
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(error) => return Err(Answer::bad(format_args!("not HTTP/1: {error}"))),
    }
    if head.method != Some("GET") {
        let text = "only GET is answered here";
        return Err(Answer::error("405 Method Not Allowed", text));
    }
    let mut named = head.headers.iter();
    let mut named = named
        .by_ref()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    // RFC 9112, section 3.2: exactly one.
    let (Some(host), None) = (named.next(), named.next()) else {
        return Err(Answer::bad("a request must have one Host"));
    };
    if !is_known(host.value, hosts) {
        return Err(forbidden());
    }
    target(head.path.unwrap_or_default()).map(Some)
}

fn too_large() -> Answer {
    let text =
        format!("the head of a request has at most {HEAD_MAX} bytes and {FIELDS_MAX} fields");
    Answer::error("431 Request Header Fields Too Large", text)
}

fn forbidden() -> Answer {
    let text =
        "this Host is not allowed: it must be an IP address, localhost, or the host of --status";
    Answer::error("403 Forbidden", text)
}

/// True for an IP address, `localhost`, or a host of the command line.
///
/// A page from elsewhere whose name resolves to this machine (DNS rebinding) sends its own name
/// here, and would otherwise read what it has the same origin with.
fn is_known(host: &[u8], hosts: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.split_once(']').map(|(inside, _)| inside);
        return inside.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_named = |known: &str| known.eq_ignore_ascii_case(name);
    // The host of `--status :80` is empty.
    name.parse::<IpAddr>().is_ok()
        || is_named("localhost")
        || !name.is_empty() && hosts.iter().any(|known| is_named(known))
}

fn target(target: &str) -> Result<Request, Answer> {
    if !target.starts_with('/') {
        return Err(Answer::bad("the target must begin with /"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((unescape(name)?, unescape(value)?))
    });
    let query: Option<_> = pairs.collect();
    Ok(Request {
        path: path.to_string(),
        query: query
            .ok_or_else(|| Answer::bad("an escape in the query is not %HH, or no UTF-8"))?,
    })
}

/// The text without its escapes (RFC 3986, section 2.1); a `+` is a space, as forms send it.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::{HEAD_MAX, Request, parse};

    fn status(input: &str) -> &'static str {
        let hosts = ["status.example", ""].map(str::to_string);
        match parse(input.as_bytes(), &hosts) {
            Ok(None) => "more",
            Ok(Some(_)) => "200",
            Err(answer) => answer.status.split(' ').next().unwrap(),
        }
    }

    fn host(host: &str) -> &'static str {
        status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    #[test]
    fn a_name_from_elsewhere_is_no_host() {
        for known in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "[::1]",
            "[::1]:9090",
            "localhost",
            "LocalHost:80",
            "status.example:9090",
            "192.0.2.1",
        ] {
            assert_eq!(host(known), "200", "{known}");
        }
        for other in [
            "",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[evil]",
            "[::1",
            "xstatus.example",
            "127.0.0.1:9090:1",
        ] {
            assert_eq!(host(other), "403", "{other}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "400");
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: ::1\r\nHost: [::1]\r\n\r\n"),
            "400"
        );
    }

    #[test]
    fn a_part_of_a_request_is_no_request() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(status(&whole[..length]), "more", "{length}");
        }
        assert_eq!(status(whole), "200");
    }

    #[test]
    fn requests_have_limits() {
        let long =
            |length: usize| format!("GET / HTTP/1.1\r\nHost: [::1]\r\nA: {}", "a".repeat(length));
        assert_eq!(status(&long(HEAD_MAX / 2)), "more");
        assert_eq!(status(&long(HEAD_MAX)), "431");
        assert_eq!(status(&(long(HEAD_MAX) + "\r\n\r\n")), "431");
        let end = "\r\n\r\n";
        let rest = HEAD_MAX - long(0).len();
        assert_eq!(status(&long(rest - 1)), "more");
        assert_eq!(status(&long(rest)), "431");
        assert_eq!(status(&(long(rest - end.len()) + end)), "200");
        assert_eq!(status(&(long(rest - end.len() + 1) + end)), "431");
        let most = "A: a\r\n".repeat(63);
        let head = format!("GET / HTTP/1.1\r\nHost: [::1]\r\n{most}\r\n");
        assert_eq!(status(&head), "200");
        let many = "A: a\r\n".repeat(65);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), "431");
        for method in ["POST", "HEAD", "OPTIONS", "CONNECT"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(status(&head), "405", "{method}");
        }
        assert_eq!(status("hello\r\n\r\n"), "400");
        assert_eq!(
            status("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "400"
        );
    }

    #[test]
    fn a_query_has_names_and_values() {
        let of = |target: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            parse(head.as_bytes(), &[]).ok().flatten()
        };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let Request { path, query } =
            of("/c?state=half%2dclosed&peer=%5B%3A%3A1%5D&x&a=b=c").unwrap();
        assert_eq!(path, "/c");
        assert_eq!(
            query,
            [
                pair("state", "half-closed"),
                pair("peer", "[::1]"),
                pair("x", ""),
                pair("a", "b=c"),
            ]
        );
        assert_eq!(
            of("/c?state=peer+ended").unwrap().query,
            [pair("state", "peer ended")]
        );
        for wrong in ["/c?a=%", "/c?a=%2", "/c?a=%zz", "/c?a=%ff"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
