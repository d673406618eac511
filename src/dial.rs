//! An outgoing connection until it is established.

use crate::config::{Config, ConnectOptions};
use crate::end::End;
use crate::handler::{Closed, Handler, Reason};
use crate::id::Id;
use crate::net::{Poller, TcpStream, Told};
use crate::readiness::Readiness;
use crate::snapshot::{ConnectionState, ConnectionView};
use crate::timers::Tick;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Someone we are calling. Until the call is answered there is a handler, and perhaps a socket, but no conversation.
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) options: ConnectOptions,
    pub(crate) handler: Box<dyn Handler>,
    /// Made in the first turn.
    pub(crate) socket: Option<TcpStream>,
    /// When the call was asked for.
    pub(crate) since: Tick,
    /// Kept until the connection is established, for then it tells what has already arrived.
    pub(crate) noted: Readiness,
    /// No output will follow: half-closed before it began.
    pub(crate) half_closed: bool,
}

impl Dial {
    /// One turn: socket, [bind,] connect, register in the first; in the others, whether the kernel has come to a result. True
    /// once the connection is established.
    pub(crate) fn turn(
        &mut self,
        noted: Readiness,
        poller: &Poller,
        config: &Config,
        now: Tick,
        told: Told<'_>,
    ) -> Result<bool, End> {
        self.noted.add(noted);
        let Some(socket) = &self.socket else {
            let mut socket = TcpStream::connect(self.address, &self.options, told)?;
            poller.add_connecting(&mut socket, told.id)?;
            self.socket = Some(socket);
            return Ok(false);
        };
        // A turn takes so many events and no more, so an answer may be there and not be noted: the kernel is asked before a
        // call is given up.
        let over = now >= self.deadline(config);
        if (over || self.noted.has(Readiness::WRITABLE)) && is_established(socket, told)? {
            return Ok(true);
        }
        if over {
            let message = format!(
                "no answer within {} ms",
                self.timeout(config).as_millis() as u64
            );
            return Err(io::Error::new(ErrorKind::TimedOut, message).into());
        }
        Ok(false)
    }

    pub(crate) fn view(&self, id: Id, now: Tick) -> ConnectionView {
        let age = now.since(self.since);
        ConnectionView {
            id,
            peer: self.address,
            state: ConnectionState::Connecting,
            readable: false,
            writable: false,
            pending_in: 0,
            pending_out: 0,
            age,
            idle: age,
            received: 0,
            sent: 0,
        }
    }

    fn timeout(&self, config: &Config) -> Duration {
        self.options.timeout.unwrap_or(config.connect_timeout)
    }

    pub(crate) fn deadline(&self, config: &Config) -> Tick {
        self.since.after(self.timeout(config))
    }

    /// The receipt of a call that came to nothing.
    pub(crate) fn close(&self, end: End, now: Tick) -> Closed {
        let age = now.since(self.since);
        Closed {
            reason: end.reason,
            error: end.error,
            received: 0,
            sent: 0,
            unsent: 0,
            discarded: 0,
            age,
        }
    }
}

/// Writable is not connected: a failed call is writable too, and a wake-up may be spurious. SO_ERROR says whether it failed,
/// and only a connected socket has a peer (connect(2), getpeername(2)).
fn is_established(socket: &TcpStream, told: Told<'_>) -> Result<bool, End> {
    socket.take_error(told)?;
    let peer = match socket.peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
        result => result?,
    };
    if peer == socket.local_addr()? {
        // A port of the ephemeral range where nobody listens: the kernel may choose it as the local port too, and simultaneous
        // open then joins the socket to itself (RFC 9293, 3.5). Closed in the usual way it would hold the port in TIME_WAIT.
        socket.reset_on_close();
        let message = "nobody listens there: the socket was connected to itself";
        return Err(End {
            reason: Reason::Refused,
            error: Some(io::Error::new(ErrorKind::ConnectionRefused, message)),
        });
    }
    Ok(true)
}
