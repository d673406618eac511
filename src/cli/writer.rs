//! A thread that writes for the loop.
//!
//! A write to a terminal, a pipe or a disk can block, and the loop must not. So lines go into a
//! queue, which a thread writes. The queue is bounded: a line that finds it full is left out, and a
//! later line says how many are missing there. The end of the program waits for the thread, but
//! only for [`PATIENCE`], and for the last writer [`LEAST_PATIENCE`] at least.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Limit of the queue. The thread holds as much again while it writes.
const QUEUE_BYTES: usize = 512 * 1024;

/// How long the end of the program waits for slow readers, all of them together.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least time of the last writer, standard error, also if the others have used up all of the patience:
/// their failure is reported there.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// The last part of the patience, in which the thread writes no more lines but only how many are
/// left out.
const LAST_WORD: Duration = Duration::from_millis(200);

/// How long the thread waits for more lines after the first.
const GATHER: Duration = Duration::from_millis(5);

/// When the end of the program stops waiting. The first call begins the end.
fn end_of_patience() -> Instant {
    static DEADLINE: OnceLock<Instant> = OnceLock::new();
    *DEADLINE.get_or_init(|| Instant::now() + PATIENCE)
}

/// Where the thread writes to. Its methods may block.
pub(crate) trait Sink: Send {
    /// Writes some of these lines and returns the number of bytes that it wrote, like write(2).
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize>;
}

/// Makes the line that says how many lines are left out.
pub(crate) type LeftOut = fn(u64) -> String;

/// The queue and its thread. Clones share them.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whole lines, each with its newline.
    queue: Vec<u8>,
    /// Lines that came after those of the queue, and found it full.
    left_out: u64,
    left_out_line: LeftOut,
    /// The thread holds lines that are not written yet.
    is_writing: bool,
    /// A line must not wait for more lines, or someone waits until everything is written.
    is_urgent: bool,
    /// The thread waits for lines.
    is_waiting: bool,
    /// No more lines will come.
    is_closed: bool,
    /// The thread has met the deadline before it wrote everything.
    is_cut: bool,
    /// The first error, until it is taken.
    error: Option<io::Error>,
    /// When the end of the program stops waiting; `None` before the end.
    deadline: Option<Instant>,
}

/// What the thread takes from the queue.
struct Batch {
    lines: Vec<u8>,
    /// Lines left out after these.
    left_out: u64,
}

impl Shared {
    fn new(left_out: LeftOut) -> Shared {
        let state = State {
            queue: Vec::new(),
            left_out: 0,
            left_out_line: left_out,
            is_writing: false,
            is_urgent: false,
            is_waiting: false,
            is_closed: false,
            is_cut: false,
            error: None,
            deadline: None,
        };
        Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes them. `None`: no more will come, and the queue is empty.
    fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        loop {
            if !state.queue.is_empty() {
                state = self.gather(state);
                state.is_writing = true;
                state.is_urgent = false;
                return Some(Batch {
                    lines: std::mem::take(&mut state.queue),
                    left_out: std::mem::take(&mut state.left_out),
                });
            }
            if state.deadline.is_some() || state.is_closed {
                return None;
            }
            state.is_waiting = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.is_waiting = false;
        }
    }

    /// Waits a moment for more lines, because it costs as much to wake the thread for one as for
    /// many.
    fn gather<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let begin = Instant::now();
        loop {
            let left = GATHER.saturating_sub(begin.elapsed());
            if left.is_zero() || state.is_urgent || state.deadline.is_some() {
                return state;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The program ends, and the time for the lines themselves is over.
    fn is_late(&self) -> bool {
        let deadline = self.lock().deadline;
        deadline.is_some_and(|deadline| Instant::now() + LAST_WORD >= deadline)
    }
}

/// The thread.
struct Thread<S> {
    shared: Arc<Shared>,
    sink: S,
    /// Lines lost by errors, which no line has counted yet.
    lost: u64,
}

impl<S: Sink> Thread<S> {
    fn run(mut self) {
        while let Some(batch) = self.shared.take() {
            self.write_batch(&batch);
        }
    }

    fn write_batch(&mut self, batch: &Batch) {
        let lost = std::mem::take(&mut self.lost);
        let unwritten = match self.write_count(lost) {
            0 => self.write_lines(&batch.lines),
            lost => lost + count_lines(&batch.lines),
        };
        self.lost = match unwritten {
            0 => self.write_count(batch.left_out),
            unwritten => unwritten + batch.left_out,
        };
        if self.lost > 0 && self.shared.is_late() {
            self.write_last_word();
        }
    }

    /// Writes the line that counts lines left out. Returns their number if it cannot, and 0 if it
    /// can.
    fn write_count(&mut self, left_out: u64) -> u64 {
        if left_out == 0 {
            return 0;
        }
        let line = (self.shared.lock().left_out_line)(left_out);
        match self.write_lines(format!("{line}\n").as_bytes()) {
            0 => 0,
            _ => left_out,
        }
    }

    /// Returns the number of lines that it could not write, because of an error or because it is
    /// late.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        while !rest.is_empty() {
            if self.shared.is_late() {
                return count_lines(rest);
            }
            match self.sink.write_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.shared.lock().error.get_or_insert(error);
                    return count_lines(rest);
                }
            }
        }
        0
    }

    /// Counts all that is not written, in one line. It may follow a part of a line.
    fn write_last_word(&mut self) {
        let line = {
            let mut state = self.shared.lock();
            state.is_cut = true;
            let queue = std::mem::take(&mut state.queue);
            let left_out = self.lost + count_lines(&queue) + std::mem::take(&mut state.left_out);
            (state.left_out_line)(left_out)
        };
        let _ = self.sink.write_some(format!("\n{line}\n").as_bytes());
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

impl Writer {
    /// # Errors
    /// The system has no thread left (EAGAIN).
    pub(crate) fn start(sink: impl Sink + 'static, left_out: LeftOut) -> io::Result<Writer> {
        let shared = Arc::new(Shared::new(left_out));
        let thread = Thread {
            shared: Arc::clone(&shared),
            sink,
            lost: 0,
        };
        Builder::new()
            .name("writer".to_string())
            .spawn(|| thread.run())?;
        Ok(Writer(shared))
    }

    pub(crate) fn set_left_out_line(&self, left_out: LeftOut) {
        self.0.lock().left_out_line = left_out;
    }

    /// Queues a line, given without its newline. It never blocks.
    pub(crate) fn write(&self, line: &str) {
        self.queue(&[line, "\n"], true);
    }

    /// The same for one of many lines, which may wait a moment for the others.
    pub(crate) fn write_soon(&self, line: &str) {
        self.queue(&[line, "\n"], false);
    }

    /// Queues text: whole lines, or on a terminal a part of one. It never blocks.
    pub(crate) fn write_text(&self, text: &str) {
        self.queue(&[text], true);
    }

    fn queue(&self, text: &[&str], is_urgent: bool) {
        let mut state = self.0.lock();
        if state.queue.len() >= QUEUE_BYTES {
            state.left_out += 1;
            return;
        }
        text.iter()
            .for_each(|text| state.queue.extend_from_slice(text.as_bytes()));
        if state.is_waiting || is_urgent && !state.is_urgent {
            state.is_urgent |= is_urgent;
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, for at most [`PATIENCE`]. True if it is.
    pub(crate) fn flush(&self) -> bool {
        self.wait_until(Instant::now() + PATIENCE)
    }

    /// The same at the end of the program: the thread ends.
    pub(crate) fn finish(&self) -> bool {
        self.finish_by(end_of_patience())
    }

    /// The same for the last writer of all.
    pub(crate) fn finish_last(&self) -> bool {
        let least = Instant::now() + LEAST_PATIENCE;
        self.finish_by(end_of_patience().max(least))
    }

    fn finish_by(&self, deadline: Instant) -> bool {
        self.0.lock().deadline = Some(deadline);
        self.0.changed.notify_all();
        self.wait_until(deadline)
    }

    /// Ends the thread once everything is written. It does not wait.
    pub(crate) fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }

    fn wait_until(&self, deadline: Instant) -> bool {
        let mut state = self.0.lock();
        state.is_urgent = true;
        self.0.changed.notify_all();
        while !state.queue.is_empty() || state.is_writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.is_cut
    }

    /// The first error since the last call.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.0.lock().error.take()
    }
}

#[cfg(test)]
mod tests;
