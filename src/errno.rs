//! Error numbers for which `std::io::ErrorKind` has no stable name, and errors with a text. On Unix
//! libc has the numbers of each system.

use std::io::{self, ErrorKind};

#[cfg(unix)]
const EXHAUSTED: [i32; 3] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS];
/// WSAEMFILE and WSAENOBUFS (Windows Sockets Error Codes).
#[cfg(windows)]
const EXHAUSTED: [i32; 2] = [10_024, 10_055];
#[cfg(not(any(unix, windows)))]
const EXHAUSTED: [i32; 0] = [];

/// True if a call failed because descriptors or memory ran out, so that the next call would fail too:
/// EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    error.kind() == ErrorKind::OutOfMemory || number.is_some_and(|one| EXHAUSTED.contains(&one))
}

/// An error with a text. Out of line, because the code for it is long.
#[cold]
#[inline(never)]
pub(crate) fn failure(kind: ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}

/// The usual result of connect(2) on a nonblocking socket: EINPROGRESS, or `WouldBlock` on Windows.
/// EAGAIN on Unix is another thing: the system could not begin (connect(2)).
pub(crate) fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == ErrorKind::WouldBlock;
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_and_progress_are_told_from_other_errors() {
        let error = io::Error::from_raw_os_error;
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(is_exhausted(&error(number)) && !is_in_progress(&error(number)));
        }
        assert!(is_in_progress(&error(libc::EINPROGRESS)));
        for number in [
            libc::EAGAIN,
            libc::ECONNABORTED,
            libc::EPERM,
            libc::EALREADY,
        ] {
            assert!(!is_exhausted(&error(number)) && !is_in_progress(&error(number)));
        }
    }
}
