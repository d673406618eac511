//! Two reactors on two threads share one port: `cargo run --example two_loops [ADDRESS]`. It ends
//! when standard input ends.
//!
//! It shows threads. A reactor stays on the thread that made it; other threads hold its handle.
//! With `reuse_port` each reactor has its own listening socket, and the kernel distributes the
//! clients over them (SO_REUSEPORT, socket(7)). The main thread starts and shuts down both, and
//! each lets its open connections finish.

use doorkeeper::{Config, Context, Handle, Handler, ListenOptions, Reactor};
use std::io::{Error, Read, Result};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        Ok(cx.write(input))
    }
}

/// A loop on its own thread. The thread returns how many connections it accepted.
struct Loop {
    handle: Handle,
    address: SocketAddr,
    thread: JoinHandle<Result<u64>>,
}

fn start(address: SocketAddr) -> Result<Loop> {
    let (sender, started) = channel();
    let thread = std::thread::spawn(move || {
        let mut reactor = Reactor::new(Config::default())?;
        let mut options = ListenOptions::default();
        options.reuse_port = true;
        let id = reactor.listen_with(address, &options, |_| Some(Echo))?;
        let _ = sender.send((reactor.handle(), reactor.local_addr(id)?));
        reactor.run()?;
        Ok(reactor.stats().accepted)
    });
    match started.recv() {
        Ok((handle, address)) => Ok(Loop {
            handle,
            address,
            thread,
        }),
        // It ended before it listened, with an error.
        Err(_) => Err(join(thread)
            .err()
            .unwrap_or_else(|| Error::other("the loop did not start"))),
    }
}

fn join(thread: JoinHandle<Result<u64>>) -> Result<u64> {
    thread
        .join()
        .map_err(|_| Error::other("the loop's thread panicked"))?
}

fn main() -> Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7007".to_string());
    let first = start(address.parse().map_err(Error::other)?)?;
    // The same port, even if the first was given port 0.
    let second = start(first.address)?;
    println!("listening {}", first.address);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for each in [&first, &second] {
        let _ = each
            .handle
            .post(|reactor: &mut Reactor| reactor.shutdown(Duration::from_secs(5)));
    }
    println!(
        "served {} and {}",
        join(first.thread)?,
        join(second.thread)?
    );
    Ok(())
}
