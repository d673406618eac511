//! The limit on open files, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those of listeners and connections: the three standard ones, the poller, its
/// waker, the signals' pipe, and a few that libraries open for a moment.
const RESERVED: u64 = 32;

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

/// The number of connections that fit beside this number of listeners; at least one.
pub(crate) fn connections(limit: Option<u64>, listeners: usize) -> usize {
    let left = limit
        .unwrap_or(WITHOUT_LIMIT)
        .saturating_sub(RESERVED + listeners as u64);
    usize::try_from(left.max(1)).unwrap_or(usize::MAX)
}
