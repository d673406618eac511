//! The limit on open files, which is the limit on connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors the program needs beside listeners and connections: the three standard ones, the poller, its waker, the
/// signals' pipe, and a few for what libraries open for a moment.
const RESERVED: u64 = 32;

/// Raises the soft limit to the hard one, and says how many descriptors that allows (`None`: without limit).
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    ) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::warn!("cannot raise the limit on open files: {error}");
            limit.current
        }
    }
}

/// How many connections fit beside so many listeners; at least one.
pub(crate) fn connections(limit: Option<u64>, listeners: usize) -> usize {
    let left = limit
        .unwrap_or(1_000_000)
        .saturating_sub(RESERVED + listeners as u64);
    usize::try_from(left.max(1)).unwrap_or(usize::MAX)
}
