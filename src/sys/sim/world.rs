//! The world: its sockets, its processes and its time.

use super::chooser::{Choice, Chooser, Decisions};
use super::socket::{Owner, Socket, SocketId, Totals};
use crate::observe::Overflows;
use crate::time::Tick;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The limits of the simulated kernel.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes that a socket holds before a write is refused (SO_SNDBUF).
    pub(crate) send_buffer: usize,
    /// Bytes that wait to be read before the peer's window closes (SO_RCVBUF).
    pub(crate) receive_buffer: usize,
    /// Descriptors of a process (RLIMIT_NOFILE).
    pub(crate) descriptors: usize,
    /// net.ipv4.ip_local_port_range.
    pub(crate) ports: RangeInclusive<u16>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            send_buffer: 64 * 1024,
            receive_buffer: 64 * 1024,
            descriptors: usize::MAX,
            ports: 32_768..=60_999,
        }
    }
}

/// What connects to an address that is not there find (ip-route(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// EHOSTUNREACH, at once.
    Unreachable,
    /// No answer to any SYN.
    Silent,
}

/// A process: what it has open, and its poller.
#[derive(Debug, Default)]
pub(super) struct ProcessState {
    /// The sockets that its poller may have to report, in the order of their wakeups.
    pub(super) ready: VecDeque<SocketId>,
    pub(super) registered: BTreeSet<SocketId>,
    /// The token of the socket that was closed last.
    pub(super) last_closed: Option<usize>,
    /// The waker was used, perhaps by another thread.
    pub(super) woken: Arc<AtomicBool>,
    pub(super) open: usize,
    /// What its sockets did since its last wait; `None` if it never waits, as a peer.
    pub(super) calls: Option<Vec<Called>>,
    pub(super) totals: Totals,
}

/// A call on a socket, which the checks of a reactor count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Called {
    pub(crate) socket: SocketId,
    pub(crate) kind: CallKind,
    /// The bytes that it moved.
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallKind {
    Read,
    Write,
    Accept,
    /// A registration that changed nothing.
    RegisterAgain,
}

/// Something in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flight {
    /// The next SYN of this client.
    Syn(SocketId),
    /// Bytes or the FIN of this socket.
    Segment(SocketId),
    /// A reset to this socket.
    Reset(SocketId),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(super) time: Rc<Cell<Tick>>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    next_socket: SocketId,
    pub(super) processes: Vec<ProcessState>,
    pub(super) flights: VecDeque<Flight>,
    /// When clients send their next SYN.
    pub(super) timers: BTreeMap<(Tick, u64), SocketId>,
    pub(super) next_timer: u64,
    /// The sockets that have each local port.
    pub(super) ports: BTreeMap<u16, BTreeSet<SocketId>>,
    /// The pairs of addresses in use, and until when those in TIME-WAIT are.
    pub(super) pairs: BTreeSet<(SocketAddr, SocketAddr)>,
    pub(super) time_wait: BTreeMap<(SocketAddr, SocketAddr), TimeWait>,
    /// The same in the order of time, and those that were replaced since.
    pub(super) time_waits: VecDeque<(Tick, (SocketAddr, SocketAddr))>,
    /// The sockets that listen on each port.
    pub(super) listening: BTreeMap<u16, BTreeSet<SocketId>>,
    /// The peers whose sockets changed, or that were told to do something else.
    pub(crate) touched: Vec<usize>,
    pub(super) next_port: u16,
    pub(crate) routes: BTreeMap<IpAddr, Route>,
    pub(crate) limits: Limits,
    pub(super) overflows: Overflows,
    pub(crate) chooser: Chooser,
    /// Grows when something arrives, is read, is taken for sending, or is closed.
    pub(crate) progress: u64,
    /// What happened, line by line, if it is told.
    pub(crate) story: Option<Vec<String>>,
    /// Tests break a rule to see that the comparison with the kernel finds it.
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

/// Rules of the kernel that a test can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A FIN ends one direction only.
    HalfClose,
    /// A close with unread input is a reset.
    ResetOnUnread,
    /// The accept queue has one place more than the backlog.
    OneMore,
    /// Bytes that stay unread are not reported again.
    Edge,
    /// What had arrived before a reset stays readable.
    KeptByReset,
    /// Each shutdown wakes its own poller.
    OwnShutdown,
}

/// A connection in TIME-WAIT (RFC 9293, section 3.6.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeWait {
    pub(super) since: Tick,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
}

impl World {
    pub(crate) fn new(decisions: Decisions) -> World {
        World {
            time: Rc::default(),
            sockets: BTreeMap::new(),
            next_socket: 0,
            processes: Vec::new(),
            flights: VecDeque::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            ports: BTreeMap::new(),
            pairs: BTreeSet::new(),
            time_wait: BTreeMap::new(),
            time_waits: VecDeque::new(),
            listening: BTreeMap::new(),
            touched: Vec::new(),
            next_port: 0,
            routes: BTreeMap::new(),
            limits: Limits::default(),
            overflows: Overflows::default(),
            chooser: Chooser::new(decisions),
            progress: 0,
            story: None,
            #[cfg(test)]
            broken: None,
        }
    }

    /// How many flights there are to deliver.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn now(&self) -> Tick {
        self.time.get()
    }

    /// Counts a call on a socket, and what it moved.
    pub(super) fn count(&mut self, socket: SocketId, kind: CallKind, moved: Option<usize>) {
        let bytes = moved.unwrap_or(0);
        let Some(found) = self.sockets.get_mut(&socket) else {
            return;
        };
        let Some(process) = found.owner.process() else {
            return;
        };
        let process = &mut self.processes[process];
        match kind {
            CallKind::Read => {
                found.totals.read += bytes as u64;
                process.totals.read += bytes as u64;
            }
            CallKind::Write => {
                found.totals.written += bytes as u64;
                process.totals.written += bytes as u64;
            }
            CallKind::Accept => process.totals.accepted += u64::from(moved.is_some()),
            CallKind::RegisterAgain => {}
        }
        if let Some(calls) = &mut process.calls {
            calls.push(Called {
                socket,
                kind,
                bytes,
            });
        }
    }

    pub(super) fn add_process(&mut self) -> usize {
        self.processes.push(ProcessState::default());
        self.processes.len() - 1
    }

    pub(super) fn add_socket(&mut self, socket: Socket) -> SocketId {
        self.next_socket += 1;
        self.sockets.insert(self.next_socket, socket);
        self.next_socket
    }

    /// A socket that a handle or another socket names, so it is there.
    pub(super) fn socket(&self, id: SocketId) -> &Socket {
        &self.sockets[&id]
    }

    pub(super) fn socket_mut(&mut self, id: SocketId) -> &mut Socket {
        self.sockets
            .get_mut(&id)
            .expect("a socket that is named is there")
    }

    /// Always, but in a test that breaks the rule.
    pub(super) fn keeps(&self, rule: Rule) -> bool {
        #[cfg(test)]
        return self.broken != Some(rule);
        #[cfg(not(test))]
        {
            let _ = rule;
            true
        }
    }

    pub(crate) fn choose(&mut self, choice: Choice, options: usize) -> usize {
        let made = self.chooser.choose(choice, options);
        if made.chosen > 0 {
            self.tell(|| format!("    ({made})"));
        }
        made.chosen
    }

    /// Adds a line to the story, if one is told.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let time = self.time.get().since(Tick::default());
            story.push(format!("{:>8.3} s  {}", time.as_secs_f64(), line()));
        }
    }

    /// Removes a socket that no program holds, with its timer, its port and its pair of addresses.
    pub(super) fn remove(&mut self, id: SocketId) {
        self.cancel_syn(id);
        self.stop_listening(id);
        self.release_port(id);
        self.sockets.remove(&id);
    }

    /// Removes it if the program closed it.
    pub(super) fn remove_if_closed(&mut self, id: SocketId) {
        let socket = self.sockets.get(&id);
        if socket.is_some_and(|socket| socket.owner == Owner::Nobody) {
            self.remove(id);
        }
    }
}
