//! Sockets that systemd passes (sd_listen_fds(3)): LISTEN_FDS is their number, from descriptor 3
//! on, LISTEN_PID the process that they are for, and LISTEN_FDNAMES their names.

use super::super::Failure;
use super::args::{Kind, Place};
use doorkeeper::ListenOptions;
use listenfd::ListenFd;
use rustix::net::sockopt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST: usize = 3;

/// Where a listener comes from.
#[derive(Debug)]
pub(super) enum Origin {
    Address(SocketAddr),
    Passed(TcpListener),
}

/// The listeners to open, with the sockets that were passed for them.
///
/// # Errors
/// A socket is asked for and not passed, or passed and not asked for, or is no TCP socket.
pub(super) fn take(listeners: &[(Kind, Place)]) -> Result<Vec<(Kind, Origin)>, Failure> {
    let mut passed = Passed::from_environment();
    let mut found = Vec::new();
    for (kind, place) in listeners {
        match place {
            Place::Address(address) => found.push((*kind, Origin::Address(*address))),
            Place::Passed(word) => {
                let sockets = passed.take(word)?;
                found.extend(sockets.into_iter().map(|one| (*kind, Origin::Passed(one))));
            }
        }
    }
    passed.check_all_taken()?;
    Ok(found)
}

/// Sets the options that accepted sockets inherit. The accept queue keeps the limit that it has.
pub(super) fn set_options(socket: &TcpListener, options: &ListenOptions) -> io::Result<()> {
    if let Some(bytes) = options.send_buffer_bytes {
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
    }
    if let Some(keepalive) = options.keepalive {
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
        sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(socket, keepalive.probes)?;
    }
    Ok(())
}

struct Passed {
    fds: ListenFd,
    /// Of each socket, its name, and whether it was taken.
    names: Vec<(String, bool)>,
}

impl Passed {
    fn from_environment() -> Passed {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let is_ours = variable("LISTEN_PID") == std::process::id().to_string();
        let names = variable("LISTEN_FDNAMES");
        let fds = if is_ours {
            ListenFd::from_env()
        } else {
            ListenFd::empty()
        };
        let mut names = names.split(':');
        let names = (0..fds.len())
            .map(|_| (names.next().unwrap_or_default().to_string(), false))
            .collect();
        Passed { fds, names }
    }

    /// The sockets of a name, or the one of a number.
    fn take(&mut self, word: &str) -> Result<Vec<TcpListener>, Failure> {
        let number = word.parse::<usize>().ok();
        let index = number.map(|number| number.wrapping_sub(FIRST));
        let is_wanted = |at: usize, name: &str| match index {
            Some(index) => at == index,
            None => name == word,
        };
        let mut found = Vec::new();
        for (at, (name, is_taken)) in self.names.iter_mut().enumerate() {
            if !is_wanted(at, name) {
                continue;
            }
            if std::mem::replace(is_taken, true) {
                return Err(Failure::usage(format_args!(
                    "fd:{word}: this socket is asked for twice"
                )));
            }
            let socket = self.fds.take_tcp_listener(at).map_err(|error| {
                Failure::usage(format_args!("fd:{word}: it must be a TCP socket: {error}"))
            })?;
            found.extend(socket);
        }
        if found.is_empty() {
            return Err(Failure::usage(format_args!(
                "fd:{word}: no such socket was passed (LISTEN_FDS); passed are {}",
                self.list(|_| true)
            )));
        }
        Ok(found)
    }

    fn check_all_taken(&self) -> Result<(), Failure> {
        if self.names.iter().all(|(_, is_taken)| *is_taken) {
            return Ok(());
        }
        Err(Failure::usage(format_args!(
            "sockets were passed (LISTEN_FDS) that no SERVICE=fd:NAME asks for: {}",
            self.list(|is_taken| !is_taken)
        )))
    }

    fn list(&self, is_shown: impl Fn(bool) -> bool) -> String {
        let shown = self.names.iter().enumerate();
        let shown = shown.filter(|(_, (_, is_taken))| is_shown(*is_taken));
        let words: Vec<String> = shown
            .map(|(at, (name, _))| format!("{} {name}", FIRST + at).trim_end().to_string())
            .collect();
        if words.is_empty() {
            "none".to_string()
        } else {
            words.join(", ")
        }
    }
}
