//! TLS with rustls, around any handler, in both roles:
//!
//! ```text
//! cargo run --example tls -- ADDRESS CERTIFICATE KEY          a small web server
//! cargo run --example tls -- ADDRESS CERTIFICATE NAME PATH    its client: `NAME` is what the certificate is for
//! ```
//!
//! `/COUNT` answers with so many bytes, and `/clock` with a line every 100 ms, pushed by a timer.

use doorkeeper::{Closed, Config, Context, Handler, Layer, Layered, Others, Reactor, TimerKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig};
use std::io::{Error, ErrorKind, Result, Write};
use std::sync::Arc;
use std::time::Duration;

/// rustls, given bytes and asked for bytes. It makes no system calls.
pub(crate) struct Tls {
    connection: Connection,
    has_ended: bool,
}

impl Tls {
    pub(crate) fn new(connection: impl Into<Connection>) -> Tls {
        let mut connection = connection.into();
        // The reactor bounds the output.
        connection.set_buffer_limit(None);
        Tls {
            connection,
            has_ended: false,
        }
    }

    /// What rustls has to send: messages of the handshake, records, alerts.
    fn send(&mut self, wire: &mut Vec<u8>) -> Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }
}

impl Layer for Tls {
    fn read(&mut self, mut input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<usize> {
        let length = input.len();
        while !input.is_empty() && self.connection.read_tls(&mut input)? > 0 {
            let state = self.connection.process_new_packets().map_err(|error| {
                let _ = self.send(wire); // The alert.
                Error::new(ErrorKind::InvalidData, error)
            })?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            std::io::Read::read_exact(&mut self.connection.reader(), &mut plain[start..])?;
            self.has_ended = state.peer_has_closed();
        }
        self.send(wire)?;
        Ok(length)
    }

    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<()> {
        self.connection.writer().write_all(plain)?;
        self.send(wire)
    }

    fn end(&mut self, wire: &mut Vec<u8>) -> Result<()> {
        self.connection.send_close_notify();
        self.send(wire)
    }

    fn on_eof(&mut self) -> Result<()> {
        let message = "the connection ended without close_notify: what it said may be cut short";
        Err(Error::new(ErrorKind::UnexpectedEof, message))
    }

    fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// Any handler would do. This one knows nothing of TLS. It answers one request.
#[derive(Default)]
pub(crate) struct Site {
    is_asked: bool,
    left: u64,
    ticks: u64,
}

const TICK: TimerKey = TimerKey(1);
const TICKS: u64 = 5;
const HEAD_MAX: usize = 8192;

impl Site {
    /// As much as there is room for; `on_drain` goes on.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.left > 0 && cx.room() > 0 {
            self.left -= cx.write(&[b'x'; 16 * 1024][..self.left.min(16 * 1024) as usize]) as u64;
        }
        if self.left == 0 && self.ticks == 0 {
            cx.finish();
        }
    }
}

impl Handler for Site {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        if self.is_asked {
            return Ok(input.len());
        }
        let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if input.len() > HEAD_MAX {
                Err(Error::other("too long a request"))
            } else {
                Ok(0)
            };
        };
        self.is_asked = true;
        let head = String::from_utf8_lossy(&input[..head]);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/clock" {
            write!(cx, "HTTP/1.0 200 OK\r\n\r\n")?;
            self.ticks = TICKS;
            cx.set_timer(TICK, Duration::ZERO);
        } else {
            self.left = path.trim_start_matches('/').parse().map_err(Error::other)?;
            write!(
                cx,
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
                self.left
            )?;
            self.fill(cx);
        }
        Ok(input.len())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> Result<()> {
        self.ticks -= 1;
        writeln!(cx, "{} left", self.ticks)?;
        cx.set_timer(TICK, Duration::from_millis(100));
        self.fill(cx);
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.left > 0 {
            self.fill(cx);
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        tell(closed);
    }
}

/// Asks for a path, ends its output, and prints the answer.
struct Get(String);

impl Handler for Get {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        write!(cx, "GET {} HTTP/1.0\r\n\r\n", self.0)?;
        cx.half_close();
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        std::io::stdout().write_all(input)?;
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        tell(closed);
        others.stop();
    }
}

fn tell(closed: &Closed) {
    let why = closed
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(": {error}"));
    eprintln!("{}{why}; {closed}", closed.reason);
}

fn server_config(certificate: &str, key: &str) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(Error::other)?;
    let chain = chain
        .collect::<std::result::Result<_, _>>()
        .map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(Arc::new(
        config.with_single_cert(chain, key).map_err(Error::other)?,
    ))
}

fn client_config(certificate: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate).map_err(Error::other)?)
        .map_err(Error::other)?;
    Ok(Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(60));
    let mut reactor = Reactor::new(config)?;
    match args[..] {
        [address, certificate, key] => {
            let config = server_config(certificate, key)?;
            let id = reactor.listen(address.parse().map_err(Error::other)?, move |_| {
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
                Some(Layered::new(Tls::new(tls), Site::default()))
            })?;
            println!("listening {}", reactor.local_addr(id)?);
        }
        [address, certificate, name, path] => {
            let name = ServerName::try_from(name.to_string()).map_err(Error::other)?;
            let tls =
                ClientConnection::new(client_config(certificate)?, name).map_err(Error::other)?;
            let handler = Layered::new(Tls::new(tls), Get(path.to_string()));
            reactor.connect(address.parse().map_err(Error::other)?, handler)?;
        }
        _ => {
            return Err(Error::other(
                "tls ADDRESS CERTIFICATE KEY, or tls ADDRESS CERTIFICATE NAME PATH",
            ));
        }
    }
    reactor.run()
}
