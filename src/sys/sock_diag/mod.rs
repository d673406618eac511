//! What the kernel says of a TCP socket by sock_diag(7), as it does to `ss`: the accept queue of a
//! listener, and the send queue of a connection. Linux only; elsewhere the answer is `None`.
//!
//! The answer is for the network namespace of the calling thread. A socket of another one is not
//! found.

#[cfg(target_os = "linux")]
mod message;

#[cfg(target_os = "linux")]
pub(super) use linux::{accept_queue, accept_queues, undelivered};

#[cfg(not(target_os = "linux"))]
pub(super) fn accept_queue(
    _: socket2::SockRef<'_>,
    _: Option<std::net::SocketAddr>,
) -> Option<crate::observe::AcceptQueue> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(super) fn accept_queues<'a>(
    listeners: impl Iterator<Item = socket2::SockRef<'a>>,
) -> Vec<Option<crate::observe::AcceptQueue>> {
    listeners.map(|_| None).collect()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn undelivered(
    _: socket2::SockRef<'_>,
    _: Option<std::net::SocketAddr>,
    _: Option<std::net::SocketAddr>,
) -> Option<u32> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use super::message::{self, ByteOrder, Message, Request, SocketInfo, messages};
    use crate::observe::AcceptQueue;
    use socket2::{Domain, Protocol, SockRef, Socket, Type};
    use std::collections::HashMap;
    use std::io::Read;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::ops::ControlFlow;

    /// The depth of an accept queue, and its limit. The kernel is asked for all listeners on the port,
    /// because it may find another one of those that share a port (SO_REUSEPORT) if it is asked for
    /// one.
    pub(in crate::sys) fn accept_queue(
        listener: SockRef<'_>,
        local: Option<SocketAddr>,
    ) -> Option<AcceptQueue> {
        find(&message::listeners(local?), listener).map(queue_of)
    }

    /// The same for many listeners: one question for each address family, because a question for each
    /// listener looks at all listeners of the system.
    pub(in crate::sys) fn accept_queues<'a>(
        listeners: impl Iterator<Item = SockRef<'a>>,
    ) -> Vec<Option<AcceptQueue>> {
        let cookies: Vec<Option<u64>> = listeners.map(|one| one.cookie().ok()).collect();
        let mut found = HashMap::new();
        for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            let known = |cookie: &u64| found.contains_key(cookie);
            if !cookies.iter().flatten().all(known) {
                read_answer(&message::listeners(SocketAddr::new(any, 0)), |socket| {
                    found.insert(socket.cookie, queue_of(socket));
                    ControlFlow::<()>::Continue(())
                });
            }
        }
        let queue = |cookie: Option<u64>| found.get(&cookie?).copied();
        cookies.into_iter().map(queue).collect()
    }

    fn queue_of(listener: SocketInfo) -> AcceptQueue {
        AcceptQueue {
            depth: listener.receive_queue,
            limit: listener.send_queue,
        }
    }

    /// The bytes in the send queue of a connection, 0 if it has no peer any more. The kernel looks up
    /// this one socket in its hash table, however many there are.
    pub(in crate::sys) fn undelivered(
        connection: SockRef<'_>,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> Option<u32> {
        let Some(peer) = peer else { return Some(0) };
        let found = find(&message::connection(local?, peer), connection)?;
        Some(found.undelivered())
    }

    /// What the answer says of this socket.
    fn find(request: &Request, socket: SockRef<'_>) -> Option<SocketInfo> {
        let cookie = socket.cookie().ok()?;
        read_answer(request, |socket| {
            if socket.cookie == cookie {
                ControlFlow::Break(socket)
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// Reads the sockets of an answer until `read` breaks or the answer ends.
    fn read_answer<B>(
        request: &Request,
        mut read: impl FnMut(SocketInfo) -> ControlFlow<B>,
    ) -> Option<B> {
        let mut netlink = ask(request)?;
        let mut answer = [0; 32 * 1024];
        loop {
            let count = netlink.read(&mut answer).ok()?;
            for message in messages(answer.get(..count)?, ByteOrder::NATIVE) {
                let Message::Socket(socket) = message else {
                    return None;
                };
                if let ControlFlow::Break(found) = read(socket) {
                    return Some(found);
                }
            }
        }
    }

    /// Sends a request. The kernel answers within the call, so the answer is read without waiting.
    fn ask(request: &Request) -> Option<Socket> {
        const AF_NETLINK: i32 = 16;
        const NETLINK_SOCK_DIAG: i32 = 4;
        let netlink = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW.nonblocking(),
            Some(Protocol::from(NETLINK_SOCK_DIAG)),
        )
        .ok()?;
        netlink.send(request).ok()?;
        Some(netlink)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// Both ends of a connection to this address. The first end is nonblocking.
    fn pair(address: &str, only_v6: bool) -> (TcpStream, TcpStream) {
        let address: SocketAddr = address.parse().unwrap();
        let listener = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        );
        let listener = listener.unwrap();
        if address.is_ipv6() {
            listener.set_only_v6(only_v6).unwrap();
        }
        listener.bind(&address.into()).unwrap();
        listener.listen(1).unwrap();
        let listener = TcpListener::from(listener);
        let port = listener.local_addr().unwrap().port();
        let target = if only_v6 || address.is_ipv4() {
            SocketAddr::new(address.ip(), port)
        } else {
            SocketAddr::from(([127, 0, 0, 1], port))
        };
        let far = TcpStream::connect(target).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn undelivered_of(stream: &TcpStream) -> u32 {
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
        undelivered(SockRef::from(stream), local, peer).unwrap()
    }

    /// Writes until the kernel takes no more. Returns how much it took.
    fn fill(stream: &mut TcpStream) -> usize {
        let mut total = 0;
        loop {
            match stream.write(&[7; 1000]) {
                Ok(count) => total += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn wait(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn undelivered_is_what_was_written_and_is_not_with_the_peer() {
        for (address, only_v6) in [("127.0.0.1:0", true), ("[::1]:0", true), ("[::]:0", false)] {
            let (mut near, mut far) = pair(address, only_v6);
            assert_eq!(undelivered_of(&near), 0, "{address}");
            let total = fill(&mut near);
            // What is not in the send queue is in the peer's receive queue.
            let received = || {
                let mut buffer = vec![0; total];
                far.peek(&mut buffer).unwrap()
            };
            wait("the queues add up", || {
                let before = undelivered_of(&near);
                before > 0
                    && received() + before as usize == total
                    && before == undelivered_of(&near)
            });
            near.shutdown(Shutdown::Write).unwrap();
            assert!(undelivered_of(&near) as usize + received() <= total);
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), total, "{address}");
            wait("all is with the peer", || undelivered_of(&near) == 0);
        }
    }

    #[test]
    fn nothing_is_undelivered_once_the_connection_is_over() {
        let (mut near, far) = pair("127.0.0.1:0", true);
        let total = fill(&mut near);
        assert!(total > 0 && undelivered_of(&near) > 0);
        SockRef::from(&far)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(far);
        wait("the reset has come", || near.peer_addr().is_err());
        assert_eq!(undelivered_of(&near), 0);
    }
}
