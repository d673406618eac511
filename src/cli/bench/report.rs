//! The result of a bench, as text and as JSON.

use super::super::{Failure, print};
use super::args::{Bench, Mode};
use super::counters::Counters;
use super::plot::Plot;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct Report {
    pub(crate) options: Bench,
    pub(crate) address: SocketAddr,
    pub(crate) measured: Rc<Counters>,
    pub(crate) flood: Rc<Counters>,
    pub(crate) mutes: Rc<Counters>,
    /// The time until every connection was established.
    pub(crate) connected: Duration,
    /// The time of the measurement.
    pub(crate) took: Duration,
    /// CPU time of the load during the measurement, in nanoseconds.
    pub(crate) cpu: Option<u64>,
}

const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

impl Report {
    /// Prints the report and writes the picture. Failed connections make the command fail, after
    /// the report.
    pub(crate) fn write(&self, plot: Option<Plot>) -> Result<(), Failure> {
        let text = if self.options.json {
            format!("{}\n", self.json())
        } else {
            self.text()
        };
        print(&text)?;
        let plotted = plot.map_or(Ok(()), |plot| plot.write(self));
        let faults: Vec<String> = plotted.err().into_iter().chain(self.faults()).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::failed(faults.join("; ")))
        }
    }

    /// The reasons that the command fails.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let errors: Vec<String> = self
            .errors()
            .iter()
            .map(|(reason, count)| format!("{reason}: {count}"))
            .collect();
        if !errors.is_empty() {
            faults.push(format!("connections failed ({})", errors.join(", ")));
        }
        let unanswered = self.measured.unanswered.get();
        if self.options.mode != Mode::Idle && self.measured.requests.get() == 0 {
            faults.push("no request was answered during the measurement".to_string());
        } else if self.measured.mute.get() > 0 {
            faults.push(format!(
                "connections without an answer during the measurement: {}",
                self.measured.mute.get()
            ));
        } else if self.options.rate.is_none() && unanswered > 0 && !self.is_cut_short() {
            faults.push(format!(
                "requests without an answer during the whole measurement: {unanswered}"
            ));
        }
        faults
    }

    /// Whether --requests ended the measurement. It may then be shorter than one latency.
    fn is_cut_short(&self) -> bool {
        let requests = self.measured.requests.get();
        self.options.requests.is_some_and(|most| requests >= most)
    }

    /// The failures of all connections, measured or not.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for counters in [&self.measured, &self.flood, &self.mutes] {
            for (reason, count) in &*counters.errors.borrow() {
                *errors.entry(reason.clone()).or_default() += count;
            }
        }
        errors
    }

    pub(super) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// The share of a processor that the load used. With a rate the load polls without sleeping, so
    /// the share says nothing.
    fn cpu_share(&self) -> Option<f64> {
        self.cpu
            .filter(|_| self.options.rate.is_none())
            .map(|cpu| cpu as f64 / self.took.as_nanos() as f64)
    }

    /// CPU time of the load for each request, in nanoseconds; `None` if connections that are not
    /// measured used some of it.
    fn cpu_per_request(&self) -> Option<f64> {
        let requests = self.measured.requests.get();
        let alone = self.options.rate.is_none() && self.options.flooders + self.options.mutes == 0;
        self.cpu
            .filter(|_| alone && requests > 0)
            .map(|cpu| cpu as f64 / requests as f64)
    }

    fn json(&self) -> Value {
        let Report {
            options, measured, ..
        } = self;
        let latencies = measured.latencies.borrow();
        let mut spread: Map<String, Value> = QUANTILES
            .iter()
            .map(|&(name, quantile)| {
                let latency = latencies.value_at_quantile(quantile);
                (name.to_string(), json!(latency))
            })
            .collect();
        spread.insert("min".to_string(), json!(latencies.min()));
        spread.insert("mean".to_string(), json!(latencies.mean()));
        json!({
            "target": self.address.to_string(),
            "mode": options.name(),
            "connections": options.connections,
            "size": options.size,
            "lines": options.lines,
            "pipeline": options.pipeline,
            "rate": options.rate,
            "flooders": options.flooders,
            "mutes": options.mutes,
            "connect_seconds": self.connected.as_secs_f64(),
            "seconds": self.took.as_secs_f64(),
            "requests": measured.requests.get(),
            "requests_per_second": self.per_second(measured.requests.get()),
            "bytes_per_second": self.per_second(measured.bytes.get()),
            "latency_ns": (!latencies.is_empty()).then_some(spread),
            "unanswered": measured.unanswered.get(),
            "flood_bytes_per_second": self.per_second(self.flood.bytes.get()),
            "own_cpu_ns_per_request": self.cpu_per_request(),
            "own_cpu_share": self.cpu_share(),
            "most_late_ns": options.rate.map(|_| measured.delay.get().as_nanos() as u64),
            "errors": self.errors(),
        })
    }

    fn text(&self) -> String {
        let rows = [
            self.throughput_rows(),
            self.latency_row(),
            self.unanswered_row(),
            self.load_rows(),
            self.error_rows(),
        ];
        format!("{}\n\n{}", self.heading(), rows.concat())
    }

    fn heading(&self) -> String {
        let Report { options, .. } = self;
        let requests = if options.mode == Mode::Echo {
            let rate = options
                .rate
                .map_or("as fast as answered".to_string(), |rate| {
                    format!("{rate} due a second")
                });
            format!(
                ", {} bytes, {} at once, {rate}",
                options.size, options.pipeline
            )
        } else {
            String::new()
        };
        format!(
            "{} on {}: {} connections{requests}\nconnected in {:.3} s, measured for {:.3} s",
            options.name(),
            self.address,
            options.connections,
            self.connected.as_secs_f64(),
            self.took.as_secs_f64(),
        )
    }

    fn throughput_rows(&self) -> String {
        let requests = self.measured.requests.get();
        let megabytes = |bytes: u64| self.per_second(bytes) / 1e6;
        let flood = if self.options.flooders > 0 {
            let rate = megabytes(self.flood.bytes.get());
            format!("flood      {rate:.1} MB a second\n")
        } else {
            String::new()
        };
        format!(
            "requests   {requests}, {:.0} a second\nbytes back {:.1} MB a second\n{flood}",
            self.per_second(requests),
            megabytes(self.measured.bytes.get()),
        )
    }

    fn latency_row(&self) -> String {
        let latencies = self.measured.latencies.borrow();
        if latencies.is_empty() {
            return String::new();
        }
        let milliseconds = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
        let columns =
            QUANTILES.map(|(name, quantile)| format!("{name} {:.3}  ", milliseconds(quantile)));
        format!("latency    {}ms\n", columns.concat())
    }

    fn unanswered_row(&self) -> String {
        match self.measured.unanswered.get() {
            0 => String::new(),
            count if self.options.rate.is_some() => format!(
                "unanswered {count} that were due by the end; the latencies include their waiting\n"
            ),
            count => format!("unanswered {count}; the latencies include their waiting\n"),
        }
    }

    /// The cost and the delay of the load itself.
    fn load_rows(&self) -> String {
        let delay = if self.options.rate.is_some() {
            let delay = self.measured.delay.get().as_secs_f64() * 1e3;
            format!("own delay  at most {delay:.3} ms of a latency\n")
        } else {
            String::new()
        };
        let each = self.cpu_per_request().map_or(String::new(), |cpu| {
            format!(", {:.2} µs a request", cpu / 1e3)
        });
        let cpu = self.cpu_share().map_or(String::new(), |share| {
            format!("own CPU    {:.0} % of a processor{each}\n", share * 100.0)
        });
        delay + &cpu
    }

    fn error_rows(&self) -> String {
        self.errors()
            .into_iter()
            .map(|(reason, count)| format!("failed     {count}: {reason}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests;
