//! /connections: the open connections as JSON, the most loaded first.

use super::super::super::json::Json::{Bool, Float, Integer, Text};
use super::super::super::json::object;
use super::super::limits::client_of;
use super::Status;
use super::http::Answer;
use doorkeeper::{ConnectionState, ConnectionView, Reactor};
use std::cmp::Reverse;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// The connections listed without `limit`, and the most that are.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// With more connections than this, sorting them would hold the loop for too long.
pub(super) const SORTED_MAX: usize = 200_000;

const STATES: [ConnectionState; 4] = [
    ConnectionState::Open,
    ConnectionState::PeerEnded,
    ConnectionState::HalfClosed,
    ConnectionState::Finishing,
];

/// Which connections are listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    service: Option<String>,
    peer: Option<Peer>,
    state: Option<ConnectionState>,
    limit: Option<usize>,
}

/// An address, with or without a port. An IPv4-mapped one (RFC 4291, section 2.5.5.2) is its IPv4 address.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    host: IpAddr,
    port: Option<u16>,
}

impl Filter {
    fn parse(query: &[(String, String)]) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, value) in query {
            match name.as_str() {
                "service" => filter.service = Some(value.clone()),
                "peer" => filter.peer = Some(peer(value)?),
                "state" => filter.state = Some(state(value)?),
                "limit" => filter.limit = Some(limit(value)?),
                _ => {
                    return Err(format!(
                        "there is no `{name}`; there are service, peer, state and limit"
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn has(&self, service: &str, view: &ConnectionView) -> bool {
        let is_peer = self.peer.as_ref().is_none_or(|wanted| {
            let (peer, _) = peer_and_proxy(view);
            let is_port = wanted.port.is_none_or(|port| port == peer.port());
            is_port && wanted.host == peer.ip().to_canonical()
        });
        let is_service = self.service.as_ref().is_none_or(|name| name == service);
        is_peer && is_service && self.state.is_none_or(|state| state == view.state)
    }
}

fn peer(value: &str) -> Result<Peer, String> {
    let bare = value
        .strip_prefix('[')
        .and_then(|value| value.strip_suffix(']'));
    let (host, port) = match bare.unwrap_or(value).parse::<IpAddr>() {
        Ok(host) => (host, None),
        Err(_) => {
            let wrong = format!("peer={value}: must be an address, as in 192.0.2.1 or [::1]:5000");
            let address: SocketAddr = value.parse().map_err(|_| wrong)?;
            (address.ip(), Some(address.port()))
        }
    };
    let host = host.to_canonical();
    Ok(Peer { host, port })
}

fn state(value: &str) -> Result<ConnectionState, String> {
    let found = STATES.into_iter().find(|state| state.to_string() == value);
    let all = STATES.map(|state| state.to_string()).join(", ");
    found.ok_or_else(|| format!("state={value}: must be one of {all}"))
}

fn limit(value: &str) -> Result<usize, String> {
    let limit = value
        .parse()
        .ok()
        .filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("limit={value}: must be a number from 1 to {LIMIT_MAX}"))
}

/// The connections of a list.
pub(super) struct List {
    /// An object each.
    pub(super) rows: Vec<String>,
    /// How many there are beside those.
    pub(super) left_out: usize,
}

pub(super) fn answer(status: &Status, reactor: &Reactor, query: &[(String, String)]) -> Answer {
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(problem) => return Answer::bad(problem),
    };
    if let Some(name) = filter
        .service
        .as_ref()
        .filter(|name| !status.has_service(name))
    {
        return Answer::bad(format_args!(
            "service={name}: this program does not serve it"
        ));
    }
    let open = reactor.stats().open;
    if open > SORTED_MAX {
        let text = format!("{open} connections are too many for a list");
        return Answer::error("503 Service Unavailable", text);
    }
    let connections = reactor.snapshot().connections;
    let list = list(status, &connections, &filter);
    let (rows, left_out) = (list.rows.join(",\n"), list.left_out);
    let body =
        format!("{{\"open\":{open},\"left_out\":{left_out},\"connections\":[\n{rows}\n]}}\n");
    Answer::new("application/json", body)
}

/// All connections, as many as the list without a limit has.
pub(super) fn all(status: &Status, connections: &[ConnectionView]) -> List {
    list(status, connections, &Filter::default())
}

/// Sorted by the bytes held, then by those moved, then by the id.
fn list(status: &Status, connections: &[ConnectionView], filter: &Filter) -> List {
    let owners = status.owners.borrow();
    let tallies = status.tallies.borrow();
    let service = |view: &ConnectionView| {
        owners
            .get(&view.id)
            .map_or("?", |&place| tallies[place].service)
    };
    let mut found: Vec<&ConnectionView> = connections.iter().collect();
    found.retain(|view| filter.has(service(view), view));
    let load = |view: &&ConnectionView| {
        let held = view.pending_in + view.pending_out;
        (Reverse(held), Reverse(view.received + view.sent), view.id)
    };
    let limit = filter.limit.unwrap_or(LIMIT);
    let left_out = found.len().saturating_sub(limit);
    if left_out > 0 {
        found.select_nth_unstable_by_key(limit, load);
        found.truncate(limit);
    }
    found.sort_unstable_by_key(load);
    let rows = found.into_iter().map(|view| row(service(view), view));
    List {
        rows: rows.collect(),
        left_out,
    }
}

/// The peer, which is the client if a proxy forwards it; and the proxy then.
fn peer_and_proxy(view: &ConnectionView) -> (SocketAddr, Option<SocketAddr>) {
    match client_of(view.id) {
        Some(client) => (client, Some(view.peer)),
        None => (view.peer, None),
    }
}

/// Written without a tree of values in between, because a list may have a thousand.
fn row(service: &str, view: &ConnectionView) -> String {
    let (peer, proxy) = peer_and_proxy(view);
    let [id, peer, state]: [&dyn Display; 3] = [&view.id, &peer, &view.state];
    let [id, peer, state] = [id, peer, state].map(|part| part.to_string());
    let proxy = proxy.map(|proxy| proxy.to_string());
    let mut fields = vec![
        ("id", Text(&id)),
        ("service", Text(service)),
        ("peer", Text(&peer)),
        ("state", Text(&state)),
        ("interest", Text(interest(view))),
        ("readable", Bool(view.readable)),
        ("writable", Bool(view.writable)),
        ("held_in_bytes", Integer(view.pending_in as u64)),
        ("held_out_bytes", Integer(view.pending_out as u64)),
        ("received_bytes", Integer(view.received)),
        ("sent_bytes", Integer(view.sent)),
        ("age_seconds", Float(view.age.as_secs_f64())),
        ("idle_seconds", Float(view.idle.as_secs_f64())),
    ];
    if let Some(proxy) = &proxy {
        fields.push(("proxy", Text(proxy)));
    }
    object(&[&fields])
}

/// What the connection waits for: always input, if only the peer's end; and room for output that the
/// kernel has not taken.
fn interest(view: &ConnectionView) -> &'static str {
    if view.pending_out > 0 {
        "read, write"
    } else {
        "read"
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionState, Filter, Peer};

    fn parse(name: &str, value: &str) -> Result<Filter, String> {
        Filter::parse(&[(name.to_string(), value.to_string())])
    }

    #[test]
    fn a_filter_is_exact_or_refused() {
        let peer = |value| parse("peer", value).map(|filter| filter.peer);
        let of = |host: &str, port| {
            let host = host.parse().unwrap();
            Ok(Some(Peer { host, port }))
        };
        assert_eq!(peer("192.0.2.1"), of("192.0.2.1", None));
        assert_eq!(peer("::ffff:192.0.2.1"), of("192.0.2.1", None));
        assert_eq!(peer("[::ffff:192.0.2.1]:7"), of("192.0.2.1", Some(7)));
        assert_eq!(peer("::1"), of("::1", None));
        assert_eq!(peer("[::1]"), of("::1", None));
        assert_eq!(peer("[::1]:7"), of("::1", Some(7)));
        assert_eq!(
            parse("state", "half-closed").unwrap().state,
            Some(ConnectionState::HalfClosed)
        );
        for (name, value) in [
            ("peer", "localhost"),
            ("peer", ""),
            ("state", "closed"),
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "-1"),
            ("port", "7"),
        ] {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
