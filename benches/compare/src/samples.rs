//! The samples, and the figures worked out from them.

use crate::peers;
use crate::statistics::{Rounds, median, ratio};
use crate::suites::{self, Suite};
use serde_json::Value;
use std::collections::BTreeMap;

/// One sample for each run of a scenario on a server.
pub struct Samples<'a>(&'a [Value]);

impl<'a> Samples<'a> {
    pub fn of(results: &'a Value) -> Samples<'a> {
        Samples(results["samples"].as_array().map_or(&[], Vec::as_slice))
    }

    fn about(&self, scenario: &str, server: &str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .filter(move |sample| sample["scenario"] == *scenario && sample["server"] == *server)
    }

    pub fn values(&self, scenario: &str, server: &str, pointer: &str) -> Rounds {
        let value = |sample: &Value| {
            Some((
                sample["round"].as_u64()?,
                sample.pointer(pointer)?.as_f64()?,
            ))
        };
        self.about(scenario, server).filter_map(value).collect()
    }

    /// The median of all rounds.
    pub fn median(&self, scenario: &str, server: &str, pointer: &str) -> Option<f64> {
        median(&self.values(scenario, server, pointer))
    }

    /// A figure as a multiple of the yardstick's, round by round.
    pub fn multiples(&self, suite: &Suite, scenario: &str, server: &str, pointer: &str) -> Rounds {
        ratio(
            &self.values(scenario, server, pointer),
            &self.values(scenario, suite.yardstick, pointer),
        )
    }

    /// CPU per message as a multiple of that with 64 connections, round by round.
    pub fn growth(&self, scenario: &str, server: &str) -> Rounds {
        ratio(
            &self.values(scenario, server, "/cpu_ns"),
            &self.values("64 B × 64", server, "/cpu_ns"),
        )
    }

    /// What went wrong in a scenario on a server, in all rounds together: runs, connections, requests without an answer.
    pub fn troubles(&self, scenario: &str, server: &str) -> Vec<String> {
        let mut counts: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        let mut note = |what: String, count: u64| {
            let (sum, rounds) = counts.entry(what).or_default();
            (*sum, *rounds) = (*sum + count, *rounds + 1);
        };
        for sample in self.about(scenario, server) {
            if let Some(why) = sample["failed"].as_str() {
                note(format!("whole runs failed ({why})"), 1);
            }
            for (kind, count) in sample["errors"].as_object().into_iter().flatten() {
                note(
                    format!("connections failed ({kind})"),
                    count.as_u64().unwrap_or(0),
                );
            }
            // Without a rate, `bench` counts the requests that waited from the begin of the counting to its end.
            if let Some(count) = sample["unanswered"].as_u64().filter(|&count| count > 0) {
                note("requests had no answer in the whole run".to_string(), count);
            }
        }
        let all = self.about(scenario, server).count();
        let line = |(what, (sum, rounds))| format!("{sum} {what}, in {rounds} of {all} rounds");
        counts.into_iter().map(line).collect()
    }

    /// The mark of a figure that is worked out from these scenarios, if something went wrong in one of them.
    pub fn mark(&self, scenarios: &[&str], server: &str) -> &'static str {
        let troubled = |scenario: &&str| !self.troubles(scenario, server).is_empty();
        if scenarios.iter().any(troubled) {
            " †"
        } else {
            ""
        }
    }

    /// How many runs failed as a whole.
    pub fn failed(&self) -> usize {
        self.0
            .iter()
            .filter(|sample| !sample["failed"].is_null())
            .count()
    }

    /// The servers of a suite that were measured, the yardstick first.
    pub fn servers(&self, suite: &Suite) -> Vec<&'static str> {
        let scenarios = self.scenarios(suite);
        let measured = |name: &&str| {
            scenarios
                .iter()
                .any(|scenario| self.about(scenario, name).next().is_some())
        };
        peers::names(suite).into_iter().filter(measured).collect()
    }

    /// The scenarios of a suite that were measured.
    pub fn scenarios(&self, suite: &Suite) -> Vec<&'static str> {
        let named = |name: &&str| self.0.iter().any(|sample| sample["scenario"] == **name);
        suite
            .scenarios
            .iter()
            .map(|scenario| scenario.name)
            .filter(named)
            .collect()
    }

    /// How many rounds were run, counted from the samples: first what holds for most, then what differs.
    pub fn rounds(&self) -> String {
        let mut runs: BTreeMap<(usize, Vec<&str>), Vec<&str>> = BTreeMap::new();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for suite in &suites::ALL {
            for scenario in self.scenarios(suite) {
                let mut servers: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
                for server in self.servers(suite) {
                    let count = self.about(scenario, server).count();
                    servers.entry(count).or_default().push(server);
                    *counts.entry(count).or_default() += usize::from(count > 0);
                }
                for (count, servers) in servers {
                    runs.entry((count, servers)).or_default().push(scenario);
                }
            }
        }
        let most = counts
            .iter()
            .max_by_key(|&(count, servers)| (servers, count))
            .map_or(0, |(&count, _)| count);
        let rounds = |count: usize| format!("{count} round{}", if count == 1 { "" } else { "s" });
        let mut text = rounds(most);
        for ((count, servers), scenarios) in runs
            .iter()
            .filter(|((count, _), _)| ![0, most].contains(count))
        {
            text += &format!(
                "; {} of {} on {}",
                rounds(*count),
                scenarios.join(", "),
                servers.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// One sample.
    pub fn sample(scenario: &str, server: &str, round: u64, cpu_ns: f64) -> Value {
        json!({
            "scenario": scenario, "server": server, "round": round, "cpu_ns": cpu_ns, "rate": 1e9 / cpu_ns,
            "latency_ns": { "p50": cpu_ns, "p99": 2.0 * cpu_ns, "p99.9": 3.0 * cpu_ns }, "errors": {}, "unanswered": 0,
        })
    }

    /// Five rounds of the same scenario on two servers. The middle of the multiples is 1.2.
    pub fn results() -> Value {
        let own = [20.0, 12.0, 11.0, 30.0, 6.0];
        let samples = (0..).zip(own).flat_map(|(round, cpu)| {
            [
                sample("64 B × 64", "epoll", round, 10.0),
                sample("64 B × 64", "doorkeeper", round, cpu),
            ]
        });
        json!({
            "machine": { "processor": "Abacus", "processors": 2, "kernel": "6.0" }, "seconds": 1, "missing": [],
            "samples": samples.collect::<Vec<_>>(), "weights": null,
        })
    }

    fn with(sample: Value) -> Value {
        let mut results = results();
        results["samples"].as_array_mut().unwrap().push(sample);
        results
    }

    #[test]
    fn multiples_are_of_the_yardstick_of_the_suite() {
        let results = results();
        let samples = Samples::of(&results);
        let multiples = samples.multiples(&suites::ALL[0], "64 B × 64", "doorkeeper", "/cpu_ns");
        assert_eq!(
            multiples,
            [(0, 2.0), (1, 1.2), (2, 1.1), (3, 3.0), (4, 0.6)]
        );
        assert_eq!(
            samples.median("64 B × 64", "doorkeeper", "/cpu_ns"),
            Some(12.0)
        );
    }

    #[test]
    fn rounds_are_those_that_were_run() {
        let results = results();
        assert_eq!(Samples::of(&results).rounds(), "5 rounds");
        let more = with(sample("64 B × 1000", "doorkeeper", 5, 1.0));
        let text = Samples::of(&more).rounds();
        assert_eq!(text, "5 rounds; 1 round of 64 B × 1000 on doorkeeper");
    }

    #[test]
    fn every_trouble_is_listed_with_its_rounds() {
        let mut broken = sample("64 B × 64", "epoll", 5, 1.0);
        broken["errors"] = json!({ "refused": 3 });
        broken["unanswered"] = json!(2);
        let results = with(broken);
        let samples = Samples::of(&results);
        assert_eq!(
            samples.troubles("64 B × 64", "epoll"),
            [
                "3 connections failed (refused), in 1 of 6 rounds",
                "2 requests had no answer in the whole run, in 1 of 6 rounds"
            ]
        );
        assert_eq!(samples.mark(&["64 B × 1000", "64 B × 64"], "epoll"), " †");
        assert_eq!(samples.mark(&["64 B × 64"], "doorkeeper"), "");
        assert_eq!(samples.failed(), 0);
        let results = with(
            json!({ "scenario": "64 B × 64", "server": "tokio", "round": 0, "failed": "gone" }),
        );
        let samples = Samples::of(&results);
        assert_eq!(
            samples.troubles("64 B × 64", "tokio"),
            ["1 whole runs failed (gone), in 1 of 1 rounds"]
        );
        assert_eq!(samples.failed(), 1);
    }
}
