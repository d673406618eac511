//! `doorkeeper connect`: one connection on the loop, and standard input and output on two threads.

pub(crate) mod args;
mod pipes;

use super::observe::Observers;
use super::{Failure, logging};
use args::Connect;
use doorkeeper::{Closed, Context, Handler, Reactor, Reason, TimerKey};
use pipes::{Input, Pipes};
use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// The default of `--linger`.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Connect) -> Result<(), Failure> {
    logging::start();
    let addresses = options.addresses()?;
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let mut observers = options.observation.start(&mut reactor)?;
    // The user at a terminal sees that the server has ended, and wants it back.
    let default = if io::stdin().is_terminal() {
        Duration::ZERO
    } else {
        LINGER
    };
    let linger = options.linger.unwrap_or(default);
    let mut failures = Vec::new();
    for address in addresses {
        let attempt = Attempt::new(linger);
        let id = reactor
            .connect_with(address, &options.connect, attempt.handler)
            .map_err(|error| {
                Failure::failed(format_args!("cannot connect to {address}: {error}"))
            })?;
        run_loop(&mut reactor, &mut observers)?;
        if attempt.progress.opened.get() {
            let pipes = Pipes {
                id,
                handle: reactor.handle(),
                input: attempt.input,
                drained: attempt.drained,
                chunks: attempt.chunks,
                half_close: !options.no_half_close,
            };
            return transfer(reactor, observers, pipes, &attempt.progress, address);
        }
        let reason = attempt.progress.ended.take().unwrap_or_default();
        failures.push(format!("{address}: {reason}"));
    }
    Err(Failure::failed(format_args!(
        "cannot connect to {}: {}",
        options.target,
        failures.join("; ")
    )))
}

fn run_loop(reactor: &mut Reactor, observers: &mut Option<Observers>) -> Result<(), Failure> {
    let ran = match observers {
        Some(observers) => observers.run(reactor, &[]),
        None => reactor.run(),
    };
    ran.map_err(Failure::poller)
}

/// Runs the established connection to its end, and standard output to the end of what was received.
fn transfer(
    mut reactor: Reactor,
    mut observers: Option<Observers>,
    pipes: Pipes,
    progress: &Progress,
    address: SocketAddr,
) -> Result<(), Failure> {
    let (errors, error) = channel();
    let input = Arc::clone(&pipes.input);
    let writer = pipes.start(errors).map_err(Failure::thread)?;
    if progress.ended.borrow().is_none() {
        run_loop(&mut reactor, &mut observers)?;
    }
    // Drops the handler, and with it the sender of chunks: the writer writes the rest and ends.
    drop(reactor);
    let written = writer.join().is_ok();
    if let Ok(error) = error.try_recv() {
        return Err(Failure::failed(error));
    }
    match progress.ended.take() {
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

/// What the handler has seen of its connection.
#[derive(Default)]
struct Progress {
    opened: Cell<bool>,
    /// The reason of the end, after the end.
    ended: RefCell<Option<String>>,
}

const FINISHED: &str = "finished";

/// A connection attempt: the handler, and the other ends of its channels.
struct Attempt {
    handler: Socket,
    progress: Rc<Progress>,
    input: Arc<Input>,
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
}

impl Attempt {
    fn new(linger: Duration) -> Attempt {
        let (drains, drained) = sync_channel(1);
        let (output, chunks) = sync_channel(1);
        let (progress, input) = (Rc::<Progress>::default(), Arc::<Input>::default());
        let handler = Socket {
            progress: Rc::clone(&progress),
            input: Arc::clone(&input),
            linger,
            drains,
            output,
            peer_ended: false,
            output_max: 0,
        };
        Attempt {
            handler,
            progress,
            input,
            drained,
            chunks,
        }
    }
}

/// The connection's handler.
struct Socket {
    progress: Rc<Progress>,
    input: Arc<Input>,
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
    /// After the peer's end, and after everything that it sent: ends the connection if standard input has ended, or gives it more time.
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
        self.progress.opened.set(true);
        cx.stop();
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

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        *self.progress.ended.borrow_mut() = Some(describe(closed));
        cx.stop();
    }
}

/// The reason of the end, with the error and with advice.
fn describe(closed: &Closed) -> String {
    let error = closed
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(" ({error})"));
    let reason = closed.reason;
    let advice = match reason {
        Reason::Finished => return FINISHED.to_string(),
        Reason::Refused => "is the server running?",
        Reason::TimedOut | Reason::Unreachable => {
            "is the address right, and does a firewall let it pass?"
        }
        Reason::NoLocalPort => "is another connection using it, or are all of them in use?",
        _ => return format!("{reason}{error}"),
    };
    format!("{reason}{error}: {advice}")
}
