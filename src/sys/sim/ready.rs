//! Edge-triggered epoll(7): a wakeup only puts a socket on the ready list. What is reported is the
//! level at the fetch, and if no asked flag is set then, nothing is.

use super::chooser::Choice;
use super::errno::Errno;
use super::socket::{Registration, SocketId, flags};
use super::world::{CallKind, World};
use crate::id::WAKER;
use crate::readiness::Readiness;
use mio::Token;
use std::sync::atomic::Ordering;

/// One event, as epoll_wait(2) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) token: usize,
    pub(crate) flags: u32,
}

impl Event {
    /// Whether any of these flags is set.
    fn any(self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    fn all(self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    pub(crate) fn is_wake(self) -> bool {
        self.token == WAKER.0
    }

    pub(crate) fn token(self) -> Token {
        Token(self.token)
    }

    /// The marks that the poller makes of mio's event, which reads the flags so (its `event::Event`).
    pub(crate) fn readiness(self) -> Readiness {
        let mut marks = Readiness::default();
        let write_closed =
            self.any(flags::HUP) || self.all(flags::OUT | flags::ERR) || self.flags == flags::ERR;
        let broken = self.any(flags::ERR) || write_closed;
        if self.any(flags::IN | flags::PRI) {
            marks.insert(Readiness::READABLE);
        }
        let read_closed = self.any(flags::HUP) || self.all(flags::IN | flags::RDHUP);
        if broken || read_closed || self.any(flags::PRI) {
            marks.insert(Readiness::UNDRAINED);
        }
        if broken || self.any(flags::OUT) {
            marks.insert(Readiness::WRITABLE);
        }
        if self.any(flags::ERR) {
            marks.insert(Readiness::ERROR);
        }
        marks
    }
}

/// A wakeup's key: the interests that it concerns. A change of state concerns every interest.
pub(super) const EVERY: u32 = u32::MAX;

impl World {
    /// EPOLL_CTL_ADD.
    pub(super) fn add(&mut self, id: SocketId, token: usize, mask: u32) -> Result<(), Errno> {
        if self.socket(id).registration.is_some() {
            return Err(Errno::Exist);
        }
        self.register(id, token, mask);
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    pub(super) fn modify(&mut self, id: SocketId, token: usize, mask: u32) -> Result<(), Errno> {
        let Some(before) = self.socket(id).registration else {
            return Err(Errno::NoEnt);
        };
        if (before.token, before.mask) == (token, mask | flags::ERR | flags::HUP) {
            self.count(id, CallKind::RegisterAgain, None);
        }
        self.register(id, token, mask);
        Ok(())
    }

    /// Both report the present level once for each call.
    fn register(&mut self, id: SocketId, token: usize, mask: u32) {
        let socket = self.socket_mut(id);
        let queued = socket.registration.is_some_and(|before| before.queued);
        let mask = mask | flags::ERR | flags::HUP;
        socket.registration = Some(Registration {
            token,
            mask,
            queued,
        });
        let send_max = self.limits.send_buffer;
        if let Some(process) = self.socket(id).owner.process() {
            self.processes[process].registered.insert(id);
        }
        if self.socket_mut(id).level(send_max) & mask != 0 {
            self.wake(id, EVERY);
        }
    }

    /// EPOLL_CTL_DEL, and what close(2) does.
    pub(super) fn deregister(&mut self, id: SocketId, closes: bool) -> Result<(), Errno> {
        let socket = self.socket_mut(id);
        let registration = socket.registration.take().ok_or(Errno::NoEnt)?;
        if let Some(process) = socket.owner.process() {
            let process = &mut self.processes[process];
            process.registered.remove(&id);
            process.last_closed = Some(registration.token);
            // A socket that closes is not looked for: the fetch finds that it is gone.
            if registration.queued && !closes {
                process.ready.retain(|&ready| ready != id);
            }
        }
        Ok(())
    }

    /// Puts a socket on the ready list, if its interest is in the key.
    pub(super) fn wake(&mut self, id: SocketId, key: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        self.touched.extend(socket.watched_by);
        let (Some(registration), Some(process)) =
            (&mut socket.registration, socket.owner.process())
        else {
            return;
        };
        if registration.mask & key != 0 && !registration.queued {
            registration.queued = true;
            self.processes[process].ready.push_back(id);
        }
    }

    /// Whether a process that sleeps in epoll_wait(2) wakes up. Like the kernel, it takes sockets
    /// without an asked flag off the ready list.
    pub(crate) fn is_ready(&mut self, process: usize) -> bool {
        while let Some(&id) = self.processes[process].ready.front() {
            if self.flags_of(id).is_some() {
                return true;
            }
            self.processes[process].ready.pop_front();
            self.mark_fetched(id);
        }
        self.processes[process].woken.load(Ordering::Acquire)
    }

    fn mark_fetched(&mut self, id: SocketId) {
        let socket = self.sockets.get_mut(&id);
        if let Some(registration) = socket.and_then(|socket| socket.registration.as_mut()) {
            registration.queued = false;
        }
    }

    fn flags_of(&mut self, id: SocketId) -> Option<Event> {
        let send_max = self.limits.send_buffer;
        let socket = self.sockets.get_mut(&id)?;
        let Registration { token, mask, .. } = socket.registration?;
        let flags = socket.level(send_max) & mask;
        (flags != 0).then_some(Event { token, flags })
    }

    /// epoll_wait(2) with a timeout of 0. The rest of a batch comes first in the next one.
    pub(super) fn fetch(&mut self, process: usize, max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        if self.processes[process].woken.swap(false, Ordering::AcqRel) {
            let (token, flags) = (WAKER.0, flags::IN);
            events.push(Event { token, flags });
        }
        while events.len() < max {
            let Some(id) = self.processes[process].ready.pop_front() else {
                break;
            };
            events.extend(self.flags_of(id));
            self.mark_fetched(id);
        }
        self.disturb(process, &mut events, max);
        events
    }

    /// What the poller may do beyond that: another order, an event without a cause, and one that was
    /// taken before its socket was closed.
    fn disturb(&mut self, process: usize, events: &mut Vec<Event>, max: usize) {
        for at in 1..events.len() {
            let other = at - self.choose(Choice::Order, at + 1);
            events.swap(at, other);
        }
        let last_closed = self.processes[process].last_closed;
        if let Some(token) = last_closed.filter(|_| events.len() < max) {
            if self.choose(Choice::StaleEvent, 2) == 1 {
                self.processes[process].last_closed = None;
                let flags = flags::IN | flags::OUT | flags::HUP | flags::RDHUP;
                events.push(Event { token, flags });
            }
        }
        if events.len() < max && !self.processes[process].registered.is_empty() {
            self.add_spurious(process, events);
        }
    }

    fn add_spurious(&mut self, process: usize, events: &mut Vec<Event>) {
        let count = self.processes[process].registered.len();
        let chosen = self.choose(Choice::SpuriousEvent, count + 1);
        if chosen == 0 {
            return;
        }
        let id = self.processes[process].registered.iter().nth(chosen - 1);
        let socket = id.and_then(|id| self.sockets.get(id));
        if let Some(Registration { token, mask, .. }) = socket.and_then(|it| it.registration) {
            let flags = mask & (flags::IN | flags::OUT);
            if events.iter().all(|event| event.token != token) {
                events.push(Event { token, flags });
            }
        }
    }
}
