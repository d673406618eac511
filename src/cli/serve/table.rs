//! A table of the loop at one moment, in the log. It holds the loop for 100 ms at most.

use super::args::Kind;
use super::limits::client_of;
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
/// loaded connections: by their pending bytes, then by the bytes they moved. With --proxy-protocol the
/// peers are the clients.
pub(super) fn log(reactor: &Reactor, services: &Services) {
    for line in table(reactor, services) {
        log::info!("{line}");
    }
}

fn table(reactor: &Reactor, services: &Services) -> Vec<String> {
    let stats = reactor.stats();
    if stats.open > CONNECTIONS_MAX {
        let too_many = format!("{} connections are too many for a table", stats.open);
        return vec![too_many, counters(&stats)];
    }
    let mut snapshot = reactor.snapshot();
    for view in &mut snapshot.connections {
        view.peer = client_of(view.id).unwrap_or(view.peer);
    }
    let heading = format!(
        "{} listeners, {} connections, {} queued, {} deadlines",
        snapshot.listeners.len(),
        snapshot.connections.len(),
        snapshot.queued,
        snapshot.deadlines
    );
    let listeners = snapshot.listeners.iter();
    let rows = rows(reactor, services, &snapshot.connections);
    let dropped = snapshot.overflows.map(|overflows| {
        let (overflows, drops) = (overflows.overflows, overflows.drops);
        format!(
            "{drops} connection requests dropped in this network namespace since it started, {overflows} of them at a full accept queue"
        )
    });
    let mut lines = vec![heading];
    lines.extend(listeners.map(|view| listener(view, services)));
    lines.extend(service_totals(&rows));
    lines.extend(peer_totals(&rows));
    lines.extend(connections(&rows));
    lines.extend(dropped);
    lines.push(counters(&stats));
    lines
}

fn counters(stats: &Stats) -> String {
    format!(
        "{} accepted, {} connected, {} turned away, {} turns, {} events",
        stats.accepted, stats.connected, stats.turned_away, stats.turns, stats.events
    )
}

fn listener(listener: &ListenerView, services: &Services) -> String {
    let service = listener.address.map_or("?", |local| services.name(local));
    let address = listener
        .address
        .map_or("?".to_string(), |address| address.to_string());
    let queue = listener.accept_queue.map_or("?".to_string(), |queue| {
        format!("{} of {}", queue.depth, queue.limit)
    });
    format!(
        "listener {:<8} {service:<8} {address:<24} accept queue {queue:<12} {}",
        listener.id.to_string(),
        listener.state
    )
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

    fn line(&self, what: &str, name: &str) -> String {
        format!(
            "{what:<8} {name:<33} {:>6} connections, pending {} in, {} out; {} received, {} sent",
            self.connections, self.pending_in, self.pending_out, self.received, self.sent
        )
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

fn service_totals(rows: &[Row<'_>]) -> Vec<String> {
    let services = totals(rows, |row| row.0).into_iter();
    services
        .map(|(service, total)| total.line("service", service))
        .collect()
}

fn peer_totals(rows: &[Row<'_>]) -> Vec<String> {
    let peers: Vec<(IpAddr, Total)> = totals(rows, |row| row.1.peer.ip().to_canonical());
    let shown = peers.iter().take(PEERS);
    let mut lines: Vec<String> = shown
        .map(|(peer, total)| total.line("peer", &peer.to_string()))
        .collect();
    if peers.len() > PEERS {
        lines.push(format!("and {} more peers", peers.len() - PEERS));
    }
    lines
}

fn connections(rows: &[Row<'_>]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let heading = format!(
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
    let mut lines = vec![heading];
    lines.extend(rows.iter().take(ROWS).map(connection));
    if rows.len() > ROWS {
        lines.push(format!("and {} more connections", rows.len() - ROWS));
    }
    lines
}

fn connection((service, view): &Row<'_>) -> String {
    format!(
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
    )
}

#[cfg(test)]
mod tests {
    use super::{Kind, Services, table};
    use doorkeeper::{Arrival, Config, ConnectOptions, Context, Handler, Reactor};
    use std::io;
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, Instant};

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

    /// Consumes so many bytes, and answers the first with so many.
    struct Server {
        consumed: usize,
        answer: usize,
    }

    impl Handler for Server {
        fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
            cx.write(&vec![0; std::mem::take(&mut self.answer)]);
            let consumed = std::mem::take(&mut self.consumed).min(input.len());
            Ok(consumed)
        }
    }

    /// Sends this text, and reads nothing.
    struct Client(String);

    impl Handler for Client {
        fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
            cx.write(self.0.as_bytes());
            Ok(())
        }

        fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
            Ok(0)
        }
    }

    /// More than the kernel takes.
    const ANSWER: usize = 8 << 20;

    /// A server with three listeners, and a reactor for its clients.
    struct Town {
        server: Reactor,
        clients: Reactor,
        services: Services,
        /// It keeps input beyond three bytes, it takes all input, and it answers.
        keep: SocketAddr,
        take: SocketAddr,
        answer: SocketAddr,
    }

    impl Town {
        fn new() -> Town {
            let mut config = Config::default();
            config.output_max_bytes = ANSWER;
            let mut server = Reactor::new(config).unwrap();
            let mut listen = |consumed, answer| {
                let any = "127.0.0.1:0".parse().unwrap();
                let service = move |_: &mut Arrival<'_>| Some(Server { consumed, answer });
                let id = server.listen(any, service).unwrap();
                server.local_addr(id).unwrap()
            };
            let (keep, take) = (listen(3, 0), listen(usize::MAX, 0));
            let answer = listen(usize::MAX, ANSWER);
            let services = Services::new(&[
                (keep, Kind::Echo),
                (take, Kind::Discard),
                (answer, Kind::Echo),
            ]);
            let clients = Reactor::new(Config::default()).unwrap();
            Town {
                server,
                clients,
                services,
                keep,
                take,
                answer,
            }
        }

        /// Connects from 127.0.0.`source`, and waits until so many bytes have arrived.
        fn connect(&mut self, address: SocketAddr, source: u8, bytes: usize) {
            let mut options = ConnectOptions::default();
            options.local = Some(SocketAddr::new(IpAddr::from([127, 0, 0, source]), 0));
            let arrived = self.server.stats().bytes_received + bytes as u64;
            let client = Client("x".repeat(bytes));
            let connected = self.clients.connect_with(address, &options, client);
            connected.unwrap();
            let begin = Instant::now();
            while self.server.stats().bytes_received < arrived {
                for reactor in [&mut self.clients, &mut self.server] {
                    reactor.turn(Some(Duration::from_millis(1))).unwrap();
                }
                assert!(begin.elapsed() < Duration::from_secs(10));
            }
        }

        fn lines(&self) -> Vec<String> {
            table(&self.server, &self.services)
        }
    }

    fn begins(lines: &[String], with: &str) -> Vec<String> {
        let lines = lines.iter().filter(|line| line.starts_with(with));
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn the_most_loaded_connections_and_the_largest_groups_come_first() {
        let mut town = Town::new();
        assert_eq!(begins(&town.lines(), "id "), [""; 0]);
        let (keep, take, answer) = (town.keep, town.take, town.answer);
        for (address, source, bytes) in [(take, 2, 1), (take, 2, 20), (keep, 1, 8), (answer, 2, 2)]
        {
            town.connect(address, source, bytes);
        }
        let snapshot = town.server.snapshot();
        let waiting: usize = snapshot
            .connections
            .iter()
            .map(|view| view.pending_out)
            .sum();
        let sent = ANSWER - waiting;
        assert!(waiting > 0 && sent > 20, "{waiting}");
        let lines = town.lines();
        assert!(
            lines[0].starts_with("3 listeners, 4 connections, "),
            "{}",
            lines[0]
        );
        assert_eq!(
            begins(&lines, "listener")[0],
            format!("listener 0.0 echo {keep} accept queue 0 of 1024 accepting")
        );
        assert_eq!(
            begins(&lines, "service"),
            [
                "service discard 2 connections, pending 0 in, 0 out; 21 received, 0 sent"
                    .to_string(),
                format!(
                    "service echo 2 connections, pending 5 in, {waiting} out; 10 received, {sent} sent"
                ),
            ]
        );
        assert_eq!(
            begins(&lines, "peer"),
            [
                format!(
                    "peer 127.0.0.2 3 connections, pending 0 in, {waiting} out; 23 received, {sent} sent"
                ),
                "peer 127.0.0.1 1 connections, pending 5 in, 0 out; 8 received, 0 sent".to_string(),
            ]
        );
        // The columns pending in, pending out, received and sent.
        let rows: Vec<String> = lines
            .iter()
            .filter(|line| line.contains(" open "))
            .cloned()
            .collect();
        let rows = rows.iter().map(|row| {
            row.split_whitespace()
                .skip(4)
                .take(4)
                .collect::<Vec<_>>()
                .join(" ")
        });
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                format!("0 {waiting} 2 {sent}"),
                "5 0 8 0".to_string(),
                "0 0 20 0".to_string(),
                "0 0 1 0".to_string()
            ]
        );
        assert!(
            lines
                .last()
                .unwrap()
                .starts_with("4 accepted, 0 connected, 0 turned away, ")
        );
    }

    #[test]
    fn the_table_has_a_hundred_connections_and_ten_peers() {
        let mut town = Town::new();
        for number in 0..100 {
            town.connect(town.take, 1 + number % 10, 1);
        }
        assert_eq!(begins(&town.lines(), "and "), [""; 0]);
        town.connect(town.take, 11, 1);
        town.connect(town.take, 12, 1);
        let lines = town.lines();
        assert_eq!(
            begins(&lines, "and "),
            ["and 2 more peers", "and 2 more connections"]
        );
        assert_eq!(begins(&lines, "peer").len(), 10);
        assert_eq!(
            lines.iter().filter(|line| line.contains(" open ")).count(),
            100
        );
    }
}
