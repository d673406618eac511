//! A program that runs: its start, its processor, its CPU time, its memory, its end.

use crate::Result;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a program may take for one run.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// A program. It is ended when dropped, or after [`PATIENCE`] if it hangs.
pub struct Running {
    pub child: Child,
    /// Where it listens.
    pub address: String,
    /// Holds its configuration; removed with it.
    folder: Option<PathBuf>,
    /// Dropped with it, which ends the thread that waits for [`PATIENCE`].
    _ended: Sender<()>,
}

impl Running {
    pub fn new(command: &mut Command) -> Result<Running> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let (ended, end) = channel();
        let pid = child.id().to_string();
        std::thread::spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        });
        Ok(Running {
            child,
            address: String::new(),
            folder: None,
            _ended: ended,
        })
    }

    /// The lines of its standard output, which must be a pipe.
    pub fn lines(&mut self) -> impl Iterator<Item = std::io::Result<String>> + use<> {
        BufReader::new(self.child.stdout.take().expect("a pipe")).lines()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Starts a server that says where it listens.
pub fn start(command: &mut Command) -> Result<Running> {
    let mut running = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let Some(line) = running.lines().next().transpose()? else {
        return Err(format!("the server ended at its start: {}", running.child.wait()?).into());
    };
    let address = line
        .strip_prefix("listening ")
        .ok_or("the server does not say where it listens")?;
    running.address = address.to_string();
    Ok(running)
}

/// Starts a server whose arguments name its port and files, and waits until it accepts a connection.
pub fn start_on_port(command: impl FnOnce(u16, &Path) -> Result<Command>) -> Result<Running> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder =
        std::env::temp_dir().join(format!("compare-{}-{}", std::process::id(), address.port()));
    std::fs::create_dir_all(&folder)?;
    let mut command = command(address.port(), &folder)?;
    let errors = folder.join("errors");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&errors)?);
    let mut running = Running::new(&mut command)?;
    running.address = address.to_string();
    running.folder = Some(folder);
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = running.child.try_wait()? {
            let errors = std::fs::read_to_string(errors).unwrap_or_default();
            let said = errors
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("");
            return Err(format!("the server ended at its start: {status}: {said}").into());
        }
        if begin.elapsed() > START {
            return Err(format!("the server does not listen after {START:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

/// The program on one processor, if there are two.
pub fn pinned(processor: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg(processor.to_string()).arg(program);
    command
}

/// The CPU time of all threads of a process, in nanoseconds.
pub fn cpu(pid: u32) -> Result<u64> {
    cpu_of(Path::new(&format!("/proc/{pid}/task")))
}

fn cpu_of(tasks: &Path) -> Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(tasks)? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().ok_or("schedstat is empty")?;
        total += first.parse::<u64>()?;
    }
    Ok(total)
}

/// The memory that a process has written to and shares with none, in bytes.
pub fn memory(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let line = line.ok_or("smaps_rollup has no Private_Dirty")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn error(started: Result<Running>) -> String {
        started.err().expect("no server").to_string()
    }

    #[test]
    fn a_server_that_panics_at_its_start_is_no_server() {
        let said = error(start(&mut shell("exit 101")));
        assert!(
            said.contains("ended at its start") && said.contains("101"),
            "{said}"
        );
        let said = error(start(&mut shell("echo hello; sleep 60")));
        assert!(said.contains("does not say where"), "{said}");
        let said = error(start_on_port(|_, _| {
            Ok(shell("echo 'no such option' >&2; exit 1"))
        }));
        assert!(said.contains("no such option"), "{said}");
    }

    #[test]
    fn a_server_that_is_started_is_where_it_says() {
        let running = start(&mut shell("echo listening 127.0.0.1:7; sleep 60")).unwrap();
        assert_eq!(running.address, "127.0.0.1:7");
        assert!(cpu(running.pid()).unwrap() > 0);
    }

    #[test]
    fn cpu_is_that_of_all_threads() {
        let tasks = std::env::temp_dir().join(format!("compare-tasks-{}", std::process::id()));
        for (thread, text) in [("10", "5000 77 3\n"), ("11", "700 88 4\n")] {
            std::fs::create_dir_all(tasks.join(thread)).unwrap();
            std::fs::write(tasks.join(thread).join("schedstat"), text).unwrap();
        }
        let total = cpu_of(&tasks);
        std::fs::remove_dir_all(&tasks).unwrap();
        assert_eq!(total.unwrap(), 5700);
    }

    #[test]
    fn memory_is_what_was_written_to() {
        let pid = std::process::id();
        let before = memory(pid).unwrap();
        // The optimiser must not leave the memory out.
        let written = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = memory(pid).unwrap() - before;
        assert!(grown > 60 << 20 && written.len() == 64 << 20, "{grown}");
    }
}
