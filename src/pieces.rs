//! The pieces by themselves, each as a closure that does one round of work: for `benches/pieces`, and only built with
//! `--cfg doorkeeper_pieces`.

use crate::buffers::{ByteQueue, LazyBacklog};
use crate::common::Common;
use crate::config::Config;
use crate::connection::{Endpoint, Machine};
use crate::handler::{Attempt, Context, Handler, LocalAddr, LoopOps, Others};
use crate::id::Id;
use crate::observe::CallScope;
use crate::readiness::Readiness;
use crate::time::{Deadlines, Tick};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// 64 KiB through the queue, in at 1,024 bytes at a time and out at 700.
pub fn buffer() -> impl FnMut() {
    const LIMIT: usize = 65_536;
    move || {
        let mut buffer = ByteQueue::default();
        let mut left = LIMIT;
        while left > 0 || !buffer.is_empty() {
            left -= buffer.push(&[7; 1024][..left.min(1024)], LIMIT);
            buffer.consume(buffer.len().min(700));
        }
    }
}

/// So many deadlines: one moves to the far end, and the earliest is looked at.
pub fn timers(count: usize) -> impl FnMut() -> u64 {
    let mut timers = Deadlines::with_capacity(count);
    (0..count).for_each(|slot| timers.arm(slot, Tick(slot as u64)));
    let mut at = count as u64;
    move || {
        timers.arm((at % count as u64) as usize, Tick(at));
        at += 1;
        timers.next().map_or(0, |first| first.0)
    }
}

/// A socket in memory that has 64 bytes for each turn, and takes all it is given.
struct Memory {
    waiting: Cell<usize>,
}

impl LocalAddr for Memory {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

impl Endpoint for Memory {
    fn read(&self, buffer: &mut [u8], _: CallScope<'_>) -> io::Result<usize> {
        let count = self.waiting.take().min(buffer.len());
        if count == 0 {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }

    fn write(&self, bytes: &[u8], _: CallScope<'_>) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn take_error(&self, _: CallScope<'_>) -> io::Result<()> {
        Ok(())
    }

    fn shutdown_write(&self, _: CallScope<'_>) -> io::Result<()> {
        Ok(())
    }
}

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }
}

/// One turn of a connection that echoes 64 bytes; true if it then rests.
pub fn turn() -> impl FnMut() -> bool {
    let idle_timeout = Some(Duration::from_secs(60));
    let mut common = Common::new(Config {
        idle_timeout,
        ..Config::default()
    });
    let mut machine = Machine::new(Tick(0), false);
    let (mut backlog, mut copied) = (LazyBacklog::default(), Vec::new());
    let mut buffer = vec![0; common.config.input_max_bytes];
    let (id, peer) = (Id::new(0, 0), SocketAddr::from(([127, 0, 0, 1], 1)).into());
    let (memory, mut ops) = (
        Memory {
            waiting: Cell::new(0),
        },
        (),
    );
    move || {
        common.now.0 += 1;
        memory.waiting.set(64);
        let marks = Readiness::READABLE;
        let output = &mut copied;
        let mut cx = Context {
            others: Others::new(id, &common, output, &mut ops),
            peer: &peer,
            socket: None,
            backlog: &mut backlog,
        };
        let handler = &mut Echo;
        matches!(
            machine.run(marks, &mut buffer, &memory, handler, &mut cx),
            Ok(true)
        )
    }
}

/// A loop without any other source, for a machine by itself.
impl LoopOps for () {
    fn room(&self, _: Id, _: &Common) -> usize {
        0
    }
    fn send(&mut self, _: Id, _: &[u8], _: &Common) -> usize {
        0
    }
    fn wake(&mut self, _: Id) -> bool {
        false
    }
    fn half_close(&mut self, _: Id) -> bool {
        false
    }
    fn close(&mut self, _: Id, _: Tick) -> bool {
        false
    }
    fn abort(&mut self, _: Id) -> bool {
        false
    }
    fn connect(&mut self, _: Attempt) -> io::Result<Id> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn after(&mut self, _: Tick, _: Box<dyn std::any::Any>) -> io::Result<Id> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn stop(&mut self) {}
    fn queued(&self) -> usize {
        0
    }
}
