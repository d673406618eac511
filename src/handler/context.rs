//! All that a callback can do.

use super::{Handler, Intent, LocalAddr, Others, boxed};
use crate::buffers::LazyBacklog;
use crate::errno::failure;
use crate::id::Id;
use crate::observe::CallScope;
use crate::peer::Peer;
use crate::time::TimerKey;
use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A callback's view of its own connection, and of everything else on the loop.
pub struct Context<'a> {
    /// Everything else on the loop.
    pub others: Others<'a>,
    pub(crate) peer: &'a Peer,
    /// `None` if no socket was created.
    pub(crate) socket: Option<&'a dyn LocalAddr>,
    pub(crate) backlog: &'a mut LazyBacklog,
}

/// The connection and the time.
impl Context<'_> {
    /// This connection's id, by which other code reaches it.
    pub fn id(&self) -> Id {
        self.others.id
    }

    /// The peer's address. An IPv4 peer of a dual-stack listener has its IPv4 address.
    pub fn peer(&self) -> SocketAddr {
        (*self.peer).into()
    }

    /// This side's address. Each call asks the kernel.
    ///
    /// # Errors
    /// Those of [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html);
    /// `NotConnected` if no socket was created.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.map_or(
            Err(io::ErrorKind::NotConnected.into()),
            LocalAddr::local_addr,
        )
    }

    /// The socket, as [`Reactor::socket`](crate::Reactor::socket) lends it. `None` if no socket was
    /// created.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.and_then(LocalAddr::descriptor)
    }

    /// True from the call of [`Reactor::shutdown`](crate::Reactor::shutdown) on.
    pub fn is_shutting_down(&self) -> bool {
        self.others.common.shutdown_until.is_some()
    }

    /// The time of this turn, on the monotonic clock. It does not advance during the turn.
    pub fn now(&self) -> Instant {
        self.others.now()
    }
}

/// Input and output.
impl Context<'_> {
    /// The number of bytes held because [`on_data`](crate::Handler::on_data) did not consume them. 0
    /// during `on_data` itself, because it is offered all of them.
    pub fn unread(&self) -> usize {
        self.backlog.input.len()
    }

    /// Asks that input is offered only once `total` unconsumed bytes are there, or the peer has ended. It
    /// counts from the first byte that the current [`on_data`](crate::Handler::on_data) does not consume,
    /// or from the first of [`unread`](Context::unread). A long message is read into one buffer, so it
    /// is neither offered again and again nor moved as it grows. The request ends when input is offered.
    /// The reactor keeps up to four buffers of 128 KiB to 2 MiB for the next long messages.
    ///
    /// # Errors
    /// `InvalidInput` if `total` is more than [`input_max_bytes`](crate::Config::input_max_bytes): that
    /// many bytes are never held.
    pub fn want(&mut self, total: usize) -> io::Result<()> {
        if total > self.others.common.config.input_max_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.backlog.get_or_insert().wanted = total;
        Ok(())
    }

    /// How many bytes [`write`](Context::write) would take now. 0 after
    /// [`finish`](Context::finish) or [`half_close`](Context::half_close).
    pub fn room(&self) -> usize {
        self.others.room
    }

    /// Takes as many of the bytes as there is [`room`](Context::room) for, and returns how many. It
    /// never blocks. The bytes are sent together at the end of the turn.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.others.write(bytes)
    }

    /// Takes all of the bytes, also beyond [`room`](Context::room). While more than
    /// [`output_max_bytes`](crate::Config::output_max_bytes) wait to be sent, the peer is not read and no
    /// input is offered. So a handler that consumes one request after the other and answers with
    /// `write_all` holds no more than the answers to one `on_data`, and the peer that does not read them
    /// is not read either.
    ///
    /// # Errors
    /// If more than [`output_hard_max_bytes`](crate::Config::output_hard_max_bytes) would wait. The
    /// connection then ends with a reset, also if the handler ignores the error. `BrokenPipe` if the
    /// output has ended: by [`finish`](Context::finish), [`half_close`](Context::half_close) or
    /// [`abort`](Context::abort), or because the kernel did not take what other code sent.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_ended() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let config = &self.others.common.config;
        let most = config.output_hard_max_bytes.max(config.output_max_bytes);
        if bytes.len() > most.saturating_sub(self.output_len()) {
            self.abort();
            return Err(too_much(most));
        }
        self.others.room = self.others.room.saturating_sub(bytes.len());
        self.others.output.extend_from_slice(bytes);
        Ok(())
    }
}

/// Ends.
impl Context<'_> {
    /// Calls [`finish`](Context::finish) once nothing is under way any more. This is the default of
    /// [`on_eof`](crate::Handler::on_eof).
    ///
    /// Nothing is under way when all output is sent, the last [`on_drain`](crate::Handler::on_drain)
    /// wrote nothing, no timer is set, and all input is consumed. Input that the handler does not consume
    /// counts as under way until the peer has ended and it was offered once more. What the handler expects
    /// from elsewhere is not known here: a handler that answers from another thread or connection, or that
    /// always has a timer, must override `on_eof` and call `finish` itself. Nor does a
    /// [`wake`](Others::wake) that is still to come count.
    ///
    /// If the output has ended already, this is `finish`.
    pub fn finish_when_quiet(&mut self) {
        match self.others.intent {
            Intent::Stay | Intent::Become | Intent::WhenQuiet => {
                self.others.intent = Intent::WhenQuiet
            }
            Intent::HalfClose | Intent::Finish | Intent::Abort => self.finish(),
        }
    }

    /// Ends this side's output and goes on reading: the output is sent, followed by a FIN
    /// (`shutdown(SHUT_WR)`; RFC 9293, section 3.6). Once the peer ended too and all of its input is
    /// consumed, the connection closes with [`Reason::Finished`](crate::Reason::Finished).
    pub fn half_close(&mut self) {
        self.others.ask(Intent::HalfClose);
    }

    /// Ends this side: the output is sent, followed by a FIN (`shutdown(SHUT_WR)`). From now on input
    /// is discarded. The connection closes when the peer ends, or at
    /// [`linger_timeout`](crate::Config::linger_timeout) or
    /// [`linger_max_bytes`](crate::Config::linger_max_bytes).
    pub fn finish(&mut self) {
        self.others.ask(Intent::Finish);
    }

    /// Ends the connection with a reset at the end of this callback (RFC 9293, section 3.10.5,
    /// ABORT). Output that is not sent yet is dropped.
    pub fn abort(&mut self) {
        self.others.ask(Intent::Abort);
    }
}

/// Another handler.
impl Context<'_> {
    /// From the end of this callback on, another handler has this connection: an upgrade. The next turn
    /// calls its `on_open`, then offers it what was not consumed. The peer's end is told to it, also if
    /// this handler heard it already. This handler's timers go, and it hears no `on_close`.
    pub fn become_handler(&mut self, handler: impl Handler) {
        self.backlog.get_or_insert().next_handler = Some(Box::new(boxed(handler)));
        if self.others.intent <= Intent::WhenQuiet {
            self.others.intent = Intent::Become;
        }
    }
}

/// Timers.
impl Context<'_> {
    /// Calls [`on_timer`](crate::Handler::on_timer) with `key` once `after` has passed: not earlier,
    /// and later only while the loop is busy. It replaces a timer with the same key. Timers are due in
    /// the order of their times, and of their keys where these are equal, at most
    /// [`timers_per_turn`](crate::Config::timers_per_turn) in one turn. With n timers, to set, cancel
    /// or call one takes time proportional to log n.
    pub fn set_timer(&mut self, key: TimerKey, after: Duration) {
        // At least one nanosecond: a timer that its own callback sets for now must not be due in the
        // same turn.
        let at = self.others.at(after.max(Duration::from_nanos(1)));
        self.backlog.get_or_insert().timers.set(at, key);
    }

    /// Removes a timer. True if it was set. It will not be called, even if it was due in this turn.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        let held = self.backlog.get_mut();
        held.is_some_and(|held| held.timers.remove(key))
    }
}

/// For the connection's turn.
impl Context<'_> {
    /// True if an end was asked for, or the connection is not open.
    pub(crate) fn has_ended(&self) -> bool {
        self.others.intent > Intent::WhenQuiet
    }

    pub(crate) fn scope(&self) -> CallScope<'_> {
        self.others.common.scope(self.others.id)
    }

    /// How much output is not sent.
    fn output_len(&self) -> usize {
        self.others.output.len() + self.backlog.output.len()
    }

    /// True if more than `output_max_bytes` wait: until some are sent, nothing is read and no input is
    /// offered.
    pub(crate) fn is_choked(&self) -> bool {
        self.output_len() > self.others.common.config.output_max_bytes
    }

    /// True if any output is not sent.
    pub(crate) fn has_output(&self) -> bool {
        self.output_len() > 0
    }

    /// Moves this turn's output to the backlog.
    #[inline(always)]
    pub(crate) fn hold_output(&mut self) {
        if !self.others.output.is_empty() {
            self.append_output();
        }
    }

    #[inline(never)]
    fn append_output(&mut self) {
        let config = &self.others.common.config;
        let limit = match self.is_choked() {
            true => config.output_hard_max_bytes,
            false => config.output_max_bytes,
        };
        let held = &mut self.backlog.get_or_insert().output;
        held.append(self.others.output, limit);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut context = f.debug_struct("Context");
        context
            .field("id", &self.id())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

#[cold]
fn too_much(most: usize) -> io::Error {
    let message = format!("more than output_hard_max_bytes ({most}) would wait to be sent");
    failure(io::ErrorKind::Other, &message)
}

/// Takes everything, as [`write_all`](Context::write_all) does, so that `write!` and whatever writes to an
/// [`io::Write`] can be used. A flush does nothing: the output leaves at the end of the turn.
impl io::Write for Context<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        parts.iter().try_for_each(|part| self.write_all(part))?;
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
