//! The limit on open files, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those that are open already and those of listeners and connections: the poller,
/// its waker, the signals' pipe, and a few that libraries open for a moment.
const RESERVED: u64 = 29;

/// Open at the start if nothing else is known: standard input, output and error.
const STANDARD: u64 = 3;

/// The number of connections where the limit on open files is infinite.
const WITHOUT_LIMIT: u64 = 1_000_000;

/// Raises the soft limit (RLIMIT_NOFILE) to the hard limit, and returns the limit then in force;
/// `None` is infinite.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::warn!("cannot raise the limit on open files: {error}");
            limit.current
        }
    }
}

/// The number of connections that fit beside the descriptors that are open and this number of
/// listeners; at least one.
pub(crate) fn connections(limit: Option<u64>, listeners: usize) -> usize {
    let limit = limit.unwrap_or(WITHOUT_LIMIT);
    let taken = open_below(limit).unwrap_or(STANDARD);
    let left = limit.saturating_sub(RESERVED + taken + listeners as u64);
    usize::try_from(left.max(1)).unwrap_or(usize::MAX)
}

/// How many descriptors are open, inherited ones included. The limit is on their numbers
/// (getrlimit(2)), so one above it takes no place. `None` where /dev/fd is missing.
fn open_below(limit: u64) -> Option<u64> {
    let entries = std::fs::read_dir("/dev/fd").ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let count = numbers.filter(|&number: &u64| number < limit).count() as u64;
    // One of them reads the directory.
    Some(count.saturating_sub(1))
}
