//! The example `tls` with real clients: curl and openssl.

mod common;

use common::{PATIENCE, built, client, have, limited, read_all};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A certificate for `localhost` that is its own issuer, and its key: files that openssl made.
fn certificate() -> (String, String) {
    static MADE: Mutex<()> = Mutex::new(());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| -> String {
        let file: PathBuf = folder.join(format!("tls-{}-{name}", std::process::id()));
        file.to_str().unwrap().to_string()
    };
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let _one = MADE.lock().unwrap();
    if !Path::new(&certificate).exists() {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=localhost",
        ]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.args(["-keyout", &key, "-out", &certificate]);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    }
    (certificate, key)
}

/// The server, and the lines in which it tells how connections ended.
struct Server {
    child: Child,
    address: SocketAddr,
    certificate: String,
    told: Receiver<String>,
}

impl Server {
    fn start() -> Server {
        let (certificate, key) = certificate();
        let mut command = Command::new(built("tls"));
        command.args(["127.0.0.1:0", &certificate, &key]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening ").unwrap();
        let (sender, told) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Server {
            address: address.parse().unwrap(),
            child,
            certificate,
            told,
        }
    }

    /// How the next connection ended.
    fn told(&self) -> String {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// curl, which trusts the certificate.
    fn curl(&self, path: &str, args: &[&str]) -> Command {
        let port = self.address.port();
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "120", "--cacert", &self.certificate]);
        command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
        command
            .args(args)
            .arg(format!("https://localhost:{port}{path}"));
        command
    }

    /// The most memory that it has had, in bytes.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.unwrap().trim().trim_end_matches(" kB");
        kb.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command printed. It must succeed.
fn output(command: &mut Command) -> Vec<u8> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status} {errors}");
    stdout
}

/// This example as a client.
fn get(address: SocketAddr, name: &str, path: &str) -> (Vec<u8>, String) {
    let (certificate, _) = certificate();
    let mut command = Command::new(built("tls"));
    command.args([&address.to_string(), &certificate, name, path]);
    let output = command.output().unwrap();
    (output.stdout, String::from_utf8(output.stderr).unwrap())
}

/// True for both programs that these tests cannot do without.
fn have_both() -> bool {
    have("openssl") && have("curl")
}

#[test]
fn curl_gets_the_exact_bytes_with_both_versions_of_tls() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    for version in ["1.2", "1.3"] {
        for count in [0, 1, 100_000, 3_000_000] {
            let mut curl = server.curl(&format!("/{count}"), &["--tls-max", version]);
            assert!(output(&mut curl) == vec![b'x'; count], "{version} {count}");
            let told = server.told();
            // curl has all it wants, and may reset the connection instead of reading close_notify.
            let sent = format!("HTTP/1.0 200 OK\r\nContent-Length: {count}\r\n\r\n").len() + count;
            assert!(
                told.contains(&format!(" {sent} sent, 0 unsent")),
                "{version} {count}: {told}"
            );
        }
    }
}

#[test]
fn a_timer_pushes() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let clock = output(&mut server.curl("/clock", &[]));
    assert_eq!(clock, b"4 left\n3 left\n2 left\n1 left\n0 left\n");
    assert!(server.told().starts_with("finished; "));
}

#[test]
fn openssl_s_client_gets_the_exact_bytes_and_the_end() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &server.address.to_string(),
        "-quiet",
    ]);
    command.args(["-servername", "localhost", "-verify_return_error"]);
    command.args(["-CAfile", &server.certificate]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"GET /20000 HTTP/1.0\r\n\r\n").unwrap();
    // It ends by itself when it is told close_notify.
    let output = child.wait_with_output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let head = "HTTP/1.0 200 OK\r\nContent-Length: 20000\r\n\r\n";
    assert_eq!(answer, format!("{head}{}", "x".repeat(20_000)));
    assert!(server.told().starts_with("finished; "));
}

/// It half-closes after its request, and hears the whole answer.
#[test]
fn the_client_half_closes_and_hears_the_answer_of_this_server_and_of_openssl() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let (answer, told) = get(server.address, "localhost", "/3000000");
    assert!(
        answer.ends_with(&[b'x'; 1000]) && answer.len() == 3_000_044,
        "{}",
        answer.len()
    );
    assert!(
        told.starts_with("finished; 3000044 bytes received, 25 sent, 0 unsent"),
        "{told}"
    );
    assert!(
        server
            .told()
            .starts_with("finished; 25 bytes received, 3000044 sent")
    );

    // Standard output may take a part of what came.
    let (answer, told) = get(server.address, "localhost", "/3000");
    assert!(answer.ends_with(&[b'x'; 3000]), "{} {told}", answer.len());
    server.told();

    let (certificate, key) = certificate();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "127.0.0.1:0", "-www"]);
    command.args(["-cert", &certificate, "-key", &key]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("ACCEPT "));
    let address = line.unwrap()["ACCEPT ".len()..].parse().unwrap();
    let (answer, told) = get(address, "localhost", "/");
    let _ = (child.kill(), child.wait());
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.contains("New, TLSv1.3") && answer.ends_with("</HTML>\r\n\r\n"),
        "{answer}"
    );
    assert!(told.starts_with("finished; "), "{told}");
}

#[test]
fn a_certificate_that_is_not_trusted_or_for_another_name_is_told_on_both_sides() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let port = server.address.port();
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--max-time",
        "60",
        &format!("https://127.0.0.1:{port}/1"),
    ]);
    assert_eq!(curl.output().unwrap().status.code(), Some(60));
    let told = server.told();
    assert!(
        told.starts_with("handler error: received fatal alert"),
        "{told}"
    );
    let (answer, told) = get(server.address, "example.org", "/1");
    assert!(answer.is_empty());
    assert!(
        told.starts_with("handler error: invalid peer certificate"),
        "{told}"
    );
    let told = server.told();
    assert!(
        told.starts_with("handler error: received fatal alert: BadCertificate"),
        "{told}"
    );
}

#[test]
fn plain_http_is_answered_by_an_alert() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let mut stream = client(server.address);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // Fatal (2), in a record of type alert (21).
    let alert = read_all(&mut stream).unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2), "{alert:?}");
    let told = server.told();
    assert!(
        told.starts_with("handler error: received corrupt message"),
        "{told}"
    );
}

/// Passes one connection on, and the first bytes of the answer. Then it ends both directions.
fn cut_after(count: usize, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let near = limited(listener.accept().unwrap().0);
        let far: TcpStream = client(server);
        let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
        let _ = std::io::copy(&mut (&far).take(count as u64), &mut (&near));
        let _ = near.shutdown(Shutdown::Write);
        let _ = far.shutdown(Shutdown::Both);
        // Until the client has heard it.
        let _ = (&near).read(&mut [0]);
    });
    address
}

/// A cut within the handshake, within a record, and between records.
#[test]
fn a_connection_that_is_cut_is_told_as_such() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    for count in [0, 100, 50_000] {
        let address = cut_after(count, server.address);
        let (answer, told) = get(address, "localhost", "/3000000");
        assert!(answer.len() < 60_000);
        assert!(told.starts_with("handler error: the "), "{count}: {told}");
        assert!(
            told.contains("ended before") || told.contains("without close_notify"),
            "{told}"
        );
        server.told();
    }
}

/// A connection has one request. Another one, while the clock of the first runs, changes nothing.
#[test]
fn what_follows_a_request_is_ignored() {
    if !have_both() {
        return;
    }
    let server = Server::start();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-CAfile", &server.certificate]);
    command.args(["-connect", &server.address.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"GET /clock HTTP/1.0\r\n\r\n").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "4 left\n" {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0);
    }
    stdin.write_all(b"GET /900000000 HTTP/1.0\r\n\r\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    child.wait().unwrap();
    assert!(
        rest == "3 left\n2 left\n1 left\n0 left\n",
        "{} bytes",
        rest.len()
    );
    let told = server.told();
    assert!(told.starts_with("finished; "), "{told}");
}

/// The time that a process has used, in ticks.
fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// 1 GB, to a client that first does not read, and then does.
#[test]
fn memory_is_flat_while_the_client_does_not_read_and_at_1_gb() {
    const COUNT: usize = 1_000_000_000;
    const MOST: u64 = 4_000_000;
    if !have_both() {
        return;
    }
    let server = Server::start();
    output(&mut server.curl("/1000000", &[]));
    let before = server.memory();
    let mut curl = server.curl(&format!("/{COUNT}"), &[]);
    let mut child = curl.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut total = stdout.read(&mut buffer).unwrap();
    // curl does not read while its output is not. Then the server has nothing to do.
    let start = Instant::now();
    loop {
        let used = ticks(server.child.id());
        std::thread::sleep(Duration::from_millis(300));
        if ticks(server.child.id()) == used {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it never waits");
    }
    let stalled = server.memory() - before;
    assert!(
        stalled < MOST,
        "{stalled} bytes while the client does not read"
    );
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            count => total += count,
        }
    }
    assert_eq!(total, COUNT);
    assert!(child.wait().unwrap().success());
    let grown = server.memory() - before;
    assert!(grown < MOST, "{grown} bytes at 1 GB");
    println!("{stalled} bytes more while the client did not read, {grown} at 1 GB");
}
