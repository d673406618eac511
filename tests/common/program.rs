//! The built program as a child process.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// `doorkeeper serve`. It is killed when this is dropped.
pub struct Program {
    pub child: Child,
    /// The lines `listening NAME ADDRESS`, in their order.
    pub listening: Vec<(String, SocketAddr)>,
    pub stderr: Option<ChildStderr>,
}

impl Program {
    /// `doorkeeper serve ARGS` with RUST_LOG=`log`, behind the words of `wrapper`. Returns when
    /// `count` listeners are announced.
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

    /// `doorkeeper serve ARGS`, which logs warnings only.
    pub fn serve(args: &[&str]) -> Program {
        let is_service = |arg: &&&str| !arg.starts_with("--") && arg.contains('=');
        let count = args.iter().filter(is_service).count();
        Program::start(&[], args, "warn", count)
    }

    /// The same under strace with these options. strace is no parent of the program (`-D`), so it
    /// ends with the program, and killing the program leaves neither behind.
    pub fn traced(options: &[&str], args: &[&str], log: &str, count: usize) -> Program {
        let wrapper = [&["strace", "-D", "-f", "-qq"], options].concat();
        Program::start(&wrapper, args, log, count)
    }

    /// The address of the service announced by this name.
    pub fn address(&self, service: &str) -> SocketAddr {
        let mut found = self.listening.iter();
        found.find(|(name, _)| name == service).unwrap().1
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

    /// Ends the program by SIGTERM. Returns what it wrote to standard error.
    pub fn terminate(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.wait();
        self.log()
    }

    /// What the program wrote to standard error, until it ended.
    pub fn log(&mut self) -> String {
        let mut log = String::new();
        let mut stderr = self.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        log
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
