//! What a bench found: for people, for programs, as a picture.

use super::Failure;
use super::bench_args::{Bench, Mode};
use super::book::Book;
use plotters::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct Report {
    pub(crate) options: Bench,
    pub(crate) address: SocketAddr,
    pub(crate) measured: Rc<Book>,
    pub(crate) flood: Rc<Book>,
    pub(crate) mutes: Rc<Book>,
    /// How long it took until all connections were established.
    pub(crate) connected: Duration,
    /// How long was counted.
    pub(crate) took: Duration,
    /// What the load itself took of a processor meanwhile, in nanoseconds.
    pub(crate) cpu: Option<u64>,
}

/// Which part of the requests took at most so long.
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
    /// Writes it all. Connections that failed make the command fail, after the report.
    pub(crate) fn write(&self, plot: Option<Plot>) -> Result<(), Failure> {
        let text = if self.options.json {
            format!("{}\n", self.json())
        } else {
            self.text()
        };
        super::print(&text)?;
        let plotted = plot.map_or(Ok(()), |plot| plot.write(self));
        let faults: Vec<String> = plotted.err().into_iter().chain(self.faults()).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::failed(faults.join("; ")))
        }
    }

    /// What was not as it should be.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let kinds: Vec<String> = self
            .errors()
            .iter()
            .map(|(kind, count)| format!("{kind}: {count}"))
            .collect();
        if !kinds.is_empty() {
            faults.push(format!("connections failed ({})", kinds.join(", ")));
        }
        let unanswered = self.measured.unanswered.get();
        if self.options.mode != Mode::Idle && self.measured.requests.get() == 0 {
            faults.push("no request was answered while it was counted".to_string());
        } else if self.options.rate.is_none() && unanswered > 0 {
            faults.push(format!(
                "requests without an answer all the while: {unanswered}"
            ));
        }
        faults
    }

    /// Of the measured connections and of those beside them.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for book in [&self.measured, &self.flood, &self.mutes] {
            for (kind, count) in &*book.errors.borrow() {
                *errors.entry(kind.clone()).or_default() += count;
            }
        }
        errors
    }

    fn a_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// What the load took of a processor, as a part of one. With a rate it waits awake, so that says nothing.
    fn cpu_share(&self) -> Option<f64> {
        self.cpu
            .filter(|_| self.options.rate.is_none())
            .map(|cpu| cpu as f64 / self.took.as_nanos() as f64)
    }

    /// The same for each request, in nanoseconds. With others beside the measured ones it cannot be told.
    fn cpu_a_request(&self) -> Option<f64> {
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
            .map(|&(name, part)| (name.to_string(), json!(latencies.value_at_quantile(part))))
            .collect();
        spread.insert("min".to_string(), json!(latencies.min()));
        spread.insert("mean".to_string(), json!(latencies.mean()));
        let errors: Map<String, Value> = self
            .errors()
            .into_iter()
            .map(|(kind, count)| (kind, json!(count)))
            .collect();
        json!({
            "target": self.address.to_string(),
            "mode": options.mode.name(),
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
            "requests_per_second": self.a_second(measured.requests.get()),
            "bytes_per_second": self.a_second(measured.bytes.get()),
            "latency_ns": (!latencies.is_empty()).then_some(spread),
            "unanswered": measured.unanswered.get(),
            "flood_bytes_per_second": self.a_second(self.flood.bytes.get()),
            "own_cpu_ns_per_request": self.cpu_a_request(),
            "own_cpu_share": self.cpu_share(),
            "most_late_ns": options.rate.map(|_| measured.late.get().as_nanos() as u64),
            "errors": errors,
        })
    }

    fn text(&self) -> String {
        let Report {
            options,
            measured,
            flood,
            ..
        } = self;
        let latencies = measured.latencies.borrow();
        let rate = options
            .rate
            .map_or("as fast as answered".to_string(), |rate| {
                format!("{rate} due a second")
            });
        let mut text = format!(
            "{} on {}: {} connections",
            options.mode.name(),
            self.address,
            options.connections
        );
        if options.mode == Mode::Echo {
            let _ = write!(
                text,
                ", {} bytes, {} at once, {rate}",
                options.size, options.pipeline
            );
        }
        let requests = measured.requests.get();
        let _ = write!(
            text,
            "\nconnected in {:.3} s, counted for {:.3} s\n\nrequests   {requests}, {:.0} a second\nbytes back {:.1} MB a second\n",
            self.connected.as_secs_f64(),
            self.took.as_secs_f64(),
            self.a_second(requests),
            self.a_second(measured.bytes.get()) / 1e6
        );
        if options.flooders > 0 {
            let _ = writeln!(
                text,
                "flood      {:.1} MB a second",
                self.a_second(flood.bytes.get()) / 1e6
            );
        }
        if !latencies.is_empty() {
            let _ = write!(text, "latency    ");
            for (name, part) in QUANTILES {
                let _ = write!(
                    text,
                    "{name} {:.3}  ",
                    latencies.value_at_quantile(part) as f64 / 1e6
                );
            }
            let _ = writeln!(text, "ms");
        }
        if measured.unanswered.get() > 0 {
            let _ = writeln!(
                text,
                "unanswered {}; counted with the time they waited",
                measured.unanswered.get()
            );
        }
        if options.rate.is_some() {
            let late = measured.late.get().as_secs_f64() * 1e3;
            let _ = writeln!(
                text,
                "own fault  at most {late:.3} ms of a latency: the load was that late"
            );
        }
        if let Some(share) = self.cpu_share() {
            let _ = write!(text, "own cost   {:.0} % of a processor", share * 100.0);
            let each = self.cpu_a_request().map_or(String::new(), |cpu| {
                format!(", {:.2} µs a request", cpu / 1e3)
            });
            let _ = writeln!(text, "{each}");
        }
        for (kind, count) in self.errors() {
            let _ = writeln!(text, "failed     {count}: {kind}");
        }
        text
    }

    /// Latency by the part of the requests that took at most so long, in nines.
    fn picture(&self) -> Result<String, Box<dyn Error>> {
        let latencies = self.measured.latencies.borrow();
        if latencies.is_empty() {
            return Err("no request was answered: nothing to draw".into());
        }
        let nines = |part: f64| -(1.0 - part).log10();
        let points: Vec<(f64, f64)> = (0..=400)
            .map(|step| 1.0 - 10f64.powf(-f64::from(step) / 100.0))
            .map(|part| (nines(part), latencies.value_at_quantile(part) as f64 / 1e6))
            .collect();
        let most = points.iter().map(|point| point.1).fold(0.001, f64::max) * 1.1;
        let mut picture = String::new();
        let root = SVGBackend::with_string(&mut picture, (720, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!(
            "{}: {} connections, {:.0} requests a second",
            self.options.mode.name(),
            self.options.connections,
            self.a_second(self.measured.requests.get())
        );
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(16)
            .margin_right(36)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..4.0, 0.0..most)?;
        let label = |nines: &f64| format!("{}%", (1.0 - 10f64.powf(-nines)) * 100.0);
        chart
            .configure_mesh()
            .x_labels(5)
            .x_label_formatter(&label)
            .x_desc("of the requests took at most")
            .y_desc("milliseconds")
            .draw()?;
        chart.draw_series(LineSeries::new(points, &BLUE))?;
        root.present()?;
        drop(chart);
        drop(root);
        Ok(picture)
    }
}

/// The file that the latencies are drawn into. It is opened before the load begins, which may take an hour.
pub(crate) struct Plot<'a> {
    path: &'a Path,
    file: File,
}

impl Plot<'_> {
    pub(crate) fn create(path: &Path) -> Result<Plot<'_>, Failure> {
        // What was there stays until there is something to put in its place.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file
            .map_err(|error| Failure::failed(format_args!("--plot {}: {error}", path.display())))?;
        Ok(Plot { path, file })
    }

    fn write(mut self, report: &Report) -> Result<(), String> {
        let written = report.picture().and_then(|picture| {
            self.file.set_len(0)?;
            Ok(self.file.write_all(picture.as_bytes())?)
        });
        written.map_err(|error| format!("--plot {}: {error}", self.path.display()))
    }
}
