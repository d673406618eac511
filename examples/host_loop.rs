//! The reactor inside a host's own poll(2) loop: `cargo run --example host_loop [ADDRESS]`.
//!
//! It shows how to embed the reactor. The host polls its own UDP socket, an echo, and the reactor's
//! one descriptor, and sleeps until the reactor's next deadline at most. After each sleep it gives
//! the reactor one turn that does not sleep.

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
    let id = reactor.listen(address, |_| Some(Echo))?;
    let address = reactor.local_addr(id)?;
    let udp = UdpSocket::bind(address)?;
    udp.set_nonblocking(true)?;
    println!("listening {address}");
    while !reactor.is_done() {
        // Ask before each sleep: any turn and any call may have brought the deadline forward.
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
