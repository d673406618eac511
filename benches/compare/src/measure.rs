//! Every scenario on every server, in turns: what one round compares has been run within a minute, on the same machine.

use crate::peers::Peer;
use crate::{Options, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A scenario: its name, and what `doorkeeper bench` is told.
pub const SCENARIOS: [(&str, &str); 12] = [
    ("64 B × 1", "--connections 1"),
    ("64 B × 64", "--connections 64"),
    ("64 B × 1000", "--connections 1000"),
    ("64 B × 10000", "--connections 10000"),
    ("16 KiB × 64", "--connections 64 --size 16384"),
    ("1 MiB × 4", "--connections 4 --size 1048576"),
    (
        "pipelined lines",
        "--connections 64 --size 32 --pipeline 16 --lines",
    ),
    (
        "connect-echo-close",
        "--mode connect --connections 64 --source-addresses MANY",
    ),
    ("idle", "--mode idle --connections 10000"),
    ("50 pingers", "--connections 50"),
    ("flood", "--connections 50 --flooders 4"),
    ("mute", "--connections 50 --mutes 8"),
];

/// Those with a figure to reach, which are run more often, on the servers that the figure is about.
pub const CLOSER: [&str; 6] = [
    "64 B × 64",
    "64 B × 1000",
    "64 B × 10000",
    "16 KiB × 64",
    "1 MiB × 4",
    "connect-echo-close",
];
pub const CLOSE: [&str; 4] = ["epoll", "epoll-64", "doorkeeper", "tokio"];

/// Each has ports of its own. With one, a second's connections are as many as there are ports, and what is measured is how soon the
/// kernel gives one back.
fn many_addresses() -> String {
    (2..=33)
        .map(|last| format!("127.0.0.{last}"))
        .collect::<Vec<_>>()
        .join(",")
}

pub fn all(options: &Options, peers: &[Peer], load: &Path) -> Result<Vec<Value>> {
    let mut samples = Vec::new();
    let rounds = options.rounds + options.closer;
    for round in 0..rounds {
        let is_closer = round >= options.rounds;
        let wanted =
            |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
        let peers: Vec<&Peer> = peers
            .iter()
            .filter(|peer| !is_closer || CLOSE.contains(&peer.name))
            .collect();
        let scenarios = SCENARIOS
            .into_iter()
            .filter(|(name, _)| wanted(name) && (!is_closer || CLOSER.contains(name)));
        for (scenario, args) in scenarios {
            // Another begins in each round, so that no server always follows the same one.
            for turn in 0..peers.len() {
                let peer = peers[(turn + round) % peers.len()];
                eprintln!("round {} of {rounds}: {scenario}: {}", round + 1, peer.name);
                let mut sample =
                    // The two are not alike, for others have a share of them: neither server nor load always has the same.
                    one(peer, args, options.seconds, load, round % 2).unwrap_or_else(|error| json!({ "failed": error.to_string() }));
                let about = sample.as_object_mut().expect("an object");
                about.insert("scenario".into(), json!(scenario));
                about.insert("server".into(), json!(peer.name));
                about.insert("round".into(), json!(round));
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

/// A program, ended when dropped, or after [`PATIENCE`] if it hangs.
pub struct Running {
    pub child: Child,
    /// Where it listens.
    pub address: String,
    /// Dropped with it: nobody need wait any more.
    _ended: Sender<()>,
}

/// How long a program may take for one run.
const PATIENCE: Duration = Duration::from_secs(90);

impl Running {
    fn new(command: &mut Command) -> Result<Running> {
        let child = command.stdout(Stdio::piped()).spawn();
        let child =
            child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
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
            _ended: ended,
        })
    }

    fn lines(&mut self) -> impl Iterator<Item = std::io::Result<String>> + use<> {
        BufReader::new(self.child.stdout.take().expect("a pipe")).lines()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program, and waits for the line that says where it listens.
pub fn start(command: &mut Command) -> Result<Running> {
    let mut running = Running::new(command.stderr(Stdio::null()))?;
    let line = running.lines().next();
    let line = line.ok_or("the server ended at once")??;
    running.address = line
        .strip_prefix("listening ")
        .ok_or("the server does not say where it listens")?
        .to_string();
    Ok(running)
}

/// On a processor of its own, where there are two.
fn pinned(processor: usize, program: &Path) -> Command {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg(processor.to_string()).arg(program);
    command
}

/// One run, with the server on this processor and the load on the other of the first two.
fn one(peer: &Peer, args: &str, seconds: u32, load: &Path, processor: usize) -> Result<Value> {
    let server = start(&mut pinned(processor, &peer.program()))?;
    let pid = server.child.id();
    let memory = memory_now(pid)?;
    let mut command = pinned(1 - processor, load);
    command.args([
        "bench",
        &server.address,
        "--json",
        "--warm-up",
        "300ms",
        "--duration",
        &format!("{seconds}s"),
    ]);
    command.args(args.replace("MANY", &many_addresses()).split(' '));
    let mut running = Running::new(command.stderr(Stdio::piped()))?;
    let mut complaints = running.child.stderr.take().expect("a pipe");
    let mut lines = running.lines();
    let begun = lines.next().transpose()?;
    let before = cpu(pid)?;
    if begun.is_some() {
        // While it counts, for afterwards the connections are closed.
        std::thread::sleep(Duration::from_secs(seconds.into()) * 4 / 5);
    }
    let held = memory_now(pid)?.saturating_sub(memory) as f64;
    lines.next().transpose()?;
    let after = cpu(pid)?;
    let report = lines.next().transpose()?;
    let mut said = String::new();
    complaints.read_to_string(&mut said)?;
    let status = running.child.wait()?;
    let Some(report) = report else {
        return Err(format!("the load: {status}: {}", said.trim()).into());
    };
    let report: Value = serde_json::from_str(&report)?;
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    let (requests, connections) = (number("requests"), number("connections"));
    let whole = report["errors"]
        .as_object()
        .is_some_and(|errors| errors.is_empty());
    Ok(json!({
        "rate": number("requests_per_second"),
        "cpu_ns": (requests > 0.0).then(|| (after - before) as f64 / requests),
        "load_cpu_ns": report["own_cpu_ns_per_request"],
        "load_share": report["own_cpu_share"],
        "bytes_per_connection": whole.then_some(held / connections),
        "bytes_held": held,
        "flood": number("flood_bytes_per_second"),
        "latency_ns": report["latency_ns"],
        "errors": report["errors"],
        "unanswered": report["unanswered"],
        "load_says": said.trim(),
    }))
}

/// The time all threads of a process have had a processor, in nanoseconds.
fn cpu(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text
            .split_whitespace()
            .next()
            .ok_or("schedstat is empty")?
            .parse::<u64>()?;
    }
    Ok(total)
}

/// What a process has written to and shares with nobody, in bytes.
fn memory_now(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .ok_or("smaps_rollup says nothing")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// On what all this was measured.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("");
    json!({
        "processor": model.trim_start_matches([' ', '\t', ':']),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
