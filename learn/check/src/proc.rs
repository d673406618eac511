//! Processes, as proc(5) shows them. Linux alone has it.

use crate::diag;
use rustix::process::Pid;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The process that listens on this port, among `root` and its descendants.
pub fn listening_process(root: Pid, port: u16) -> Option<Pid> {
    let link = format!("socket:[{}]", diag::listener(port)?.inode);
    let holds = |process: &Pid| {
        let descriptors = fs::read_dir(path(*process, "fd")).into_iter().flatten();
        descriptors
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(&link)))
    };
    // The youngest: a parent that has opened the socket for its child does not serve.
    descendants(root).into_iter().rev().find(holds)
}

/// The process and its descendants.
pub fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut processes: Vec<i32> = ids.collect();
    // A child may have a smaller id than its parent: ids wrap around.
    for _ in 0..processes.len() {
        let known = found.len();
        processes.retain(|&id| {
            let Some(process) = Pid::from_raw(id) else {
                return false;
            };
            let ours = parent(process).is_some_and(|parent| found.contains(&parent));
            if ours && !found.contains(&process) {
                found.push(process);
            }
            !ours
        });
        if found.len() == known {
            break;
        }
    }
    found
}

fn path(process: Pid, file: &str) -> String {
    format!("/proc/{process}/{file}")
}

/// The fields of /proc/PID/stat from the third on. The second is a name, which may contain spaces and parentheses.
fn stat(process: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(path(process, "stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(String::from).collect())
}

fn parent(process: Pid) -> Option<Pid> {
    Pid::from_raw(stat(process)?[1].parse().ok()?)
}

/// All threads are in one of these states: S is asleep, T is stopped, t is stopped under a tracer.
pub fn all_are(process: Pid, states: &[char]) -> bool {
    let threads = fs::read_dir(path(process, "task")).into_iter().flatten();
    let is_one = |thread: fs::DirEntry| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        // The numbers of threads and of processes are of one kind.
        let state = stat(Pid::from_raw(id)?)?[0].chars().next()?;
        Some(states.contains(&state))
    };
    threads
        .flatten()
        .all(|thread| is_one(thread).unwrap_or(true))
}

/// Processor time used so far, by all threads; the kernel counts it in ticks of 10 ms.
pub fn cpu(process: Pid) -> Duration {
    let fields = stat(process).unwrap_or_default();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
    let used = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Duration::from_millis(used * 1000 / rustix::param::clock_ticks_per_second())
}

/// For how long the threads have used a processor or waited for one. On a busy machine a program that never sleeps uses little
/// of one, and waits the rest of the time: /proc/PID/schedstat, Documentation/scheduler/sched-stats.rst. 0 where it is missing.
pub fn awake(process: Pid) -> Duration {
    let threads = fs::read_dir(path(process, "task")).into_iter().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let numbers = text.split_whitespace().take(2);
        Some(
            numbers
                .filter_map(|word| word.parse::<u64>().ok())
                .sum::<u64>(),
        )
    };
    Duration::from_nanos(threads.flatten().filter_map(of_thread).sum())
}

/// How often the threads of the process have gone to sleep.
pub fn sleeps(process: Pid) -> u64 {
    let threads = fs::read_dir(path(process, "task")).into_iter().flatten();
    threads
        .flatten()
        .filter_map(|thread| field(&thread.path().join("status"), "voluntary_ctxt_switches:"))
        .sum()
}

/// Resident memory, in bytes.
pub fn memory(process: Pid) -> u64 {
    field(Path::new(&path(process, "status")), "VmRSS:").unwrap_or(0) * 1024
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The limit (getrlimit(2), RLIMIT_NOFILE) that leaves `free` numbers for new descriptors.
pub fn limit_for(process: Pid, free: u64) -> Option<u64> {
    let entries = fs::read_dir(path(process, "fd")).ok()?.flatten();
    let used: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut unused = (0..).filter(|number| !used.contains(number));
    unused.nth(free as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = rustix::process::getpid();
        assert_eq!(listening_process(own, port), Some(own));
        assert!(!all_are(own, &['T']));
        drop(listener);
        assert_eq!(listening_process(own, port), None);
    }
}
