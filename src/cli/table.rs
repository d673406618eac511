//! The loop at one moment, as a table in the log.

use doorkeeper::{ConnectionView, Snapshot};

/// The most connections that are listed.
const ROWS: usize = 100;

/// Logs everything there is, most loaded first: by the bytes that wait, then by the bytes that moved.
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
    for listener in listeners {
        let address = listener
            .address
            .map_or("?".to_string(), |address| address.to_string());
        let waiting = listener.accept_queue.map_or("?".to_string(), |queue| {
            format!("{} of {}", queue.depth, queue.limit)
        });
        log::info!(
            "listener {:<8} {address:<24} waiting {waiting:<12} {}",
            listener.id.to_string(),
            listener.state
        );
    }
    let mut sorted: Vec<&ConnectionView> = connections.iter().collect();
    sorted.sort_by_key(|view| {
        std::cmp::Reverse((
            view.pending_in + view.pending_out,
            view.received + view.sent,
        ))
    });
    if !sorted.is_empty() {
        log::info!(
            "{:<8} {:<24} {:<12} {:>10} {:>10} {:>12} {:>12} {:>8} {:>8}",
            "id",
            "peer",
            "state",
            "in, held",
            "out, held",
            "received",
            "sent",
            "age",
            "idle"
        );
    }
    for view in sorted.iter().take(ROWS) {
        log::info!(
            "{:<8} {:<24} {:<12} {:>10} {:>10} {:>12} {:>12} {:>7.1}s {:>7.1}s",
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
    if let Some(overflows) = snapshot.overflows {
        let (overflows, drops) = (overflows.overflows, overflows.drops);
        log::info!(
            "{drops} requests dropped by this machine since it started, {overflows} of them at a full waiting room"
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
