//! What depends little on the state of the machine: sizes, crates, instructions, system calls; and how long a build takes.

use crate::peers::{Peer, Program, Server};
use crate::process::{Running, start};
use crate::{Result, build, root};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The servers with a size, a dependency tree and a build time.
const WEIGHED: [&str; 4] = ["doorkeeper", "tokio", "mio", "message-io"];

/// How often each is built from nothing.
const BUILDS: usize = 2;

pub fn all(servers: &[&Server]) -> Result<Value> {
    let empty = std::fs::metadata(build::peer("peer-empty", None)?)?.len();
    let builds = builds(servers)?;
    let mut weights = Map::new();
    for server in servers {
        let peer = server.peer;
        eprintln!("weighing {}", peer.name);
        let mut weight = Map::new();
        if WEIGHED.contains(&peer.name) {
            weight.insert(
                "bytes_over_empty".into(),
                json!(std::fs::metadata(&server.program)?.len() - empty),
            );
            weight.insert(
                "crates".into(),
                json!(crates(&format!("peer-{}", peer.name))?),
            );
            weight.insert("build_seconds".into(), builds[peer.name].clone());
        }
        if peer.name == "doorkeeper" {
            weight.insert("crates_of_the_library".into(), json!(crates("doorkeeper")?));
        }
        for (name, connections) in [("instructions_1", 1), ("instructions_64", 64)] {
            let count = slope(
                |rounds| instructions(server, rounds, connections),
                connections,
            );
            weight.insert(name.into(), or_reason(peer, "instructions", count));
        }
        let count = slope(|rounds| calls(server, rounds), 1);
        weight.insert(
            "system_calls".into(),
            or_reason(peer, "system calls", count),
        );
        weights.insert(peer.name.into(), Value::Object(weight));
    }
    Ok(Value::Object(weights))
}

/// A count, or the reason why there is none.
fn or_reason(peer: &Peer, what: &str, count: Result<f64>) -> Value {
    count.map_or_else(
        |error| {
            eprintln!("MISSING: {what} of {}: {error}", peer.name);
            json!(error.to_string())
        },
        |count| json!(count),
    )
}

/// The cost of one further message, from two runs of different length.
fn slope(cost: impl Fn(usize) -> Result<u64>, connections: usize) -> Result<f64> {
    let (few, many) = if connections == 1 {
        (500, 1500)
    } else {
        (20, 60)
    };
    let (less, more) = (cost(few)?, cost(many)?);
    Ok((more as f64 - less as f64) / ((many - few) * connections) as f64)
}

/// The pause of a lone connection after each echo. Within it the server reads to WouldBlock and sleeps again.
const REST: Duration = Duration::from_millis(2);

/// `rounds` times one echo on each of the connections.
fn talk(address: &str, rounds: usize, connections: usize) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        streams.push(stream);
    }
    let mut echo = [0; 64];
    for _ in 0..rounds {
        for stream in &mut streams {
            stream.write_all(&[b'x'; 64])?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut echo)?;
        }
        if connections == 1 {
            std::thread::sleep(REST);
        }
    }
    Ok(())
}

fn report_of(
    mut server: Running,
    mut talk: impl FnMut(&str) -> Result<()>,
    report: &Path,
) -> Result<String> {
    let talked = talk(&server.address);
    // The tool ends when the server ends, and then writes its report. Both must end, also if the talk failed.
    let id = server.child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let watched = children
        .split_whitespace()
        .next()
        .map_or(id.to_string(), str::to_string);
    Command::new("kill").args(["-TERM", &watched]).status()?;
    server.child.wait()?;
    let text = std::fs::read_to_string(report);
    let _ = std::fs::remove_file(report);
    talked?;
    Ok(text?)
}

fn instructions(server: &Server, rounds: usize, connections: usize) -> Result<u64> {
    let report = std::env::temp_dir().join(format!("compare-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", report.display()))
        .arg(&server.program);
    let text = report_of(
        start(command.arg("127.0.0.1:0").args(server.args()))?,
        |address| talk(address, rounds, connections),
        &report,
    )?;
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals: ")
            .or(line.strip_prefix("summary: "))
    });
    Ok(total.ok_or("callgrind counted nothing")?.trim().parse()?)
}

fn calls(server: &Server, rounds: usize) -> Result<u64> {
    let report = std::env::temp_dir().join(format!("compare-strace-{}", std::process::id()));
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o"])
        .arg(&report)
        .arg(&server.program);
    let text = report_of(
        start(command.arg("127.0.0.1:0").args(server.args()))?,
        |address| talk(address, rounds, 1),
        &report,
    )?;
    // A call during which another thread makes one stands on two lines; the second has "resumed".
    Ok(text
        .lines()
        .filter(|line| line.contains('(') && !line.contains(" resumed>"))
        .count() as u64)
}

/// The number of crates that a package depends on.
fn crates(package: &str) -> Result<usize> {
    let mut command = Command::new("cargo");
    command.args([
        "tree", "-e", "normal", "--prefix", "none", "--format", "{p}", "-p", package,
    ]);
    let output = command.current_dir(root().join("benches")).output()?;
    if !output.status.success() {
        return Err(format!(
            "cargo tree of {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
        .into());
    }
    let text = String::from_utf8(output.stdout)?;
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    Ok(names.len().saturating_sub(1))
}

/// Seconds from nothing to the program, in turns. The shortest time of each counts, because disturbance only adds time.
fn builds(servers: &[&Server]) -> Result<Map<String, Value>> {
    let mut best: Map<String, Value> = Map::new();
    let target = root().join("benches/target/cold");
    for _ in 0..BUILDS {
        for server in servers {
            let name = server.peer.name;
            let Program::Rust(package, _) = server.peer.program else {
                continue;
            };
            if !WEIGHED.contains(&name) {
                continue;
            }
            eprintln!("building {name} from nothing");
            if target.exists() {
                std::fs::remove_dir_all(&target)?;
            }
            let begin = Instant::now();
            build::peer(package, Some(&target))?;
            let took = begin.elapsed().as_secs_f64();
            let before = best
                .get(name)
                .and_then(Value::as_f64)
                .unwrap_or(f64::INFINITY);
            best.insert(name.into(), json!(took.min(before)));
        }
    }
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    Ok(best)
}
