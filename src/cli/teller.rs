//! Lines for a reader that may be slow: they are handed to a thread that may block, and left out, and counted, when too many
//! wait for it. The loop never does.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait.
const LINES: usize = 4096;

/// How long the end waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go, and since when.
pub(crate) struct Teller {
    began: Instant,
    /// Empty once the story is over.
    lines: RefCell<Option<SyncSender<String>>>,
    dropped: Cell<u64>,
    written: Receiver<()>,
}

impl Teller {
    pub(crate) fn new(mut output: impl Write + Send + 'static) -> std::io::Result<Teller> {
        let (lines, receiver) = sync_channel::<String>(LINES);
        let (done, written) = sync_channel(1);
        let write = move || {
            for line in receiver {
                // Nobody is left to tell that nobody listens.
                if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        };
        std::thread::Builder::new().name("teller".to_string()).spawn(write)?;
        Ok(Teller { began: Instant::now(), lines: RefCell::new(Some(lines)), dropped: Cell::new(0), written })
    }

    /// Since the story began.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn tell(&self, line: String) {
        let lines = self.lines.borrow();
        let Some(lines) = lines.as_ref() else { return };
        if self.dropped.get() > 0
            && lines.try_send(format!("({} lines left out: the reader is slow)", self.dropped.get())).is_ok()
        {
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
            log::warn!("the reader of the narration is slow: {} lines left out at the end", self.dropped.get());
        }
        self.lines.take();
        let _ = self.written.recv_timeout(PATIENCE);
    }
}
