//! The examples, built and run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running example. It is killed when this is dropped.
pub struct Example {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

/// The path of an example. `cargo test` builds the examples, but `cargo test --test examples` does
/// not, so each is built here.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let named = if profile.ends_with("release") {
        "--release"
    } else {
        "--profile=dev"
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", named, "--example", name])
        .status()
        .unwrap();
    assert!(built.success());
    profile.join("examples").join(name)
}

impl Example {
    pub fn start(name: &str) -> Example {
        Example::start_with(name, &[])
    }

    /// Starts it on a free port of loopback. The other arguments follow the address.
    pub fn start_with(name: &str, args: &[&str]) -> Example {
        let mut command = Command::new(built(name));
        command
            .arg("127.0.0.1:0")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .trim_end()
            .strip_prefix("listening ")
            .unwrap()
            .parse()
            .unwrap();
        Example {
            child,
            stdout,
            address,
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
