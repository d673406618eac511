//! The servers, and how they are built.

use crate::{Options, Result, root};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Peer {
    pub name: &'static str,
    /// What it is linked with, for those in C.
    c: Option<&'static [&'static str]>,
}

/// The one that all others are compared with.
pub const YARDSTICK: &str = "epoll";

impl Peer {
    pub fn all() -> Vec<Peer> {
        let rust = [
            "doorkeeper",
            "tokio",
            "tokio-64k",
            "tokio-timeout",
            "mio",
            "message-io",
            "smol",
            "monoio",
        ];
        let c: [(&str, &[&str]); 4] = [
            (YARDSTICK, &[]),
            ("epoll-64", &[]),
            ("libevent", &["-levent_core"]),
            ("libuv", &["-luv"]),
        ];
        let c = c.into_iter().map(|(name, libraries)| Peer {
            name,
            c: Some(libraries),
        });
        c.chain(rust.into_iter().map(|name| Peer { name, c: None }))
            .collect()
    }

    pub fn is_wanted(&self, options: &Options) -> bool {
        options.servers.is_empty()
            || self.name == YARDSTICK
            || options.servers.iter().any(|name| name == self.name)
    }

    pub fn is_rust(&self) -> bool {
        self.c.is_none()
    }

    pub fn program(&self) -> PathBuf {
        let target = root().join("benches/target");
        if self.is_rust() {
            target.join(format!("release/peer-{}", self.name))
        } else {
            target.join(format!("c/{}", self.name))
        }
    }

    /// Each by itself, for cargo makes one set of features for all that it builds together.
    pub fn build(&self) -> Result<()> {
        match self.c {
            None => build_rust(self.name, &root().join("benches/target")),
            Some(libraries) => {
                std::fs::create_dir_all(root().join("benches/target/c"))?;
                let source = root().join(format!("benches/peers/c/{}.c", self.name));
                run(Command::new("cc")
                    .args(["-O2", "-o"])
                    .arg(self.program())
                    .arg(source)
                    .args(libraries))
            }
        }
    }
}

pub fn build_rust(name: &str, target: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            &format!("peer-{name}"),
            "--target-dir",
        ])
        .arg(target);
    run(command.current_dir(root().join("benches")))
}

/// The program that makes the load, and where it is.
pub fn build_load() -> Result<PathBuf> {
    run(Command::new("cargo")
        .args(["build", "--quiet", "--release"])
        .current_dir(root()))?;
    Ok(root().join("target/release/doorkeeper"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text
        .lines()
        .find(|line| line.contains("error"))
        .unwrap_or("it does not build")
        .trim()
        .into())
}
