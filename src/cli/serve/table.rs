//! A table of the loop at one moment, in the log. It holds the loop for 100 ms at most.

use super::args::Kind;
use doorkeeper::{ConnectionView, ListenerView, Reactor, Stats};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Limit of the connections listed.
const ROWS: usize = 100;

/// Limit of the peers listed.
const PEERS: usize = 10;

/// With more connections than this, a look at each of them would take too long.
const CONNECTIONS_MAX: usize = 200_000;

/// Time for finding the services of connections, which takes a getsockname(2) for each.
const SERVICE_TIME: Duration = Duration::from_millis(40);

/// The services by their listeners' addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(Vec<(SocketAddr, Kind)>);

impl Services {
    pub(super) fn new(listeners: &[(SocketAddr, Kind)]) -> Services {
        Services(listeners.to_vec())
    }

    /// The service of a connection with this local address. A listener on every address has the
    /// same port only.
    fn name(&self, local: SocketAddr) -> &'static str {
        let exact = |listener: &&(SocketAddr, Kind)| listener.0 == local;
        let same_port = |listener: &&(SocketAddr, Kind)| {
            listener.0.port() == local.port() && listener.0.ip().is_unspecified()
        };
        let listeners = || self.0.iter();
        let found = listeners()
            .find(exact)
            .or_else(|| listeners().find(same_port));
        found.map_or("?", |(_, kind)| kind.name())
    }
}

/// Logs every listener, the totals of each service, the peers with most connections, and the most
/// loaded connections: by their pending bytes, then by the bytes they moved.
pub(super) fn log(reactor: &Reactor, services: &Services) {
    let stats = reactor.stats();
    if stats.open > CONNECTIONS_MAX {
        log::info!("{} connections are too many for a table", stats.open);
        return log_stats(&stats);
    }
    let snapshot = reactor.snapshot();
    log::info!(
        "{} listeners, {} connections, {} queued, {} deadlines",
        snapshot.listeners.len(),
        snapshot.connections.len(),
        snapshot.queued,
        snapshot.deadlines
    );
    for listener in &snapshot.listeners {
        log_listener(listener, services);
    }
    let rows = rows(reactor, services, &snapshot.connections);
    log_services(&rows);
    log_peers(&rows);
    log_connections(&rows);
    if let Some(overflows) = snapshot.overflows {
        let (overflows, drops) = (overflows.overflows, overflows.drops);
        log::info!(
            "{drops} connection requests dropped in this network namespace since it started, {overflows} of them at a full accept queue"
        );
    }
    log_stats(&stats);
}

fn log_stats(stats: &Stats) {
    log::info!(
        "{} accepted, {} connected, {} turned away, {} turns, {} events",
        stats.accepted,
        stats.connected,
        stats.turned_away,
        stats.turns,
        stats.events
    );
}

fn log_listener(listener: &ListenerView, services: &Services) {
    let service = listener.address.map_or("?", |local| services.name(local));
    let address = listener
        .address
        .map_or("?".to_string(), |address| address.to_string());
    let queue = listener.accept_queue.map_or("?".to_string(), |queue| {
        format!("{} of {}", queue.depth, queue.limit)
    });
    log::info!(
        "listener {:<8} {service:<8} {address:<24} accept queue {queue:<12} {}",
        listener.id.to_string(),
        listener.state
    );
}

/// A connection and its service.
type Row<'a> = (&'static str, &'a ConnectionView);

/// The most loaded first.
fn rows<'a>(
    reactor: &Reactor,
    services: &Services,
    connections: &'a [ConnectionView],
) -> Vec<Row<'a>> {
    let mut sorted: Vec<&ConnectionView> = connections.iter().collect();
    sorted.sort_by_key(|view| {
        let pending = view.pending_in + view.pending_out;
        Reverse((pending, view.received + view.sent))
    });
    let begin = Instant::now();
    let service = |view: &ConnectionView| {
        let is_late = begin.elapsed() > SERVICE_TIME;
        let local = (!is_late).then(|| reactor.local_addr(view.id));
        local
            .and_then(Result::ok)
            .map_or("?", |local| services.name(local))
    };
    sorted
        .into_iter()
        .map(|view| (service(view), view))
        .collect()
}

/// What some connections have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    connections: usize,
    pending_in: usize,
    pending_out: usize,
    received: u64,
    sent: u64,
}

impl Total {
    fn add(&mut self, view: &ConnectionView) {
        self.connections += 1;
        self.pending_in += view.pending_in;
        self.pending_out += view.pending_out;
        self.received += view.received;
        self.sent += view.sent;
    }
}

/// The totals of the groups, the one with most connections first.
fn totals<'a, K: std::hash::Hash + Ord>(
    rows: &'a [Row<'a>],
    group: impl Fn(&Row<'a>) -> K,
) -> Vec<(K, Total)> {
    let mut totals: HashMap<K, Total> = HashMap::new();
    for row in rows {
        totals.entry(group(row)).or_default().add(row.1);
    }
    let mut totals: Vec<(K, Total)> = totals.into_iter().collect();
    totals.sort_by(|(one, a), (other, b)| {
        b.connections
            .cmp(&a.connections)
            .then_with(|| one.cmp(other))
    });
    totals
}

fn log_services(rows: &[Row<'_>]) {
    for (service, total) in totals(rows, |row| row.0) {
        log_total("service", service, &total);
    }
}

fn log_peers(rows: &[Row<'_>]) {
    let peers: Vec<(IpAddr, Total)> = totals(rows, |row| row.1.peer.ip().to_canonical());
    for (peer, total) in peers.iter().take(PEERS) {
        log_total("peer", &peer.to_string(), total);
    }
    if peers.len() > PEERS {
        log::info!("and {} more peers", peers.len() - PEERS);
    }
}

fn log_total(what: &str, name: &str, total: &Total) {
    log::info!(
        "{what:<8} {name:<33} {:>6} connections, pending {} in, {} out; {} received, {} sent",
        total.connections,
        total.pending_in,
        total.pending_out,
        total.received,
        total.sent
    );
}

fn log_connections(rows: &[Row<'_>]) {
    if rows.is_empty() {
        return;
    }
    log::info!(
        "{:<8} {:<8} {:<24} {:<12} {:>11} {:>11} {:>12} {:>12} {:>8} {:>8}",
        "id",
        "service",
        "peer",
        "state",
        "pending in",
        "pending out",
        "received",
        "sent",
        "age",
        "idle"
    );
    for (service, view) in rows.iter().take(ROWS) {
        log::info!(
            "{:<8} {service:<8} {:<24} {:<12} {:>11} {:>11} {:>12} {:>12} {:>7.1}s {:>7.1}s",
            view.id.to_string(),
            view.peer.to_string(),
            view.state,
            view.pending_in,
            view.pending_out,
            view.received,
            view.sent,
            view.age.as_secs_f64(),
            view.idle.as_secs_f64()
        );
    }
    if rows.len() > ROWS {
        log::info!("and {} more connections", rows.len() - ROWS);
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Services};

    #[test]
    fn the_service_of_a_connection_follows_from_its_local_address() {
        let address = |word: &str| word.parse().unwrap();
        let services = Services::new(&[
            (address("127.0.0.1:7007"), Kind::Echo),
            (address("0.0.0.0:7007"), Kind::Discard),
            (address("[::]:7013"), Kind::Daytime),
        ]);
        assert_eq!(services.name(address("127.0.0.1:7007")), "echo");
        assert_eq!(services.name(address("192.0.2.1:7007")), "discard");
        assert_eq!(services.name(address("[2001:db8::1]:7013")), "daytime");
        assert_eq!(services.name(address("192.0.2.1:7019")), "?");
    }
}
