//! The limit on open files, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside the inherited ones and those of listeners and connections: the poller, its
/// waker, the signals' pipe, those of the log, and a few that libraries open for a moment.
const RESERVED: u64 = 29;

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

/// How many descriptors are open; at the start of the program, those that it inherited. Three where
/// /dev/fd is missing.
pub(crate) fn open() -> usize {
    std::fs::read_dir("/dev/fd").map_or(3, |entries| {
        // One of them reads the directory.
        entries.count().saturating_sub(1)
    })
}

/// The number of connections that fit beside the descriptors that are taken, inherited ones and
/// those of listeners; at least one.
pub(crate) fn connections(limit: Option<u64>, taken: usize) -> usize {
    let limit = limit.unwrap_or(WITHOUT_LIMIT);
    let left = limit.saturating_sub(RESERVED + taken as u64);
    usize::try_from(left.max(1)).unwrap_or(usize::MAX)
}
