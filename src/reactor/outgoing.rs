//! An outgoing connection's turn, until it is established.

use super::Reactor;
use super::sources::{Connection, Source};
use crate::buffers::LazyBacklog;
use crate::closed::End;
use crate::common::Common;
use crate::config::Config;
use crate::connection::Machine;
use crate::errno::failure;
use crate::guard::{discard, guard};
use crate::handler::{Attempt, Context, Handler, LocalAddr, LoopOps, Others};
use crate::id::Id;
use crate::layers::Layered;
use crate::observe::ConnectionView;
use crate::readiness::Readiness;
use crate::sys::TcpStream;
use crate::time::Tick;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

/// An outgoing connection that is not established: a handler, what other code asked of it, and perhaps
/// a socket.
pub(super) struct Outgoing {
    pub(super) attempt: Attempt,
    /// Moves nothing yet, but takes output and its end.
    pub(super) machine: Machine,
    /// The output that leaves once the connection is established.
    pub(super) backlog: LazyBacklog,
    /// The limits of the connection, where they are not the reactor's. Known from the first turn on.
    limits: Option<Rc<Config>>,
    /// It is created in the first turn.
    pub(super) socket: Option<TcpStream>,
    /// The marks of all turns so far. The connection gets them once it is established, because input
    /// may have arrived already and no event reports it again.
    pub(super) marks: Readiness,
}

impl Outgoing {
    pub(super) fn new(attempt: Attempt) -> Outgoing {
        Outgoing {
            machine: Machine::new(attempt.since, true),
            backlog: LazyBacklog::default(),
            attempt,
            limits: None,
            socket: None,
            marks: Readiness::default(),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        let socket = self.socket.as_ref();
        socket.map_or(Err(ErrorKind::NotConnected.into()), TcpStream::local_addr)
    }

    #[cfg(unix)]
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().and_then(TcpStream::descriptor)
    }

    /// Lends the handler. There is nothing yet to which it could write, or which could end. False if it
    /// panicked.
    pub(super) fn lend(
        &mut self,
        id: Id,
        common: &Common,
        output: &mut Vec<u8>,
        ops: &mut dyn LoopOps,
        code: &mut dyn FnMut(&mut dyn Handler, &mut Context<'_>),
    ) -> bool {
        let (peer, mut backlog) = (self.attempt.address.into(), LazyBacklog::default());
        let handler = &mut *self.attempt.handler;
        let lent = guard(|| {
            let mut cx = Context {
                others: Others::without_own(id, common, output, ops),
                peer: &peer,
                socket: None,
                backlog: &mut backlog,
            };
            code(handler, &mut cx);
        });
        // The connection has one handler, which may be another now.
        let next = backlog.get_mut().and_then(|held| held.next_handler.take());
        let next = next.and_then(|next| next.downcast::<Box<dyn Handler>>().ok());
        let dropped =
            next.is_none_or(|next| discard(std::mem::replace(&mut self.attempt.handler, *next)));
        lent.is_some() && dropped
    }

    pub(super) fn view(&self, id: Id, now: Tick) -> ConnectionView {
        let since = now.since(self.attempt.since);
        let mut view = ConnectionView::connecting(id, self.attempt.address, since);
        view.pending_out = self.backlog.output.len();
        view
    }

    /// How much output may wait.
    pub(super) fn output_max(&self, default: usize) -> usize {
        let own = self.attempt.options.limits.output_max_bytes;
        own.unwrap_or(default)
    }

    fn timeout(&self, config: &Config) -> Duration {
        let own = self.attempt.options.timeout;
        own.unwrap_or(config.connect_timeout)
    }

    pub(super) fn deadline(&self, config: &Config) -> Tick {
        self.attempt.since.after(self.timeout(config))
    }
}

impl Reactor {
    /// One turn of the attempt, which ends in a connection, in its failure, or in waiting for the kernel.
    pub(super) fn connect_turn(&mut self, id: Id, marks: Readiness, mut outgoing: Box<Outgoing>) {
        outgoing.marks.insert(marks);
        match self.attempt_connect(id, &mut outgoing) {
            Ok(true) => self.connected(id, *outgoing),
            Ok(false) => {
                // In every turn: the one that passed is removed, and an attempt has few turns.
                self.deadlines
                    .arm(id.slot(), outgoing.deadline(&self.common.config));
                self.sources.check_in(id, Source::Outgoing(outgoing));
            }
            Err(end) => self.close_connection(id, Source::Outgoing(outgoing), end),
        }
    }

    /// The first turn: socket, bind if a local address is given, connect, and the poller. The others:
    /// whether the kernel has a result. True once the connection is established.
    fn attempt_connect(&self, id: Id, outgoing: &mut Outgoing) -> Result<bool, End> {
        let (config, scope) = (&self.common.config, self.common.scope(id));
        let Some(socket) = &outgoing.socket else {
            let attempt = &mut outgoing.attempt;
            outgoing.limits = config.with(&attempt.options.limits)?;
            // A layer may read before it writes.
            let has_layer = (*attempt.handler).as_any().is::<Layered>();
            let sends = !has_layer && !outgoing.backlog.output.is_empty();
            let options = &attempt.options;
            let mut socket =
                TcpStream::connect(&self.poller, attempt.address, options, sends, scope)?;
            self.poller.add_connecting(&mut socket, scope)?;
            outgoing.socket = Some(socket);
            return Ok(false);
        };
        // Before an attempt times out, the kernel is asked once more: a turn takes a bounded number of
        // events, so the result may still be in the poller.
        let is_over = self.common.now >= outgoing.deadline(config);
        let may_be_done = is_over || outgoing.marks.intersects(Readiness::WRITABLE);
        if may_be_done && socket.is_established(scope)? {
            return Ok(true);
        }
        if is_over {
            let ms = outgoing.timeout(config).as_millis() as u64;
            let message = format!("no answer within {ms} ms");
            return Err(failure(ErrorKind::TimedOut, &message).into());
        }
        Ok(false)
    }

    /// From here on it is a connection like any other. It has its first turn at once.
    fn connected(&mut self, id: Id, outgoing: Outgoing) {
        let (attempt, Some(socket)) = (outgoing.attempt, outgoing.socket) else {
            return;
        };
        self.deadlines.disarm(id.slot());
        self.stats.connected += 1;
        log::debug!("connection {id} to {}", attempt.address);
        let mut machine = outgoing.machine;
        machine.establish(self.common.now);
        let mut connection = Connection::new(machine, attempt.address, attempt.handler, socket);
        connection.backlog = outgoing.backlog;
        if let Some(slot) = self.sources.slot(id) {
            slot.check_in(Source::Connection(connection));
            slot.pending.insert(outgoing.marks);
        }
        self.begin_limits(id, outgoing.limits);
        self.drive_source(id);
    }
}
