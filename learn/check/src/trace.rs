//! The system calls of a program, as strace(1) tells them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file for strace to write to. It is removed when this is dropped.
#[derive(Debug)]
pub struct Trace {
    file: PathBuf,
}

/// One line: a call, or a signal.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    /// The name of the call; of a signal its own, as in SIGCONT.
    pub name: &'a str,
    /// Its return value, if the line has one and it is a number.
    pub result: Option<i64>,
    text: &'a str,
}

impl Trace {
    /// A new trace; `None` without strace.
    pub fn new() -> Option<Trace> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut strace = Command::new("strace");
        let status = strace.arg("--version").stdout(Stdio::null()).status();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("check-{}-{number}.strace", std::process::id());
        status.is_ok_and(|status| status.success()).then(|| Trace {
            file: std::env::temp_dir().join(name),
        })
    }

    /// The words before those of the program.
    pub fn wrapper(&self) -> Vec<OsString> {
        // -yy shows each descriptor of a connection with the addresses of both ends.
        let words = ["strace", "-f", "-yy", "-s", "0", "-o"].map(OsString::from);
        let file = self.file.clone().into_os_string();
        words.into_iter().chain([file]).collect()
    }

    /// All of it, once the program has ended.
    pub fn text(&self) -> Result<String, String> {
        let bytes = std::fs::read(&self.file);
        let bytes = bytes.map_err(|error| format!("strace left no trace: {error}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl<'a> Line<'a> {
    /// A line of a trace; `None` if it only completes an earlier one.
    pub fn parse(text: &'a str) -> Option<Line<'a>> {
        let after_id = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let words = after_id.trim_start_matches("--- ");
        let end = words.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let result = text.rsplit_once(" = ").and_then(|(_, rest)| {
            let number = rest
                .split(|c: char| c != '-' && !c.is_ascii_digit())
                .next()?;
            number.parse().ok()
        });
        (end > 0).then_some(Line {
            name: &words[..end],
            result,
            text,
        })
    }

    /// It is about the connection with the client on this port.
    pub fn is_about(&self, port: u16) -> bool {
        self.text.contains(&format!(":{port}]>"))
    }

    /// It takes bytes from a descriptor.
    pub fn reads(&self) -> bool {
        ["read", "readv", "recvfrom", "recvmsg"].contains(&self.name)
    }

    /// It gives bytes to a descriptor.
    pub fn writes(&self) -> bool {
        ["write", "writev", "sendto", "sendmsg"].contains(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_line_is_a_call_or_a_signal() {
        let text =
            "17250 recvfrom(5<TCP:[127.0.0.1:35959->127.0.0.1:51220]>, \"\"..., 4096, 0) = 64";
        let line = Line::parse(text).unwrap();
        assert_eq!((line.name, line.result), ("recvfrom", Some(64)));
        assert!(line.reads() && !line.writes() && line.is_about(51220) && !line.is_about(35959));
        let text = "17250 recvfrom(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0x7f, 4096, 0) = -1 EAGAIN (Resource ...)";
        assert_eq!(Line::parse(text).unwrap().result, Some(-1));
        let text = "17250 --- SIGCONT {si_signo=SIGCONT, si_code=SI_USER, si_pid=17, si_uid=0} ---";
        assert_eq!(Line::parse(text).unwrap().name, "SIGCONT");
        assert_eq!(
            Line::parse("17250 <... recvfrom resumed>, 4096) = 64"),
            None
        );
    }
}
