//! `doorkeeper connect`.
//!
//! The socket is on the loop. Standard input and output are not: epoll refuses a regular file (EPERM, epoll_ctl(2)), and O_NONBLOCK
//! on a terminal would hold for the shell that shares it. So each has a thread that blocks and holds at most one chunk.

use super::connect_args::Connect;
use super::observe::Observers;
use super::{Failure, logging};
use doorkeeper::{Closed, Context, Handle, Handler, Id, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Bytes read from standard input at once.
const CHUNK: usize = 64 * 1024;

/// How long standard input may give nothing after the server's end of output.
const INPUT_PAUSE: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Connect) -> Result<(), Failure> {
    logging::start();
    let addresses = options.addresses()?;
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let mut observers = options.observation.start(&mut reactor)?;
    let mut failures = Vec::new();
    for address in addresses {
        let attempt = Attempt::new();
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
                drained: attempt.drained,
                chunks: attempt.chunks,
            };
            return transfer(
                reactor,
                observers,
                pipes,
                &attempt.progress,
                address,
                options,
            );
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
    options: &Connect,
) -> Result<(), Failure> {
    let (errors, error) = channel();
    let writer = pipes
        .start(errors, !options.no_half_close)
        .map_err(|error| Failure::failed(format_args!("cannot start a thread: {error}")))?;
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
            Err(Failure::failed(format_args!("{address}: {reason}")))
        }
        _ if written => Ok(()),
        _ => Err(Failure::failed("standard output was cut short")),
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
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
}

impl Attempt {
    fn new() -> Attempt {
        let (drains, drained) = sync_channel(1);
        let (output, chunks) = sync_channel(1);
        let progress = Rc::<Progress>::default();
        let handler = Socket {
            progress: Rc::clone(&progress),
            drains,
            output,
            peer_ended: false,
            output_max: 0,
        };
        Attempt {
            handler,
            progress,
            drained,
            chunks,
        }
    }
}

/// The connection's handler.
struct Socket {
    progress: Rc<Progress>,
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
    /// Gives standard input time after the peer's end. A terminal gets none: its user sees that the server is done.
    fn wait_for_input(cx: &mut Context<'_>) {
        if io::stdin().is_terminal() {
            cx.finish();
        } else {
            cx.set_timer(TimerKey(0), INPUT_PAUSE);
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
            Socket::wait_for_input(cx);
        }
        Ok(input.len())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // If the channel is full, the reader has an earlier message to read, which says the same.
        let _ = self.drains.try_send(());
        if self.peer_ended && cx.unread() == 0 {
            Socket::wait_for_input(cx);
        }
        Ok(())
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.peer_ended = true;
        if cx.unread() == 0 {
            Socket::wait_for_input(cx);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        if cx.room() < self.output_max {
            // Output is pending: the peer is slow, and standard input is not idle.
            cx.set_timer(key, INPUT_PAUSE);
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

/// What the two threads need.
struct Pipes {
    id: Id,
    handle: Handle,
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
}

impl Pipes {
    /// Starts both threads and returns the writer's. The reader is never joined, because it may be blocked in a read without end.
    fn start(self, errors: Sender<String>, half_close: bool) -> io::Result<JoinHandle<()>> {
        let Pipes {
            id,
            handle,
            drained,
            chunks,
        } = self;
        let (writer_handle, writer_errors) = (handle.clone(), errors.clone());
        let thread = |name: &str| Builder::new().name(name.to_string());
        thread("standard input").spawn(move || {
            if let Err(error) = read_all(&handle, id, &drained, half_close) {
                let error = format!("cannot read standard input: {error}");
                report(&handle, &errors, error);
            }
        })?;
        thread("standard output").spawn(move || {
            if let Err(error) = write_all(&writer_handle, id, &chunks) {
                let error = format!("cannot write to standard output: {error}");
                report(&writer_handle, &writer_errors, error);
            }
        })
    }
}

/// Stops the loop because of an error. If the loop has ended already, both calls fail and nothing is left to stop.
fn report(handle: &Handle, errors: &Sender<String>, error: String) {
    let _ = errors.send(error);
    let _ = handle.stop();
}

/// Copies standard input to the connection. It reads the next chunk when the loop has taken the whole last one, so memory is bounded.
fn read_all(handle: &Handle, id: Id, drained: &Receiver<()>, half_close: bool) -> io::Result<()> {
    let mut input = io::stdin().lock();
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = match input.read(&mut chunk) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        chunk.truncate(count);
        while !chunk.is_empty() {
            match offer(handle, id, chunk) {
                Some(rest) if rest.is_empty() || drained.recv().is_ok() => chunk = rest,
                // The connection is gone.
                _ => return Ok(()),
            }
        }
    }
    if half_close {
        let _ = handle.post(move |reactor: &mut Reactor| {
            reactor.half_close(id);
        });
    }
    Ok(())
}

/// Writes as much of the chunk to the connection as it takes, and returns the rest; `None` if the loop is gone.
fn offer(handle: &Handle, id: Id, mut chunk: Vec<u8>) -> Option<Vec<u8>> {
    let (reply, answer) = sync_channel(1);
    let work = move |reactor: &mut Reactor| {
        let taken = reactor.send(id, &chunk);
        chunk.drain(..taken);
        let _ = reply.send(chunk);
    };
    handle.post(work).ok()?;
    answer.recv().ok()
}

/// Copies the connection to standard output. The connection is woken when a chunk leaves the channel, which then has room.
fn write_all(handle: &Handle, id: Id, chunks: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for chunk in chunks {
        let _ = handle.post(move |reactor: &mut Reactor| {
            reactor.wake(id);
        });
        output.write_all(&chunk)?;
        output.flush()?;
    }
    Ok(())
}
