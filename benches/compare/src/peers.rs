//! The servers: how each is built and started.

use crate::options::Options;
use crate::process::{Running, pinned, start, start_on_port};
use crate::suites::Suite;
use crate::{Result, build};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Peer {
    pub suite: &'static str,
    pub name: &'static str,
    pub program: Program,
}

pub enum Program {
    /// In C, and the libraries that it is linked with.
    C(&'static [&'static str]),
    /// A package of `benches/peers`, and its arguments after the address.
    Rust(&'static str, &'static [&'static str]),
    /// An example of the library, built as a program that embeds the library is built.
    Example(&'static str, &'static [&'static str]),
    HaProxy {
        buffer_bytes: u32,
    },
    NginxRelay,
    NginxHttp,
    Redis,
}

const fn echo(name: &'static str, program: Program) -> Peer {
    Peer {
        suite: "echo",
        name,
        program,
    }
}

const fn relay(name: &'static str, program: Program) -> Peer {
    Peer {
        suite: "relay",
        name,
        program,
    }
}

pub static ALL: [Peer; 21] = [
    echo("epoll", Program::C(&[])),
    echo("epoll-64", Program::C(&[])),
    echo("libevent", Program::C(&["-levent_core"])),
    echo("libuv", Program::C(&["-luv"])),
    echo("doorkeeper", Program::Rust("peer-doorkeeper", &[])),
    echo("tokio", Program::Rust("peer-tokio", &[])),
    echo("tokio-64k", Program::Rust("peer-tokio", &["65536"])),
    echo("tokio-timeout", Program::Rust("peer-tokio-timeout", &[])),
    echo("mio", Program::Rust("peer-mio", &[])),
    echo("message-io", Program::Rust("peer-message-io", &[])),
    echo("smol", Program::Rust("peer-smol", &[])),
    echo("monoio", Program::Rust("peer-monoio", &[])),
    relay(
        "haproxy",
        Program::HaProxy {
            buffer_bytes: 16_384,
        },
    ),
    relay(
        "haproxy-64k",
        Program::HaProxy {
            buffer_bytes: 65_536,
        },
    ),
    relay("nginx", Program::NginxRelay),
    relay("doorkeeper", Program::Example("relay", &[])),
    Peer {
        suite: "kv",
        name: "redis-server",
        program: Program::Redis,
    },
    Peer {
        suite: "kv",
        name: "doorkeeper",
        program: Program::Example("kv", &[]),
    },
    Peer {
        suite: "http",
        name: "nginx",
        program: Program::NginxHttp,
    },
    Peer {
        suite: "http",
        name: "doorkeeper",
        program: Program::Example("http", &[]),
    },
    Peer {
        suite: "http",
        name: "doorkeeper-close-when-sent",
        program: Program::Example("http", &["close-when-sent"]),
    },
];

/// The body of the answer of every server of the suite http. A server with another one is not compared.
pub const HTTP_BODY: &str = "Hello, world!\n";

fn of(suite: &Suite) -> impl Iterator<Item = &'static Peer> {
    let suite = suite.name;
    ALL.iter().filter(move |peer| peer.suite == suite)
}

/// The servers of a suite, the yardstick first.
pub fn names(suite: &Suite) -> Vec<&'static str> {
    of(suite).map(|peer| peer.name).collect()
}

/// A server that is built.
pub struct Server {
    pub peer: &'static Peer,
    pub program: PathBuf,
    /// What a relay passes connections on to.
    backend: Option<PathBuf>,
}

/// Builds the wanted servers of a suite. Those that cannot be built are named as missing, but without its yardstick a suite
/// compares nothing.
pub fn ready(suite: &Suite, options: &Options, missing: &mut Vec<Value>) -> Result<Vec<Server>> {
    // The backend is the yardstick of the suite echo, on the processor of the load.
    let backend = (suite.name == "relay")
        .then(|| build::c("epoll", &[]))
        .transpose()?;
    let mut ready = Vec::new();
    for peer in of(suite).filter(|peer| options.wants_server(suite, peer.name)) {
        match peer.ready(backend.clone()) {
            Ok(server) => ready.push(server),
            Err(error) if peer.name == suite.yardstick => {
                return Err(format!("{}, its yardstick: {error}", peer.name).into());
            }
            Err(error) => {
                eprintln!("MISSING: {} ({}): {error}", peer.name, suite.name);
                let why = error.to_string();
                missing.push(json!({ "server": peer.name, "suite": suite.name, "why": why }));
            }
        }
    }
    Ok(ready)
}

impl Peer {
    fn ready(&'static self, backend: Option<PathBuf>) -> Result<Server> {
        let program = match self.program {
            Program::C(libraries) => build::c(self.name, libraries)?,
            Program::Rust(package, _) => build::peer(package, None)?,
            Program::Example(name, _) => build::example(name)?,
            Program::HaProxy { .. } => "haproxy".into(),
            Program::NginxRelay | Program::NginxHttp => "nginx".into(),
            Program::Redis => "redis-server".into(),
        };
        let server = Server {
            peer: self,
            program,
            backend,
        };
        if server.is_installed() {
            // A start shows whether it is installed, with the modules that it needs.
            server.start(0, Some("127.0.0.1:9"))?;
        }
        Ok(server)
    }
}

impl Server {
    /// Whether a package of the system brings it.
    fn is_installed(&self) -> bool {
        !matches!(
            self.peer.program,
            Program::C(_) | Program::Rust(..) | Program::Example(..)
        )
    }

    /// Its arguments after the address.
    pub fn args(&self) -> &'static [&'static str] {
        if let Program::Rust(_, args) | Program::Example(_, args) = self.peer.program {
            args
        } else {
            &[]
        }
    }

    /// What a relay passes connections on to, started.
    pub fn start_backend(&self, processor: usize) -> Result<Option<Running>> {
        let command = self
            .backend
            .as_ref()
            .map(|program| pinned(processor, program));
        command
            .map(|mut command| start(command.arg("127.0.0.1:0")))
            .transpose()
    }

    pub fn start(&self, processor: usize, backend: Option<&str>) -> Result<Running> {
        let mut command = pinned(processor, &self.program);
        let backend = backend.unwrap_or_default();
        match self.peer.program {
            Program::Example("relay", _) => start(command.args(["127.0.0.1:0", backend])),
            Program::C(_) | Program::Rust(..) | Program::Example(..) => {
                start(command.arg("127.0.0.1:0").args(self.args()))
            }
            Program::HaProxy { buffer_bytes } => start_on_port(|port, folder| {
                let file = folder.join("haproxy.cfg");
                std::fs::write(&file, haproxy(port, backend, buffer_bytes))?;
                command.args(["-db", "-q", "-f"]).arg(file);
                Ok(command)
            }),
            Program::NginxRelay => start_on_port(|port, folder| {
                let stream = format!(
                    "stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass {backend}; }} }}"
                );
                nginx(command, folder, &stream)
            }),
            Program::NginxHttp => start_on_port(|port, folder| {
                let answer = format!("return 200 '{HTTP_BODY}';");
                let http = format!(
                    "http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }} }}"
                );
                nginx(command, folder, &http)
            }),
            Program::Redis => start_on_port(|port, folder| {
                let port = port.to_string();
                command.args([
                    "--bind",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ]);
                command.current_dir(folder);
                Ok(command)
            }),
        }
    }
}

/// One thread; the buffer size (HAProxy's default is 16 KiB); otherwise HAProxy's defaults.
fn haproxy(port: u16, backend: &str, buffer_bytes: u32) -> String {
    format!(
        "global
    nbthread 1
    maxconn 4000
    tune.bufsize {buffer_bytes}
defaults
    mode tcp
    timeout connect 10s
    timeout client 600s
    timeout server 600s
listen relay
    bind 127.0.0.1:{port}
    server backend {backend}
"
    )
}

/// One process; otherwise nginx's defaults.
fn nginx(mut command: Command, folder: &Path, body: &str) -> Result<Command> {
    // Debian has the module for streams in a file of its own.
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    let load = if module.exists() {
        format!("load_module {};\n", module.display())
    } else {
        String::new()
    };
    let file = folder.join("nginx.conf");
    let text = format!(
        "{load}daemon off;\nmaster_process off;\nerror_log stderr;\npid {}/pid;\nevents {{ worker_connections 10000; }}\n{body}\n",
        folder.display()
    );
    std::fs::write(&file, text)?;
    command
        .args(["-e", "stderr", "-p"])
        .arg(folder)
        .arg("-c")
        .arg(file);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites;

    #[test]
    fn every_suite_has_its_servers() {
        for suite in &suites::ALL {
            let names = names(suite);
            assert_eq!(names[0], suite.yardstick);
            assert!(names.contains(&"doorkeeper"));
            assert!(
                suite.closer.iter().all(|name| names.contains(name)),
                "{}",
                suite.name
            );
        }
        assert!(
            ALL.iter()
                .all(|peer| suites::ALL.iter().any(|suite| suite.name == peer.suite))
        );
    }

    impl Server {
        pub fn unbuilt(peer: &'static Peer) -> Server {
            Server {
                peer,
                program: PathBuf::new(),
                backend: None,
            }
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        static NOBODY: Peer = Peer {
            suite: "kv",
            name: "nobody",
            program: Program::Example("no_such_example", &[]),
        };
        let error = NOBODY
            .ready(None)
            .err()
            .expect("nothing to build")
            .to_string();
        assert!(error.contains("no_such_example"), "{error}");
    }
}
