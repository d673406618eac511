//! The network: SYNs, segments and resets arrive, one at a time.

use super::chooser::Choice;
use super::errno::Errno;
use super::ready::EVERY;
use super::socket::{Owner, Remote, Socket, SocketId, State, flags};
use super::world::{Flight, Route, Rule, World};
use crate::time::Tick;
use std::net::SocketAddr;
use std::time::Duration;

/// When a client without an answer sends its SYNs, in seconds after connect, and when it gives up:
/// tcp_syn_retries and tcp_syn_linear_timeouts (ip-sysctl) with their defaults, as measured on Linux
/// 6.18.
const SYNS: [u64; 11] = [0, 1, 2, 3, 4, 5, 7, 11, 19, 36, 69];
const CONNECT_LIMIT: u64 = 135;

impl World {
    /// On a plain network what is sent arrives within the call that sends it, as on loopback.
    pub(super) fn settle(&mut self) {
        while self.chooser.is_plain() && self.deliver(0) {}
    }

    /// One of what is in flight arrives. False if there is nothing.
    pub(crate) fn deliver(&mut self, index: usize) -> bool {
        match self.flights.remove(index) {
            Some(Flight::Syn(client)) => self.arrive_syn(client),
            Some(Flight::Segment(id)) => self.arrive_segment(id),
            Some(Flight::Reset(id)) => self.arrive_reset(id),
            None => return false,
        }
        self.progress += 1;
        true
    }

    /// The time of the next SYN that is due.
    pub(crate) fn next_timer(&self) -> Option<Tick> {
        self.timers.keys().next().map(|&(tick, _)| tick)
    }

    /// Moves the time, and sends the SYNs that are due then.
    pub(crate) fn advance(&mut self, now: Tick) {
        self.time.set(self.now().max(now));
        let now = self.now();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let client = entry.remove();
            self.socket_mut(client).retry = None;
            self.send_syn(client);
            self.settle();
        }
    }
}

/// The handshake. It is one step: the client is connected when the server queues it.
impl World {
    /// Sends a SYN and sets the time of the next one.
    pub(super) fn send_syn(&mut self, client: SocketId) {
        let sent = self.socket(client).syns;
        if sent == SYNS.len() {
            return self.fail_connect(client, Errno::TimedOut);
        }
        let until = SYNS.get(sent + 1).copied().unwrap_or(CONNECT_LIMIT);
        let next = self.now().after(Duration::from_secs(until - SYNS[sent]));
        let key = (next, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(key, client);
        let socket = self.socket_mut(client);
        socket.syns += 1;
        socket.retry = Some(key);
        self.flights.push_back(Flight::Syn(client));
    }

    pub(super) fn cancel_syn(&mut self, client: SocketId) {
        let socket = self.sockets.get_mut(&client);
        if let Some(key) = socket.and_then(|socket| socket.retry.take()) {
            self.timers.remove(&key);
        }
    }

    /// `tcp_conn_request` in net/ipv4/tcp_input.c: a SYN for a full accept queue is dropped.
    fn arrive_syn(&mut self, client: SocketId) {
        let Some(socket) = self.sockets.get(&client) else {
            return;
        };
        let (State::SynSent, Some(from), Some(to)) = (socket.state, socket.local, socket.peer)
        else {
            return;
        };
        if self.routes.get(&to.ip()) == Some(&Route::Silent) {
            return;
        }
        if from == to {
            return self.connect_to_itself(client);
        }
        let Some(listener) = self.find_listener(to) else {
            return self.flights.push_back(Flight::Reset(client));
        };
        let room = usize::from(self.keeps(Rule::OneMore));
        if !self.socket(listener).has_room(room) {
            self.overflows.overflows += 1;
            self.overflows.drops += 1;
            return;
        }
        self.establish(client, listener, to, from);
    }

    fn establish(
        &mut self,
        client: SocketId,
        listener: SocketId,
        to: SocketAddr,
        from: SocketAddr,
    ) {
        let mut server = Socket::new(Owner::Queue(listener));
        server.state = State::Established;
        server.remote = Remote::Socket(client);
        (server.local, server.peer) = (Some(to), Some(from));
        let parent = self.socket(listener);
        server.is_bound = true;
        server.reuse_address = parent.reuse_address;
        server.reuse_port = parent.reuse_port;
        let server = self.add_socket(server);
        self.take_port(server, to.port());
        self.pairs.insert((to, from));
        self.become_established(client, server);
        self.socket_mut(listener).queue.push_back(server);
        self.wake(listener, flags::IN);
    }

    fn become_established(&mut self, client: SocketId, remote: SocketId) {
        self.cancel_syn(client);
        let socket = self.socket_mut(client);
        socket.state = State::Established;
        socket.remote = Remote::Socket(remote);
        self.wake(client, EVERY);
    }

    /// Simultaneous open (RFC 9293, section 3.5): a socket whose own port is the one it calls.
    fn connect_to_itself(&mut self, client: SocketId) {
        self.become_established(client, client);
    }

    fn fail_connect(&mut self, client: SocketId, error: Errno) {
        self.cancel_syn(client);
        let socket = self.socket_mut(client);
        socket.error = Some(error);
        socket.finish();
        self.release_pair(client);
        self.wake(client, EVERY);
    }
}

/// Data, FIN and reset.
impl World {
    /// Puts a socket in flight if it has something that can arrive.
    pub(super) fn send_segments(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        let sends = match (socket.to_send.is_empty(), socket.remote) {
            (_, Remote::None) => false,
            (true, _) => socket.has_fin_to_send(),
            (false, Remote::Socket(remote)) => {
                let remote = self.sockets.get(&remote);
                remote.is_none_or(|remote| remote.window(self.limits.receive_buffer) > 0)
            }
            (false, Remote::Ended | Remote::Reset) => true,
        };
        if sends && !socket.in_flight {
            self.socket_mut(id).in_flight = true;
            self.flights.push_back(Flight::Segment(id));
        }
    }

    fn arrive_segment(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.in_flight = false;
        let remote = socket.remote;
        if !socket.to_send.is_empty() {
            self.arrive_data(id, remote);
        } else if socket.has_fin_to_send() {
            self.arrive_fin(id, remote);
        }
        self.send_segments(id);
    }

    fn arrive_data(&mut self, id: SocketId, remote: Remote) {
        let Remote::Socket(to) = remote else {
            self.socket_mut(id).to_send.clear();
            if remote == Remote::Ended {
                self.send_reset_to(id);
            }
            return;
        };
        let receive_max = self.limits.receive_buffer;
        let receiver = self.socket(to);
        // Nobody can read it (RFC 1122, section 4.2.2.13).
        if receiver.owner == Owner::Nobody || receiver.state == State::Closed {
            let sender = self.socket_mut(id);
            sender.to_send.clear();
            sender.remote = Remote::Reset;
            self.send_reset_to(id);
            self.remove_if_closed(to);
            return;
        }
        let possible = receiver
            .window(receive_max)
            .min(self.socket(id).to_send.len());
        let count = possible - self.choose(Choice::Split, possible);
        let bytes: Vec<u8> = self.socket_mut(id).to_send.drain(..count).collect();
        self.socket_mut(to).receive(bytes, receive_max);
        if count > 0 {
            self.wake(to, flags::IN | flags::PRI);
        }
        self.report_space(id);
    }

    /// `sk_stream_write_space`: an edge, if a write or poll found the buffer full before.
    fn report_space(&mut self, id: SocketId) {
        let send_max = self.limits.send_buffer;
        let socket = self.socket_mut(id);
        if socket.no_space && socket.is_writable(send_max) {
            socket.no_space = false;
            self.wake(id, flags::OUT);
        }
    }

    /// The FIN arrives, and its acknowledgement too.
    fn arrive_fin(&mut self, id: SocketId, remote: Remote) {
        if remote == Remote::Reset {
            return;
        }
        if let Remote::Socket(to) = remote {
            let half = self.keeps(Rule::HalfClose);
            let receiver = self.socket_mut(to);
            receiver.send_shut |= !half;
            receiver.receive_shut = true;
            receiver.ended = true;
            match receiver.state {
                State::Established => receiver.state = State::CloseWait,
                State::FinWait1 => receiver.state = State::Closing,
                State::FinWait2 => self.enter_time_wait(to),
                _ => {}
            }
            self.wake(to, EVERY);
        }
        match self.socket(id).state {
            State::FinWait1 => self.socket_mut(id).state = State::FinWait2,
            State::Closing => self.enter_time_wait(id),
            State::LastAck => {
                self.socket_mut(id).finish();
                self.release_pair(id);
            }
            _ => {}
        }
        self.wake(id, EVERY);
        self.leave_orphan(id, remote);
    }

    /// Nobody holds the socket, and its FIN has arrived: from now on the peer's data is answered by a
    /// reset. The kernel keeps it for a minute more (tcp_fin_timeout, tcp(7)).
    pub(super) fn leave_orphan(&mut self, id: SocketId, remote: Remote) {
        let socket = self.socket(id);
        if socket.owner != Owner::Nobody {
            return;
        }
        if socket.state == State::FinWait2 {
            self.note_time_wait(id);
        }
        if let Remote::Socket(to) = remote {
            self.socket_mut(to).remote = Remote::Ended;
        }
        if !self.socket(id).has_fin_to_send() {
            self.remove(id);
        }
    }

    fn enter_time_wait(&mut self, id: SocketId) {
        self.note_time_wait(id);
        self.socket_mut(id).finish();
        self.release_pair(id);
    }

    fn send_reset_to(&mut self, id: SocketId) {
        self.flights.push_back(Flight::Reset(id));
    }

    /// This side resets: what the peer's window had no room for is lost, and so are bytes that the
    /// reset overtakes.
    pub(super) fn send_reset(&mut self, id: SocketId) {
        let Remote::Socket(to) = self.socket(id).remote else {
            return;
        };
        if !self.chooser.is_plain() && !self.socket(id).to_send.is_empty() {
            self.arrive_before_reset(id, to);
        }
        self.socket_mut(to).remote = Remote::Reset;
        self.send_reset_to(to);
    }

    fn arrive_before_reset(&mut self, id: SocketId, to: SocketId) {
        let receive_max = self.limits.receive_buffer;
        let receiver = self.socket(to);
        if receiver.owner == Owner::Nobody || receiver.state == State::Closed {
            return;
        }
        let possible = receiver
            .window(receive_max)
            .min(self.socket(id).to_send.len());
        let count = possible - self.choose(Choice::Overtake, possible + 1);
        let bytes: Vec<u8> = self.socket_mut(id).to_send.drain(..count).collect();
        self.socket_mut(to).receive(bytes, receive_max);
        if count > 0 {
            self.wake(to, flags::IN | flags::PRI);
        }
    }

    /// `tcp_reset` in net/ipv4/tcp_input.c. What has arrived stays readable.
    fn arrive_reset(&mut self, id: SocketId) {
        let keeps = self.keeps(Rule::KeptByReset);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let error = match socket.state {
            State::Fresh | State::Listening | State::Closed => return,
            State::SynSent => return self.fail_connect(id, Errno::ConnRefused),
            State::CloseWait => Errno::Pipe,
            _ => Errno::ConnReset,
        };
        socket.error = Some(error);
        socket.to_send.clear();
        if !keeps {
            socket.received.clear();
        }
        socket.finish();
        socket.remote = Remote::Reset;
        self.release_pair(id);
        self.wake(id, EVERY);
        self.remove_if_closed(id);
    }
}
