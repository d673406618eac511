//! Lines for a reader that may be slow: they are handed to a thread that may block, and left out, and counted, when too many
//! wait for it. The loop never does.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait.
const LINES: usize = 4096;

/// How long the end waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines end up.
pub(crate) trait Sink: Send {
    /// Takes some lines, in their order.
    fn take(&mut self, lines: &[String]) -> io::Result<()>;

    /// The line that says how many are missing here.
    fn left_out(&self) -> fn(u64) -> String;
}

/// Where lines go, and since when.
pub(crate) struct Teller {
    began: Instant,
    /// Empty once the story is over.
    lines: RefCell<Option<SyncSender<String>>>,
    left_out: fn(u64) -> String,
    dropped: Cell<u64>,
    written: Receiver<()>,
}

impl Teller {
    pub(crate) fn new(mut sink: impl Sink + 'static) -> io::Result<Teller> {
        let (lines, receiver) = sync_channel(LINES);
        let (done, written) = sync_channel(1);
        let left_out = sink.left_out();
        let write = move || {
            while let Ok(first) = receiver.recv() {
                let batch: Vec<String> = std::iter::once(first)
                    .chain(receiver.try_iter().take(LINES))
                    .collect();
                // Nobody is left to tell that nobody listens.
                if sink.take(&batch).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        };
        std::thread::Builder::new()
            .name("teller".to_string())
            .spawn(write)?;
        let (began, dropped) = (Instant::now(), Cell::new(0));
        Ok(Teller {
            began,
            lines: RefCell::new(Some(lines)),
            left_out,
            dropped,
            written,
        })
    }

    /// Since the story began.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn tell(&self, line: String) {
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

/// Waits for the last line to be written, but not for ever.
impl Drop for Teller {
    fn drop(&mut self) {
        if self.dropped.get() > 0 {
            log::warn!(
                "a slow reader of what happens missed {} lines at the end",
                self.dropped.get()
            );
        }
        self.lines.take();
        let _ = self.written.recv_timeout(PATIENCE);
    }
}
