//! `doorkeeper connect`: one connection on the loop, and standard input and output on two threads.

pub(crate) mod args;
mod pipes;

use super::observe::{self, Observers};
use super::ports::{self, Holder};
use super::race::{Lane, Racer, interleave, race};
use super::{Failure, logging};
use args::Connect;
use doorkeeper::{Closed, Context, Handler, Id, Others, Reactor, Reason, TimerKey};
use pipes::{Input, Pipes};
use std::cell::RefCell;
use std::io::{self, ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// The default of `--linger`.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Connect) -> Result<(), Failure> {
    logging::start(options.log);
    let addresses = interleave(options.addresses()?);
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let mut attempts = Attempts {
        options,
        observers: options.observation.start(&mut reactor, None)?,
        started: Vec::new(),
    };
    match race(&mut reactor, &addresses, &mut attempts)? {
        Ok(winner) => {
            let attempt = attempts.started.swap_remove(winner);
            let observers = attempts.observers;
            let half_close = !options.no_half_close;
            transfer(reactor, observers, attempt, addresses[winner], half_close)
        }
        Err(failures) => Err(Failure::failed(format_args!(
            "cannot connect to {}: {failures}",
            options.target
        ))),
    }
}

/// The attempts to connect, one for each address.
struct Attempts<'a> {
    options: &'a Connect,
    observers: Option<Observers>,
    started: Vec<Attempt>,
}

impl Racer for Attempts<'_> {
    fn attempt(
        &mut self,
        reactor: &mut Reactor,
        address: SocketAddr,
        lane: Lane,
    ) -> io::Result<Id> {
        let (handler, ends) = Socket::new(self.options, lane);
        let id = reactor.connect_with(address, &self.options.connect, handler)?;
        self.started.push(Attempt { id, ends });
        Ok(id)
    }

    fn run(&mut self, reactor: &mut Reactor, until: Option<Instant>) -> Result<(), Failure> {
        observe::run(reactor, &mut self.observers, &[], until)
    }
}

/// Runs the established connection to its end, and standard output to the end of what was received.
fn transfer(
    mut reactor: Reactor,
    mut observers: Option<Observers>,
    attempt: Attempt,
    address: SocketAddr,
    half_close: bool,
) -> Result<(), Failure> {
    let Attempt { id, ends } = attempt;
    let (errors, error) = channel();
    let (input, end) = (Arc::clone(&ends.input), Rc::clone(&ends.end));
    let pipes = Pipes {
        id,
        handle: reactor.handle(),
        input: ends.input,
        drained: ends.drained,
        chunks: ends.chunks,
        half_close,
    };
    let writer = pipes.start(errors).map_err(Failure::thread)?;
    if end.borrow().is_none() {
        observe::run(&mut reactor, &mut observers, &[], None)?;
    }
    // Drops the handler, and with it the sender of chunks: the writer writes the rest and ends.
    drop(reactor);
    let written = writer.join().is_ok();
    if let Ok(error) = error.try_recv() {
        return Err(Failure::failed(error));
    }
    match end.take() {
        Some(reason) if reason != FINISHED => {
            return Err(Failure::failed(format_args!("{address}: {reason}")));
        }
        _ if !written => return Err(Failure::failed("standard output was cut short")),
        _ => {}
    }
    match input.left_over() {
        None => Ok(()),
        Some(left_over) => Err(Failure::failed(format_args!(
            "{address}: the server ended its output, and {left_over}; --linger waits longer"
        ))),
    }
}

const FINISHED: &str = "finished";

/// An attempt to connect, and the connection that it may become.
struct Attempt {
    id: Id,
    ends: Ends,
}

/// The ends of the handler's channels.
struct Ends {
    input: Arc<Input>,
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
    /// The reason of the connection's end, after it.
    end: Rc<RefCell<Option<String>>>,
}

/// The connection's handler.
struct Socket {
    lane: Lane,
    end: Rc<RefCell<Option<String>>>,
    input: Arc<Input>,
    /// The local port that was asked for, or 0.
    local_port: u16,
    /// How long standard input may give nothing after the peer's end.
    linger: Duration,
    /// Tells the reader of standard input that there is room again.
    drains: SyncSender<()>,
    /// Goes to standard output, one chunk at a time.
    output: SyncSender<Vec<u8>>,
    /// The peer has half-closed.
    peer_ended: bool,
    /// The room for output when nothing is pending.
    output_max: usize,
}

impl Socket {
    fn new(options: &Connect, lane: Lane) -> (Socket, Ends) {
        let (drains, drained) = sync_channel(1);
        let (output, chunks) = sync_channel(1);
        let ends = Ends {
            input: Arc::default(),
            drained,
            chunks,
            end: Rc::default(),
        };
        let socket = Socket {
            lane,
            end: Rc::clone(&ends.end),
            input: Arc::clone(&ends.input),
            local_port: options.connect.local.map_or(0, |local| local.port()),
            linger: linger(options),
            drains,
            output,
            peer_ended: false,
            output_max: 0,
        };
        (socket, ends)
    }

    /// After the peer's end, and after everything that it sent: ends the connection if standard
    /// input has ended, or gives it more time.
    fn wait_for_input(&self, cx: &mut Context<'_>) {
        if self.linger.is_zero() || self.input.has_ended() {
            cx.finish();
        } else {
            cx.set_timer(TimerKey(0), self.linger);
        }
    }
}

impl Handler for Socket {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.output_max = cx.room();
        self.lane.opened(cx);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        // If the channel is full, the writer wakes this connection when it has taken a chunk.
        if self.output.try_send(input.to_vec()).is_err() {
            return Ok(0);
        }
        if self.peer_ended {
            self.wait_for_input(cx);
        }
        Ok(input.len())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // If the channel is full, the reader has an earlier message to read, which says the same.
        let _ = self.drains.try_send(());
        if self.peer_ended && cx.unread() == 0 {
            self.wait_for_input(cx);
        }
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.peer_ended = true;
        if cx.unread() == 0 {
            self.wait_for_input(cx);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        if cx.room() < self.output_max {
            // Output is pending: the peer is slow, and standard input is not idle.
            cx.set_timer(key, self.linger);
        } else {
            cx.finish();
        }
        Ok(())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        let reason = describe(closed, self.local_port);
        self.lane.closed(others, &reason);
        self.end.replace(Some(reason));
        if self.lane.has_won() {
            others.stop();
        }
    }
}

/// The reason of the end, with the error and with advice.
fn describe(closed: &Closed, local_port: u16) -> String {
    let error = closed
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(" ({error})"));
    let reason = closed.reason;
    let kind = closed.error.as_ref().map(io::Error::kind);
    // The kernel's answer after tcp_abort(), which no packet of the peer causes.
    if kind == Some(ErrorKind::ConnectionAborted) {
        return format!("ended on this machine{error}: was it `ss -K`?");
    }
    let advice = match reason {
        Reason::Finished => return FINISHED.to_string(),
        Reason::Refused => "is the server running?",
        Reason::TimedOut | Reason::Unreachable => {
            "is the address right, and does a firewall let it pass?"
        }
        Reason::NoLocalPort => no_local_port(local_port),
        _ => return format!("{reason}{error}"),
    };
    format!("{reason}{error}: {advice}")
}

fn no_local_port(port: u16) -> &'static str {
    match (port, ports::holder(port)) {
        (0, _) => "every local port is in use, or in TIME_WAIT for a minute",
        (_, Holder::TimeWait) => "a closed connection holds it in TIME_WAIT, for a minute",
        _ => "another socket has it",
    }
}

/// How long to wait for more of standard input after the server's end.
fn linger(options: &Connect) -> Duration {
    // The user at a terminal sees that the server has ended, and wants it back.
    let default = if io::stdin().is_terminal() {
        Duration::ZERO
    } else {
        LINGER
    };
    options.linger.unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::no_local_port;
    use std::net::TcpListener;

    #[test]
    fn without_a_local_port_the_advice_says_which_are_in_use() {
        let any = "every local port is in use, or in TIME_WAIT for a minute";
        assert_eq!(no_local_port(0), any);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(no_local_port(port), "another socket has it");
    }
}
