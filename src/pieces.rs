//! The pieces by themselves, each as a closure that does one round of work: for `benches/pieces`, and only built with
//! `--cfg doorkeeper_pieces`.

use crate::buffer::Buffer;
use crate::common::Common;
use crate::config::Config;
use crate::context::{Context, Nobody};
use crate::gathered::Gathered;
use crate::handler::Handler;
use crate::held::Holding;
use crate::id::Id;
use crate::net::Told;
use crate::readiness::Readiness;
use crate::stream::{Endpoint, Stream};
use crate::timers::{Tick, Timers};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// 64 KiB through the queue, in at 1,024 bytes at a time and out at 700.
pub fn buffer() -> impl FnMut() {
    const LIMIT: usize = 65_536;
    move || {
        let mut buffer = Buffer::default();
        let mut left = LIMIT;
        while left > 0 || !buffer.is_empty() {
            left -= buffer.push(&[7; 1024][..left.min(1024)], LIMIT);
            buffer.consume(buffer.len().min(700));
        }
    }
}

/// So many deadlines: one moves to the far end, and the earliest is looked at.
pub fn timers(count: usize) -> impl FnMut() -> u64 {
    let mut timers = Timers::with_capacity(count);
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

impl Endpoint for Memory {
    fn read(&self, buffer: &mut [u8], _: Told<'_>) -> io::Result<usize> {
        let count = self.waiting.take().min(buffer.len());
        if count == 0 {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }

    fn write(&self, bytes: &[u8], _: Told<'_>) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn shutdown_write(&self, _: Told<'_>) -> io::Result<()> {
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
    let mut common = Common::new(Config {
        idle_timeout: Some(Duration::from_secs(60)),
        ..Config::default()
    });
    let (mut stream, mut held, mut copied) = (Stream::new(Tick(0)), Holding::default(), Vec::new());
    let mut buffer = vec![0; common.config.input_max_bytes];
    let (id, peer) = (Id::new(0, 0), SocketAddr::from(([127, 0, 0, 1], 1)).into());
    let (endpoint, mut nobody) = (
        Memory {
            waiting: Cell::new(0),
        },
        Nobody,
    );
    move || {
        common.now.0 += 1;
        endpoint.waiting.set(64);
        let Ok(count) = stream.hear(
            Readiness::READABLE,
            &endpoint,
            id,
            &held,
            &common,
            &mut buffer,
        ) else {
            return false;
        };
        let gathered = Gathered::new(&buffer[..count], &mut copied);
        let mut cx = Context::new(id, &peer, &common, None, &mut held, gathered, &mut nobody);
        matches!(stream.answer(&endpoint, &mut Echo, &mut cx), Ok(true))
    }
}
