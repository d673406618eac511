//! The whole reactor at one moment, as data.

use crate::id::Id;
use crate::observe::ListenerState;
use crate::stats::Stats;
use crate::waiting::{AcceptQueue, Overflows};
use std::net::SocketAddr;
use std::time::Duration;

/// Everything a [`Reactor`](crate::Reactor) holds, at one moment; see [`Reactor::snapshot`](crate::Reactor::snapshot).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Every listener.
    pub listeners: Vec<ListenerView>,
    /// Every connection, and every outgoing one that is still being established.
    pub connections: Vec<ConnectionView>,
    /// How many ids are queued for the next turn.
    pub queued: usize,
    /// How many deadlines are armed, and how far away the next is.
    pub deadlines: usize,
    /// How far away the earliest of these is, at the last turn.
    pub next_deadline: Option<Duration>,
    /// What was counted.
    pub stats: Stats,
    /// What the machine turned down, where it tells.
    pub overflows: Option<Overflows>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerView {
    /// Its name.
    pub id: Id,
    /// Where it listens; `None` if the system would not say.
    pub address: Option<SocketAddr>,
    /// Whether it lets anyone in.
    pub state: ListenerState,
    /// Its waiting room, where the system tells.
    pub accept_queue: Option<AcceptQueue>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionView {
    /// Its name.
    pub id: Id,
    /// The other end.
    pub peer: SocketAddr,
    /// How far it is.
    pub state: ConnectionState,
    /// There is more to read than was read.
    pub readable: bool,
    /// The socket takes output, as far as is known.
    pub writable: bool,
    /// Bytes received that the handler has not consumed.
    pub pending_in: usize,
    /// Bytes written that have not left.
    pub pending_out: usize,
    /// How long it is open, or being established.
    pub age: Duration,
    /// How long no byte moved.
    pub idle: Duration,
    /// Bytes read from the peer.
    pub received: u64,
    /// Bytes the kernel took for the peer.
    pub sent: u64,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Being established.
    Connecting,
    /// Open both ways, as far as is known.
    Open,
    /// The peer has ended, this side has not.
    PeerEnded,
    /// This side has ended or is about to, and still listens.
    HalfClosed,
    /// This side has finished, and waits for the peer's end.
    Finishing,
}

/// Prints the state in lower case.
impl std::fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Open => "open",
            ConnectionState::PeerEnded => "peer ended",
            ConnectionState::HalfClosed => "half-closed",
            ConnectionState::Finishing => "finishing",
        })
    }
}
