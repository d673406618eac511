//! The system calls on a socket.

use super::chooser::Choice;
use super::errno::Errno;
use super::ready::EVERY;
use super::socket::{Owner, Remote, Socket, SocketId, State, flags};
use super::world::{Route, Rule, World};
use crate::observe::AcceptQueue;
use std::net::SocketAddr;

/// The errors of accept(2) that the network or the system may cause at any time. Only the first
/// stands for a connection.
const ACCEPT_ERRORS: [Errno; 5] = [
    Errno::ConnAborted,
    Errno::MFile,
    Errno::NFile,
    Errno::NoBufs,
    Errno::Intr,
];

/// Opening.
impl World {
    fn open(&mut self, process: usize) -> Result<(), Errno> {
        if self.processes[process].open >= self.limits.descriptors {
            return Err(Errno::MFile);
        }
        self.processes[process].open += 1;
        Ok(())
    }

    /// socket(2).
    pub(super) fn socket_call(&mut self, process: usize) -> Result<SocketId, Errno> {
        self.open(process)?;
        Ok(self.add_socket(Socket::new(Owner::Process(process))))
    }

    /// listen(2), also again: what is queued stays and counts.
    pub(super) fn listen(&mut self, id: SocketId, backlog: u32) -> Result<(), Errno> {
        let state = self.socket(id).state;
        if !matches!(state, State::Fresh | State::Listening) {
            return Err(Errno::Inval);
        }
        if state == State::Fresh && self.has_rival(id) {
            return Err(Errno::AddrInUse);
        }
        let socket = self.socket_mut(id);
        socket.state = State::Listening;
        socket.backlog = backlog;
        let local = socket.local;
        if let Some(local) = local {
            self.listening.entry(local.port()).or_default().insert(id);
        }
        Ok(())
    }

    /// Two sockets may be bound to one address with SO_REUSEADDR, but only one may listen.
    fn has_rival(&self, id: SocketId) -> bool {
        let local = self.socket(id).local;
        local.is_some_and(|local| self.conflicts(id, local))
    }

    /// connect(2). The attempt always ends later (EINPROGRESS), even if it has ended by then.
    pub(super) fn connect(&mut self, id: SocketId, to: SocketAddr) -> Result<(), Errno> {
        match self.socket(id).state {
            State::Fresh => {}
            State::SynSent => return Err(Errno::Already),
            State::Listening => return Err(Errno::IsConn),
            _ => return Err(Errno::IsConn),
        }
        match self.routes.get(&to.ip()) {
            Some(Route::Unreachable) => return Err(Errno::HostUnreach),
            Some(Route::Silent) | None => {}
        }
        let local = match self.socket(id).local {
            Some(local) if !self.is_free_pair(local, to) => return Err(Errno::AddrNotAvail),
            Some(local) => local,
            None => self.choose_local(to)?,
        };
        self.take_port(id, local.port());
        self.pairs.insert((local, to));
        let socket = self.socket_mut(id);
        (socket.local, socket.peer) = (Some(local), Some(to));
        socket.state = State::SynSent;
        self.send_syn(id);
        self.settle();
        Err(Errno::InProgress)
    }

    /// accept4(2). The descriptor is allocated first, so EMFILE comes even if the queue is empty.
    pub(super) fn accept(&mut self, id: SocketId) -> Result<(SocketId, SocketAddr), Errno> {
        let Owner::Process(process) = self.socket(id).owner else {
            return Err(Errno::Inval);
        };
        if self.socket(id).state != State::Listening {
            return Err(Errno::Inval);
        }
        if self.processes[process].open >= self.limits.descriptors {
            return Err(Errno::MFile);
        }
        let Some(&first) = self.socket(id).queue.front() else {
            return Err(Errno::Again);
        };
        let fails = self.choose(Choice::AcceptError, ACCEPT_ERRORS.len() + 1);
        if fails > 0 {
            if ACCEPT_ERRORS[fails - 1] == Errno::ConnAborted {
                self.socket_mut(id).queue.pop_front();
                self.abort(first);
            }
            return Err(ACCEPT_ERRORS[fails - 1]);
        }
        self.socket_mut(id).queue.pop_front();
        self.open(process)?;
        let accepted = self.socket_mut(first);
        accepted.owner = Owner::Process(process);
        let peer = accepted.peer.ok_or(Errno::NotConn)?;
        Ok((first, peer))
    }
}

/// Moving bytes.
impl World {
    /// A signal may end a call before it moves anything (signal(7)).
    fn interrupt(&mut self) -> Result<(), Errno> {
        match self.choose(Choice::Interrupt, 2) {
            0 => Ok(()),
            _ => Err(Errno::Intr),
        }
    }

    /// recv(2): `tcp_recvmsg_locked` in net/ipv4/tcp.c.
    pub(super) fn recv(&mut self, id: SocketId, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.interrupt()?;
        let available = self.socket(id).received.len().min(buffer.len());
        if available > 0 {
            let count = available - self.choose(Choice::ShortRead, available);
            if count < available {
                // A read is short only because the rest arrives after it, and that is an edge.
                self.wake(id, flags::IN | flags::PRI);
            }
            return Ok(self.take_received(id, &mut buffer[..count]));
        }
        let socket = self.socket_mut(id);
        if socket.state == State::Listening {
            return Err(Errno::NotConn);
        }
        if socket.ended {
            return Ok(0);
        }
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        match socket.state {
            _ if socket.receive_shut => Ok(0),
            State::Fresh | State::Closed => Err(Errno::NotConn),
            _ => Err(Errno::Again),
        }
    }

    fn take_received(&mut self, id: SocketId, buffer: &mut [u8]) -> usize {
        let receive_max = self.limits.receive_buffer;
        let socket = self.socket_mut(id);
        let count = buffer.len();
        for (place, byte) in buffer.iter_mut().zip(socket.received.drain(..count)) {
            *place = byte;
        }
        let opens = socket.reopen_window(receive_max);
        let remote = socket.remote;
        self.progress += 1;
        if let (true, Remote::Socket(remote)) = (opens, remote) {
            self.send_segments(remote);
            self.settle();
        }
        if !self.keeps(Rule::Edge) {
            self.wake(id, EVERY);
        }
        count
    }

    /// send(2) with MSG_NOSIGNAL: `tcp_sendmsg_locked` in net/ipv4/tcp.c.
    pub(super) fn send(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, Errno> {
        self.interrupt()?;
        let socket = self.socket_mut(id);
        if !matches!(socket.state, State::Established | State::CloseWait) {
            return Err(match (socket.error.take(), socket.state) {
                (Some(error), _) => error,
                (None, State::SynSent) => Errno::Again,
                (None, _) => Errno::Pipe,
            });
        }
        let mut sent = 0;
        loop {
            let count = self.queue_to_send(id, &bytes[sent..]);
            sent += count;
            let open = matches!(self.socket(id).state, State::Established | State::CloseWait);
            // On a plain network the peer may have taken some by now.
            if count == 0 || sent == bytes.len() || !open || !self.chooser.is_plain() {
                break;
            }
        }
        if sent < bytes.len() {
            self.socket_mut(id).no_space = true;
        }
        if sent == 0 && !bytes.is_empty() {
            return Err(Errno::Again);
        }
        Ok(sent)
    }

    /// Takes what there is space for. After a write that took less, an edge follows, so the mark is
    /// set before anything moves.
    fn queue_to_send(&mut self, id: SocketId, bytes: &[u8]) -> usize {
        let send_max = self.limits.send_buffer;
        let held = self.socket(id).to_send.len();
        let possible = bytes.len().min(send_max.saturating_sub(held));
        let count = possible - self.choose(Choice::ShortWrite, possible);
        let socket = self.socket_mut(id);
        socket.to_send.extend(&bytes[..count]);
        socket.no_space |= count < bytes.len();
        self.progress += count as u64;
        self.send_segments(id);
        self.settle();
        count
    }
}

/// Ending.
impl World {
    /// shutdown(2) with SHUT_WR: `inet_shutdown` in net/ipv4/af_inet.c. It wakes every interest, even
    /// if it fails.
    pub(super) fn shutdown_write(&mut self, id: SocketId) -> Result<(), Errno> {
        let socket = self.socket_mut(id);
        let mut result = Ok(());
        match socket.state {
            State::Listening => {}
            State::SynSent => {
                // `tcp_disconnect`: the attempt ends, and the socket could connect again.
                socket.error = Some(Errno::ConnReset);
                socket.state = State::Fresh;
                self.cancel_syn(id);
            }
            State::Fresh | State::Closed => {
                socket.send_shut = true;
                result = Err(Errno::NotConn);
            }
            State::Established => socket.state = State::FinWait1,
            State::CloseWait => socket.state = State::LastAck,
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {}
        }
        let socket = self.socket_mut(id);
        if !matches!(socket.state, State::Listening | State::Fresh) {
            socket.send_shut = true;
        }
        self.send_segments(id);
        self.settle();
        if self.keeps(Rule::OwnShutdown) {
            self.wake(id, EVERY);
        }
        result
    }

    /// close(2) of the last descriptor: `__tcp_close` in net/ipv4/tcp.c.
    pub(super) fn close(&mut self, id: SocketId) {
        self.progress += 1;
        // It may not be registered.
        let _ = self.deregister(id, true);
        if let Owner::Process(process) = self.socket(id).owner {
            self.processes[process].open -= 1;
        }
        match self.socket(id).state {
            State::Listening => self.close_listener(id),
            State::Fresh | State::SynSent | State::Closed => self.remove(id),
            _ => self.close_stream(id),
        }
        self.settle();
    }

    /// Queued connections are reset, and a client that waits finds nobody at its next SYN.
    fn close_listener(&mut self, id: SocketId) {
        for queued in std::mem::take(&mut self.socket_mut(id).queue) {
            self.abort(queued);
        }
        self.remove(id);
    }

    /// Unread input makes the close a reset (RFC 1122, section 4.2.2.13; RFC 2525, section 2.17), and
    /// so does SO_LINGER with a time of zero, unless both FINs are on their way already. A FIN that was
    /// not read does not.
    fn close_stream(&mut self, id: SocketId) {
        let unread = self.keeps(Rule::ResetOnUnread) && !self.socket(id).received.is_empty();
        if unread || self.socket(id).reset_on_close {
            return self.abort(id);
        }
        let socket = self.socket_mut(id);
        socket.owner = Owner::Nobody;
        socket.send_shut = true;
        socket.receive_shut = true;
        socket.state = match socket.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            state => state,
        };
        if socket.state == State::FinWait2 {
            let remote = socket.remote;
            return self.leave_orphan(id, remote);
        }
        self.send_segments(id);
    }

    /// Resets a connection and removes its socket.
    fn abort(&mut self, id: SocketId) {
        if self.socket(id).state != State::Closed {
            self.send_reset(id);
        }
        self.remove(id);
    }
}

/// Asking.
impl World {
    /// SO_ERROR (socket(7)), which is cleared.
    pub(super) fn take_error(&mut self, id: SocketId) -> Option<Errno> {
        self.socket_mut(id).error.take()
    }

    /// getpeername(2): only while the connection is there.
    pub(super) fn peer_addr(&self, id: SocketId) -> Result<SocketAddr, Errno> {
        let socket = self.socket(id);
        match socket.state {
            State::Fresh | State::Listening | State::SynSent | State::Closed => Err(Errno::NotConn),
            _ => socket.peer.ok_or(Errno::NotConn),
        }
    }

    pub(super) fn accept_queue(&self, id: SocketId) -> AcceptQueue {
        let socket = self.socket(id);
        AcceptQueue {
            depth: socket.queue.len() as u32,
            limit: socket.backlog,
        }
    }
}
