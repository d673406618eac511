//! Standard output and standard error that nobody reads, or that take nothing: the program serves
//! and ends all the same.

mod common;

use common::{PATIENCE, Program, client, echo, have, read_all};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorkeeper");

/// An end of the program takes a second and a half at most. A machine with other work may take longer, but not
/// this long.
const END: Duration = Duration::from_secs(6);

/// `doorkeeper serve echo`, with this as its standard error.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(args: &[&str], log: &str, stderr: impl Into<Stdio>) -> Server {
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "echo=127.0.0.1:0"])
            .args(args)
            .env("RUST_LOG", log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Server { child, address }
    }

    fn visit(&self, count: usize) {
        for _ in 0..count {
            let mut stream = client(self.address);
            assert_eq!(echo(&mut stream, b"hello"), b"hello");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// One SIGTERM ends it.
    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(ended(&mut self.child).success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < END, "the program does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A pipe's reading and writing end.
fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    fcntl_setfd(&reader, FdFlags::CLOEXEC).unwrap();
    fcntl_setfd(&writer, FdFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// A pipe that takes nothing more, and its reading end, which must live as long.
fn full_pipe() -> (File, File) {
    let (reader, mut writer) = pipe();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let full = loop {
        if let Err(error) = writer.write_all(&[b'.'; 4096]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_log_that_nobody_reads_stalls_nobody() {
    let (_reader, writer) = full_pipe();
    let server = Server::start(&[], "doorkeeper=debug", writer);
    server.visit(3000);
    server.end();
}

#[test]
fn tables_that_nobody_reads_stall_nobody() {
    let (_reader, writer) = full_pipe();
    let server = Server::start(&[], "info", writer);
    for _ in 0..50 {
        server.signal(Signal::USR1);
        server.visit(1);
    }
    server.end();
}

#[test]
fn a_story_that_nobody_reads_and_a_log_beside_it_stall_nobody() {
    let (_reader, writer) = full_pipe();
    let server = Server::start(&["--narrate"], "info", writer);
    server.visit(500);
    server.signal(Signal::USR1);
    server.visit(500);
    server.end();
}

#[test]
fn standard_error_that_is_full_or_closed_loses_no_client() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = pipe();
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let server = Server::start(&["--narrate"], "doorkeeper=debug", stderr);
        server.visit(100);
        server.signal(Signal::USR1);
        server.visit(100);
        server.end();
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn await_server(address: SocketAddr) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn standard_output_that_nobody_reads_is_no_reason_not_to_serve() {
    let ((_reader, writer), address) = (full_pipe(), free_address());
    let mut command = Command::new(PROGRAM);
    let child = command
        .args(["serve", &format!("echo={address}")])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server { child, address };
    let mut stream = await_server(address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    let mut log = BufReader::new(server.child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("standard output is blocked") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    drop(stream);
    server.end();
}

/// Ctrl-S stops a terminal: a write to it blocks.
#[test]
fn a_stopped_terminal_stalls_nobody() {
    if !have("script") {
        return;
    }
    let address = free_address();
    let id = std::env::temp_dir().join(format!("doorkeeper-stopped-{}", std::process::id()));
    let line = format!(
        "echo $$ >{}; RUST_LOG=debug exec {PROGRAM} serve echo={address} --narrate",
        id.display()
    );
    let mut command = Command::new("timeout");
    let mut script = command
        .args(["--kill-after=1", "60", "script", "-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = await_server(address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    let mut stdin = script.stdin.take().unwrap();
    stdin.write_all(b"\x13").unwrap();
    // What the terminal has taken before is shown, and then nothing more comes.
    let mut stdout = script.stdout.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    for _ in 0..1000 {
        let mut stream = await_server(address);
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"");
    }
    drop(stream);
    let program = std::fs::read_to_string(&id).unwrap();
    std::fs::remove_file(&id).unwrap();
    let program = Pid::from_raw(program.trim().parse().unwrap()).unwrap();
    kill_process(program, Signal::TERM).unwrap();
    let start = Instant::now();
    while rustix::process::test_kill_process(program).is_ok() {
        assert!(start.elapsed() < END, "the program does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stdin);
    let _ = script.kill();
    let _ = script.wait();
}

/// At the end the reader gets as much as it reads within a second, and then a line that counts all
/// the rest.
#[test]
fn lines_that_a_slow_reader_misses_at_the_end_are_counted() {
    let (mut reader, writer) = pipe();
    let server = Server::start(&["--narrate"], "off", writer);
    const VISITS: usize = 1000;
    server.visit(VISITS);
    let slow = std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 512]);
        loop {
            match reader.read(&mut piece).unwrap() {
                0 => return String::from_utf8_lossy(&text).into_owned(),
                count => text.extend_from_slice(&piece[..count]),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    server.end();
    let text = slow.join().unwrap();
    let (before, after) = text.rsplit_once('(').unwrap();
    let (count, end) = after.split_once(' ').unwrap();
    assert_eq!(end, "lines left out)\n");
    let written = before.lines().filter(|line| !line.is_empty()).count();
    let left_out: usize = count.parse().unwrap();
    // Each visit: accept, accept, read, write, read, close, and two of the accept queue; some of
    // them may be seen as one.
    assert!(
        left_out > 0 && written + left_out >= 6 * VISITS,
        "{written} written, {left_out} left out"
    );
}

/// A program that reads lines of JSON reads how many are missing as JSON too.
#[test]
fn lines_left_out_are_counted_in_the_form_of_the_others() {
    for (args, log, line) in [
        (&["--log=json"][..], "trace", "{\"left_out\":"),
        (&["--log=text"], "trace", "("),
        (&["--narrate=json"], "off", "{\"left_out\":"),
    ] {
        let (mut reader, writer) = full_pipe();
        let server = Server::start(args, log, writer);
        server.visit(3000);
        let all = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        server.end();
        let text = all.join().unwrap();
        let is_count = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        let mut lines = text.lines().filter_map(|text| text.strip_prefix(line));
        assert!(lines.any(is_count), "{args:?}: {}", text.len());
    }
}

#[test]
fn a_client_whose_story_nobody_reads_ends_with_its_connection() {
    let program = Program::serve(&["echo=:0"]);
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(PROGRAM);
    let mut child = command
        .args(["connect", "--narrate", &program.address("echo").to_string()])
        .env("RUST_LOG", "debug")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 20_000_000]).unwrap());
    let mut output = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut output).unwrap();
    assert_eq!(output.len(), 20_000_000);
    feed.join().unwrap();
    assert!(ended(&mut child).success());
}

#[test]
fn a_story_that_cannot_be_written_fails() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(PROGRAM);
    let output = command.arg("story").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("cannot write to standard output: No space left"),
        "{message}"
    );
}

#[test]
fn a_room_that_is_not_shown_fails() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (_reader, slow) = full_pipe();
    for (stdout, problem) in [
        (full, "No space left"),
        (slow, "its reader is slow, and lines are left out"),
    ] {
        let mut command = Command::new(PROGRAM);
        let output = command.args(["room", "1", "1"]).stdout(stdout).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        let wanted = format!("cannot write to standard output: {problem}");
        assert!(message.contains(&wanted), "{message}");
    }
}
