//! The depth of an accept queue, as the kernel has it. Linux only.
//!
//! The answer comes from sock_diag(7), as it does for `ss -l`: for a listening socket the two queue
//! sizes are the number of connections that wait and the backlog.

use crate::observe::Overflows;

/// The counters of /proc/net/netstat (proc_pid_net(5)) for this network namespace.
pub(crate) fn overflows() -> Option<Overflows> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    let mut found = Overflows::default();
    for (name, value) in names.zip(values) {
        match name {
            "ListenOverflows" => found.overflows = value.parse().ok()?,
            "ListenDrops" => found.drops = value.parse().ok()?,
            _ => {}
        }
    }
    Some(found)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ask<S>(_: S) -> Option<crate::observe::AcceptQueue> {
    None
}

#[cfg(target_os = "linux")]
pub(super) use linux::ask;

#[cfg(target_os = "linux")]
mod linux {
    use crate::observe::AcceptQueue;
    use socket2::{Domain, Protocol, SockRef, Socket, Type};
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::time::Duration;

    const AF_NETLINK: i32 = 16;
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    const IPPROTO_TCP: u8 = 6;
    const TCP_LISTEN: u32 = 10;
    /// The sizes of `nlmsghdr`, of `inet_diag_req_v2` and of `inet_diag_msg`.
    const HEADER: usize = 16;
    const REQUEST: usize = 56;
    const ANSWER: usize = 72;

    /// Asks for all listeners on the port of this socket, and finds this socket among them by its
    /// cookie, because sockets that share a port look the same otherwise.
    pub(in crate::sys) fn ask(listener: SockRef<'_>) -> Option<AcceptQueue> {
        let (cookie, address) = (
            listener.cookie().ok()?,
            listener.local_addr().ok()?.as_socket()?,
        );
        let mut netlink = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_SOCK_DIAG)),
        )
        .ok()?;
        // The kernel answers within the call. The limit is for a kernel that does not.
        netlink
            .set_read_timeout(Some(Duration::from_millis(100)))
            .ok()?;
        netlink.write_all(&request(address)).ok()?;
        let mut answer = [0; 32 * 1024];
        loop {
            let count = netlink.read(&mut answer).ok()?;
            let mut rest = answer.get(..count)?;
            while rest.len() >= HEADER {
                let length = number(rest, 0)? as usize;
                let (kind, message) = (number(rest, 4)? as u16, rest.get(HEADER..length)?);
                if kind == NLMSG_DONE || kind == NLMSG_ERROR {
                    return None;
                }
                if message.len() >= ANSWER
                    && u64::from(number(message, 44)?) | (u64::from(number(message, 48)?) << 32)
                        == cookie
                {
                    return Some(AcceptQueue {
                        depth: number(message, 56)?,
                        limit: number(message, 60)?,
                    });
                }
                // Each message starts at a multiple of four (netlink(7), NLMSG_ALIGN).
                rest = rest.get(length.next_multiple_of(4)..)?;
            }
        }
    }

    /// A `nlmsghdr` and a `inet_diag_req_v2` that asks for the listeners on one port.
    fn request(address: SocketAddr) -> [u8; HEADER + REQUEST] {
        const AF_INET: u8 = 2;
        const AF_INET6: u8 = 10;
        let mut request = [0; HEADER + REQUEST];
        let mut put =
            |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &((HEADER + REQUEST) as u32).to_ne_bytes());
        put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        put(6, &NLM_F_REQUEST_DUMP.to_ne_bytes());
        put(
            HEADER,
            &[
                if address.is_ipv4() { AF_INET } else { AF_INET6 },
                IPPROTO_TCP,
            ],
        );
        put(HEADER + 4, &(1_u32 << TCP_LISTEN).to_ne_bytes());
        put(HEADER + 8, &address.port().to_be_bytes());
        request
    }

    fn number(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }
}
