//! `doorkeeper connect`.
//!
//! The socket is on the loop. Standard input and output are not: a file is always ready and epoll refuses it, and a terminal
//! made nonblocking is so for the shell too. So each has a thread that blocks, and holds no more than one chunk.

use super::connect_args::Connect;
use super::watchers::Watchers;
use super::{Failure, logging};
use doorkeeper::{Closed, Context, Handle, Handler, Id, Reactor, Reason, TimerKey};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How much is read from standard input at once.
const CHUNK: usize = 64 * 1024;

/// How long standard input may give nothing once the server has ended.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Connect) -> Result<(), Failure> {
    logging::start();
    let addresses = options.addresses()?;
    let mut reactor = Reactor::new(options.config.clone())
        .map_err(|error| Failure::failed(format_args!("cannot start the loop: {error}")))?;
    let mut watchers = options.watching.start(&mut reactor)?;
    let mut failures = Vec::new();
    for address in addresses {
        let ends = Ends::new();
        let id = reactor
            .connect_with(address, &options.connect, ends.handler)
            .map_err(|error| {
                Failure::failed(format_args!("cannot connect to {address}: {error}"))
            })?;
        run_loop(&mut reactor, &mut watchers)?;
        if ends.fate.opened.get() {
            let pipes = Pipes {
                id,
                handle: reactor.handle(),
                drained: ends.drained,
                chunks: ends.chunks,
            };
            return converse(reactor, watchers, pipes, &ends.fate, address, options);
        }
        failures.push(format!(
            "{address}: {}",
            ends.fate.ended.take().unwrap_or_default()
        ));
    }
    Err(Failure::failed(format_args!(
        "cannot connect to {}: {}",
        options.target,
        failures.join("; ")
    )))
}

fn run_loop(reactor: &mut Reactor, watchers: &mut Option<Watchers>) -> Result<(), Failure> {
    let ran = match watchers {
        Some(watchers) => watchers.run(reactor, &[]),
        None => reactor.run(),
    };
    ran.map_err(|error| Failure::failed(format_args!("the poller failed: {error}")))
}

/// From the connection's establishment to its end, and to the end of what it had for standard output.
fn converse(
    mut reactor: Reactor,
    mut watchers: Option<Watchers>,
    pipes: Pipes,
    fate: &Fate,
    address: SocketAddr,
    options: &Connect,
) -> Result<(), Failure> {
    let (troubles, trouble) = channel();
    let writer = pipes
        .start(troubles, !options.no_half_close)
        .map_err(|error| Failure::failed(format_args!("cannot start a thread: {error}")))?;
    if fate.ended.borrow().is_none() {
        run_loop(&mut reactor, &mut watchers)?;
    }
    // With the handler goes the only way to the writer, which writes what it still has and ends.
    drop(reactor);
    let written = writer.join().is_ok();
    if let Ok(trouble) = trouble.try_recv() {
        return Err(Failure::failed(trouble));
    }
    match fate.ended.take() {
        Some(why) if why != FINISHED => Err(Failure::failed(format_args!("{address}: {why}"))),
        _ if written => Ok(()),
        _ => Err(Failure::failed("standard output was cut short")),
    }
}

/// What has become of the connection.
#[derive(Default)]
struct Fate {
    opened: Cell<bool>,
    /// Why it ended, once it has.
    ended: RefCell<Option<String>>,
}

const FINISHED: &str = "finished";

/// The handler, and what others hold of it.
struct Ends {
    handler: Socket,
    fate: Rc<Fate>,
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
}

impl Ends {
    fn new() -> Ends {
        let (drains, drained) = sync_channel(1);
        let (sink, chunks) = sync_channel(1);
        let fate = Rc::<Fate>::default();
        let handler = Socket {
            fate: Rc::clone(&fate),
            drains,
            sink,
            peer_ended: false,
            output_max: 0,
        };
        Ends {
            handler,
            fate,
            drained,
            chunks,
        }
    }
}

/// The connection's handler.
struct Socket {
    fate: Rc<Fate>,
    /// Tells the reader that there is room again.
    drains: SyncSender<()>,
    /// Goes to standard output, one chunk at a time.
    sink: SyncSender<Vec<u8>>,
    /// The peer has ended, and all it sent is on its way to standard output.
    peer_ended: bool,
    output_max: usize,
}

impl Socket {
    fn wait_for_input(cx: &mut Context<'_>) {
        if io::stdin().is_terminal() {
            cx.finish();
        } else {
            cx.set_timer(TimerKey(0), GRACE);
        }
    }
}

impl Handler for Socket {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.output_max = cx.room();
        self.fate.opened.set(true);
        cx.stop();
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        // Who wakes this connection when there is room is the writer.
        if self.sink.try_send(input.to_vec()).is_err() {
            return Ok(0);
        }
        if self.peer_ended {
            Socket::wait_for_input(cx);
        }
        Ok(input.len())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // If it is full the reader has yet to hear of an earlier one, which is as good.
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
            // A slow peer is not an idle input.
            cx.set_timer(key, GRACE);
        } else {
            cx.finish();
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, closed: &Closed) {
        *self.fate.ended.borrow_mut() = Some(told(closed));
        cx.stop();
    }
}

/// Why it ended, and what would help.
fn told(closed: &Closed) -> String {
    let advice = match closed.reason {
        Reason::Finished => return FINISHED.to_string(),
        Reason::Refused => "is the server running?",
        Reason::TimedOut | Reason::Unreachable => {
            "is the address right, and does a firewall let it pass?"
        }
        Reason::NoLocalPort => "is another connection using it, or are all of them in use?",
        _ => {
            return closed
                .error
                .as_ref()
                .map_or(closed.reason.to_string(), |error| {
                    format!("{} ({error})", closed.reason)
                });
        }
    };
    let error = closed
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(" ({error})"));
    format!("{}{error}: {advice}", closed.reason)
}

/// What the two threads need.
struct Pipes {
    id: Id,
    handle: Handle,
    drained: Receiver<()>,
    chunks: Receiver<Vec<u8>>,
}

impl Pipes {
    /// The reader is never waited for: it may be blocked in a read for ever.
    fn start(self, troubles: Sender<String>, half_close: bool) -> io::Result<JoinHandle<()>> {
        let Pipes {
            id,
            handle,
            drained,
            chunks,
        } = self;
        let (writer_handle, writer_troubles) = (handle.clone(), troubles.clone());
        let thread = |name: &str| Builder::new().name(name.to_string());
        thread("standard input").spawn(move || {
            if let Err(error) = read_all(&handle, id, &drained, half_close) {
                complain(
                    &handle,
                    &troubles,
                    format!("cannot read standard input: {error}"),
                );
            }
        })?;
        thread("standard output").spawn(move || {
            if let Err(error) = write_all(&writer_handle, id, &chunks) {
                complain(
                    &writer_handle,
                    &writer_troubles,
                    format!("cannot write to standard output: {error}"),
                );
            }
        })
    }
}

/// Ends the loop; if it has ended already there is nobody to tell.
fn complain(handle: &Handle, troubles: &Sender<String>, trouble: String) {
    let _ = troubles.send(trouble);
    let _ = handle.stop();
}

/// Standard input to the connection. It goes on once all was taken, so memory stays flat.
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

/// Has the loop send what it can, and returns the rest; `None` if the loop is gone.
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

/// The connection to standard output. With each chunk taken there is room for another.
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
