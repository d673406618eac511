//! Lines for a reader that may be slow. A thread writes them, because a write to a terminal or a pipe can block and the loop must
//! not. The queue between is bounded; a line that finds it full is left out and counted.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Limit of queued lines.
const QUEUE_LINES: usize = 4096;

/// How long the end of the program waits until the queue is written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the thread writes to.
pub(crate) trait Sink: Send {
    /// Writes some lines, in their order.
    fn write_lines(&mut self, lines: &[String]) -> io::Result<()>;

    /// Makes the line that says how many lines are left out here.
    fn left_out(&self) -> fn(u64) -> String;
}

/// The queue's end on the loop.
pub(crate) struct Writer {
    start: Instant,
    /// `None` once the writer is being dropped, which ends the thread.
    lines: RefCell<Option<SyncSender<String>>>,
    left_out: fn(u64) -> String,
    dropped: Cell<u64>,
    written: Receiver<()>,
}

impl Writer {
    pub(crate) fn new(mut sink: impl Sink + 'static) -> io::Result<Writer> {
        let (lines, receiver) = sync_channel(QUEUE_LINES);
        let (done, written) = sync_channel(1);
        let left_out = sink.left_out();
        let write = move || {
            while let Ok(first) = receiver.recv() {
                let batch: Vec<String> = std::iter::once(first)
                    .chain(receiver.try_iter().take(QUEUE_LINES))
                    .collect();
                if sink.write_lines(&batch).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        };
        std::thread::Builder::new()
            .name("writer".to_string())
            .spawn(write)?;
        Ok(Writer {
            start: Instant::now(),
            lines: RefCell::new(Some(lines)),
            left_out,
            dropped: Cell::new(0),
            written,
        })
    }

    /// The time since the start, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn write(&self, line: String) {
        let lines = self.lines.borrow();
        let Some(lines) = lines.as_ref() else { return };
        let dropped = self.dropped.get();
        if dropped > 0 && lines.try_send((self.left_out)(dropped)).is_ok() {
            self.dropped.set(0);
        }
        if self.dropped.get() > 0 || lines.try_send(line).is_err() {
            self.dropped.set(self.dropped.get() + 1);
        }
    }
}

/// Waits until the queue is written, within limits.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.dropped.get() > 0 {
            log::warn!(
                "{} lines of the story or the trace are left out at its end: the reader is slow",
                self.dropped.get()
            );
        }
        self.lines.take();
        let _ = self.written.recv_timeout(PATIENCE);
    }
}
