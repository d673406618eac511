//! epoll itself, level-triggered, because mio merges what it reports.

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::io::{Error, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long an event is awaited that must come.
const LONG: Duration = Duration::from_secs(10);

/// An epoll that watches one descriptor.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn new(source: &impl AsFd, asked: EventFlags) -> Result<Watch> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, source, EventData::new_u64(0), asked)?;
        Ok(Watch(epoll))
    }

    /// What is reported; nothing if the time is over.
    pub fn wait(&self, limit: Duration) -> Result<EventFlags> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1);
        let limit = Timespec::try_from(limit).map_err(Error::other)?;
        epoll::wait(&self.0, spare_capacity(&mut events), Some(&limit))?;
        Ok(events
            .first()
            .map_or(EventFlags::empty(), |event| event.flags))
    }

    /// What is reported once these flags are among it.
    pub fn until(&self, wanted: EventFlags) -> Result<EventFlags> {
        let start = std::time::Instant::now();
        loop {
            let seen = self.wait(LONG)?;
            if seen.contains(wanted) {
                return Ok(seen);
            }
            assert!(start.elapsed() < LONG, "{seen:?} is not {wanted:?}");
        }
    }
}

/// As epoll_ctl(2) names them.
pub fn names(flags: EventFlags) -> String {
    let names = [
        (EventFlags::IN, "EPOLLIN"),
        (EventFlags::OUT, "EPOLLOUT"),
        (EventFlags::RDHUP, "EPOLLRDHUP"),
        (EventFlags::ERR, "EPOLLERR"),
        (EventFlags::HUP, "EPOLLHUP"),
    ];
    let set = names.iter().filter(|(flag, _)| flags.contains(*flag));
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}
