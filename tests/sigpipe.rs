//! In a host that leaves SIGPIPE at its default, which ends the process. One test, for the setting is the process's.

mod common;

use common::{Running, client};
use doorkeeper::{Config, Context, Handler, Reason};
use socket2::SockRef;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Makes its peer go away in the middle of its own turn, and then answers it. A reset that meets a peer's FIN is EPIPE for
/// the next send, and nothing is read between.
struct Farewell(Arc<Mutex<Option<TcpStream>>>);

impl Handler for Farewell {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if let Some(peer) = self.0.lock().unwrap().take() {
            peer.shutdown(Shutdown::Write).unwrap();
            SockRef::from(&peer)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        cx.write(b"farewell");
        Ok(input.len())
    }
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_not_a_signal() {
    sigpipe::reset();
    let peer: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    let shared = Arc::clone(&peer);
    let (running, address) = Running::start(Config::default(), |reactor| {
        let any = "127.0.0.1:0".parse().unwrap();
        let id = reactor
            .listen(any, move |_| Some(Farewell(Arc::clone(&shared))))
            .unwrap();
        reactor.local_addr(id).unwrap()
    });
    for round in 1..=20 {
        let mut stream = client(address);
        let mut place = peer.lock().unwrap();
        stream.write_all(b"hello").unwrap();
        *place = Some(stream);
        drop(place);
        let stats = running.await_stats(|stats| stats.closed(Reason::Reset) == round);
        assert_eq!(
            (stats.open, stats.bytes_sent),
            (0, 0),
            "the write met a peer that was there"
        );
    }
}
