//! Processes: what /proc and ss say of one, and a test in a process of its own.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

/// Bytes of resident memory.
pub fn resident(pid: u32) -> usize {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most bytes of resident memory that a process has had.
pub fn peak(pid: u32) -> usize {
    kilobytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The only child of a process, such as the program that `timeout` runs.
pub fn only_child(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// Bytes of memory that is the process's own and was written to.
pub fn private_dirty(pid: u32) -> usize {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Private_Dirty:")
}

/// The figure of a line such as `VmRSS:  1234 kB`, in bytes.
fn kilobytes(file: &str, label: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let figure = lines.find_map(|line| line.strip_prefix(label)).unwrap();
    let figure = figure.trim().trim_end_matches(" kB");
    figure.parse::<usize>().unwrap() * 1024
}

/// Seconds of CPU that a process has used, in user space and in the kernel.
pub fn cpu_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"));
    folder.unwrap().count()
}

/// True if the descriptor has the flag O_NONBLOCK.
pub fn is_nonblocking(descriptor: impl AsFd) -> bool {
    let flags = rustix::fs::fcntl_getfl(descriptor).unwrap();
    flags.contains(rustix::fs::OFlags::NONBLOCK)
}

/// The accept queue of the listener at this address, as `ss` shows it: its depth (Recv-Q) and its
/// limit (Send-Q).
pub fn ss_accept_queue(address: SocketAddr) -> (u32, u32) {
    let filter = format!("src = {address}");
    let output = Command::new("ss").args(["-Hltn", &filter]).output();
    let line = String::from_utf8(output.unwrap().stdout).unwrap();
    let figures = line.split_whitespace().skip(1);
    let mut figures = figures.map(|word| word.parse().unwrap());
    (figures.next().unwrap(), figures.next().unwrap())
}

/// A path in the folder of temporary files that no other test has.
pub fn temporary(name: &str) -> PathBuf {
    let thread = std::thread::current().id();
    let name = format!("doorkeeper-{name}-{}-{thread:?}", std::process::id());
    std::env::temp_dir().join(name)
}

/// Runs the named test of this binary again, in a process of its own behind the words of `wrapper`.
/// True in that process, where the test goes on; false in the caller, once the other has passed.
pub fn alone(test: &str, wrapper: &[&str]) -> bool {
    const MARK: &str = "DOORKEEPER_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    words.push(own.as_os_str());
    words.extend([test, "--exact", "--nocapture"].map(OsStr::new));
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).env(MARK, "1").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    false
}
