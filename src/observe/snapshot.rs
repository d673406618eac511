//! The whole reactor at one moment, as data.

use super::{ListenerState, Stats};
use crate::id::Id;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything a [`Reactor`](crate::Reactor) holds at one moment; see
/// [`Reactor::snapshot`](crate::Reactor::snapshot).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Every listener.
    pub listeners: Vec<ListenerView>,
    /// Every connection, and every outgoing connection that is not established yet.
    pub connections: Vec<ConnectionView>,
    /// The number of ids queued for the next turn.
    pub queued: usize,
    /// The number of armed deadlines.
    pub deadlines: usize,
    /// The time left until the earliest deadline.
    pub next_deadline: Option<Duration>,
    /// The counters.
    pub stats: Stats,
    /// The overflow counters of the network namespace (Linux only).
    pub overflows: Option<Overflows>,
}

/// A listener in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerView {
    /// The id of the listener.
    pub id: Id,
    /// The local address; `None` if getsockname(2) failed.
    pub address: Option<SocketAddr>,
    /// Whether it accepts.
    pub state: ListenerState,
    /// Its accept queue (Linux only).
    pub accept_queue: Option<AcceptQueue>,
}

/// A listener's accept queue, as `ss -l` shows it. Linux only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// The number of connections that are established and not yet accepted.
    pub depth: u32,
    /// The backlog, as the system clamped it. Linux queues one connection more than that.
    pub limit: u32,
}

/// How many connection requests this network namespace dropped since it was made. Linux only
/// (/proc/net/netstat, proc_pid_net(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// Requests dropped because an accept queue was full (`ListenOverflows`).
    pub overflows: u64,
    /// Requests dropped for any reason, those included (`ListenDrops`).
    pub drops: u64,
}

/// A connection in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionView {
    /// The id of the connection.
    pub id: Id,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// The state of the connection.
    pub state: ConnectionState,
    /// A read may return more.
    pub readable: bool,
    /// A write may succeed.
    pub writable: bool,
    /// Bytes received that the handler has not consumed.
    pub pending_in: usize,
    /// Bytes written that the kernel has not taken.
    pub pending_out: usize,
    /// How long the connection has been open, or has been tried.
    pub age: Duration,
    /// The time since a byte last moved.
    pub idle: Duration,
    /// Bytes read from the peer.
    pub received: u64,
    /// Bytes that the kernel took for the peer.
    pub sent: u64,
}

impl ConnectionView {
    /// An outgoing connection that is not established: nothing has moved yet.
    pub(crate) fn connecting(id: Id, peer: SocketAddr, age: Duration) -> ConnectionView {
        ConnectionView {
            id,
            peer,
            state: ConnectionState::Connecting,
            readable: false,
            writable: false,
            pending_in: 0,
            pending_out: 0,
            age,
            idle: age,
            received: 0,
            sent: 0,
        }
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An outgoing connection that is not established yet.
    Connecting,
    /// Open in both directions.
    Open,
    /// The peer ended its output; this side did not.
    PeerEnded,
    /// This side ended its output, and still reads.
    HalfClosed,
    /// The handler finished: output is sent, input is discarded until the peer ends.
    Finishing,
}

/// Prints the state in lower case.
impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Open => "open",
            ConnectionState::PeerEnded => "peer ended",
            ConnectionState::HalfClosed => "half-closed",
            ConnectionState::Finishing => "finishing",
        })
    }
}
