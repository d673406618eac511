//! The reactor as a guest in a loop that is not its own: `cargo run --example host_loop [ADDRESS]`.
//!
//! What to see here: the host polls a socket of its own, an echo over UDP, beside the reactor's one descriptor. When that is
//! readable, or the reactor's deadline has come, it gives the reactor one turn that never sleeps.

use doorkeeper::{Config, Context, Handler, Reactor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        Ok(cx.write(input))
    }
}

fn main() -> Result<()> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7007".to_string())
        .parse()
        .map_err(Error::other)?;
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(60));
    let mut reactor = Reactor::new(config)?;
    let id = reactor.listen(address, |_peer| Some(Echo))?;
    let address = reactor.local_addr(id)?;
    let udp = UdpSocket::bind(address)?;
    udp.set_nonblocking(true)?;
    println!("listening {address}");
    while !reactor.is_done() {
        // Asked for before each sleep: whatever happened since may have brought it forward.
        let left = reactor
            .next_deadline()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::new(&reactor, PollFlags::IN),
            PollFd::new(&udp, PollFlags::IN),
        ];
        poll(&mut fds, left.as_ref())?;
        if !fds[1].revents().is_empty() {
            echo_datagram(&udp)?;
        }
        reactor.turn(Some(Duration::ZERO))?;
    }
    Ok(())
}

fn echo_datagram(udp: &UdpSocket) -> Result<()> {
    let mut datagram = [0; 2048];
    match udp.recv_from(&mut datagram) {
        Ok((length, peer)) => udp.send_to(&datagram[..length], peer).map(|_| ()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
