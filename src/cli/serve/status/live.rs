//! The live page, and the events that it shows.

use super::Status;
use super::connections::{self, SORTED_MAX};
use super::last_turn::{Bar, LastTurn, Turn};
use doorkeeper::{ListenerView, Reactor, Stats};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) const PAGE: &str = include_str!("page.html");

/// What the loop had done when the last event was made.
#[derive(Debug)]
pub(super) struct Live {
    at: Instant,
    asleep: Duration,
    stats: Stats,
}

impl Live {
    pub(super) fn new() -> Live {
        Live {
            at: Instant::now(),
            asleep: Duration::ZERO,
            stats: Stats::default(),
        }
    }
}

/// The first event of a stream: what the others have.
pub(super) fn about() -> String {
    let about = json!({
        "note": "The loop that is shown also serves what shows it: these events, 10 a second, cost turns, events and time of their own. The connections of --status are not in the list of connections.",
        "calls": {
            "asleep": "epoll_wait(2)",
            "events": "epoll_wait(2)",
            "accept_queue": "sock_diag(7)",
            "peer": "accept4(2)",
            "state": "recv(2) = 0, shutdown(2)",
            "interest": "epoll_ctl(2)",
            "held_in_bytes": "recv(2)",
            "held_out_bytes": "send(2) = EAGAIN",
            "received_bytes": "recv(2)",
            "sent_bytes": "send(2)",
            "age_seconds": "accept4(2), clock_gettime(2)",
        },
    });
    format!("event: about\ndata: {about}\n\n")
}

impl Status {
    /// Whether the turns are recorded for live pages.
    pub(super) fn set_live(&self, is_live: bool) {
        let mut figures = self.figures.borrow_mut();
        if is_live {
            figures.last_turn.get_or_insert_default();
        } else {
            figures.last_turn = None;
        }
    }

    pub(super) fn has_service(&self, name: &str) -> bool {
        self.tallies
            .borrow()
            .iter()
            .any(|tally| tally.service == name)
    }

    /// The next event.
    pub(super) fn event(&self, reactor: &Reactor) -> String {
        let snapshot = reactor.snapshot();
        let is_listed = snapshot.connections.len() <= SORTED_MAX;
        let shown = if is_listed {
            &snapshot.connections[..]
        } else {
            &[]
        };
        let list = connections::all(self, shown);
        let left_out = snapshot.connections.len() - list.rows.len();
        let figures = self.figures.borrow();
        let last = figures.last_turn.as_ref();
        let turn = last.and_then(LastTurn::shown).map(turn);
        let listeners = snapshot.listeners.iter().map(|view| self.listener(view));
        let event = json!({
            "loop": self.rates(&snapshot.stats, figures.asleep),
            "queued": snapshot.queued,
            "open": snapshot.stats.open,
            "max_connections": self.max_connections,
            "is_shutting_down": figures.is_shutting_down,
            "turn": turn,
            "listeners": listeners.collect::<Vec<Value>>(),
            "connections_left_out": left_out,
        });
        let (event, rows) = (event.to_string(), list.rows.join(","));
        let fields = event.strip_suffix('}').unwrap_or_default();
        format!("data: {fields},\"connections\":[{rows}]}}\n\n")
    }

    /// What the loop did since the last event.
    fn rates(&self, stats: &Stats, asleep: Duration) -> Value {
        let now = Live {
            at: Instant::now(),
            asleep,
            stats: stats.clone(),
        };
        let before = self.live.replace(now);
        let seconds = before.at.elapsed().as_secs_f64().max(1e-6);
        let rate = |now: u64, before: u64| ((now - before) as f64 / seconds).round();
        let share = (asleep - before.asleep).as_secs_f64() / seconds;
        json!({
            "up_seconds": self.start.elapsed().as_secs_f64(),
            "asleep_share": share.min(1.0),
            "turns_per_second": rate(stats.turns, before.stats.turns),
            "events_per_second": rate(stats.events, before.stats.events),
            "received_bytes_per_second": rate(stats.bytes_received, before.stats.bytes_received),
            "sent_bytes_per_second": rate(stats.bytes_sent, before.stats.bytes_sent),
            "turns": stats.turns,
            "accepted": stats.accepted,
        })
    }

    fn listener(&self, view: &ListenerView) -> Value {
        let tallies = self.tallies.borrow();
        let tally = tallies.iter().find(|tally| tally.id() == Some(view.id));
        json!({
            "service": tally.map_or("?", |tally| tally.service),
            "address": view.address.map_or("?".to_string(), |address| address.to_string()),
            "state": view.state.to_string(),
            "depth": view.accept_queue.map(|queue| queue.depth),
            "limit": view.accept_queue.map(|queue| queue.limit),
        })
    }
}

fn turn(turn: &Turn) -> Value {
    let microseconds = |time: Duration| time.as_nanos() as f64 / 1000.0;
    let bar = |bar: &Bar| {
        json!({
            "id": bar.id.to_string(),
            "callback": bar.callback.to_string(),
            "us": microseconds(bar.took),
            "call": bar.call,
        })
    };
    json!({
        "number": turn.number,
        "asleep_us": microseconds(turn.slept),
        "took_us": microseconds(turn.took),
        "events": turn.events,
        "queued": turn.queued,
        "callbacks": turn.bars.iter().map(bar).collect::<Vec<Value>>(),
        "left_out": turn.left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::super::last_turn::{Bar, Turn};
    use super::turn;
    use doorkeeper::{Arrival, Callback, Config, Reactor};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn the_times_of_a_turn_are_microseconds() {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let service = |_: &mut Arrival<'_>| Some(doorkeeper::services::Echo);
        let id = reactor.listen("127.0.0.1:0".parse().unwrap(), service);
        let id = id.unwrap();
        let turn = turn(&Turn {
            number: 7,
            slept: Duration::from_millis(3),
            events: 2,
            queued: 1,
            bars: vec![Bar {
                id,
                callback: Callback::Data,
                took: Duration::from_nanos(1500),
                call: None,
            }],
            left_out: 4,
            took: Duration::from_nanos(2250),
        });
        let bar = json!({ "id": id.to_string(), "callback": "on_data", "us": 1.5, "call": null });
        let wanted = json!({
            "number": 7, "asleep_us": 3000.0, "took_us": 2.25, "events": 2, "queued": 1,
            "callbacks": [bar], "left_out": 4,
        });
        assert_eq!(turn, wanted);
    }
}
