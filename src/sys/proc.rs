//! What Linux says of its network in /proc.

use crate::observe::Overflows;
use std::fs::File;
use std::io::Read;

/// The limit that Linux clamps a backlog to (net.core.somaxconn, listen(2)).
pub(super) fn backlog_limit() -> Option<u32> {
    let mut text = [0; 16];
    let mut file = File::open("/proc/sys/net/core/somaxconn").ok()?;
    // One read returns the whole of such a file (proc(5)).
    let count = file.read(&mut text).ok()?;
    let digits = text[..count].trim_ascii_end();
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The counters of /proc/net/netstat (proc_pid_net(5)) for this network namespace.
pub(super) fn overflows() -> Option<Overflows> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    let mut found = Overflows::default();
    for (name, value) in names.zip(values) {
        match name {
            "ListenOverflows" => found.overflows = value.parse().ok()?,
            "ListenDrops" => found.drops = value.parse().ok()?,
            _ => {}
        }
    }
    Some(found)
}
