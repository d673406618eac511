//! The program under check: started, stopped, looked at from outside, and ended by its id.

use crate::diag;
use crate::peer::{PATIENCE, Peer};
use crate::proc;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a program may take to print its port.
const STARTUP: Duration = Duration::from_secs(20);

/// After this long a process that sleeps does not wait for a delayed ACK, which takes up to 200 ms.
const QUIET: Duration = Duration::from_millis(250);

/// How to start a program.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Whether its standard error is shown.
    pub loud: bool,
}

/// A program that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// The process that listens: the child itself, or one that the child has started.
    server: Pid,
    /// The port that it has printed.
    pub port: u16,
    /// It was ended from here.
    ended: bool,
}

impl Subject {
    /// A program and its arguments. Its standard error is thrown away.
    pub fn quiet<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Subject {
        Subject {
            words: words.into_iter().map(Into::into).collect(),
            loud: false,
        }
    }

    /// Starts the program and waits for its port.
    pub fn start(&self) -> Result<Program, String> {
        self.start_with(&[], &[])
    }

    /// Starts the program behind the words of `wrapper`, with more environment variables.
    pub fn start_with(
        &self,
        wrapper: &[OsString],
        variables: &[(&str, &str)],
    ) -> Result<Program, String> {
        let words: Vec<&OsString> = wrapper.iter().chain(&self.words).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if !self.loud {
            command.stderr(Stdio::null());
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", words[0].display()))?;
        let ports = printed_port(child.stdout.take().expect("standard output is piped"));
        let own = Pid::from_child(&child);
        // From here on the program is ended whatever happens.
        let mut program = Program {
            child,
            server: own,
            port: 0,
            ended: false,
        };
        program.port = ports
            .recv_timeout(STARTUP)
            .map_err(|why| program.no_port(why))?;
        program.server = wait_for(|| proc::listening_process(own, program.port))
            .ok_or_else(|| format!("nobody listens on port {}, which it printed", program.port))?;
        Ok(program)
    }
}

/// The last number of the first line that has one. The rest is read too, so that the program never blocks in a write.
fn printed_port(stdout: ChildStdout) -> mpsc::Receiver<u16> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if let Some(port) = last_number(&String::from_utf8_lossy(&line)) {
                // Only the first one is awaited.
                let _ = sender.send(port);
            }
        }
    });
    receiver
}

fn last_number(line: &str) -> Option<u16> {
    let mut numbers = line.split(|c: char| !c.is_ascii_digit());
    numbers.rfind(|word| !word.is_empty())?.parse().ok()
}

/// Asks until there is an answer, for as long as anyone is patient.
pub fn wait_for<T>(mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if start.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Program {
    /// Standard output is closed, or the time is over.
    fn no_port(&mut self, why: RecvTimeoutError) -> String {
        if why == RecvTimeoutError::Timeout {
            return format!(
                "it printed no port within {} s (is standard output flushed?)",
                STARTUP.as_secs()
            );
        }
        // Standard output is closed a moment before the process can be waited for.
        match wait_for(|| self.child.try_wait().ok()?) {
            Some(status) => format!("it ended ({status}) before it printed a port"),
            None => "it closed standard output before it printed a port".to_string(),
        }
    }

    /// An addition to a failure: that the program has ended, if it has.
    pub fn obituary(&mut self) -> String {
        // The connection breaks a moment before the process can be waited for.
        let ended = |program: &mut Program| match program.child.try_wait() {
            Ok(Some(status)) => Some(status),
            _ => None,
        };
        let start = Instant::now();
        while !self.ended && start.elapsed() < Duration::from_millis(200) {
            if let Some(status) = ended(self) {
                return format!(": the program has ended ({status})");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        String::new()
    }

    /// Waits until the process has read everything that this peer has sent, or sleeps without reading on. Returns how many bytes
    /// it has read and not written yet, as far as the peer's kernel knows nothing of them.
    pub fn bytes_held(&self, peer: &Peer) -> u64 {
        let start = Instant::now();
        let mut before = None;
        loop {
            let (unread, unsent) = match diag::end_of(self.port, peer.port) {
                Some(socket) => (socket.receive_queue, socket.send_queue),
                None => return 0,
            };
            let unread = unread + peer.unsent();
            let is_quiet = unread == 0 || start.elapsed() > QUIET;
            // A process that has read everything may not have written it yet: it must have been asleep since the last look.
            if (is_quiet && before == Some((unread, unsent))) || start.elapsed() > PATIENCE {
                let elsewhere = unread + unsent + peer.unread() + peer.received;
                return peer.sent.saturating_sub(elsewhere);
            }
            let asleep = proc::all_are(self.server, &['S']);
            before = asleep.then_some((unread, unsent));
        }
    }

    /// The same, once no ACK is under way that makes room for more: one is delayed by up to 200 ms.
    pub fn bytes_held_at_rest(&self, peer: &Peer) -> u64 {
        std::thread::sleep(QUIET);
        self.bytes_held(peer)
    }

    /// Stops the process, so that things come to it together. It has handled what came before.
    pub fn stop(&self) {
        self.wait_for_state(&['S']);
        self.signal(Signal::STOP);
        // Under strace it is in a tracing stop, t, as it is at each system call, but now for good.
        self.wait_for_state(&['T', 't']);
    }

    /// Waits until the process is in one of these states and stays there.
    fn wait_for_state(&self, states: &[char]) {
        let mut seen = 0;
        wait_for(|| {
            let is_there = proc::all_are(self.server, states);
            seen = if is_there { seen + 1 } else { 0 };
            (seen > 5).then_some(())
        });
    }

    /// Lets the process go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // A process that has ended shows by the answers that do not come.
        let _ = rustix::process::kill_process(self.server, signal);
    }

    /// Ends the process and its descendants.
    pub fn end(&mut self) {
        self.ended = true;
        for process in proc::descendants(Pid::from_child(&self.child)) {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Lets the process open this many more descriptors.
    pub fn limit_descriptors(&self, free: u64) -> Result<(), String> {
        let limit =
            proc::limit_for(self.server, free).ok_or("its descriptors cannot be counted")?;
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        rustix::process::prlimit(Some(self.server), Resource::Nofile, limit)
            .map(drop)
            .map_err(|error| format!("prlimit failed: {error}"))
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        proc::cpu(self.server)
    }

    /// Time in which it has used a processor or waited for one so far.
    pub fn awake(&self) -> Duration {
        proc::awake(self.server)
    }

    /// How often it has gone to sleep so far, in all its threads.
    pub fn sleeps(&self) -> u64 {
        proc::sleeps(self.server)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        proc::memory(self.server)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::last_number;

    #[test]
    fn the_port_is_the_last_number_of_a_line() {
        assert_eq!(last_number("listening 127.0.0.1:7007"), Some(7007));
        assert_eq!(last_number("port 7007, ready."), Some(7007));
        assert_eq!(last_number("listening on ('::1', 7007, 0, 70000)"), None);
        assert_eq!(last_number("ready"), None);
    }
}
