//! What the tests share: a reactor on a thread, the built program as a child, and plain blocking clients.
#![allow(dead_code, missing_docs)]

use doorkeeper::{Config, Handle, Reactor, Stats};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No single step of any test takes this long unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A reactor that runs on a thread of its own until this is dropped or [`stop`](Running::stop)ped.
pub struct Running {
    pub handle: Handle,
    thread: Option<JoinHandle<Stats>>,
}

impl Running {
    /// Starts a reactor; `setup` runs on its thread, before the loop, and what it returns is returned.
    pub fn start<T: Send + 'static>(
        config: Config,
        setup: impl FnOnce(&mut Reactor) -> T + Send + 'static,
    ) -> (Running, T) {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut reactor = Reactor::new(config).unwrap();
            let made = setup(&mut reactor);
            sender.send((reactor.handle(), made)).unwrap();
            reactor.run().unwrap();
            reactor.stats()
        });
        let (handle, made) = receiver.recv_timeout(PATIENCE).unwrap();
        (
            Running {
                handle,
                thread: Some(thread),
            },
            made,
        )
    }

    /// Runs a closure on the loop and returns what it returned.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Reactor) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        let posted = self
            .handle
            .post(move |reactor: &mut Reactor| sender.send(question(reactor)).unwrap());
        assert!(posted.is_ok(), "the reactor is gone");
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    pub fn stats(&self) -> Stats {
        self.ask(|reactor| reactor.stats())
    }

    /// Asks again until the statistics are as wanted; panics with the last ones if they never are.
    pub fn await_stats(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let start = Instant::now();
        loop {
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "never as wanted: {stats:?}");
            std::thread::yield_now();
        }
    }

    pub fn stop(mut self) -> Stats {
        self.handle.stop().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(
                result.is_ok() || std::thread::panicking(),
                "the reactor's thread panicked"
            );
        }
    }
}

/// A blocking client with time limits, so that a server that hangs fails the test.
pub fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends, and reads exactly as many bytes back.
pub fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    read_exactly(stream, bytes.len())
}

pub fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut answer = vec![0; count];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Reads to the end of the stream.
pub fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map(|_| answer)
}

/// The built program as a child; ended when this is dropped.
pub struct Program {
    pub child: Child,
    /// The lines `listening NAME ADDRESS`, in their order.
    pub listening: Vec<(String, SocketAddr)>,
    pub stderr: Option<ChildStderr>,
}

impl Program {
    /// `doorkeeper serve ARGS`, with `wrapper` (strace and its options, say) before it, and RUST_LOG=`log`. Waits until as
    /// many listeners are announced as `count` says.
    pub fn start(wrapper: &[&str], args: &[&str], log: &str, count: usize) -> Program {
        let mut words = wrapper.to_vec();
        words.extend([env!("CARGO_BIN_EXE_doorkeeper"), "serve"]);
        words.extend(args);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("RUST_LOG", log);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take();
        let lines: Vec<String> = stdout.lines().take(count).map(Result::unwrap).collect();
        let listening = lines.iter().map(|line| announced(line)).collect();
        Program {
            child,
            listening,
            stderr,
        }
    }

    /// `doorkeeper serve ARGS` with quiet logs.
    pub fn serve(args: &[&str]) -> Program {
        Program::start(
            &[],
            args,
            "warn",
            args.iter()
                .filter(|arg| !arg.starts_with("--") && arg.contains('='))
                .count(),
        )
    }

    /// The address of the service announced by this name.
    pub fn address(&self, service: &str) -> SocketAddr {
        self.listening
            .iter()
            .find(|(name, _)| name == service)
            .unwrap()
            .1
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn announced(line: &str) -> (String, SocketAddr) {
    let words: Vec<&str> = line.split(' ').collect();
    assert!(
        words.len() == 3 && words[0] == "listening",
        "not an announcement: {line}"
    );
    (words[1].to_string(), words[2].parse().unwrap())
}

/// Whether an outside program is there. Says loudly if not, and fails where nothing may be missing.
pub fn have(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file()));
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "{tool} is missing, and CI is set"
        );
        eprintln!("\n*** NOT TESTED: {tool} is missing ***\n");
    }
    found
}

/// Runs the named test of this very binary again, in a process of its own, under `wrapper`. True in that process, where the
/// test goes on; false in the caller, once the other has passed.
pub fn alone(test: &str, wrapper: &[&str]) -> bool {
    const MARK: &str = "DOORKEEPER_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    words.extend([
        own.as_os_str(),
        OsStr::new(test),
        OsStr::new("--exact"),
        OsStr::new("--nocapture"),
    ]);
    let output = Command::new(words[0])
        .args(&words[1..])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    false
}

/// A default value with some fields set: `set(|config: &mut Config| config.backlog = 5)`.
pub fn set<T: Default>(change: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    change(&mut value);
    value
}
