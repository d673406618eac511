//! The kernel's view of one TCP socket: sock_diag(7), which ss(8) asks too. Linux alone has it. /proc/net/tcp says the same, but
//! takes a line for each socket of the machine.

use socket2::{Domain, Protocol, Socket as NetlinkSocket, Type};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

const AF_INET: u8 = 2;
const AF_NETLINK: i32 = 16;
const IPPROTO_TCP: u8 = 6;
const NETLINK_SOCK_DIAG: i32 = 4;
const NLM_F_REQUEST: u16 = 1;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// The sizes of `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;

/// A socket, as the kernel sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// As in include/net/tcp_states.h: 1 is ESTABLISHED, 3 SYN_RECV, 8 CLOSE_WAIT, 10 LISTEN.
    pub state: u8,
    /// The timer that runs (`idiag_timer`): 1 for a retransmission, 4 for probes of a closed window.
    pub timer: u8,
    /// How often this timer has expired without an answer.
    pub retransmits: u8,
    /// Bytes that the program has not read, a FIN counted as one. Of a listener: clients in the accept queue.
    pub receive_queue: u64,
    /// Bytes that the peer has not acknowledged. Of a listener: the backlog.
    pub send_queue: u64,
    /// The number that the descriptor's link in /proc/PID/fd shows.
    pub inode: u32,
}

/// One end of a connection on 127.0.0.1. The server's end is there before it is accepted.
pub fn end_of(local: u16, remote: u16) -> Option<Socket> {
    ask(local, Ipv4Addr::LOCALHOST, remote)
}

/// The listener on a port of 127.0.0.1.
pub fn listener(port: u16) -> Option<Socket> {
    ask(port, Ipv4Addr::UNSPECIFIED, 0)
}

fn ask(port: u16, peer: Ipv4Addr, peer_port: u16) -> Option<Socket> {
    let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
    let mut netlink = NetlinkSocket::new(Domain::from(AF_NETLINK), Type::RAW, protocol).ok()?;
    // The kernel answers within the call. The limit is for the case that it does not.
    let limit = Some(Duration::from_secs(1));
    netlink.set_read_timeout(limit).ok()?;
    netlink.write_all(&request(port, peer, peer_port)).ok()?;
    let mut answer = [0; 4096];
    let count = netlink.read(&mut answer).ok()?;
    socket(&answer[..count])
}

/// A `nlmsghdr` and an `inet_diag_req_v2`.
fn request(port: u16, peer: Ipv4Addr, peer_port: u16) -> [u8; HEADER + REQUEST] {
    let mut request = [0; HEADER + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEADER + REQUEST) as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(HEADER, &[AF_INET, IPPROTO_TCP]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes()); // any state
    put(HEADER + 8, &port.to_be_bytes());
    put(HEADER + 10, &peer_port.to_be_bytes());
    put(HEADER + 12, &Ipv4Addr::LOCALHOST.octets());
    put(HEADER + 28, &peer.octets());
    put(HEADER + 48, &[0xff; 8]); // any cookie
    request
}

/// An `inet_diag_msg`; `None` for an error, of which the commonest is ENOENT.
fn socket(answer: &[u8]) -> Option<Socket> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let message = answer.get(HEADER..HEADER + ANSWER)?;
    let number =
        |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().expect("four bytes"));
    (kind == SOCK_DIAG_BY_FAMILY).then(|| Socket {
        state: message[1],
        timer: message[2],
        retransmits: message[3],
        receive_queue: number(56).into(),
        send_queue: number(60).into(),
        inode: number(68),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_tells_of_a_client_that_is_not_accepted_yet() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let seen = listener(port).unwrap();
        assert_eq!((seen.state, seen.receive_queue), (10, 0));
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"hello").unwrap();
        let own = client.local_addr().unwrap().port();
        assert_eq!(listener(port).unwrap().receive_queue, 1);
        let seen = end_of(port, own).unwrap();
        assert_eq!((seen.state, seen.receive_queue), (1, 5));
        assert_eq!(end_of(own, own), None);
    }
}
