//! The errors of the simulated system calls (errno(3)). They have the numbers of the system that the
//! program runs on, because the reactor looks at some.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    NoEnt,
    Intr,
    Again,
    Exist,
    Inval,
    NFile,
    MFile,
    Pipe,
    AddrInUse,
    AddrNotAvail,
    ConnAborted,
    ConnReset,
    NoBufs,
    IsConn,
    NotConn,
    TimedOut,
    ConnRefused,
    HostUnreach,
    Already,
    InProgress,
}

#[cfg(unix)]
impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(match errno {
            Errno::NoEnt => libc::ENOENT,
            Errno::Intr => libc::EINTR,
            Errno::Again => libc::EAGAIN,
            Errno::Exist => libc::EEXIST,
            Errno::Inval => libc::EINVAL,
            Errno::NFile => libc::ENFILE,
            Errno::MFile => libc::EMFILE,
            Errno::Pipe => libc::EPIPE,
            Errno::AddrInUse => libc::EADDRINUSE,
            Errno::AddrNotAvail => libc::EADDRNOTAVAIL,
            Errno::ConnAborted => libc::ECONNABORTED,
            Errno::ConnReset => libc::ECONNRESET,
            Errno::NoBufs => libc::ENOBUFS,
            Errno::IsConn => libc::EISCONN,
            Errno::NotConn => libc::ENOTCONN,
            Errno::TimedOut => libc::ETIMEDOUT,
            Errno::ConnRefused => libc::ECONNREFUSED,
            Errno::HostUnreach => libc::EHOSTUNREACH,
            Errno::Already => libc::EALREADY,
            Errno::InProgress => libc::EINPROGRESS,
        })
    }
}

#[cfg(not(unix))]
compile_error!("the feature `sim` simulates the sockets of a Unix");
