//! Every scenario on every server, in turns: the servers of a round run within a minute of each other.

use crate::options::Options;
use crate::peers::{HTTP_BODY, Server};
use crate::process::{Running, cpu, memory, pinned};
use crate::suites::{self, Load, Redis, Scenario, Suite};
use crate::{Result, statistics};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub fn all(options: &Options, servers: &[Server], load: &Path) -> Result<Vec<Value>> {
    let mut samples = Vec::new();
    let rounds = options.rounds + options.closer;
    for round in 0..rounds {
        let is_closer = round >= options.rounds;
        for suite in &suites::ALL {
            for (place, scenario) in suite.scenarios.iter().enumerate() {
                if !options.wants(suite, scenario) || is_closer && !scenario.goal {
                    continue;
                }
                for server in order(suite, servers, is_closer, round * 100 + place) {
                    eprintln!(
                        "round {} of {rounds}: {}: {}",
                        round + 1,
                        scenario.name,
                        server.peer.name
                    );
                    samples.push(sample(scenario, server, options.seconds, load, round));
                }
            }
        }
    }
    if samples.is_empty() {
        Err("nothing was measured".into())
    } else {
        Ok(samples)
    }
}

/// The servers of a suite in the order in which they run. Each round shuffles anew, so that no server always follows the same one.
fn order<'a>(
    suite: &Suite,
    servers: &'a [Server],
    is_closer: bool,
    seed: usize,
) -> Vec<&'a Server> {
    let takes_part = |name: &str| !is_closer || suite.closer.contains(&name);
    let own = servers
        .iter()
        .filter(|server| server.peer.suite == suite.name && takes_part(server.peer.name));
    let mut own: Vec<&Server> = own.collect();
    statistics::shuffle(&mut own, seed as u64);
    own
}

fn sample(scenario: &Scenario, server: &Server, seconds: u32, load: &Path, round: usize) -> Value {
    // The two processors may differ, because other guests use the machine: server and load change places every round.
    let found = run(scenario, server, seconds, load, round % 2);
    let mut found = found.unwrap_or_else(|error| {
        eprintln!("FAILED: {}: {}: {error}", scenario.name, server.peer.name);
        Map::from_iter([("failed".to_string(), json!(error.to_string()))])
    });
    found.insert("scenario".into(), json!(scenario.name));
    found.insert("server".into(), json!(server.peer.name));
    found.insert("round".into(), json!(round));
    Value::Object(found)
}

/// One run: the server on this processor; the load, and the backend of a relay, on the other of the first two.
fn run(
    scenario: &Scenario,
    server: &Server,
    seconds: u32,
    load: &Path,
    processor: usize,
) -> Result<Map<String, Value>> {
    let other = 1 - processor;
    let backend = server.start_backend(other)?;
    let running = server.start(
        processor,
        backend.as_ref().map(|backend| backend.address.as_str()),
    )?;
    match &scenario.load {
        Load::Bench(args) => bench(&running, args, seconds, pinned(other, load)),
        Load::Redis(redis) => redis_benchmark(&running, redis, seconds, other),
        Load::Ab(args) => ab(&running, args, seconds, other),
    }
}

/// `doorkeeper bench`: it writes one line when it begins to count, one when it ends, and one with what it counted.
fn bench(
    server: &Running,
    args: &str,
    seconds: u32,
    mut command: Command,
) -> Result<Map<String, Value>> {
    let pid = server.pid();
    let memory_before = memory(pid)?;
    command.args([
        "bench",
        &server.address,
        "--json",
        "--warm-up",
        "300ms",
        "--duration",
    ]);
    command.arg(format!("{seconds}s"));
    command.args(args.replace("ADDRESSES", &suites::addresses()).split(' '));
    let mut load = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut complaints = load.child.stderr.take().expect("a pipe");
    let mut lines = load.lines();
    let begun = lines.next().transpose()?;
    let before = cpu(pid)?;
    if begun.is_some() {
        // Memory is read while it counts: afterwards the connections are closed.
        std::thread::sleep(Duration::from_secs(seconds.into()) * 4 / 5);
    }
    let held = memory(pid)?.saturating_sub(memory_before);
    lines.next().transpose()?;
    let after = cpu(pid)?;
    let report = lines.next().transpose()?;
    let mut said = String::new();
    complaints.read_to_string(&mut said)?;
    let status = load.child.wait()?;
    let report = report.ok_or_else(|| format!("the load: {status}: {}", said.trim()))?;
    let mut found = of_bench(&serde_json::from_str(&report)?, used(before, after)?, held);
    found.insert("load_says".into(), json!(said.trim()));
    Ok(found)
}

/// The CPU time between two readings. It shrinks if a thread has ended: then the difference means nothing.
fn used(before: u64, after: u64) -> Result<u64> {
    after
        .checked_sub(before)
        .ok_or_else(|| "a thread of the server has ended meanwhile".into())
}

fn of_bench(report: &Value, cpu_ns: u64, held: u64) -> Map<String, Value> {
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    let (requests, connections) = (number("requests"), number("connections"));
    let whole = report["errors"].as_object().is_some_and(Map::is_empty);
    object(json!({
        "rate": number("requests_per_second"),
        "cpu_ns": (requests > 0.0).then(|| cpu_ns as f64 / requests),
        "load_cpu_ns": report["own_cpu_ns_per_request"],
        "load_share": report["own_cpu_share"],
        "bytes_per_connection": whole.then_some(held as f64 / connections),
        "bytes_held": held as f64,
        "flood": number("flood_bytes_per_second"),
        "latency_ns": report["latency_ns"],
        "errors": report["errors"],
        "unanswered": report["unanswered"],
    }))
}

/// Every test a quarter as long first, which also sets the keys; then the tests of the scenario.
fn redis_benchmark(
    server: &Running,
    redis: &Redis,
    seconds: u32,
    processor: usize,
) -> Result<Map<String, Value>> {
    let (_, port) = server
        .address
        .rsplit_once(':')
        .ok_or("an address without a port")?;
    let requests = u64::from(redis.requests) * u64::from(seconds);
    let command = |tests: &str, requests: u64| {
        let mut command = pinned(processor, "redis-benchmark");
        command
            .args([
                "-p",
                port,
                "--csv",
                "-t",
                tests,
                "-n",
                &requests.to_string(),
            ])
            .args(redis.args.split(' '));
        command
    };
    output(command("set,get", requests / 4))?;
    let (before, begin) = (cpu(server.pid())?, Instant::now());
    let csv = output(command(&redis.tests.join(","), requests))?;
    let used = used(before, cpu(server.pid())?)?;
    let took = begin.elapsed();
    of_redis(&csv, redis.tests, requests, used, took)
}

fn of_redis(
    csv: &str,
    tests: &[&str],
    requests: u64,
    cpu_ns: u64,
    took: Duration,
) -> Result<Map<String, Value>> {
    for test in tests {
        let name = format!("\"{}\",", test.to_uppercase());
        if !csv.lines().any(|line| line.starts_with(&name)) {
            return Err(format!("redis-benchmark has no result of {test}").into());
        }
    }
    let all = requests * tests.len() as u64;
    Ok(object(
        json!({ "rate": all as f64 / took.as_secs_f64(), "cpu_ns": cpu_ns as f64 / all as f64 }),
    ))
}

/// Without `-k`, so that each request has a connection of its own, which the server closes.
fn ab(server: &Running, args: &str, seconds: u32, processor: usize) -> Result<Map<String, Value>> {
    let command = |seconds: u32| {
        let mut command = pinned(processor, "ab");
        // -n after -t: ab stops at 50,000 requests otherwise.
        command.args(["-q", "-t", &seconds.to_string(), "-n", "100000000"]);
        command
            .args(args.split(' '))
            .arg(format!("http://{}/", server.address));
        command
    };
    output(command(1))?;
    let before = cpu(server.pid())?;
    let text = output(command(seconds))?;
    of_ab(&text, used(before, cpu(server.pid())?)?)
}

fn of_ab(text: &str, cpu_ns: u64) -> Result<Map<String, Value>> {
    let number = |name: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (Some(requests), Some(rate)) =
        (number("Complete requests:"), number("Requests per second:"))
    else {
        return Err("ab has no result".into());
    };
    let length = number("Document Length:").unwrap_or(0.0);
    if length != HTTP_BODY.len() as f64 {
        return Err(format!("the answer has {length} bytes, and not {}", HTTP_BODY.len()).into());
    }
    let kinds = ["Failed requests:", "Write errors:", "Non-2xx responses:"];
    let errors = kinds.iter().filter_map(|kind| {
        let count = number(kind).filter(|&count| count > 0.0)?;
        Some((
            kind.trim_end_matches(':').to_lowercase(),
            json!(count as u64),
        ))
    });
    let errors = Map::from_iter(errors);
    Ok(object(
        json!({ "rate": rate, "cpu_ns": cpu_ns as f64 / requests, "errors": errors }),
    ))
}

/// The standard output of a program that must succeed.
fn output(mut command: Command) -> Result<String> {
    let mut load = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let lines: std::io::Result<Vec<String>> = load.lines().collect();
    let status = load.child.wait()?;
    if status.success() {
        Ok(lines?.join("\n"))
    } else {
        Err(format!("the load: {status}").into())
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The machine that all this was measured on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;
    use std::collections::{BTreeMap, BTreeSet};

    fn servers() -> Vec<Server> {
        peers::ALL.iter().map(Server::unbuilt).collect()
    }

    #[test]
    fn every_server_runs_once_a_round_and_follows_each_other_one() {
        let (suite, servers) = (&suites::ALL[0], servers());
        let names = peers::names(suite);
        let mut follows: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let rounds = 84;
        for round in 0..rounds {
            let order: Vec<&str> = order(suite, &servers, false, round * 100)
                .iter()
                .map(|server| server.peer.name)
                .collect();
            assert_eq!(
                order.iter().collect::<BTreeSet<_>>(),
                names.iter().collect()
            );
            assert_eq!(order.len(), names.len());
            for pair in order.windows(2) {
                *follows.entry((pair[0], pair[1])).or_default() += 1;
            }
        }
        // Each of 12 servers follows another in 84 × 11 / (12 × 11) = 7 rounds on average.
        assert!(
            follows.values().all(|&count| count < rounds / 3),
            "{follows:?}"
        );
        assert_eq!(follows.len(), names.len() * (names.len() - 1));
    }

    #[test]
    fn the_closer_rounds_are_for_the_closer_servers() {
        for suite in &suites::ALL {
            let servers = servers();
            let mut order: Vec<&str> = order(suite, &servers, true, 1)
                .iter()
                .map(|server| server.peer.name)
                .collect();
            let mut wanted = suite.closer.to_vec();
            order.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(order, wanted);
        }
    }

    #[test]
    fn cpu_of_bench_is_by_request() {
        let report = json!({
            "requests": 200, "requests_per_second": 100.5, "connections": 4, "errors": {},
            "own_cpu_share": 0.5, "own_cpu_ns_per_request": 7.0, "unanswered": 0, "latency_ns": { "p99": 5 },
        });
        let found = of_bench(&report, 5000, 4096);
        assert_eq!(found["cpu_ns"], json!(25.0));
        assert_eq!(found["rate"], json!(100.5));
        assert_eq!(found["bytes_per_connection"], json!(1024.0));
        let failed = json!({ "requests": 0, "connections": 4, "errors": { "refused": 4 } });
        let found = of_bench(&failed, 5000, 4096);
        assert!(found["cpu_ns"].is_null() && found["bytes_per_connection"].is_null());
    }

    #[test]
    fn a_thread_that_ends_makes_no_figure() {
        assert_eq!(used(5, 7).unwrap(), 2);
        assert!(used(7, 5).is_err());
    }

    #[test]
    fn redis_counts_the_requests_of_all_tests() {
        let csv = "\"test\",\"rps\"\n\"SET\",\"100.00\"\n\"GET\",\"300.00\"\n";
        let found = of_redis(csv, &["set", "get"], 50, 1000, Duration::from_secs(2)).unwrap();
        assert_eq!(
            (&found["cpu_ns"], &found["rate"]),
            (&json!(10.0), &json!(50.0))
        );
        assert!(
            of_redis(
                "\"test\"\n\"SET\",\"1\"\n",
                &["set", "get"],
                50,
                1000,
                Duration::from_secs(2)
            )
            .is_err()
        );
    }

    const AB: &str = "Document Length:        14 bytes\nComplete requests:      400\nFailed requests:        0\nRequests per second:    123.50 [#/sec] (mean)\n";

    #[test]
    fn ab_must_have_had_the_whole_answer() {
        let found = of_ab(AB, 8000).unwrap();
        assert_eq!(
            (&found["cpu_ns"], &found["rate"], &found["errors"]),
            (&json!(20.0), &json!(123.5), &json!({}))
        );
        assert!(of_ab(&AB.replace("14 bytes", "13 bytes"), 8000).is_err());
        assert!(of_ab("", 8000).is_err());
        let failed = of_ab(
            &AB.replace("Failed requests:        0", "Failed requests:        3"),
            8000,
        )
        .unwrap();
        assert_eq!(failed["errors"], json!({ "failed requests": 3 }));
    }
}
