//! The results as Markdown, and what they are worked out of.

use crate::Result;
use crate::measure::{self, SCENARIOS};
use crate::peers::{Peer, YARDSTICK};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What stands in the place of a figure that is not there.
const NOTHING: &str = "–";

/// A figure in each of the rounds, by their numbers.
type Rounds = Vec<(u64, f64)>;

pub struct Samples<'a>(&'a [Value]);

impl<'a> Samples<'a> {
    pub fn of(results: &'a Value) -> Samples<'a> {
        Samples(results["samples"].as_array().map_or(&[], Vec::as_slice))
    }

    fn values(&self, scenario: &str, server: &str, pointer: &str) -> Rounds {
        let those = self
            .0
            .iter()
            .filter(|sample| sample["scenario"] == scenario && sample["server"] == server);
        those
            .filter_map(|sample| {
                Some((
                    sample["round"].as_u64()?,
                    sample.pointer(pointer)?.as_f64()?,
                ))
            })
            .collect()
    }

    /// The median of all rounds.
    pub fn median(&self, scenario: &str, server: &str, pointer: &str) -> Option<f64> {
        median(&self.values(scenario, server, pointer))
    }

    /// A figure as a multiple of the yardstick's.
    fn multiples(&self, scenario: &str, server: &str, pointer: &str) -> Rounds {
        of(
            &self.values(scenario, server, pointer),
            &self.values(scenario, YARDSTICK, pointer),
        )
    }

    /// The median of the ratios to the yardstick, round by round.
    pub fn ratio(&self, scenario: &str, server: &str, pointer: &str) -> Option<f64> {
        median(&self.multiples(scenario, server, pointer))
    }

    /// How CPU per message grows from 64 connections on.
    fn growth(&self, scenario: &str, server: &str) -> Rounds {
        of(
            &self.values(scenario, server, "/cpu_ns"),
            &self.values("64 B × 64", server, "/cpu_ns"),
        )
    }

    /// What went wrong in a scenario on a server, in all rounds together: whole runs, connections, requests without an answer.
    fn troubles(&self, scenario: &str, server: &str) -> Vec<String> {
        let those: Vec<&Value> = self
            .0
            .iter()
            .filter(|sample| sample["scenario"] == scenario && sample["server"] == server)
            .collect();
        let mut counts: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        let mut note = |what: String, count: u64| {
            let (sum, rounds) = counts.entry(what).or_default();
            (*sum, *rounds) = (*sum + count, *rounds + 1);
        };
        for sample in &those {
            if let Some(why) = sample["failed"].as_str() {
                note(format!("whole runs failed ({why})"), 1);
            }
            for (kind, count) in sample["errors"].as_object().into_iter().flatten() {
                note(
                    format!("connections failed ({kind})"),
                    count.as_u64().unwrap_or(0),
                );
            }
            // Without a rate there is nothing due, and what is counted here had no answer all the while.
            if let Some(count) = sample["unanswered"].as_u64().filter(|&count| count > 0) {
                note("requests had no answer all the while".to_string(), count);
            }
        }
        let told =
            |(what, (sum, rounds))| format!("{sum} {what}, in {rounds} of {} rounds", those.len());
        counts.into_iter().map(told).collect()
    }

    /// What stands behind a figure where anything went wrong.
    fn mark(&self, scenario: &str, server: &str) -> &'static str {
        if self.troubles(scenario, server).is_empty() {
            ""
        } else {
            " †"
        }
    }

    /// The servers that were measured, the yardstick first.
    pub fn servers(&self) -> Vec<&'static str> {
        let named = |name: &str| self.0.iter().any(|sample| sample["server"] == name);
        Peer::all()
            .iter()
            .map(|peer| peer.name)
            .filter(|name| named(name))
            .collect()
    }

    pub fn scenarios(&self) -> Vec<&'static str> {
        let named = |name: &str| self.0.iter().any(|sample| sample["scenario"] == name);
        SCENARIOS
            .iter()
            .map(|&(name, _)| name)
            .filter(|name| named(name))
            .collect()
    }
}

/// What one figure is of another, round by round.
fn of(figure: &Rounds, other: &Rounds) -> Rounds {
    let ratio = |&(round, value): &(u64, f64)| {
        let (_, other) = other.iter().find(|(other, _)| *other == round)?;
        (*other > 0.0).then(|| (round, value / other))
    };
    figure.iter().filter_map(ratio).collect()
}

fn sorted(rounds: &Rounds) -> Vec<f64> {
    let mut values: Vec<f64> = rounds.iter().map(|&(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(rounds: &Rounds) -> Option<f64> {
    let values = sorted(rounds);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

/// The median, and between what values the middle half of the rounds lies.
fn spread(rounds: &Rounds) -> String {
    let values = sorted(rounds);
    let (middle, count) = (shown(median(rounds), 2), values.len());
    // The yardstick is the same as itself.
    if count < 4 || values.iter().all(|&value| value == 1.0) {
        return middle;
    }
    format!(
        "{middle} ({:.2}–{:.2})",
        values[count / 4],
        values[count - 1 - count / 4]
    )
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or(NOTHING.to_string(), |value| format!("{value:.digits$}"))
}

/// A table with a row for each server.
fn table(
    text: &mut String,
    title: &str,
    servers: &[&str],
    columns: &[&str],
    cell: impl Fn(&str, &str) -> String,
) {
    if columns.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\n### {title}\n\n| server | {} |\n|---|{}\n",
        columns.join(" | "),
        "---:|".repeat(columns.len())
    );
    for server in servers {
        let cells: Vec<String> = columns.iter().map(|column| cell(server, column)).collect();
        let _ = writeln!(text, "| {server} | {} |", cells.join(" | "));
    }
}

/// A table of busy scenarios. What had trouble is marked, and told of below.
fn busy_table(
    text: &mut String,
    title: &str,
    samples: &Samples<'_>,
    scenarios: &[&str],
    cell: impl Fn(&str, &str) -> String,
) {
    table(
        text,
        title,
        &samples.servers(),
        scenarios,
        |server, scenario| {
            format!(
                "{}{}",
                cell(server, scenario),
                samples.mark(scenario, server)
            )
        },
    );
}

/// What the marks mean.
fn troubles(text: &mut String, samples: &Samples<'_>) {
    let told = samples.scenarios().into_iter().flat_map(|scenario| {
        samples.servers().into_iter().filter_map(move |server| {
            let troubles = samples.troubles(scenario, server);
            (!troubles.is_empty())
                .then(|| format!("- {server}, {scenario}: {}.", troubles.join("; ")))
        })
    });
    let told: Vec<String> = told.collect();
    if !told.is_empty() {
        let _ = write!(
            text,
            "\n### What failed (†)\n\nThe figures are of what went on.\n\n{}\n",
            told.join("\n")
        );
    }
}

pub fn markdown(results: &Value) -> String {
    let samples = Samples::of(results);
    let (servers, scenarios) = (samples.servers(), samples.scenarios());
    let mut text = String::new();
    let machine = &results["machine"];
    let _ = writeln!(
        text,
        "Measured on {}, {} processors, Linux {}; {} rounds of {} s.{}",
        machine["processor"].as_str().unwrap_or("?"),
        machine["processors"],
        machine["kernel"].as_str().unwrap_or("?"),
        results["rounds"],
        results["seconds"],
        match results["closer"].as_u64() {
            Some(more) if more > 0 => format!(
                " {}: {more} rounds more on {}.",
                measure::CLOSER.join(", "),
                measure::CLOSE.join(", ")
            ),
            _ => String::new(),
        }
    );
    for missing in results["missing"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "\n**Missing:** {}: {}.",
            missing["server"].as_str().unwrap_or("?"),
            missing["why"].as_str().unwrap_or("?")
        );
    }
    let without = |left_out: &[&str]| -> Vec<&str> {
        scenarios
            .iter()
            .copied()
            .filter(|name| !left_out.contains(name))
            .collect()
    };
    let busy = without(&["idle", "flood", "mute", "50 pingers"]);
    busy_table(
        &mut text,
        "CPU per message, as a multiple of plain epoll's",
        &samples,
        &busy,
        |server, scenario| spread(&samples.multiples(scenario, server, "/cpu_ns")),
    );
    busy_table(
        &mut text,
        "Messages a second, as a multiple of plain epoll's",
        &samples,
        &busy,
        |server, scenario| spread(&samples.multiples(scenario, server, "/rate")),
    );
    for (title, percentile) in [
        ("Median", "p50"),
        ("99th percentile", "p99"),
        ("99.9th percentile", "p99.9"),
    ] {
        let title = format!("{title} of the latency, as a multiple of plain epoll's");
        busy_table(&mut text, &title, &samples, &busy, |server, scenario| {
            shown(
                samples.ratio(scenario, server, &format!("/latency_ns/{percentile}")),
                2,
            )
        });
    }
    busy_table(
        &mut text,
        "99th percentile of the latency, milliseconds",
        &samples,
        &busy,
        |server, scenario| {
            shown(
                samples
                    .median(scenario, server, "/latency_ns/p99")
                    .map(|value| value / 1e6),
                3,
            )
        },
    );
    busy_table(
        &mut text,
        "What the load took of its processor (at 1.00 it is what limits)",
        &samples,
        &busy,
        |server, scenario| shown(samples.median(scenario, server, "/load_share"), 2),
    );
    troubles(&mut text, &samples);
    if scenarios.contains(&"64 B × 64") && scenarios.contains(&"64 B × 10000") {
        for (connections, scenario) in [("1000", "64 B × 1000"), ("10,000", "64 B × 10000")] {
            let title = format!("How CPU per message grows from 64 connections to {connections}");
            table(
                &mut text,
                &title,
                &servers,
                &["times", "of plain epoll's growth"],
                |server, column| {
                    let growth = samples.growth(scenario, server);
                    spread(&if column == "times" {
                        growth
                    } else {
                        of(&growth, &samples.growth(scenario, YARDSTICK))
                    })
                },
            );
        }
    }
    let own = |server: &str, scenario: &str| {
        spread(&of(
            &samples.values(scenario, server, "/load_cpu_ns"),
            &samples.values(scenario, server, "/cpu_ns"),
        ))
    };
    table(
        &mut text,
        "CPU per message of the load, as a multiple of the server's",
        &["doorkeeper"],
        &busy,
        own,
    );
    beside(&mut text, &samples, &scenarios);
    match &results["weights"] {
        Value::Object(weights) => weighed(&mut text, weights, &servers),
        Value::String(why) => drop(writeln!(
            text,
            "\n**Missing:** what everything weighs: {why}."
        )),
        _ => {}
    }
    text
}

/// The scenarios that are about something else than messages a second. What had trouble is marked in them too.
fn beside(text: &mut String, samples: &Samples<'_>, scenarios: &[&str]) {
    let servers = samples.servers();
    if scenarios.contains(&"idle") {
        let title = "Memory, 10,000 idle connections after one echo each";
        table(
            text,
            title,
            &servers,
            &["bytes a connection"],
            |server, _| {
                shown(samples.median("idle", server, "/bytes_per_connection"), 0)
                    + samples.mark("idle", server)
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
                    "ping p99, ms" => shown(
                        samples
                            .median("flood", server, "/latency_ns/p99")
                            .map(|value| value / 1e6),
                        2,
                    ),
                    "pings a second" => shown(samples.median("flood", server, "/rate"), 0),
                    _ => shown(
                        samples
                            .median("flood", server, "/flood")
                            .map(|value| value / 1e6),
                        0,
                    ),
                };
                figure + samples.mark("flood", server)
            },
        );
    }
    if scenarios.contains(&"mute") && scenarios.contains(&"50 pingers") {
        let columns = ["of the rate without them", "MB held"];
        table(
            text,
            "Eight that send and never read, beside 50 pingers",
            &servers,
            &columns,
            |server, column| {
                let figure = match column {
                    "MB held" => shown(
                        samples
                            .median("mute", server, "/bytes_held")
                            .map(|value| value / 1e6),
                        1,
                    ),
                    _ => shown(
                        median(&of(
                            &samples.values("mute", server, "/rate"),
                            &samples.values("50 pingers", server, "/rate"),
                        )),
                        2,
                    ),
                };
                figure + samples.mark("mute", server)
            },
        );
    }
}

fn weighed(text: &mut String, weights: &serde_json::Map<String, Value>, servers: &[&str]) {
    let figure =
        |server: &str, name: &str| weights.get(server).and_then(|weight| weight[name].as_f64());
    let columns = [
        "instructions, 1 connection",
        "instructions, 64 connections",
        "system calls, 1 connection",
    ];
    table(
        text,
        "User-space instructions and system calls a message",
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
    let weighed: Vec<&str> = servers
        .iter()
        .copied()
        .filter(|server| figure(server, "crates").is_some())
        .collect();
    let columns = [
        "kB over an empty program",
        "crates",
        "cold build, of doorkeeper's",
    ];
    let own = figure("doorkeeper", "build_seconds");
    table(
        text,
        "What the same echo weighs",
        &weighed,
        &columns,
        |server, column| match column {
            "kB over an empty program" => shown(
                figure(server, "bytes_over_empty").map(|bytes| bytes / 1e3),
                1,
            ),
            "crates" => shown(figure(server, "crates"), 0),
            _ => shown(
                figure(server, "build_seconds")
                    .zip(own)
                    .map(|(other, own)| other / own),
                2,
            ),
        },
    );
    if let Some(crates) = figure("doorkeeper", "crates_of_the_library") {
        let _ = writeln!(text, "\nThe library by itself brings {crates} crates.");
    }
}

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";

/// Puts the tables in their place in a page.
pub fn put(page: &Path, tables: &str) -> Result<()> {
    let text = std::fs::read_to_string(page)?;
    let begin = text
        .find(BEGIN)
        .ok_or("the page has no place for the tables")?
        + BEGIN.len();
    let end = text
        .find(END)
        .ok_or("the place for the tables has no end")?;
    Ok(std::fs::write(
        page,
        format!("{}\n{tables}\n{}", &text[..begin], &text[end..]),
    )?)
}
