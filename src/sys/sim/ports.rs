//! Local addresses: which are free, which listener has one, and TIME-WAIT.

use super::chooser::Choice;
use super::errno::Errno;
use super::socket::{SocketId, State};
use super::world::{TimeWait, World};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long a pair of addresses stays in TIME-WAIT (TCP_TIMEWAIT_LEN in include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// After how long connect takes such a pair again (net.ipv4.tcp_tw_reuse, on loopback).
const REUSE: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn take_port(&mut self, id: SocketId, port: u16) {
        self.ports.entry(port).or_default().insert(id);
    }

    /// Gives back the port and the pair of a socket that is removed.
    pub(super) fn release_port(&mut self, id: SocketId) {
        self.release_pair(id);
        let local = self.sockets.get(&id).and_then(|socket| socket.local);
        if let Some(port) = local.map(|local| local.port()) {
            if let Some(sockets) = self.ports.get_mut(&port) {
                sockets.remove(&id);
                if sockets.is_empty() {
                    self.ports.remove(&port);
                }
            }
        }
    }

    pub(super) fn stop_listening(&mut self, id: SocketId) {
        let local = self.sockets.get(&id).and_then(|socket| socket.local);
        if let Some(sockets) = local.and_then(|local| self.listening.get_mut(&local.port())) {
            sockets.remove(&id);
        }
    }

    pub(super) fn release_pair(&mut self, id: SocketId) {
        if let Some((Some(local), Some(peer))) = self
            .sockets
            .get(&id)
            .map(|socket| (socket.local, socket.peer))
        {
            self.pairs.remove(&(local, peer));
        }
    }

    pub(super) fn note_time_wait(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let entry = TimeWait {
            since: self.now(),
            reuse_address: socket.reuse_address,
            reuse_port: socket.reuse_port,
        };
        if let (Some(local), Some(peer)) = (socket.local, socket.peer) {
            self.time_waits.push_back((entry.since, (local, peer)));
            self.time_wait.insert((local, peer), entry);
        }
    }

    /// bind(2). With port 0 the kernel prefers odd ports and leaves the even ones to connect
    /// (`inet_csk_find_open_port` in net/ipv4/inet_connection_sock.c).
    pub(super) fn bind(&mut self, id: SocketId, mut address: SocketAddr) -> Result<(), Errno> {
        if self.socket(id).local.is_some() {
            return Err(Errno::Inval);
        }
        self.drop_old_time_wait();
        if address.port() == 0 {
            let free = self.ports_from(1).find(|&port| {
                address.set_port(port);
                !self.ports.contains_key(&port) && !self.conflicts(id, address)
            });
            address.set_port(free.ok_or(Errno::AddrInUse)?);
        } else if self.conflicts(id, address) {
            return Err(Errno::AddrInUse);
        }
        let socket = self.socket_mut(id);
        socket.local = Some(address);
        socket.is_bound = true;
        self.take_port(id, address.port());
        self.next_port = address.port();
        Ok(())
    }

    /// `inet_bind_conflict` in net/ipv4/inet_connection_sock.c, and the table at SO_REUSEADDR in
    /// socket(7): an address may be shared if both sockets have SO_REUSEADDR and none listens, or both
    /// have SO_REUSEPORT.
    pub(super) fn conflicts(&self, id: SocketId, address: SocketAddr) -> bool {
        let socket = self.socket(id);
        let others = self.ports.get(&address.port()).into_iter().flatten();
        let live = others.filter(|&&other| other != id).any(|&other| {
            let other = self.socket(other);
            let apart = other
                .local
                .is_some_and(|local| !overlap(local.ip(), address.ip()));
            let listens = other.state == State::Listening;
            let shares = socket.reuse_address && other.reuse_address && !listens
                || socket.reuse_port && other.reuse_port;
            !apart && !shares
        });
        live || self.time_wait.iter().any(|((local, _), other)| {
            let same = local.port() == address.port() && overlap(local.ip(), address.ip());
            let shares = socket.reuse_address && other.reuse_address
                || socket.reuse_port && other.reuse_port;
            same && !shares
        })
    }

    fn drop_old_time_wait(&mut self) {
        let now = self.now();
        while let Some(&(since, pair)) = self.time_waits.front() {
            if since.after(TIME_WAIT) > now {
                break;
            }
            self.time_waits.pop_front();
            // It may be there for a later connection.
            if self
                .time_wait
                .get(&pair)
                .is_some_and(|entry| entry.since == since)
            {
                self.time_wait.remove(&pair);
            }
        }
    }

    /// The local address of a socket that connects. The port is one with which the pair of addresses
    /// is free; a port that a bind holds is not taken.
    pub(super) fn choose_local(&mut self, to: SocketAddr) -> Result<SocketAddr, Errno> {
        let ip = match to.ip() {
            ip if ip.is_loopback() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        self.drop_old_time_wait();
        let free = self.ports_from(0).find(|&port| {
            let local = SocketAddr::new(ip, port);
            self.is_free_pair(local, to) && !self.is_held_by_bind(port)
        });
        let port = free.ok_or(Errno::AddrNotAvail)?;
        self.next_port = port;
        Ok(SocketAddr::new(ip, port))
    }

    pub(super) fn is_free_pair(&self, local: SocketAddr, to: SocketAddr) -> bool {
        let waits = self.time_wait.get(&(local, to));
        let reusable = |entry: &TimeWait| entry.since.after(REUSE) <= self.now();
        !self.pairs.contains(&(local, to)) && waits.is_none_or(reusable)
    }

    /// A bound socket that is not connected, or a listener and what it accepted.
    fn is_held_by_bind(&self, port: u16) -> bool {
        let sockets = self.ports.get(&port).into_iter().flatten();
        sockets.into_iter().any(|&id| self.socket(id).is_bound)
    }

    /// The automatic ports, those of one parity first, and going on from the last that was chosen.
    fn ports_from(&self, parity: u16) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = (*self.limits.ports.start(), *self.limits.ports.end());
        let next = self.next_port.saturating_add(1).clamp(first, last);
        let all = (next..=last).chain(first..next);
        let preferred = all.clone().filter(move |port| port % 2 == parity);
        preferred.chain(all.filter(move |port| port % 2 != parity))
    }

    /// The listener of an address: one that is bound to it, or else to the wildcard. Listeners that
    /// share a port (SO_REUSEPORT) take turns as the network likes.
    pub(super) fn find_listener(&mut self, to: SocketAddr) -> Option<SocketId> {
        let sockets = self.listening.get(&to.port())?;
        let with = |ip: IpAddr| -> Vec<SocketId> {
            let here = sockets.iter();
            let bound = here.filter(|&&id| self.socket(id).local.map(|it| it.ip()) == Some(ip));
            bound.copied().collect()
        };
        let mut found = with(to.ip());
        if found.is_empty() {
            found = with(wildcard(to.ip()));
        }
        let chosen = self.choose(Choice::Listener, found.len());
        found.get(chosen).copied()
    }
}

fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
}

fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
