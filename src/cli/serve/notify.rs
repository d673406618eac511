//! Messages to the service manager (sd_notify(3)), without libsystemd: datagrams of
//! lines `NAME=VALUE` to the socket that NOTIFY_SOCKET names.

use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The service manager's socket.
pub(super) struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// `None`: there is no NOTIFY_SOCKET, or it cannot be used.
    pub(super) fn from_environment() -> Option<Manager> {
        let name = std::env::var("NOTIFY_SOCKET").ok()?;
        match connect(&name) {
            Ok(socket) => Some(Manager { socket }),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={name}: {error}");
                None
            }
        }
    }

    /// It never blocks: if the manager does not read, the message is lost.
    pub(super) fn send(&self, message: &str) {
        if let Err(error) = self.socket.send(message.as_bytes()) {
            log::debug!("cannot notify the service manager: {error}");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.strip_prefix('@') {
        None => socket.connect(name)?,
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&address)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(socket)
}

/// The begin of a reload, with the time that systemd compares (Type=notify-reload).
pub(super) fn reloading() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

/// Half of the time after which the manager restarts a program that sends no WATCHDOG=1
/// (WATCHDOG_USEC, for the process of WATCHDOG_PID); `None` if it does not.
pub(super) fn watchdog_interval() -> Option<Duration> {
    let variable = |name: &str| std::env::var(name).ok();
    let is_ours =
        variable("WATCHDOG_PID").is_none_or(|process| process == std::process::id().to_string());
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (is_ours && microseconds > 0).then(|| Duration::from_micros(microseconds) / 2)
}
