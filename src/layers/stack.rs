//! All layers of a connection, in the place of its socket.

use super::level::Level;
use crate::closed::{End, Reason};
use crate::connection::Endpoint;
use crate::guard::{discard, guard};
use crate::handler::LocalAddr;
use crate::observe::CallScope;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;

/// The layers of one connection, the lowest first, and what is known of the socket below them. Cells,
/// because the machine has only a shared reference to its endpoint.
#[derive(Default)]
pub(crate) struct Layers {
    levels: Vec<RefCell<Level>>,
    /// A write to the socket may take bytes.
    writable: Cell<bool>,
    /// The last read of the socket took all there was.
    drained: Cell<bool>,
    /// The handler finished, and input is thrown away.
    discards: Cell<bool>,
    /// This turn has written to the socket. It does so once.
    wrote: Cell<bool>,
    /// What this turn read from the socket, and what it wrote.
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
    /// How a layer failed. The machine sees only an error.
    pub(crate) failed: Cell<Option<End>>,
}

impl Layers {
    /// Puts a level over those that are there. `writable`: a write to the socket may take bytes. Only the
    /// first level needs that: from then on the layers know it themselves.
    pub(crate) fn push(&mut self, mut level: Level, writable: bool) {
        if self.levels.is_empty() {
            level.set_lowest();
            self.writable.set(writable);
        }
        self.levels.push(RefCell::new(level));
    }

    /// Before a turn. `readable`: there may be input that came after the last read.
    pub(crate) fn begin(&self, readable: bool, writable: bool, discards: bool) {
        self.drained.set(self.drained.get() && !readable);
        self.writable.set(self.writable.get() || writable);
        self.discards.set(discards);
        self.wrote.set(false);
        self.received.set(0);
        self.sent.set(0);
    }

    /// True if a write to the socket may take bytes.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.get()
    }

    /// True if all layers take output.
    pub(crate) fn are_open(&self) -> bool {
        self.levels.iter().all(|level| self.is_open(level))
    }

    fn is_open(&self, level: &RefCell<Level>) -> bool {
        guard(|| level.borrow().takes_output()).unwrap_or_else(|| {
            self.failed.set(Some(Reason::Panic.into()));
            false
        })
    }

    /// True if bytes of a layer wait, and only for the socket. Those over a layer that is not open wait for
    /// input.
    pub(crate) fn has_wire(&self) -> bool {
        for level in &self.levels {
            if level.borrow().has_wire() {
                return true;
            }
            if !self.is_open(level) {
                return false;
            }
        }
        false
    }

    /// Drops each layer, and says whether that went well.
    pub(crate) fn discard(&mut self) -> impl Iterator<Item = bool> + use<> {
        std::mem::take(&mut self.levels).into_iter().map(discard)
    }

    pub(crate) fn over<'a, E: Endpoint>(&'a self, socket: &'a E) -> Stack<'a, E> {
        Stack {
            socket,
            layers: self,
            depth: self.levels.len(),
        }
    }
}

/// The lowest `depth` layers over a socket.
pub(crate) struct Stack<'a, E> {
    socket: &'a E,
    layers: &'a Layers,
    depth: usize,
}

impl<E: Endpoint> Stack<'_, E> {
    /// Runs code with the uppermost level and the stack below it. A panic or an error of its layer is kept
    /// for the receipt. `None` if there is no level.
    fn uppermost<R>(
        &self,
        code: impl FnOnce(&mut Level, &Stack<'_, E>) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        let depth = self.depth.checked_sub(1)?;
        let below = Stack { depth, ..*self };
        let level = &mut *self.layers.levels[depth].borrow_mut();
        let result = guard(|| code(level, &below));
        if result.is_none() {
            self.layers.failed.set(Some(Reason::Panic.into()));
        } else if let Some(error) = level.take_error() {
            let end = End::new(Reason::HandlerError, error);
            self.layers.failed.set(Some(end));
        }
        Some(result.unwrap_or(Err(ErrorKind::Other.into())))
    }

    fn read_socket(&self, buffer: &mut [u8], scope: CallScope<'_>) -> io::Result<usize> {
        let count = self.socket.read(buffer, scope)?;
        self.layers.drained.set(count < buffer.len());
        self.layers.received.set(count as u64);
        Ok(count)
    }

    fn write_socket(&self, bytes: &[u8], scope: CallScope<'_>) -> io::Result<usize> {
        if !self.layers.writable.get() || self.layers.wrote.replace(true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = self.socket.write(bytes, scope);
        match &result {
            Ok(count) => {
                self.layers.sent.set(*count as u64);
                self.layers.writable.set(*count == bytes.len());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.layers.writable.set(false),
            Err(_) => {}
        }
        result
    }

    /// Writes what the layers wrote by themselves.
    pub(crate) fn flush(&self, scope: CallScope<'_>) -> io::Result<()> {
        let flushed = self.uppermost(|level, below| {
            level.flush(|bytes| below.write(bytes, scope))?;
            below.flush(scope)
        });
        flushed.unwrap_or(Ok(()))
    }
}

impl<E: Endpoint> Endpoint for Stack<'_, E> {
    fn read(&self, buffer: &mut [u8], scope: CallScope<'_>) -> io::Result<usize> {
        let discards = self.layers.discards.get();
        let read = self.uppermost(|level, below| {
            level.read(&mut *buffer, discards, |buffer| below.read(buffer, scope))
        });
        read.unwrap_or_else(|| self.read_socket(buffer, scope))
    }

    fn write(&self, bytes: &[u8], scope: CallScope<'_>) -> io::Result<usize> {
        let written =
            self.uppermost(|level, below| level.write(bytes, |wire| below.write(wire, scope)));
        written.unwrap_or_else(|| self.write_socket(bytes, scope))
    }

    fn take_error(&self, scope: CallScope<'_>) -> io::Result<()> {
        self.socket.take_error(scope)
    }

    fn undelivered(&self) -> Option<u32> {
        self.socket.undelivered()
    }

    /// `WouldBlock` until the ends of all layers are in the hands of the kernel.
    fn shutdown_write(&self, scope: CallScope<'_>) -> io::Result<()> {
        let ended = self.uppermost(|level, below| {
            level.end()?;
            match level.flush(|wire| below.write(wire, scope))? {
                true => below.shutdown_write(scope),
                false => Err(ErrorKind::WouldBlock.into()),
            }
        });
        ended.unwrap_or_else(|| self.socket.shutdown_write(scope))
    }

    fn has_end(&self) -> bool {
        true
    }

    fn has_more(&self) -> bool {
        let levels = self.layers.levels.iter();
        !self.layers.drained.get() || levels.into_iter().any(|level| level.borrow().has_plain())
    }

    fn has_moved(&self) -> bool {
        self.layers.received.get() + self.layers.sent.get() > 0
    }
}

impl<E: Endpoint> LocalAddr for Stack<'_, E> {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.descriptor()
    }

    fn layers(&self, code: &mut dyn FnMut(&mut dyn Any)) {
        let levels = self.layers.levels.iter().rev();
        levels.for_each(|level| code(level.borrow_mut().layer()));
    }
}
