//! The example `tls` in both roles: its layer over every split, short write and end, against rustls.

use doorkeeper::sim;
use doorkeeper::{Closed, Context, Handler, Layered, Others, Reason};
use example::{Site, Tls};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io;
use std::sync::{Arc, LazyLock};

mod stops;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../../../examples/tls.rs"]
mod example;

/// A certificate for `localhost` that is its own issuer, and its key. Signatures of this kind (Ed25519)
/// have one length, so a handshake is as long each time.
fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("certificate.pem")).unwrap()
}

fn server() -> Tls {
    static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate()], key).unwrap())
    });
    Tls::new(ServerConnection::new(Arc::clone(&CONFIG)).unwrap())
}

/// Without a memory of sessions: each handshake is a whole one.
fn client() -> Tls {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    });
    let name = ServerName::try_from("localhost").unwrap();
    Tls::new(ClientConnection::new(Arc::clone(&CONFIG), name).unwrap())
}

/// Greets, and answers each line with its length.
struct Lengths;

impl Handler for Lengths {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        assert_eq!(cx.write(b"hi\n"), 3);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let mut consumed = 0;
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let answer = format!("{length}\n");
            if cx.room() < answer.len() {
                break;
            }
            cx.write(answer.as_bytes());
            consumed += length + 1;
        }
        Ok(consumed)
    }

    /// A connection whose input was cut short must not end as `Finished`.
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        assert!(closed.reason != Reason::Finished || closed.received == 26);
    }
}

#[test]
fn a_tls_server_answers_on_every_network() {
    let site = sim::conversation(|| Layered::new(server(), Site::default())).through(client);
    let site = site.send(b"GET /9 HTTP/1.0\r\n\r\n");
    let site = site.expect(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nxxxxxxxxx");
    site.expect_end().check();
}

#[test]
fn a_tls_client_is_heard_and_hears_on_every_network() {
    let lengths = sim::conversation(|| Layered::new(client(), Lengths));
    let lengths = lengths.connecting().through(server);
    let lengths = lengths.expect(b"hi\n").send(b"four\n").expect(b"4\n");
    let lengths = lengths.send(b"\nnineteen bytes long\n");
    let lengths = lengths.expect(b"0\n19\n").half_close();
    lengths.expect_end().check();
}
