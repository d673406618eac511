//! System calls in words: the call with its arguments, its result, and its meaning.
//!
//! A call has its plain name: accept, read and write stand for accept4, recvfrom and sendto.

use doorkeeper::Call;
use rustix::io::Errno;
use std::fmt::{self, Write};
use std::io::{self, ErrorKind};

pub(crate) type CallResult<'a> = Result<usize, &'a io::Error>;

/// Which words explain a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// The field's: listener and accept queue.
    Plain,
    /// The story's image for beginners: the listener is a doorkeeper, the accept queue its waiting
    /// room.
    Story,
}

pub(super) fn name(call: &Call<'_>) -> &'static str {
    match call {
        Call::Socket { .. } => "socket",
        Call::Bind { .. } => "bind",
        Call::Listen { .. } => "listen",
        Call::Connect { .. } => "connect",
        Call::SocketError => "getsockopt",
        Call::Accept { .. } => "accept",
        Call::Read { .. } => "read",
        Call::Write { .. } => "write",
        Call::Register { .. } | Call::Reregister { .. } | Call::Deregister => "epoll_ctl",
        Call::Shutdown => "shutdown",
        Call::Close => "close",
        _ => "call",
    }
}

/// True for the calls that tell the poller what to report.
pub(crate) fn is_of_the_loop(call: &Call<'_>) -> bool {
    name(call) == "epoll_ctl"
}

/// The operation of epoll_ctl(2), without its prefix EPOLL_CTL_.
pub(super) fn operation(call: &Call<'_>) -> &'static str {
    match call {
        Call::Register { .. } => "ADD",
        Call::Reregister { .. } => "MOD",
        _ => "DEL",
    }
}

/// As epoll_ctl(2) names it. An edge-triggered report (EPOLLET) is always asked for.
pub(super) fn epoll_events(call: &Call<'_>) -> String {
    let (Call::Register { reported } | Call::Reregister { reported }) = call else {
        return String::new();
    };
    let names = [
        (reported.readable, "EPOLLIN"),
        (reported.urgent, "EPOLLPRI"),
        (reported.writable, "EPOLLOUT"),
        (reported.readable, "EPOLLRDHUP"),
        (true, "EPOLLET"),
    ];
    let asked = names.iter().filter(|(is_asked, _)| *is_asked);
    asked.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

/// The text that this writes.
fn text(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text);
    text
}

/// The call with its arguments, without the descriptor.
pub(crate) fn with_arguments(call: &Call<'_>) -> String {
    text(|text| write_call(text, call, None))
}

/// The call with its arguments, of which the descriptor is the first.
pub(crate) fn with_descriptor(call: &Call<'_>, descriptor: &str) -> String {
    text(|text| write_call(text, call, Some(descriptor)))
}

pub(crate) fn outcome(call: &Call<'_>, result: CallResult<'_>) -> String {
    text(|text| write_outcome(text, call, result))
}

pub(crate) fn meaning(call: &Call<'_>, result: CallResult<'_>, words: Words) -> String {
    text(|text| write_meaning(text, call, result, words))
}

/// The narration writes each line piece by piece, because a String for each piece takes several
/// times as long.
pub(super) fn write_call(
    text: &mut String,
    call: &Call<'_>,
    descriptor: Option<&str>,
) -> fmt::Result {
    text.push_str(name(call));
    text.push('(');
    text.push_str(descriptor.unwrap_or_default());
    let before = text.len();
    text.push_str(if descriptor.is_some() { ", " } else { "" });
    let begin = text.len();
    match call {
        Call::Bind { address } | Call::Connect { address } => write!(text, "{address}")?,
        Call::Listen { backlog } => write!(text, "{backlog}")?,
        Call::SocketError => text.push_str("SO_ERROR"),
        Call::Read { length, .. } | Call::Write { length, .. } => write!(text, "{length}")?,
        Call::Register { .. } | Call::Reregister { .. } | Call::Deregister => {
            text.push_str(operation(call));
        }
        _ => {}
    }
    if text.len() == begin {
        text.truncate(before);
    }
    text.push(')');
    Ok(())
}

pub(super) fn write_outcome(
    text: &mut String,
    call: &Call<'_>,
    result: CallResult<'_>,
) -> fmt::Result {
    match (call, result) {
        (_, Err(error)) => text.push_str(&error_name(error)),
        (
            Call::Accept {
                accepted: Some((_, id)),
            },
            Ok(_),
        ) => write!(text, "{id}")?,
        (Call::Read { .. } | Call::Write { .. }, Ok(count)) => write!(text, "{count}")?,
        _ => text.push_str("ok"),
    }
    Ok(())
}

/// The name of an errno that a socket may return; else its number.
fn error_name(error: &io::Error) -> String {
    const NAMES: [(Errno, &str); 15] = [
        (Errno::ACCESS, "EACCES"),
        (Errno::ADDRINUSE, "EADDRINUSE"),
        (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::CONNABORTED, "ECONNABORTED"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::INPROGRESS, "EINPROGRESS"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::NFILE, "ENFILE"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::PIPE, "EPIPE"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
    ];
    let errno = Errno::from_io_error(error);
    let known = NAMES.into_iter().find(|&(known, _)| Some(known) == errno);
    let number = || match error.raw_os_error() {
        Some(errno) => format!("errno {errno}"),
        None => "error".to_string(),
    };
    known.map_or_else(number, |(_, name)| name.to_string())
}

pub(super) fn write_meaning(
    text: &mut String,
    call: &Call<'_>,
    result: CallResult<'_>,
    words: Words,
) -> fmt::Result {
    match result {
        Ok(count) => write_success(text, call, count, words)?,
        Err(error) => text.push_str(&failure(call, error, words)),
    }
    Ok(())
}

fn write_success(text: &mut String, call: &Call<'_>, count: usize, words: Words) -> fmt::Result {
    text.push_str(match call {
        Call::Socket { .. } => "a socket, without an address yet",
        Call::Bind { .. } => "the socket has its address",
        Call::Listen { backlog } => return write_listening(text, *backlog, words),
        Call::Connect { .. } => "connected at once",
        Call::SocketError => "connected: the handshake is complete, even if accept comes later",
        Call::Accept { accepted } => match accepted {
            Some((peer, _)) => return write!(text, "accepted {peer} on a new socket"),
            None => "accepted",
        },
        Call::Read { .. } if count == 0 => "the peer sends no more (FIN)",
        Call::Read { .. } => return write!(text, "{count} bytes received"),
        Call::Write { length, .. } if count < *length => {
            return write!(
                text,
                "the kernel takes {count} of {length} bytes: its send buffer is full"
            );
        }
        Call::Write { .. } => {
            return write!(text, "{count} bytes are in the kernel's send buffer");
        }
        Call::Register { .. } | Call::Reregister { .. } => {
            return write!(text, "the poller reports {}", epoll_events(call));
        }
        Call::Deregister => "the poller reports it no more",
        Call::Shutdown => "this side sends no more (FIN)",
        Call::Close => "the socket is closed",
        _ => "",
    });
    Ok(())
}

fn write_listening(text: &mut String, backlog: u32, words: Words) -> fmt::Result {
    match words {
        Words::Plain => write!(
            text,
            "the listener is open; its accept queue has the limit {backlog}"
        ),
        Words::Story => write!(
            text,
            "the doorkeeper is at the door; the waiting room has {backlog} places"
        ),
    }
}

fn failure(call: &Call<'_>, error: &io::Error, words: Words) -> String {
    let blocked = error.kind() == ErrorKind::WouldBlock;
    let text = match call {
        Call::Accept { .. } if blocked && words == Words::Story => "the waiting room is empty",
        Call::Accept { .. } if blocked => "the accept queue is empty",
        Call::Read { .. } if blocked => "nothing more is received yet",
        Call::Write { .. } if blocked => "the kernel's send buffer is full",
        Call::Connect { .. } if Errno::from_io_error(error) == Some(Errno::INPROGRESS) => {
            "the connection request (SYN) is sent"
        }
        _ => return error.to_string().escape_debug().to_string(),
    };
    text.to_string()
}

/// The readiness of an event.
pub(crate) fn readiness(readable: bool, writable: bool, undrained: bool) -> String {
    let names = [
        (readable, "readable"),
        (writable, "writable"),
        (undrained, "end, urgent data or error"),
    ];
    let marked = names.iter().filter(|(is_marked, _)| *is_marked);
    marked.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}
