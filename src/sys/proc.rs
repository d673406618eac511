//! What Linux says of its network in /proc.

use crate::observe::Overflows;
use std::fs::File;
use std::io::Read;

/// The limit that Linux clamps a backlog to (net.core.somaxconn, listen(2)).
pub(super) fn backlog_limit() -> Option<u32> {
    let mut text = [0; 16];
    let mut file = File::open("/proc/sys/net/core/somaxconn").ok()?;
    // One read returns the whole of such a file (proc(5)): digits, of a number that fits an int.
    let count = file.read(&mut text).ok()?;
    let digits = text[..count]
        .iter()
        .map_while(|&byte| char::from(byte).to_digit(10));
    digits.reduce(|number, digit| number * 10 + digit)
}

/// The counters of /proc/net/netstat (proc_pid_net(5)) for this network namespace.
pub(super) fn overflows() -> Option<Overflows> {
    find_overflows(&std::fs::read_to_string("/proc/net/netstat").ok()?)
}

fn find_overflows(text: &str) -> Option<Overflows> {
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

#[cfg(test)]
mod tests {
    use super::{Overflows, find_overflows};

    #[test]
    fn each_counter_is_found_by_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\n\
                    TcpExt: 1 22 333 4444\n\
                    IpExt: InNoRoutes ListenDrops\n\
                    IpExt: 5 6\n";
        let found = Overflows {
            overflows: 22,
            drops: 333,
        };
        assert_eq!(find_overflows(text), Some(found));
        assert_eq!(find_overflows("IpExt: ListenDrops\nIpExt: 6\n"), None);
    }

    /// Other programs may add to them meanwhile.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_counters_are_those_of_the_kernel() {
        let text = || std::fs::read_to_string("/proc/net/netstat").unwrap();
        let drops = |found: Option<Overflows>| found.unwrap().drops;
        let before = drops(find_overflows(&text()));
        let now = drops(super::overflows());
        let after = drops(find_overflows(&text()));
        assert!((before..=after).contains(&now), "{before} {now} {after}");
    }
}
