//! What Linux says of its network in /proc.

use crate::observe::Overflows;

/// The limit that Linux clamps a backlog to (net.core.somaxconn, listen(2)).
pub(super) fn backlog_limit() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()?
        .trim()
        .parse()
        .ok()
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
