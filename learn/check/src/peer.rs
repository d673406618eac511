//! A client of the program under check. It sends a pattern, and expects it back.

use crate::diag;
use crate::receipt::{Failure, Receipt, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::ErrorKind::WouldBlock;
use std::io::{Error, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long nothing may happen where something must. A server on the same machine needs microseconds.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long an exchange may take that goes on and on.
const LONGEST: Duration = Duration::from_secs(60);

/// How many bytes a peer hands to the kernel, or takes from it, in one call.
const CHUNK: usize = 65_536;

/// One connection to the program.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// The own port, by which the kernel's tables tell connections apart.
    pub port: u16,
    /// Bytes sent, as the kernel took them.
    pub sent: u64,
    /// Bytes that have come back.
    pub received: u64,
    /// Why nothing more will come, if so.
    over: Option<Stop>,
}

/// The byte at this place of the pattern. Its period is longer than any test, so that lost and doubled bytes show.
fn pattern(place: u64) -> u8 {
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl Peer {
    /// Connects. The kernel does that for the program, so it works while the program is stopped, too.
    pub fn connect(port: u16) -> Result<Peer, Failure> {
        Peer::connect_with(port, |_| Ok(()))
    }

    /// Connects as a peer on another machine would: with segments that fit an Ethernet frame, and a small receive buffer. By
    /// the size of a segment the kernel grows its send buffer (tcp(7), tcp_wmem), and the loopback's are of 64 KiB: so here the
    /// kernel takes less of the program's output.
    pub fn connect_from_afar(port: u16) -> Result<Peer, Failure> {
        Peer::connect_with(port, |socket| {
            socket.set_tcp_mss(1460)?;
            socket.set_recv_buffer_size(16_384)
        })
    }

    fn connect_with(
        port: u16,
        prepare: impl FnOnce(&Socket) -> Result<(), Error>,
    ) -> Result<Peer, Failure> {
        let told =
            |error| Failure::broken(format!("it refuses a connection on port {port}: {error}"));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(told)?;
        prepare(&socket).map_err(told)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .map_err(told)?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).map_err(told)?;
        // Bytes must leave at once: a byte that this side holds back is not the program's fault.
        stream.set_nodelay(true).map_err(told)?;
        Ok(Peer {
            port: stream.local_addr().map_err(told)?.port(),
            stream,
            sent: 0,
            received: 0,
            over: None,
        })
    }

    /// Sends `count` bytes and waits until they are back.
    pub fn echo(&mut self, count: u64) -> Result<(), Failure> {
        self.exchange(self.sent + count, self.received + count)
            .complete()
    }

    /// Hands bytes to the kernel until `total` are sent or it takes no more.
    pub fn push(&mut self, total: u64) -> bool {
        let before = self.sent;
        while self.sent < total {
            let end = total.min(self.sent + CHUNK as u64);
            let bytes: Vec<u8> = (self.sent..end).map(pattern).collect();
            match self.stream.write(&bytes) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) => {
                    // Bytes that came before the break can still be read.
                    self.over.get_or_insert(Stop::Broken(error.to_string()));
                    break;
                }
            }
        }
        self.sent > before
    }

    /// Takes the bytes that have come, up to `total`. True if there are any.
    pub fn pull(&mut self, total: u64) -> bool {
        let before = self.received;
        let mut buffer = vec![0; CHUNK];
        while self.received < total {
            let most = buffer.len().min((total - self.received) as usize);
            match self.stream.read(&mut buffer[..most]) {
                Ok(0) => self.over = Some(Stop::Closed),
                Ok(count) => {
                    let place = self.received;
                    let right = |(at, byte): (usize, &u8)| *byte == pattern(place + at as u64);
                    let good = buffer[..count]
                        .iter()
                        .enumerate()
                        .take_while(|it| right(*it));
                    let good = good.count();
                    self.received += good as u64;
                    if good < count {
                        self.over = Some(Stop::Wrong);
                    }
                }
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) => self.over = Some(Stop::Broken(error.to_string())),
            }
            if self.over.is_some() {
                break;
            }
        }
        self.received > before
    }

    /// Sends until `send` bytes are sent, receives until `receive` have come back, both as far as it goes.
    pub fn exchange(&mut self, send: u64, receive: u64) -> Receipt {
        self.exchange_until(send, receive, false)
    }

    /// The same, with a half-close after the last byte (shutdown(2), SHUT_WR), to the end of the stream.
    pub fn exchange_to_end(&mut self, send: u64) -> Receipt {
        let mut receipt = self.exchange_until(send, send + 1, true);
        receipt.wanted = send;
        receipt
    }

    fn exchange_until(&mut self, send: u64, receive: u64, half_close: bool) -> Receipt {
        let start = Instant::now();
        let mut ended = false;
        let stop = loop {
            if self.received == receive {
                break Stop::Complete;
            }
            self.push(send);
            if self.sent == send && half_close && !ended {
                self.half_close();
                ended = true;
            }
            // A break that sending has found must not hide bytes that came before it.
            let broken = self.over.take();
            let moved = self.pull(receive);
            // An error is reported once; after it a read says that the stream has ended: socket(7), SO_ERROR.
            if broken.is_some() && (!moved || self.over == Some(Stop::Closed)) {
                self.over = broken;
            }
            if let Some(over) = &self.over {
                break over.clone();
            }
            let idle = || !self.wait(self.sent < send, PATIENCE);
            if start.elapsed() > LONGEST || (!moved && idle()) {
                break Stop::Silence;
            }
        };
        Receipt {
            got: self.received,
            wanted: receive,
            stop,
        }
    }

    /// Sends until `total` bytes are sent, or the kernel has taken none for `quiet`. Receives nothing.
    pub fn send_without_reading(&mut self, total: u64, quiet: Duration) {
        loop {
            let moved = self.push(total);
            if self.sent == total || self.over.is_some() {
                return;
            }
            if !moved && !wait(&[(self, PollFlags::OUT)], quiet) {
                return;
            }
        }
    }

    /// Bytes that the program's kernel has not acknowledged.
    pub fn unsent(&self) -> u64 {
        let server = self.stream.peer_addr().map_or(0, |address| address.port());
        diag::end_of(self.port, server).map_or(0, |own_end| own_end.send_queue)
    }

    /// Bytes that have come and were not pulled.
    pub fn unread(&self) -> u64 {
        ioctl_fionread(&self.stream).unwrap_or(0)
    }

    /// Everything that was sent has come back.
    pub fn is_served(&self) -> bool {
        self.received == self.sent
    }

    /// The connection has ended, one way or the other.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Sends bytes that are no part of the pattern.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.stream.write_all(line.as_bytes()).map_err(|error| {
            Failure::broken(error).after(format!("`{}` cannot be sent", line.trim()))
        })
    }

    /// Receives one line.
    pub fn hear(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(Failure::broken("the stream ended")),
                Ok(_) => line.extend(byte),
                Err(error) if error.kind() == WouldBlock => {
                    if !self.wait(false, PATIENCE) {
                        return Err(format!("nothing came for {} s", PATIENCE.as_secs()).into());
                    }
                }
                Err(error) => return Err(Failure::broken(error)),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_string())
    }

    /// Waits for the program to close this connection, in good order or not.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        loop {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(count) => return count == 0,
                Err(error) if error.kind() == WouldBlock => {}
                Err(_) => return true,
            }
            let rest = patience.saturating_sub(start.elapsed());
            if rest.is_zero() || !self.wait(false, rest) {
                return false;
            }
        }
    }

    fn wait(&self, to_send: bool, patience: Duration) -> bool {
        let out = if to_send {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        wait(&[(self, PollFlags::IN | out)], patience)
    }

    /// Ends the own side: shutdown(2), SHUT_WR. A FIN leaves.
    pub fn half_close(&mut self) {
        // A connection that is broken says so when it is read.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with an RST: socket(7), SO_LINGER with a time of 0.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Waits until one of the peers is ready; false if none is in time.
fn wait(peers: &[(&Peer, PollFlags)], patience: Duration) -> bool {
    let mut descriptors: Vec<PollFd<'_>> = peers
        .iter()
        .map(|(peer, flags)| PollFd::new(&peer.stream, *flags))
        .collect();
    let timeout = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    matches!(poll(&mut descriptors, Some(&timeout)), Ok(1..))
}

/// Receives from all of them until each has as many bytes back as it has sent, or nothing has come for `patience`. Returns
/// how many have.
pub fn count_served(peers: &mut [Peer], patience: Duration) -> usize {
    loop {
        let mut moved = false;
        for peer in peers.iter_mut().filter(|peer| peer.over.is_none()) {
            moved |= peer.pull(peer.sent);
        }
        let open = |peer: &&Peer| peer.received < peer.sent && peer.over.is_none();
        let waiting: Vec<(&Peer, PollFlags)> = peers
            .iter()
            .filter(open)
            .map(|peer| (peer, PollFlags::IN))
            .collect();
        if waiting.is_empty() || (!moved && !wait(&waiting, patience)) {
            return peers.iter().filter(|peer| peer.is_served()).count();
        }
    }
}

/// Waits until one of them can be read.
pub fn wait_for_any<P: std::borrow::Borrow<Peer>>(peers: &[P], patience: Duration) -> bool {
    let waiting = peers.iter().map(|peer| (peer.borrow(), PollFlags::IN));
    wait(&waiting.collect::<Vec<_>>(), patience)
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn the_pattern_shows_a_byte_that_is_lost() {
        let bytes: Vec<u8> = (0..100_000).map(pattern).collect();
        for lost in [1, 255, 256, 4096, 65_536] {
            assert_ne!(bytes[..1000], bytes[lost..lost + 1000]);
        }
    }
}
