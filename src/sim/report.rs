//! What everyone waits for, in words.

use super::run::Sim;
use crate::observe::{ConnectionView, Snapshot};
use std::fmt::Write;

impl Sim {
    /// One line for each listener, connection and peer.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("after {:?} this is what waits:", self.now());
        for (index, member) in self.members.borrow().iter().enumerate() {
            match member.running() {
                None => add(
                    &mut text,
                    format!("reactor {index} has stopped or is dropped"),
                ),
                // A handler that asks is in a turn of it.
                Some(reactor) => match reactor.try_borrow() {
                    Ok(reactor) => describe_reactor(&mut text, index, &reactor.snapshot()),
                    Err(_) => add(&mut text, format!("reactor {index} has its turn")),
                },
            }
        }
        for peer in self.peers.borrow().iter() {
            add(&mut text, peer.borrow().describe());
        }
        text
    }
}

fn describe_reactor(text: &mut String, index: usize, snapshot: &Snapshot) {
    for listener in &snapshot.listeners {
        let waiting = listener.accept_queue.map_or(0, |queue| queue.depth);
        let words = format!(
            "reactor {index}: listener {} is {}, {waiting} in its accept queue",
            listener.id, listener.state
        );
        add(text, words);
    }
    for connection in &snapshot.connections {
        add(text, format!("reactor {index}: {}", describe(connection)));
    }
    let next = snapshot.next_deadline;
    let deadline = next.map_or("no deadline".to_string(), |next| {
        format!("a deadline in {next:?}")
    });
    add(text, format!("reactor {index}: {deadline}"));
}

fn describe(connection: &ConnectionView) -> String {
    let ConnectionView {
        id,
        peer,
        state,
        pending_in,
        pending_out,
        received,
        sent,
        ..
    } = connection;
    format!(
        "connection {id} with {peer} is {state}; {received} bytes received, {pending_in} of them not \
         consumed; {sent} sent, {pending_out} not taken"
    )
}

fn add(text: &mut String, line: String) {
    // Writing to a string does not fail.
    let _ = write!(text, "\n  {line}");
}
