//! Standard input and output of `connect`, each on a thread.
//!
//! They are not on the loop: epoll refuses a regular file (EPERM, epoll_ctl(2)), and O_NONBLOCK on
//! a terminal would hold for the shell that shares it. A thread blocks instead, and holds at most
//! one chunk.

use doorkeeper::{Handle, Id, Reactor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Bytes read from standard input at once.
const CHUNK: usize = 64 * 1024;

/// How far standard input is.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Bytes read.
    read: AtomicU64,
    /// Bytes that the connection took.
    taken: AtomicU64,
    /// All is read, and the connection took it.
    ended: AtomicBool,
}

impl Input {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What is left of it, if the program ends now. An input that never gave a byte is not in use:
    /// its end is not awaited.
    pub(super) fn left_over(&self) -> Option<String> {
        let read = self.read.load(Ordering::SeqCst);
        let held = read - self.taken.load(Ordering::SeqCst);
        if self.has_ended() {
            None
        } else if held > 0 {
            Some(format!("{held} bytes of standard input are not sent"))
        } else if has_input() {
            // The reader's thread has not run yet.
            Some("a part of standard input is not sent".to_string())
        } else if read > 0 && !io::stdin().is_terminal() {
            Some("standard input has not ended".to_string())
        } else {
            None
        }
    }
}

/// Whether standard input has unread bytes.
fn has_input() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().contains(PollFlags::IN)
}

/// What the two threads need.
pub(super) struct Pipes {
    pub(super) id: Id,
    pub(super) handle: Handle,
    pub(super) input: Arc<Input>,
    /// Says that the connection has room again.
    pub(super) drained: Receiver<()>,
    /// What was received.
    pub(super) chunks: Receiver<Vec<u8>>,
    pub(super) half_close: bool,
}

impl Pipes {
    /// Starts both threads and returns the writer's. The reader is never joined, because it may be
    /// blocked in a read without end.
    pub(super) fn start(self, errors: Sender<String>) -> io::Result<JoinHandle<()>> {
        let Pipes {
            id,
            handle,
            chunks,
            input,
            drained,
            half_close,
        } = self;
        let reader = Reader {
            id,
            handle: handle.clone(),
            input,
            drained,
            half_close,
        };
        let reader_errors = errors.clone();
        let thread = |name: &str| Builder::new().name(name.to_string());
        thread("standard input").spawn(move || {
            if let Err(error) = reader.run() {
                let error = format!("cannot read standard input: {error}");
                report(&reader.handle, &reader_errors, error);
            }
        })?;
        thread("standard output").spawn(move || {
            if let Err(error) = write_all(&handle, id, &chunks) {
                let error = format!("cannot write to standard output: {error}");
                report(&handle, &errors, error);
            }
        })
    }
}

/// Stops the loop because of an error. If the loop has ended already, both calls fail and nothing
/// is left to stop.
fn report(handle: &Handle, errors: &Sender<String>, error: String) {
    let _ = errors.send(error);
    let _ = handle.stop();
}

/// Copies standard input to the connection.
struct Reader {
    id: Id,
    handle: Handle,
    input: Arc<Input>,
    drained: Receiver<()>,
    half_close: bool,
}

impl Reader {
    /// Reads the next chunk when the connection has taken the whole last one, so memory is bounded.
    fn run(&self) -> io::Result<()> {
        let mut stdin = io::stdin().lock();
        loop {
            let mut chunk = vec![0; CHUNK];
            let count = match stdin.read(&mut chunk) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            };
            self.input.read.fetch_add(count as u64, Ordering::SeqCst);
            chunk.truncate(count);
            while !chunk.is_empty() {
                match self.offer(chunk) {
                    Some(rest) if rest.is_empty() || self.drained.recv().is_ok() => chunk = rest,
                    // The connection is gone.
                    _ => return Ok(()),
                }
            }
        }
        self.input.ended.store(true, Ordering::SeqCst);
        if self.half_close {
            let id = self.id;
            let _ = self.handle.post(move |reactor: &mut Reactor| {
                reactor.half_close(id);
            });
        }
        Ok(())
    }

    /// Writes as much of the chunk to the connection as it takes, and returns the rest; `None` if
    /// the loop is gone.
    fn offer(&self, mut chunk: Vec<u8>) -> Option<Vec<u8>> {
        let (id, input) = (self.id, Arc::clone(&self.input));
        let (reply, answer) = sync_channel(1);
        let work = move |reactor: &mut Reactor| {
            let taken = reactor.send(id, &chunk);
            input.taken.fetch_add(taken as u64, Ordering::SeqCst);
            chunk.drain(..taken);
            let _ = reply.send(chunk);
        };
        self.handle.post(work).ok()?;
        answer.recv().ok()
    }
}

/// Copies the connection to standard output. The connection is woken when a chunk leaves the
/// channel, which then has room.
fn write_all(handle: &Handle, id: Id, chunks: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for chunk in chunks {
        let _ = handle.post(move |reactor: &mut Reactor| {
            reactor.wake(id);
        });
        if is_closed(&output) {
            let problem =
                "it is closed (or it is /dev/null, opened for reading too, which looks the same)";
            return Err(io::Error::other(problem));
        }
        output.write_all(&chunk)?;
        output.flush()?;
    }
    Ok(())
}

/// Whether standard output was closed when the program started. Rust's runtime then opens /dev/null
/// for reading and writing in its place, so a write would succeed and the output would be lost.
fn is_closed(output: &impl std::os::fd::AsFd) -> bool {
    let Ok(status) = fstat(output) else {
        return true;
    };
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == (1, 3);
    is_null && fcntl_getfl(output).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}
