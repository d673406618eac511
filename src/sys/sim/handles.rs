//! What a process holds: its sockets, and its poller's events.

use super::apart::apart;
use super::chooser::Choice;
use super::errno::Errno;
use super::ready::Event;
use super::socket::{SocketId, Totals, flags};
use super::world::{CallKind, Called, World};
use crate::connection::invariants::Truth;
use crate::observe::{AcceptQueue, Overflows};
use crate::time::Tick;
use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) type SharedWorld = Rc<RefCell<World>>;

/// A process of the world: its descriptors, and its one poller.
#[derive(Debug)]
pub(crate) struct Process {
    world: SharedWorld,
    number: usize,
    events_per_turn: usize,
    events: Vec<Event>,
}

impl Process {
    pub(crate) fn new(world: &SharedWorld, events_per_turn: usize) -> Process {
        Process {
            number: world.borrow_mut().add_process(),
            world: Rc::clone(world),
            events_per_turn,
            events: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn clock(&self) -> Rc<Cell<Tick>> {
        Rc::clone(&self.world.borrow().time)
    }

    pub(crate) fn socket(&self) -> io::Result<Socket> {
        let id = apart(|| self.world.borrow_mut().socket_call(self.number))?;
        Ok(Socket {
            world: Rc::clone(&self.world),
            id,
        })
    }

    /// epoll_wait(2). If it may sleep, the network moves and the time jumps until there is an event.
    ///
    /// # Errors
    /// If it would sleep for ever: nothing is in flight, and no time limit is set.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        apart(|| self.fetch(limit))
    }

    fn fetch(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        self.events.clear();
        let calls = &mut world.processes[self.number].calls;
        calls.get_or_insert_default().clear();
        let until = limit.map(|limit| world.now().after(limit));
        let may_sleep = limit != Some(Duration::ZERO);
        if may_sleep && world.choose(Choice::Interrupt, 2) == 1 {
            return Ok(());
        }
        while may_sleep && !world.is_ready(self.number) {
            if !world.step(until) {
                let Some(until) = until else {
                    return Err(io::Error::other("nothing is left to happen"));
                };
                world.advance(until);
                break;
            }
        }
        self.events = world.fetch(self.number, self.events_per_turn);
        Ok(())
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.iter().copied()
    }

    pub(crate) fn overflows(&self) -> Overflows {
        self.world.borrow().overflows
    }

    /// The calls on its sockets since its last wait, in the order of the sockets.
    pub(crate) fn calls(&self) -> Vec<Called> {
        let world = self.world.borrow();
        let mut calls = world.processes[self.number].calls.clone();
        let calls = calls.get_or_insert_default();
        calls.sort();
        std::mem::take(calls)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.world.borrow().processes[self.number].totals
    }

    /// How many descriptors it has open.
    pub(crate) fn open(&self) -> usize {
        self.world.borrow().processes[self.number].open
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(
            &self.world.borrow().processes[self.number].woken,
        ))
    }
}

impl World {
    /// The network moves by itself: the first thing in flight arrives, or the time jumps to the next
    /// SYN that is due by then. False if there is neither.
    fn step(&mut self, until: Option<Tick>) -> bool {
        if self.deliver(0) {
            return true;
        }
        let next = self
            .next_timer()
            .filter(|&next| until.is_none_or(|until| next <= until));
        next.inspect(|&next| self.advance(next)).is_some()
    }
}

/// Wakes a poller, from any thread.
#[derive(Debug)]
pub(crate) struct Waker(Arc<AtomicBool>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A socket of the world. Dropping it is close(2).
#[derive(Debug)]
pub(crate) struct Socket {
    world: SharedWorld,
    id: SocketId,
}

impl Drop for Socket {
    fn drop(&mut self) {
        apart(|| self.world.borrow_mut().close(self.id));
    }
}

/// Runs a call on the socket's world.
macro_rules! call {
    ($self:ident, $name:ident $(, $argument:expr)*) => {
        apart(|| $self.world.borrow_mut().$name($self.id $(, $argument)*)).map_err(io::Error::from)
    };
}

impl Socket {
    pub(crate) fn set_reuse(&self, address: Option<bool>, port: Option<bool>) {
        let mut world = self.world.borrow_mut();
        let socket = world.socket_mut(self.id);
        socket.reuse_address = address.unwrap_or(socket.reuse_address);
        socket.reuse_port = port.unwrap_or(socket.reuse_port);
    }

    pub(crate) fn bind(&self, address: SocketAddr) -> io::Result<()> {
        call!(self, bind, address)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        call!(self, listen, backlog)
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        call!(self, connect, address)
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let result = call!(self, accept);
        self.count(CallKind::Accept, result.as_ref().ok().map(|_| 0));
        let (id, peer) = result?;
        let world = Rc::clone(&self.world);
        Ok((Socket { world, id }, peer))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        call!(self, shutdown_write)
    }

    pub(crate) fn reset_on_close(&self) {
        let mut world = self.world.borrow_mut();
        world.socket_mut(self.id).reset_on_close = true;
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.world.borrow_mut().take_error(self.id);
        Ok(error.map(io::Error::from))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        call!(self, peer_addr)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let local = self.world.borrow().socket(self.id).local;
        local.ok_or_else(|| Errno::Inval.into())
    }

    /// Whether a read would return bytes, the end or an error.
    pub(crate) fn is_readable(&self) -> bool {
        self.level() & (flags::IN | flags::ERR | flags::HUP) != 0
    }

    /// Whether a write would take bytes or return an error, or a connection attempt has ended.
    pub(crate) fn is_writable(&self) -> bool {
        self.level() & flags::OUT != 0
    }

    fn level(&self) -> u32 {
        let mut world = self.world.borrow_mut();
        let send_max = world.limits.send_buffer;
        world.socket_mut(self.id).level(send_max)
    }

    fn count(&self, kind: CallKind, moved: Option<usize>) {
        apart(|| self.world.borrow_mut().count(self.id, kind, moved));
    }

    /// A peer holds it from now on, and is to hear of each change.
    pub(crate) fn watch(&self, peer: usize) {
        self.world.borrow_mut().socket_mut(self.id).watched_by = Some(peer);
    }

    /// What is true of it, as opposed to what its program knows.
    pub(crate) fn truth(&self) -> Truth {
        let mut world = self.world.borrow_mut();
        let send_max = world.limits.send_buffer;
        world.socket_mut(self.id).truth(send_max)
    }

    /// Bytes that were written and have not arrived.
    pub(crate) fn undelivered(&self) -> u32 {
        self.world.borrow().socket(self.id).to_send.len() as u32
    }

    pub(crate) fn accept_queue(&self) -> AcceptQueue {
        self.world.borrow().accept_queue(self.id)
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = call!(self, recv, buffer);
        self.count(CallKind::Read, result.as_ref().ok().copied());
        result
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = call!(self, send, bytes);
        self.count(CallKind::Write, result.as_ref().ok().copied());
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Registers the socket with the poller of its own process, as mio would with epoll_ctl(2).
impl Source for Socket {
    fn register(&mut self, _: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        call!(self, add, token.0, mask(interest))
    }

    fn reregister(&mut self, _: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        call!(self, modify, token.0, mask(interest))
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        call!(self, deregister, false)
    }
}

/// The flags that mio asks for.
fn mask(interest: Interest) -> u32 {
    let mut mask = 0;
    if interest.is_readable() {
        mask |= flags::IN | flags::RDHUP;
    }
    if interest.is_writable() {
        mask |= flags::OUT;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if interest.is_priority() {
        mask |= flags::PRI;
    }
    mask
}
