//! /metrics: the text format of Prometheus, version 0.0.4.

use super::Status;
use super::figures::{Figures, Histogram};
use doorkeeper::{AcceptQueue, Id, Reactor, Reason, Snapshot, Stats};
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Write};

pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The figures of one listener. Listeners of the same service and address are one.
#[derive(Clone, Debug, Default)]
struct Row {
    accepted: u64,
    open: u64,
    closed: [u64; Reason::ALL.len()],
    turned_away: u64,
    received: u64,
    sent: u64,
    full_seconds: f64,
    queue: Option<AcceptQueue>,
}

type Rows = BTreeMap<(&'static str, String), Row>;

/// A figure of a listener: name, kind, help, and the value if there is one.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Row) -> Option<f64>,
);

const FIGURES: [Figure; 8] = [
    (
        "accepted_total",
        "counter",
        "Connections accepted, those turned away included.",
        |row| Some(row.accepted as f64),
    ),
    (
        "open_connections",
        "gauge",
        "Connections that are open.",
        |row| Some(row.open as f64),
    ),
    (
        "turned_away_total",
        "counter",
        "Connections closed at once, because of their source.",
        |row| Some(row.turned_away as f64),
    ),
    (
        "received_bytes_total",
        "counter",
        "Bytes read from peers.",
        |row| Some(row.received as f64),
    ),
    (
        "sent_bytes_total",
        "counter",
        "Bytes that the kernel took for peers.",
        |row| Some(row.sent as f64),
    ),
    (
        "accept_queue_depth",
        "gauge",
        "Connections that are established and not yet accepted.",
        |row| Some(row.queue?.depth.into()),
    ),
    (
        "accept_queue_limit",
        "gauge",
        "The backlog, as the system clamped it.",
        |row| Some(row.queue?.limit.into()),
    ),
    (
        "full_seconds_total",
        "counter",
        "Time in which nothing was accepted, because --max-connections were open.",
        |row| Some(row.full_seconds),
    ),
];

pub(super) fn text(status: &Status, reactor: &Reactor) -> String {
    let snapshot = reactor.snapshot();
    let figures = status.figures.borrow();
    let mut text = Text::default();
    let rows = rows(status, &figures, &snapshot);
    for (name, kind, help, value) in FIGURES {
        text.of_each(&rows, name, kind, help, value);
    }
    text.closed(&rows);
    text.program(status.max_connections, &snapshot.stats);
    text.of_loop(&figures, &snapshot.stats);
    text.0
}

/// The bytes that open connections moved, by the place of their tally.
fn moved(status: &Status, snapshot: &Snapshot) -> HashMap<usize, (u64, u64)> {
    let owners = status.owners.borrow();
    let mut moved: HashMap<usize, (u64, u64)> = HashMap::new();
    for view in &snapshot.connections {
        if let Some(&place) = owners.get(&view.id) {
            let (received, sent) = moved.entry(place).or_default();
            *received += view.received;
            *sent += view.sent;
        }
    }
    moved
}

fn rows(status: &Status, figures: &Figures, snapshot: &Snapshot) -> Rows {
    let moved = moved(status, snapshot);
    let queues = snapshot.listeners.iter();
    let queues = queues.filter_map(|listener| Some((listener.id, listener.accept_queue?)));
    let queues: HashMap<Id, AcceptQueue> = queues.collect();
    let mut rows = Rows::new();
    for (place, tally) in status.tallies.borrow().iter().enumerate() {
        let row = rows.entry((tally.service, tally.address())).or_default();
        let (received, sent) = moved.get(&place).copied().unwrap_or_default();
        row.accepted += tally.accepted.get();
        row.open += tally.open.get();
        row.turned_away += tally.turned_away.get();
        row.received += tally.received.get() + received;
        row.sent += tally.sent.get() + sent;
        for (count, reason) in row.closed.iter_mut().zip(Reason::ALL) {
            *count += tally.closed_for(reason);
        }
        if let Some(id) = tally.id() {
            row.full_seconds += figures.full_time(id).as_secs_f64();
            if let Some(&queue) = queues.get(&id) {
                let sum = row.queue.get_or_insert(AcceptQueue { depth: 0, limit: 0 });
                sum.depth += queue.depth;
                sum.limit += queue.limit;
            }
        }
    }
    rows
}

/// The text so far. Writing to a String does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.0,
            "# HELP doorkeeper_{name} {help}\n# TYPE doorkeeper_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "doorkeeper_{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.sample(&name, "", value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let ends = Histogram::ENDS_US
            .iter()
            .map(|&end| (end as f64 / 1e6).to_string());
        let mut count = 0;
        for (end, sum) in ends.chain(["+Inf".to_string()]).zip(histogram.cumulative()) {
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{end}\"}}"), sum);
            count = sum;
        }
        self.sample(&format!("{name}_sum"), "", histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), "", count);
    }

    fn of_each(
        &mut self,
        rows: &Rows,
        name: &str,
        kind: &str,
        help: &str,
        value: fn(&Row) -> Option<f64>,
    ) {
        self.head(name, kind, help);
        for ((service, listener), row) in rows {
            if let Some(value) = value(row) {
                let labels = format!("{{service=\"{service}\",listener=\"{listener}\"}}");
                self.sample(name, &labels, value);
            }
        }
    }

    fn closed(&mut self, rows: &Rows) {
        self.head("closed_total", "counter", "Connections closed, by reason.");
        for ((service, listener), row) in rows {
            for (reason, count) in Reason::ALL.into_iter().zip(row.closed) {
                let reason = label(reason);
                let labels = format!(
                    "{{service=\"{service}\",listener=\"{listener}\",reason=\"{reason}\"}}"
                );
                self.sample("closed_total", &labels, count);
            }
        }
    }

    fn program(&mut self, max_connections: usize, stats: &Stats) {
        self.head("build_info", "gauge", "Always 1; the label is the version.");
        let version = env!("CARGO_PKG_VERSION");
        self.sample("build_info", &format!("{{version=\"{version}\"}}"), 1);
        let name = "max_connections";
        self.head(name, "gauge", "Limit of open connections, all together.");
        self.sample(name, "", max_connections);
        let help = "Calls of accept(2) that failed; an empty queue is not counted.";
        self.counter("accept_errors", help, stats.accept_errors);
        self.counter("panics", "Panics caught in services.", stats.panics);
    }

    fn of_loop(&mut self, figures: &Figures, stats: &Stats) {
        self.counter("loop_turns", "Turns of the loop.", stats.turns);
        let help = "Readiness events from the poller.";
        self.counter("loop_events", help, stats.events);
        self.counter("loop_posts", "Posted closures that were run.", stats.posts);
        let help = "Callbacks that held the loop for more than 100 ms.";
        self.counter("loop_stalls", help, figures.stalls);
        let asleep = figures.asleep.as_secs_f64();
        self.counter("loop_asleep_seconds", "Time asleep in the poller.", asleep);
        let help = "Time of a turn, without its sleep.";
        self.histogram("loop_turn_seconds", help, &figures.turns);
        let help = "Time of a callback of a service.";
        self.histogram("loop_callback_seconds", help, &figures.callbacks);
    }
}

/// A reason as a label's value: `idle_timeout`.
fn label(reason: Reason) -> String {
    let mut label = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}
