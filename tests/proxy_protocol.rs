//! `serve --proxy-protocol=require`: headers, their limits, and the real proxies that send them.

mod common;
#[path = "../src/cli/serve/proxy_header.rs"]
mod header;
#[path = "proxy_protocol/model.rs"]
mod model;

use common::{PATIENCE, Program, client, have, read_all};
use header::{Header, LENGTH_MAX};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 51000 7\r\n";

/// Version 2: a command, a family and protocol, and what follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let start = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length];
    [&start.concat(), rest].concat()
}

/// 2001:db8::7 port 51000 to 2001:db8::1 port 7, and a TLV.
fn v2_ipv6() -> Vec<u8> {
    let address = |last: u8| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    let ports = [51000_u16.to_be_bytes(), 7_u16.to_be_bytes()].concat();
    let tlv = [0x04, 0, 2, 0, 0];
    v2(
        0x21,
        0x21,
        &[address(7), address(1), ports, tlv.to_vec()].concat(),
    )
}

fn is_client(header: &[u8], address: Option<&str>) {
    let expected = Header::Complete {
        length: header.len(),
        client: address.map(|address| address.parse().unwrap()),
    };
    let with_more = [header, b"PROXY and more"].concat();
    assert_eq!(model::check(&with_more), expected, "{header:?}");
}

#[test]
fn a_header_names_the_client() {
    is_client(V1, Some("192.0.2.7:51000"));
    is_client(
        b"PROXY TCP6 2001:db8::7 ::1 51000 7\r\n",
        Some("[2001:db8::7]:51000"),
    );
    is_client(b"PROXY UNKNOWN\r\n", None);
    is_client(b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", None);
    is_client(&v2_ipv6(), Some("[2001:db8::7]:51000"));
    let ports = [192, 0, 2, 7, 192, 0, 2, 1, 0xc7, 0x38, 0, 7];
    is_client(&v2(0x21, 0x11, &ports), Some("192.0.2.7:51000"));
    // LOCAL: the proxy itself, as for a health check.
    is_client(&v2(0x20, 0x11, &ports), None);
    is_client(&v2(0x20, 0x00, &[]), None);
    // All but its length is to be ignored.
    is_client(&v2(0x20, 0x11, &[0; 3]), None);
    is_client(&v2(0x20, 0x77, &ports), None);
    is_client(&v2(0x21, 0x00, &[]), None);
}

#[test]
fn what_is_no_header_is_wrong() {
    let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat();
    for wrong in [
        &b"hello"[..],
        b"P ",
        b"PROXY  TCP4 192.0.2.7 192.0.2.1 51000 7\r\n",
        b"PROXYxTCP4 192.0.2.7 192.0.2.1 51000 7\r\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.1 51000 7\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 +51000 7\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 7\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 51000 7\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 51000 7\n\r\n",
        &long,
        b"\r\n\r\n\0\r\nQUIT\r\n",
        &v2(0x22, 0x11, &[0; 12]),
        &v2(0x31, 0x11, &[0; 12]),
        &v2(0x21, 0x11, &[0; 11]),
        &v2(0x21, 0x12, &[0; 12]),
        &v2(0x21, 0x00, &vec![0; LENGTH_MAX]),
        &v2(0x20, 0x00, &vec![0; LENGTH_MAX]),
    ] {
        assert_eq!(model::check(wrong), Header::Wrong, "{wrong:?}");
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/proxy_header")
}

#[test]
fn the_corpus_keeps_to_the_model() {
    let mut kinds = [0; 3];
    for file in std::fs::read_dir(corpus()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        kinds[match model::check(&bytes) {
            Header::Incomplete => 0,
            Header::Wrong => 1,
            Header::Complete { .. } => 2,
        }] += 1;
    }
    assert!(kinds.iter().all(|&count| count > 0), "{kinds:?}");
}

/// Headers with a few bytes changed, left out or doubled. The numbers are xorshift's, so each run
/// tries the same.
#[test]
fn damaged_headers_keep_to_the_model() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let v6 = b"PROXY TCP6 2001:db8::7 ::1 51000 7\r\n";
    let whole = [V1.to_vec(), v6.to_vec(), v2_ipv6(), v2(0x20, 0, &[1; 30])];
    let mut complete = 0;
    for _ in 0..6_000 {
        let mut bytes = whole[random(whole.len())].clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => drop(bytes.drain(at..=at)),
                _ => bytes.insert(at, b" 0+\r\n"[random(5)]),
            }
        }
        if let Header::Complete { .. } = model::check(&bytes) {
            complete += 1;
        }
    }
    assert!((300..5_700).contains(&complete), "{complete}");
}

/// Echo and daytime behind proxies on the loopback address, with access records.
fn server(args: &[&str]) -> Program {
    let services = ["echo=127.0.0.1:0", "daytime=127.0.0.1:0", "--utc"];
    let proxy = ["--proxy-protocol=require", "--proxy-from=127.0.0.1"];
    let args = [&services, &proxy[..], args].concat();
    Program::start(&[], &args, "warn,doorkeeper::access=debug", 2)
}

/// Sends a header and more, and returns what comes back until the end.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = client(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    read_all(&mut stream).unwrap()
}

/// True if a connection ends without an answer: by a FIN or, because it left input unread, by a
/// reset.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_service_gets_what_follows_the_header_and_the_log_names_the_client() {
    let program = server(&[]);
    let echo = program.address("echo");
    for header in [V1, &v2_ipv6()] {
        let answer = exchange(echo, &[header, b"hello"].concat());
        assert_eq!(answer, b"hello");
        let answer = exchange(program.address("daytime"), header);
        assert!(answer.ends_with(b"\r\n"), "{answer:?}");
    }
    // A byte in each packet.
    let mut stream = client(echo);
    stream.set_nodelay(true).unwrap();
    for byte in [V1, b"slow"].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"slow");
    drop(stream);
    let log = program.terminate();
    assert_eq!(log.matches(": 192.0.2.7:51000: ").count(), 3, "{log}");
    assert_eq!(log.matches(": [2001:db8::7]:51000: ").count(), 2, "{log}");
}

#[test]
fn a_wrong_header_ends_its_connection_only() {
    let program = server(&[]);
    let echo = program.address("echo");
    let mut other = client(echo);
    other.write_all(&[V1, b"a"].concat()).unwrap();
    other.read_exact(&mut [0]).unwrap();
    for wrong in [
        &b"hello"[..],
        b"PROXY TCP4 nobody\r\n",
        &v2(0x23, 0x11, &[0; 12]),
    ] {
        let mut stream = client(echo);
        stream.write_all(wrong).unwrap();
        assert!(is_closed(&mut stream), "{wrong:?}");
    }
    other.write_all(b"b").unwrap();
    other.read_exact(&mut [0]).unwrap();
    drop(other);
    let log = program.terminate();
    assert_eq!(log.matches("PROXY header: it is wrong").count(), 3, "{log}");
}

#[test]
fn a_header_has_three_seconds() {
    let program = server(&[]);
    let mut stream = client(program.address("echo"));
    stream.write_all(&V1[..20]).unwrap();
    let begin = Instant::now();
    assert!(is_closed(&mut stream));
    assert!(begin.elapsed() >= Duration::from_millis(2_900));
    let log = program.terminate();
    assert!(
        log.contains("PROXY header: it did not arrive in time"),
        "{log}"
    );
}

#[test]
fn a_connection_that_is_from_no_proxy_is_closed_at_once() {
    let services = ["echo=127.0.0.1:0", "--proxy-protocol=require"];
    let program = Program::serve(&[&services[..], &["--proxy-from=192.0.2.0/24,::1"]].concat());
    let mut stream = client(program.address("echo"));
    // The reset may be there first.
    let _ = stream.write_all(V1);
    assert!(is_closed(&mut stream));
}

#[test]
fn the_limit_of_a_source_is_that_of_the_client() {
    let services = [
        "echo=127.0.0.1:0",
        "--status=127.0.0.1:0",
        "--max-per-source=1",
    ];
    let proxy = ["--proxy-protocol=require", "--proxy-from=127.0.0.1"];
    let program = Program::start(&[], &[&services[..], &proxy].concat(), "warn", 2);
    let echo = program.address("echo");
    let open = |header: &[u8]| {
        let mut stream = client(echo);
        stream.write_all(&[header, b"x"].concat()).unwrap();
        stream
    };
    let mut first = open(V1);
    first.read_exact(&mut [0]).unwrap();
    let mut other = open(&v2_ipv6());
    other.read_exact(&mut [0]).unwrap();
    assert!(is_closed(&mut open(V1)));
    // Its place is free again when it leaves.
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut first).unwrap(), b"");
    open(V1).read_exact(&mut [0]).unwrap();
    assert_eq!(other.write(b"y").unwrap(), 1);
    // The one that was cut off was accepted and turned away.
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let metrics = exchange(program.address("status"), request);
    let metrics = String::from_utf8(metrics).unwrap();
    let service = format!("{{service=\"echo\",listener=\"{echo}\"}}");
    for (name, count) in [("accepted", 4), ("turned_away", 1)] {
        let line = format!("doorkeeper_{name}_total{service} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

/// A proxy that has just connected may send its header, or the rest of it, after the shutdown began.
#[test]
fn a_header_that_comes_during_a_shutdown_is_served() {
    let services = ["echo=127.0.0.1:0", "--shutdown-timeout=1h"];
    let proxy = ["--proxy-protocol=require", "--proxy-from=127.0.0.1"];
    let mut program = Program::start(&[], &[services, proxy].concat(), "info", 1);
    let echo = program.address("echo");
    let [mut begun, mut silent] = [client(echo), client(echo)];
    let [mut no_header, mut open] = [client(echo), client(echo)];
    begun.write_all(&V1[..20]).unwrap();
    open.write_all(&[V1, b"x"].concat()).unwrap();
    open.read_exact(&mut [0]).unwrap();
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    let is_closed = log.any(|line| line.unwrap().ends_with(" closed"));
    assert!(is_closed, "it still listens");
    // Each takes a turn, so every connection has heard of the shutdown.
    for _ in 0..2 {
        open.write_all(b"x").unwrap();
        open.read_exact(&mut [0]).unwrap();
    }
    begun.write_all(&[&V1[20..], b"begun"].concat()).unwrap();
    silent.write_all(&[V1, b"silent"].concat()).unwrap();
    assert_eq!(read_all(&mut begun).unwrap(), b"begun");
    assert_eq!(read_all(&mut silent).unwrap(), b"silent");
    assert_eq!(read_all(&mut no_header).unwrap(), b"");
    drop([begun, silent, no_header, open]);
    assert!(program.wait().success());
    let log: Vec<String> = log.map(Result::unwrap).collect();
    let is_wrong = log.iter().any(|line| line.contains("PROXY header"));
    assert!(!is_wrong, "{log:?}");
}

/// It has the rest of its three seconds if it has sent a part of its header.
#[test]
fn at_a_shutdown_a_proxy_that_has_sent_nothing_has_less_time() {
    let mut program = server(&["--shutdown-timeout=1h"]);
    let echo = program.address("echo");
    let [mut begun, silent, mut open] = [(); 3].map(|()| client(echo));
    begun.write_all(&V1[..20]).unwrap();
    // The others are accepted before it.
    open.write_all(&[V1, b"x"].concat()).unwrap();
    open.read_exact(&mut [0]).unwrap();
    drop(open);
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    let mut first = [&silent, &begun].map(|stream| PollFd::new(stream, PollFlags::IN));
    poll(&mut first, None).unwrap();
    assert!(first[0].revents().contains(PollFlags::IN), "{first:?}");
    drop(silent);
    assert!(program.wait().success());
    let log = program.log();
    let own = format!(" {}: ", begun.local_addr().unwrap());
    let mut lines = log.lines();
    let record = lines.find(|line| line.contains(&own) && line.ends_with(" ms"));
    let age = record.and_then(|record| record.split(' ').nth_back(1));
    let age: u64 = age.expect(&log).parse().unwrap();
    assert!(age >= 2_900, "{log}");
}

#[test]
fn the_table_and_the_status_name_the_client() {
    if !have("curl") {
        return;
    }
    let services = ["echo=127.0.0.1:0", "--status=127.0.0.1:0"];
    let proxy = ["--proxy-protocol=require", "--proxy-from=127.0.0.1"];
    let program = Program::start(&[], &[services, proxy].concat(), "info", 2);
    let mut stream = client(program.address("echo"));
    let own = stream.local_addr().unwrap();
    stream.write_all(&[V1, b"x"].concat()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let list = |query: &str| {
        let url = format!("http://{}/connections{query}", program.address("status"));
        let output = Command::new("curl").args(["-sS", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let named = r#""peer":"192.0.2.7:51000""#;
    for query in ["", "?peer=192.0.2.7", "?peer=192.0.2.7:51000"] {
        let list = list(query);
        let proxy = format!("\"proxy\":\"{own}\"");
        assert!(list.contains(named) && list.contains(&proxy), "{list}");
    }
    assert!(!list("?peer=127.0.0.1").contains(named));
    kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
    let log = program.terminate();
    assert!(log.contains(" echo     192.0.2.7:51000 "), "{log}");
    let total = log
        .lines()
        .find(|line| line.contains("peer     192.0.2.7 "));
    assert!(total.is_some(), "{log}");
}

/// A proxy that is killed when this is dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Runs a proxy with a configuration file, until its address accepts connections.
fn start(command: &[&str], configuration: &str, name: &str, address: SocketAddr) -> Proxy {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("configuration");
    let folder = folder.to_str().unwrap();
    std::fs::write(&file, configuration.replace("FOLDER", folder)).unwrap();
    let mut child = Command::new(command[0]);
    child.args(&command[1..]).arg(&file);
    child
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let proxy = Proxy(child.spawn().unwrap());
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begin.elapsed() < PATIENCE, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    proxy
}

/// An echo through the proxy, and the record that names its client.
fn is_served_through(proxy: SocketAddr, program: Program) {
    let mut stream = client(proxy);
    let own = stream.local_addr().unwrap();
    stream.write_all(b"through a proxy").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"through a proxy");
    let log = program.terminate();
    let record = format!(": {own}: finished; ");
    assert!(log.contains(&record), "{record}: {log}");
}

#[test]
fn haproxy_names_the_client_in_both_versions() {
    if !have("haproxy") {
        return;
    }
    for version in ["send-proxy", "send-proxy-v2"] {
        let program = server(&[]);
        let (proxy, echo) = (free_address(), program.address("echo"));
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
             listen proxy\n bind {proxy}\n server echo {echo} {version}\n"
        );
        let _proxy = start(&["haproxy", "-db", "-f"], &configuration, version, proxy);
        is_served_through(proxy, program);
    }
}

#[test]
fn nginx_names_the_client() {
    if !have("nginx") {
        return;
    }
    let program = server(&[]);
    let (proxy, echo) = (free_address(), program.address("echo"));
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\n\
         master_process off;\npid FOLDER/pid;\nerror_log FOLDER/log;\nevents {{}}\n\
         stream {{ server {{ listen {proxy}; proxy_pass {echo}; proxy_protocol on; \
         proxy_half_close on; }} }}\n"
    );
    let _proxy = start(&["nginx", "-c"], &configuration, "nginx", proxy);
    is_served_through(proxy, program);
}
