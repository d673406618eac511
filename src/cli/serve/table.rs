//! A table of the loop at one moment, in the log.

use doorkeeper::{ConnectionView, ListenerView, Snapshot};
use std::cmp::Reverse;

/// Limit of the connections listed.
const ROWS: usize = 100;

/// Logs every listener and the most loaded connections: by their pending bytes, then by the bytes
/// they moved.
pub(crate) fn log(snapshot: &Snapshot) {
    let Snapshot {
        listeners,
        connections,
        queued,
        deadlines,
        stats,
        ..
    } = snapshot;
    log::info!(
        "{} listeners, {} connections, {queued} queued, {deadlines} deadlines",
        listeners.len(),
        connections.len()
    );
    listeners.iter().for_each(log_listener);
    log_connections(connections);
    if let Some(overflows) = snapshot.overflows {
        let (overflows, drops) = (overflows.overflows, overflows.drops);
        log::info!(
            "{drops} connection requests dropped in this network namespace since it started, {overflows} of them at a full accept queue"
        );
    }
    log::info!(
        "{} accepted, {} connected, {} turns, {} events",
        stats.accepted,
        stats.connected,
        stats.turns,
        stats.events
    );
}

fn log_listener(listener: &ListenerView) {
    let address = listener
        .address
        .map_or("?".to_string(), |address| address.to_string());
    let queue = listener.accept_queue.map_or("?".to_string(), |queue| {
        format!("{} of {}", queue.depth, queue.limit)
    });
    log::info!(
        "listener {:<8} {address:<24} accept queue {queue:<12} {}",
        listener.id.to_string(),
        listener.state
    );
}

fn log_connections(connections: &[ConnectionView]) {
    if connections.is_empty() {
        return;
    }
    let mut sorted: Vec<&ConnectionView> = connections.iter().collect();
    sorted.sort_by_key(|view| {
        Reverse((
            view.pending_in + view.pending_out,
            view.received + view.sent,
        ))
    });
    log::info!(
        "{:<8} {:<24} {:<12} {:>11} {:>11} {:>12} {:>12} {:>8} {:>8}",
        "id",
        "peer",
        "state",
        "pending in",
        "pending out",
        "received",
        "sent",
        "age",
        "idle"
    );
    for view in sorted.iter().take(ROWS) {
        log::info!(
            "{:<8} {:<24} {:<12} {:>11} {:>11} {:>12} {:>12} {:>7.1}s {:>7.1}s",
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
    if sorted.len() > ROWS {
        log::info!("and {} more", sorted.len() - ROWS);
    }
}
