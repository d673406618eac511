//! One socket, as struct sock is in the kernel: the states of RFC 9293, section 3.3.2, and beside
//! them the marks that poll, read and write look at.

use super::errno::Errno;
use crate::connection::invariants::Truth;
use crate::time::Tick;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The name of a socket. None is used twice, so no event or segment can reach a later socket.
pub(super) type SocketId = u64;

/// RFC 9293, section 3.3.2. TIME-WAIT is CLOSED with the ports kept, as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected yet.
    Fresh,
    Listening,
    SynSent,
    Established,
    /// The FIN is queued or sent, and not acknowledged.
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    Closed,
}

/// What calls moved, on one socket or on all of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) accepted: u64,
}

/// Who holds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Process(usize),
    /// It is in the accept queue of this listener.
    Queue(SocketId),
    /// The program closed it, and it still sends.
    Nobody,
}

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    None,
    Socket(SocketId),
    /// The program there closed it, and its FIN is here: data is answered by a reset.
    Ended,
    /// It is gone, and a reset from it is on its way.
    Reset,
}

/// What a poller was asked to report of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) token: usize,
    pub(super) mask: u32,
    /// It is on the ready list.
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) owner: Owner,
    pub(super) state: State,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) remote: Remote,
    /// SO_ERROR (socket(7)).
    pub(super) error: Option<Errno>,
    /// RCV_SHUTDOWN and SEND_SHUTDOWN.
    pub(super) receive_shut: bool,
    pub(super) send_shut: bool,
    /// SOCK_DONE: the FIN arrived, so a read returns 0 even after a reset.
    pub(super) ended: bool,
    /// Arrived, and not read.
    pub(super) received: VecDeque<u8>,
    /// Written, and not arrived at the peer.
    pub(super) to_send: VecDeque<u8>,
    /// The peer may not send: the receive buffer was full.
    pub(super) window_closed: bool,
    /// SOCK_NOSPACE: a write found the buffer full, or poll found it not writable. The next space is
    /// an edge.
    pub(super) no_space: bool,
    /// SO_LINGER with a time of zero.
    pub(super) reset_on_close: bool,
    /// Its port comes from bind, its own or its listener's.
    pub(super) is_bound: bool,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
    /// The number of SYNs sent, and when the next is due.
    pub(super) syns: usize,
    pub(super) retry: Option<(Tick, u64)>,
    /// A listener's: connections that are established and not accepted.
    pub(super) queue: VecDeque<SocketId>,
    pub(super) backlog: u32,
    pub(super) registration: Option<Registration>,
    /// It is in the list of sockets with something to send.
    pub(super) in_flight: bool,
    /// The peer that holds it: a test's, which no poller tells of a change.
    pub(super) watched_by: Option<usize>,
    /// What the program read and wrote.
    pub(super) totals: Totals,
}

/// The flags of epoll_ctl(2), with their numbers in Linux.
pub(super) mod flags {
    pub(crate) const IN: u32 = 1;
    pub(crate) const PRI: u32 = 2;
    pub(crate) const OUT: u32 = 4;
    pub(crate) const ERR: u32 = 8;
    pub(crate) const HUP: u32 = 16;
    pub(crate) const RDHUP: u32 = 0x2000;
}

impl Socket {
    pub(super) fn new(owner: Owner) -> Socket {
        Socket {
            owner,
            state: State::Fresh,
            local: None,
            peer: None,
            remote: Remote::None,
            error: None,
            receive_shut: false,
            send_shut: false,
            ended: false,
            received: VecDeque::new(),
            to_send: VecDeque::new(),
            window_closed: false,
            no_space: false,
            reset_on_close: false,
            is_bound: false,
            reuse_address: false,
            reuse_port: false,
            syns: 0,
            retry: None,
            queue: VecDeque::new(),
            backlog: 0,
            registration: None,
            in_flight: false,
            watched_by: None,
            totals: Totals::default(),
        }
    }

    /// A write takes bytes while there is space, but poll and the edge wait for a third of the buffer
    /// (`sk_stream_is_writeable` in include/net/sock.h).
    pub(super) fn is_writable(&self, send_max: usize) -> bool {
        self.to_send.len() * 3 <= send_max * 2
    }

    /// The present level: `tcp_poll` in net/ipv4/tcp.c. Like it, asking when the socket is not
    /// writable makes the next space an edge.
    pub(super) fn level(&mut self, send_max: usize) -> u32 {
        let has = |condition, flag| if condition { flag } else { 0 };
        match self.state {
            State::Listening => return has(!self.queue.is_empty(), flags::IN),
            State::SynSent => return has(self.error.is_some(), flags::ERR),
            _ => {}
        }
        let is_closed = matches!(self.state, State::Fresh | State::Closed);
        let writable = self.send_shut || self.is_writable(send_max);
        self.no_space |= !writable;
        has(is_closed || self.receive_shut && self.send_shut, flags::HUP)
            | has(self.receive_shut, flags::IN | flags::RDHUP)
            | has(!self.received.is_empty(), flags::IN)
            | has(writable, flags::OUT)
            | has(self.error.is_some(), flags::ERR)
    }

    /// What the checks of a reactor compare with.
    pub(super) fn truth(&mut self, send_max: usize) -> Truth {
        let no_space = self.no_space;
        let level = self.level(send_max);
        // To look is not poll, which would make the next space an edge.
        self.no_space = no_space;
        let (reported, mask) = self
            .registration
            .map_or((false, 0), |found| (found.queued, found.mask));
        // What was sent is on its way, or a reset that answers it.
        let answered = matches!(self.remote, Remote::Ended | Remote::Reset);
        let moves = answered || !self.to_send.is_empty();
        let over = matches!(self.state, State::Fresh | State::Closed);
        Truth {
            connects: self.state == State::SynSent,
            accepted: self.is_bound,
            readable: level & (flags::IN | flags::ERR | flags::HUP) != 0,
            broken: self.error.is_some(),
            reported,
            awaits_space: no_space && mask & flags::OUT != 0 && moves,
            asks_space: mask & flags::OUT != 0,
            sent_fin: self.send_shut,
            over,
            queued: self.queue.len(),
            read: self.totals.read,
            written: self.totals.written,
        }
    }

    /// `tcp_done`: the connection is over in both directions.
    pub(super) fn finish(&mut self) {
        self.state = State::Closed;
        self.receive_shut = true;
        self.send_shut = true;
    }

    /// The FIN is queued and has not arrived.
    pub(super) fn has_fin_to_send(&self) -> bool {
        matches!(
            self.state,
            State::FinWait1 | State::Closing | State::LastAck
        )
    }

    /// How many bytes the peer may send now.
    pub(super) fn window(&self, receive_max: usize) -> usize {
        if self.window_closed {
            return 0;
        }
        receive_max.saturating_sub(self.received.len())
    }

    /// Takes bytes that arrive. The window closes when the buffer is full.
    pub(super) fn receive(&mut self, bytes: Vec<u8>, receive_max: usize) {
        self.received.extend(bytes);
        self.window_closed = self.received.len() >= receive_max;
    }

    /// Opens the window again when half of the buffer is free (RFC 1122, section 4.2.3.3). True if it
    /// was closed.
    pub(super) fn reopen_window(&mut self, receive_max: usize) -> bool {
        let opens = self.window_closed && self.received.len() * 2 <= receive_max;
        self.window_closed &= !opens;
        opens
    }

    /// The accept queue holds `more` connections above the backlog (`sk_acceptq_is_full` in
    /// include/net/sock.h).
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.queue.len() < self.backlog as usize + more
    }
}

impl Owner {
    pub(super) fn process(self) -> Option<usize> {
        match self {
            Owner::Process(process) => Some(process),
            Owner::Queue(_) | Owner::Nobody => None,
        }
    }
}
