//! The results as Markdown.

use crate::samples::Samples;
use crate::statistics::{Rounds, median, middle_half, ratio};
use crate::suites::{self, Load, Suite};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Stands in the place of a figure that is missing.
const NOTHING: &str = "–";

/// The scenarios that are not about messages a second.
const BESIDE: [&str; 4] = ["idle", "50 pingers", "flood", "mute"];

pub fn markdown(results: &Value) -> String {
    let samples = Samples::of(results);
    let mut text = header(results, &samples);
    for missing in results["missing"].as_array().into_iter().flatten() {
        let word = |name: &str| missing[name].as_str().unwrap_or("?");
        let _ = writeln!(
            text,
            "\n**Missing:** {} ({}): {}.",
            word("server"),
            word("suite"),
            word("why")
        );
    }
    for suite in &suites::ALL {
        busy(&mut text, &samples, suite);
    }
    troubles(&mut text, &samples);
    let echo = &suites::ALL[0];
    growth(&mut text, &samples, echo);
    beside(&mut text, &samples, echo);
    match &results["weights"] {
        Value::Object(weights) => weighed(&mut text, weights, &samples.servers(echo)),
        Value::String(why) => drop(writeln!(text, "\n**Missing:** sizes and counts: {why}.")),
        _ => {}
    }
    text
}

fn header(results: &Value, samples: &Samples<'_>) -> String {
    let machine = &results["machine"];
    format!(
        "Measured on {}, {} processors, Linux {}; {} s a run; {}.\n",
        machine["processor"].as_str().unwrap_or("?"),
        machine["processors"],
        machine["kernel"].as_str().unwrap_or("?"),
        results["seconds"],
        samples.rounds(),
    )
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or(NOTHING.to_string(), |value| format!("{value:.digits$}"))
}

/// The median, and the values between which the middle half of the rounds lies.
fn spread(rounds: &Rounds) -> String {
    let middle = shown(median(rounds), 2);
    // The yardstick is 1 in every round.
    let is_yardstick = rounds.iter().all(|&(_, value)| value == 1.0);
    match middle_half(rounds).filter(|_| !is_yardstick) {
        Some((least, most)) => format!("{middle} ({least:.2}–{most:.2})"),
        None => middle,
    }
}

/// A table with a row for each server. `cell` is given the server and the column.
fn table(
    text: &mut String,
    title: &str,
    servers: &[&str],
    columns: &[&str],
    cell: impl Fn(&str, &str) -> String,
) {
    if columns.is_empty() || servers.is_empty() {
        return;
    }
    let (names, lines) = (columns.join(" | "), "---:|".repeat(columns.len()));
    let _ = write!(
        text,
        "\n### {title}\n\n| server | {names} |\n|---|{lines}\n"
    );
    for server in servers {
        let cells: Vec<String> = columns.iter().map(|column| cell(server, column)).collect();
        let _ = writeln!(text, "| {server} | {} |", cells.join(" | "));
    }
}

/// The tables of a suite that have a column for each scenario.
fn busy(text: &mut String, samples: &Samples<'_>, suite: &Suite) {
    let (servers, mut scenarios) = (samples.servers(suite), samples.scenarios(suite));
    scenarios.retain(|name| !BESIDE.contains(name));
    let mut marked = |title: &str, cell: &dyn Fn(&str, &str) -> String| {
        let title = format!("{}: {title}", suite.title);
        table(text, &title, &servers, &scenarios, |server, scenario| {
            cell(server, scenario) + samples.mark(&[scenario], server)
        });
    };
    let yardstick = suite.yardstick;
    for (title, pointer) in [
        ("CPU per message", "/cpu_ns"),
        ("messages a second", "/rate"),
    ] {
        marked(
            &format!("{title}, as a multiple of {yardstick}"),
            &|server, scenario| spread(&samples.multiples(suite, scenario, server, pointer)),
        );
    }
    // Only `doorkeeper bench` measures latencies and itself.
    if !suite
        .scenarios
        .iter()
        .all(|scenario| matches!(scenario.load, Load::Bench(_)))
    {
        return;
    }
    for (title, pointer) in [
        ("median of the latency", "/latency_ns/p50"),
        ("99th percentile of the latency", "/latency_ns/p99"),
        ("99.9th percentile of the latency", "/latency_ns/p99.9"),
    ] {
        marked(
            &format!("{title}, as a multiple of {yardstick}"),
            &|server, scenario| {
                shown(
                    median(&samples.multiples(suite, scenario, server, pointer)),
                    2,
                )
            },
        );
    }
    marked(
        "99th percentile of the latency, milliseconds",
        &|server, scenario| {
            shown(
                samples
                    .median(scenario, server, "/latency_ns/p99")
                    .map(|value| value / 1e6),
                3,
            )
        },
    );
    marked(
        "the load's part of its processor (at 1.00 the load is the limit)",
        &|server, scenario| shown(samples.median(scenario, server, "/load_share"), 2),
    );
}

/// Explains the marks.
fn troubles(text: &mut String, samples: &Samples<'_>) {
    let mut lines = String::new();
    for suite in &suites::ALL {
        for scenario in samples.scenarios(suite) {
            for server in samples.servers(suite) {
                let troubles = samples.troubles(scenario, server);
                if !troubles.is_empty() {
                    let _ = writeln!(lines, "- {server}, {scenario}: {}.", troubles.join("; "));
                }
            }
        }
    }
    if !lines.is_empty() {
        let _ = write!(
            text,
            "\n### What failed (†)\n\nThe marked figures count the requests that were answered.\n\n{lines}"
        );
    }
}

/// How much dearer a message becomes with more connections, and what a message costs the load.
fn growth(text: &mut String, samples: &Samples<'_>, suite: &Suite) {
    let (servers, mut scenarios) = (samples.servers(suite), samples.scenarios(suite));
    for (connections, scenario) in [("1000", "64 B × 1000"), ("10,000", "64 B × 10000")] {
        if !scenarios.contains(&"64 B × 64") || !scenarios.contains(&scenario) {
            continue;
        }
        let title = format!("Growth of CPU per message from 64 connections to {connections}");
        let columns = ["times", "as a multiple of epoll's growth"];
        table(text, &title, &servers, &columns, |server, column| {
            let growth = samples.growth(scenario, server);
            let yardstick = samples.growth(scenario, suite.yardstick);
            let figure = if column == columns[0] {
                growth
            } else {
                ratio(&growth, &yardstick)
            };
            spread(&figure) + samples.mark(&["64 B × 64", scenario], server)
        });
    }
    scenarios.retain(|name| !BESIDE.contains(name));
    let doorkeeper: Vec<&str> = servers
        .into_iter()
        .filter(|&server| server == "doorkeeper")
        .collect();
    let title = "CPU per message of the load, as a multiple of the server's";
    table(text, title, &doorkeeper, &scenarios, |server, scenario| {
        let load = samples.values(scenario, server, "/load_cpu_ns");
        spread(&ratio(&load, &samples.values(scenario, server, "/cpu_ns")))
            + samples.mark(&[scenario], server)
    });
}

/// The scenarios that are not about messages a second.
fn beside(text: &mut String, samples: &Samples<'_>, suite: &Suite) {
    let (servers, scenarios) = (samples.servers(suite), samples.scenarios(suite));
    let figure = |scenario: &str, server: &str, pointer: &str, unit: f64, digits: usize| {
        shown(
            samples
                .median(scenario, server, pointer)
                .map(|value| value / unit),
            digits,
        )
    };
    if scenarios.contains(&"idle") {
        let title = "Memory of 10,000 idle connections, after one echo each";
        table(
            text,
            title,
            &servers,
            &["bytes a connection"],
            |server, _| {
                figure("idle", server, "/bytes_per_connection", 1.0, 0)
                    + samples.mark(&["idle"], server)
            },
        );
    }
    if scenarios.contains(&"flood") {
        let columns = ["ping p99, ms", "pings a second", "flood, MB a second"];
        table(
            text,
            "Four flooders beside 50 pingers",
            &servers,
            &columns,
            |server, column| {
                let figure = match column {
                    "ping p99, ms" => figure("flood", server, "/latency_ns/p99", 1e6, 2),
                    "pings a second" => figure("flood", server, "/rate", 1.0, 0),
                    _ => figure("flood", server, "/flood", 1e6, 0),
                };
                figure + samples.mark(&["flood"], server)
            },
        );
    }
    if scenarios.contains(&"mute") && scenarios.contains(&"50 pingers") {
        let title = "Eight clients that send and never read, beside 50 pingers";
        let columns = ["rate, as a multiple of that without them", "MB held"];
        table(text, title, &servers, &columns, |server, column| {
            if column == "MB held" {
                return figure("mute", server, "/bytes_held", 1e6, 1)
                    + samples.mark(&["mute"], server);
            }
            let rate = |scenario| samples.values(scenario, server, "/rate");
            let kept = median(&ratio(&rate("mute"), &rate("50 pingers")));
            shown(kept, 2) + samples.mark(&["mute", "50 pingers"], server)
        });
    }
}

fn weighed(text: &mut String, weights: &Map<String, Value>, servers: &[&str]) {
    let figure =
        |server: &str, name: &str| weights.get(server).and_then(|weight| weight[name].as_f64());
    let columns = [
        "instructions, 1 connection",
        "instructions, 64 connections",
        "system calls, 1 connection",
    ];
    let title = "User-space instructions and system calls a message";
    table(
        text,
        title,
        servers,
        &columns,
        |server, column| match column {
            "instructions, 1 connection" => shown(figure(server, "instructions_1"), 0),
            "instructions, 64 connections" => shown(figure(server, "instructions_64"), 0),
            _ => shown(figure(server, "system_calls"), 2),
        },
    );
    for (server, weight) in weights {
        for (what, why) in weight.as_object().into_iter().flatten() {
            if let Some(why) = why.as_str() {
                let _ = writeln!(text, "\n**Missing:** {what} of {server}: {why}.");
            }
        }
    }
    let sized: Vec<&str> = servers
        .iter()
        .copied()
        .filter(|server| figure(server, "crates").is_some())
        .collect();
    let columns = [
        "kB over an empty program",
        "crates",
        "cold build, as a multiple of doorkeeper's",
    ];
    table(
        text,
        "Size, crates and build time of the same echo",
        &sized,
        &columns,
        |server, column| match column {
            "kB over an empty program" => shown(
                figure(server, "bytes_over_empty").map(|bytes| bytes / 1e3),
                1,
            ),
            "crates" => shown(figure(server, "crates"), 0),
            _ => {
                let seconds =
                    figure(server, "build_seconds").zip(figure("doorkeeper", "build_seconds"));
                shown(seconds.map(|(other, own)| other / own), 2)
            }
        },
    );
    if let Some(crates) = figure("doorkeeper", "crates_of_the_library") {
        let _ = writeln!(text, "\nThe library by itself brings {crates} crates.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::{results, sample};
    use serde_json::json;

    #[test]
    fn a_figure_is_the_median_with_the_middle_half() {
        let text = markdown(&results());
        assert!(
            text.starts_with("Measured on Abacus, 2 processors, Linux 6.0; 1 s a run; 5 rounds.\n"),
            "{text}"
        );
        assert!(text.contains(
            "\n### Echo: CPU per message, as a multiple of epoll\n\n| server | 64 B × 64 |\n|---|---:|\n| epoll | 1.00 |\n\
             | doorkeeper | 1.20 (1.10–2.00) |\n"
        ), "{text}");
        assert!(text.contains("| doorkeeper | 0.83 (0.50–0.91) |"), "{text}");
        assert!(!text.contains("†"), "{text}");
    }

    #[test]
    fn a_missing_figure_is_no_zero() {
        let mut found = results();
        found["samples"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "scenario": "64 B × 64", "server": "tokio", "round": 0 }));
        assert!(markdown(&found).contains("| tokio | – |"));
    }

    #[test]
    fn every_table_of_a_troubled_scenario_has_the_mark() {
        let mut found = results();
        let samples = found["samples"].as_array_mut().unwrap();
        for round in 0..5 {
            let mut troubled = sample("64 B × 1000", "doorkeeper", round, 20.0);
            troubled["errors"] = json!({ "refused": 1 });
            samples.extend([sample("64 B × 1000", "epoll", round, 10.0), troubled]);
        }
        let text = markdown(&found);
        let (_, growth) = text
            .split_once("### Growth of CPU per message from 64 connections to 1000")
            .unwrap();
        let row = growth
            .lines()
            .find(|line| line.starts_with("| doorkeeper"))
            .unwrap();
        assert_eq!(row.matches('†').count(), 2, "{row}");
        let rows = text.lines().filter(|line| line.starts_with("| doorkeeper"));
        assert!(
            rows.clone().count() > 8 && rows.clone().all(|row| row.contains('†')),
            "{text}"
        );
        assert!(text.contains(
            "- doorkeeper, 64 B × 1000: 5 connections failed (refused), in 5 of 5 rounds."
        ));
    }

    #[test]
    fn a_scenario_is_compared_with_the_yardstick_of_its_suite() {
        let mut found = results();
        found["samples"] = json!([
            sample("relay 64 B × 64", "haproxy", 0, 10.0),
            sample("relay 64 B × 64", "doorkeeper", 0, 8.0),
            sample("kv SET 1 MB", "redis-server", 0, 10.0),
            sample("kv SET 1 MB", "doorkeeper", 0, 11.0),
        ]);
        let text = markdown(&found);
        assert!(
            text.contains("### Relay: CPU per message, as a multiple of haproxy\n"),
            "{text}"
        );
        assert!(
            text.contains("| doorkeeper | 0.80 |") && text.contains("| doorkeeper | 1.10 |"),
            "{text}"
        );
        assert!(!text.contains("Echo"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut found = results();
        found["missing"] = json!([{ "server": "nginx", "suite": "relay", "why": "not found" }]);
        assert!(markdown(&found).contains("\n**Missing:** nginx (relay): not found.\n"));
    }
}
