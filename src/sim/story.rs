//! The story of a run: each call of a reactor, each callback, each act of a peer.

use crate::observe::{Call, Event, Observer};
use crate::sys::sim::{SharedWorld, is_unwinding};
use std::io;

/// How many bytes of a read or a write the story shows.
pub(super) const SHOWN: usize = 40;

/// Tells the calls and callbacks of one reactor.
pub(super) struct Teller {
    pub(super) world: SharedWorld,
    pub(super) reactor: usize,
}

impl Observer for Teller {
    fn event(&mut self, event: &Event<'_>) {
        // What ends after a failure is no part of the story.
        if is_unwinding() {
            return;
        }
        let line = match event {
            // The story is of the network.
            Event::Call {
                call: Call::Register { .. } | Call::Reregister { .. } | Call::Deregister,
                ..
            } => return,
            Event::Call { id, call, result } => {
                format!("{id}: {} = {}", arguments(call), outcome(call, *result))
            }
            Event::Callback { id, callback, .. } => format!("{id}: {callback} returned"),
            Event::DeadlinePassed { id } => format!("{id}: a deadline passed"),
            Event::Stale { id } => format!("{id}: an event for a closed source is dropped"),
            _ => return,
        };
        let reactor = self.reactor;
        let tell = || format!("reactor {reactor}  {line}");
        // A call that a test makes while it holds the world is not told.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.tell(tell);
        }
    }
}

fn arguments(call: &Call<'_>) -> String {
    match call {
        Call::Socket { .. } => "socket()".to_string(),
        Call::Bind { address } => format!("bind({address})"),
        Call::Listen { backlog } => format!("listen({backlog})"),
        Call::Connect { address } => format!("connect({address})"),
        Call::SocketError => "getsockopt(SO_ERROR)".to_string(),
        Call::Accept { .. } => "accept()".to_string(),
        Call::Read { length, .. } => format!("read({length})"),
        Call::Write { length, .. } => format!("write({length})"),
        Call::Shutdown => "shutdown()".to_string(),
        Call::Close => "close()".to_string(),
        Call::Register { .. } | Call::Reregister { .. } | Call::Deregister => {
            "epoll_ctl()".to_string()
        }
    }
}

fn outcome(call: &Call<'_>, result: Result<usize, &io::Error>) -> String {
    match (call, result) {
        (_, Err(error)) => format!("{:?}", error.kind()),
        (
            Call::Accept {
                accepted: Some((peer, id)),
            },
            Ok(_),
        ) => format!("{id}, from {peer}"),
        (Call::Read { bytes, .. } | Call::Write { bytes, .. }, Ok(count)) => {
            format!("{count} {}", shown(bytes))
        }
        _ => "ok".to_string(),
    }
}

/// Bytes as text, the first of them.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}
