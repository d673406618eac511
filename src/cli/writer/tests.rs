//! The writer's two sides, each without the other: what is queued, and what the thread does with it.

use super::{Batch, QUEUE_BYTES, Shared, Sink, Thread, Writer};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Takes at most `most` bytes of each write, or fails.
struct Paper {
    written: String,
    most: usize,
    fails: bool,
}

impl Sink for Paper {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.fails {
            return Err(ErrorKind::StorageFull.into());
        }
        let count = self.most.min(lines.len());
        self.written += std::str::from_utf8(&lines[..count]).unwrap();
        Ok(count)
    }
}

fn left_out(count: u64) -> String {
    format!("({count})")
}

/// The thread's part, which this test calls in its place.
fn thread() -> Thread<Paper> {
    Thread {
        shared: Arc::new(Shared::new(left_out)),
        sink: Paper {
            written: String::new(),
            most: 3,
            fails: false,
        },
        lost: 0,
    }
}

/// The queue's part, without a thread.
fn writer() -> Writer {
    Writer(Arc::new(Shared::new(left_out)))
}

fn batch(lines: &str, left_out: u64) -> Batch {
    let lines = lines.into();
    Batch { lines, left_out }
}

#[test]
fn lines_lost_by_errors_are_counted_with_those_left_out() {
    let mut thread = thread();
    thread.write_batch(&batch("one\n", 3));
    assert_eq!(thread.sink.written, "one\n(3)\n");
    thread.sink.fails = true;
    thread.write_batch(&batch("two\nthree\n", 0));
    thread.write_batch(&batch("four\nfive\nsix\n", 7));
    assert_eq!(thread.lost, 12);
    let error = Writer(Arc::clone(&thread.shared)).take_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    thread.sink.fails = false;
    thread.write_batch(&batch("seven\n", 0));
    assert_eq!(thread.sink.written, "one\n(3)\n(12)\nseven\n");
    assert_eq!(thread.lost, 0);
}

#[test]
fn the_last_word_counts_what_is_lost_queued_and_left_out() {
    let mut thread = thread();
    thread.sink.most = 100;
    let writer = Writer(Arc::clone(&thread.shared));
    writer.write_text(&"\n".repeat(QUEUE_BYTES));
    writer.write("left out");
    thread.shared.lock().deadline = Some(Instant::now());
    thread.write_batch(&batch("late\nlater\n", 4));
    let all = QUEUE_BYTES + 1 + 2 + 4;
    assert_eq!(thread.sink.written, format!("\n({all})\n"));
    assert!(!writer.flush());
}

/// The queue may exceed its limit by a line, so that a long line can be written at all.
#[test]
fn a_full_queue_leaves_lines_out() {
    let writer = writer();
    let state = || {
        let state = writer.0.lock();
        (state.queue.len(), state.left_out)
    };
    writer.write_text(&"x".repeat(QUEUE_BYTES - 1));
    writer.write("y");
    assert_eq!(state(), (QUEUE_BYTES + 1, 0));
    writer.write("z");
    writer.write_soon("z");
    assert_eq!(state(), (QUEUE_BYTES + 1, 2));
    writer.0.lock().queue.truncate(QUEUE_BYTES);
    writer.write_text("z");
    assert_eq!(state(), (QUEUE_BYTES, 3));
    // The lines after a gap are written again.
    let batch = writer.0.take().unwrap();
    assert_eq!((batch.lines.len(), batch.left_out), (QUEUE_BYTES, 3));
    writer.write("on");
    assert_eq!(state(), (3, 0));
}

#[test]
fn one_urgent_line_makes_all_before_it_urgent() {
    for is_waiting in [false, true] {
        let writer = writer();
        writer.0.lock().is_waiting = is_waiting;
        for (is_urgent, wanted) in [(false, false), (true, true), (true, true), (false, true)] {
            writer.queue(&["x\n"], is_urgent);
            assert_eq!(writer.0.lock().is_urgent, wanted);
        }
    }
}

/// Says when it is dropped, by its sender.
struct Alive(#[expect(dead_code, reason = "it is dropped")] Sender<()>);

impl Sink for Alive {
    fn write_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        Ok(lines.len())
    }
}

#[test]
fn a_closed_writer_ends_its_thread() {
    let (alive, end) = channel();
    let writer = Writer::start(Alive(alive), left_out).unwrap();
    writer.write("a line");
    assert!(writer.flush());
    writer.close();
    let ended = end.recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}
