//! A host that leaves SIGPIPE at its default action, which ends the process. One test a file,
//! because the action is the process's.

mod common;

use common::{Running, client, reset};
use doorkeeper::{Arrival, Config, Context, Handler, Reason};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

/// Closes its own peer, and then answers it in the same callback. The FIN and the reset that
/// follows it make the next send fail with EPIPE. Nothing is read in between.
struct Farewell(Arc<Mutex<Option<TcpStream>>>);

impl Handler for Farewell {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if let Some(peer) = self.0.lock().unwrap().take() {
            peer.shutdown(Shutdown::Write).unwrap();
            reset(peer);
        }
        cx.write(b"farewell");
        Ok(input.len())
    }
}

#[test]
fn a_send_to_a_closed_peer_is_an_error_and_no_signal() {
    sigpipe::reset();
    let peer: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    let shared = Arc::clone(&peer);
    let service = move |_: &mut Arrival<'_>| Some(Farewell(Arc::clone(&shared)));
    let (running, address) = Running::serve(Config::default(), service);
    for round in 1..=20 {
        let mut stream = client(address);
        let mut slot = peer.lock().unwrap();
        stream.write_all(b"hello").unwrap();
        *slot = Some(stream);
        drop(slot);
        let stats = running.await_stats(|stats| stats.closed(Reason::Reset) == round);
        assert_eq!(
            (stats.open, stats.bytes_sent),
            (0, 0),
            "the send met an open peer"
        );
    }
}
