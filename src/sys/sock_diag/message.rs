//! The messages of sock_diag(7), as bytes: a request, and the sockets in an answer. No system call.
//!
//! Numbers are in the byte order of the machine (netlink(7)), except addresses and ports, which are
//! in network order.

use std::net::{IpAddr, SocketAddr};

/// The types of a message (netlink(7)). SOCK_DIAG_BY_FAMILY is the type of a request, and of a socket
/// in the answer.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
/// The sizes of `nlmsghdr`, of `inet_diag_req_v2` and of `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const SOCKET: usize = 72;

/// The states of a socket that matter here (include/net/tcp_states.h).
const TCP_FIN_WAIT1: u8 = 4;
const TCP_LAST_ACK: u8 = 9;
const TCP_LISTEN: u8 = 10;
const TCP_CLOSING: u8 = 11;

#[derive(Clone, Copy, Debug)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(super) const NATIVE: ByteOrder = if cfg!(target_endian = "big") {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    };

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }
}

/// A socket in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketInfo {
    /// SO_COOKIE of the socket: a number that no other socket of the machine has.
    pub(super) cookie: u64,
    pub(super) state: u8,
    /// Of a listener: the connections that wait. Of a connection: the bytes that were not read.
    pub(super) receive_queue: u32,
    /// Of a listener: the backlog. Of a connection: the bytes, and the FIN, that were written and not
    /// acknowledged.
    pub(super) send_queue: u32,
}

impl SocketInfo {
    /// The bytes that were written and that the peer has not acknowledged. A FIN takes a sequence
    /// number (RFC 9293, section 3.4), and in these states it is not acknowledged.
    pub(super) fn undelivered(&self) -> u32 {
        let has_fin = matches!(self.state, TCP_FIN_WAIT1 | TCP_LAST_ACK | TCP_CLOSING);
        self.send_queue.saturating_sub(u32::from(has_fin))
    }
}

/// A message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Socket(SocketInfo),
    /// Nothing follows: the last message of a dump, an error, or a message that makes no sense.
    End,
}

/// The messages in one datagram of an answer.
pub(super) struct Messages<'a> {
    rest: &'a [u8],
    order: ByteOrder,
}

pub(super) fn messages(datagram: &[u8], order: ByteOrder) -> Messages<'_> {
    Messages {
        rest: datagram,
        order,
    }
}

impl Messages<'_> {
    /// The first message, and the bytes that follow it. `None` if it is incomplete.
    fn split(&self) -> Option<(Message, usize)> {
        let length = self.order.u32(self.rest, 0)? as usize;
        let message = match self.order.u16(self.rest, 4)? {
            NLMSG_DONE | NLMSG_ERROR => Message::End,
            SOCK_DIAG_BY_FAMILY => {
                Message::Socket(socket(self.rest.get(HEADER..length)?, self.order)?)
            }
            _ => return None,
        };
        // Each message starts at a multiple of four (netlink(7), NLMSG_ALIGN).
        Some((message, length.checked_next_multiple_of(4)?))
    }
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.rest.is_empty() {
            return None;
        }
        let (message, length) = self.split().unwrap_or((Message::End, 0));
        let is_end = message == Message::End;
        self.rest = if is_end {
            &[]
        } else {
            self.rest.get(length..).unwrap_or_default()
        };
        Some(message)
    }
}

/// An `inet_diag_msg`. Attributes may follow it.
fn socket(message: &[u8], order: ByteOrder) -> Option<SocketInfo> {
    let message = message.get(..SOCKET)?;
    let (low, high) = (order.u32(message, 44)?, order.u32(message, 48)?);
    Some(SocketInfo {
        cookie: (u64::from(high) << 32) | u64::from(low),
        state: *message.get(1)?,
        receive_queue: order.u32(message, 56)?,
        send_queue: order.u32(message, 60)?,
    })
}

/// An `nlmsghdr` and an `inet_diag_req_v2`.
pub(super) type Request = [u8; HEADER + REQUEST];

/// Asks for all listeners of the address's family, on its port or, if that is 0, on every port.
pub(super) fn listeners(address: SocketAddr) -> Request {
    let mut request = request(NLM_F_REQUEST | NLM_F_DUMP, address);
    put(
        &mut request,
        HEADER + 4,
        &(1_u32 << TCP_LISTEN).to_ne_bytes(),
    );
    put(&mut request, HEADER + 8, &address.port().to_be_bytes());
    request
}

/// Asks for the one socket with these two addresses. The kernel finds it in its hash table.
pub(super) fn connection(local: SocketAddr, peer: SocketAddr) -> Request {
    let mut request = request(NLM_F_REQUEST, local);
    const INET_DIAG_NOCOOKIE: [u8; 8] = [0xff; 8];
    for (address, port_at, ip_at) in [(local, 8, 12), (peer, 10, 28)] {
        put(
            &mut request,
            HEADER + port_at,
            &address.port().to_be_bytes(),
        );
        match address.ip() {
            IpAddr::V4(ip) => put(&mut request, HEADER + ip_at, &ip.octets()),
            IpAddr::V6(ip) => put(&mut request, HEADER + ip_at, &ip.octets()),
        }
    }
    // A socket with a link-local address is bound to the interface.
    if let SocketAddr::V6(local) = local {
        put(&mut request, HEADER + 44, &local.scope_id().to_ne_bytes());
    }
    put(&mut request, HEADER + 48, &INET_DIAG_NOCOOKIE);
    request
}

fn request(flags: u16, address: SocketAddr) -> Request {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut request = [0; HEADER + REQUEST];
    put(&mut request, 0, &((HEADER + REQUEST) as u32).to_ne_bytes());
    put(&mut request, 4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&mut request, 6, &flags.to_ne_bytes());
    put(&mut request, HEADER, &[family, IPPROTO_TCP]);
    request
}

fn put(request: &mut Request, at: usize, bytes: &[u8]) {
    request[at..at + bytes.len()].copy_from_slice(bytes);
}
