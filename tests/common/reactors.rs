//! Reactors: turned by hand on the test's own thread, or running on a thread of their own.

use super::PATIENCE;
use doorkeeper::{Arrival, Config, Handle, Handler, Id, Reactor, Stats};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A time limit for a turn that does not sleep.
pub const NOW: Option<Duration> = Some(Duration::ZERO);

/// A reactor with the default limits.
pub fn reactor() -> Reactor {
    Reactor::new(Config::default()).unwrap()
}

/// Any free port of loopback.
pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Listens on a free port of loopback, and tells the listener's id and address.
pub fn listen_as<H: Handler>(
    reactor: &mut Reactor,
    service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
) -> (Id, SocketAddr) {
    let id = reactor.listen(loopback(), service).unwrap();
    (id, reactor.local_addr(id).unwrap())
}

/// Listens on a free port of loopback, and tells the address.
pub fn listen<H: Handler>(
    reactor: &mut Reactor,
    service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
) -> SocketAddr {
    listen_as(reactor, service).1
}

/// Turns the loop until the condition holds.
pub fn turn_until(reactor: &mut Reactor, wanted: impl Fn(&Reactor) -> bool) {
    let start = Instant::now();
    while !wanted(reactor) {
        assert!(start.elapsed() < PATIENCE, "never: {:?}", reactor.stats());
        reactor.turn(Some(PATIENCE)).unwrap();
    }
}

/// Spends this time on the thread, without turning any loop.
pub fn pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}

/// A reactor that runs on a thread of its own until this is dropped or [stopped](Running::stop).
pub struct Running {
    pub handle: Handle,
    thread: Option<JoinHandle<Stats>>,
}

impl Running {
    /// Starts a reactor. `setup` runs on its thread before the loop, and what it returns is
    /// returned.
    pub fn start<T: Send + 'static>(
        config: Config,
        setup: impl FnOnce(&mut Reactor) -> T + Send + 'static,
    ) -> (Running, T) {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut reactor = Reactor::new(config).unwrap();
            let made = setup(&mut reactor);
            sender.send((reactor.handle(), made)).unwrap();
            reactor.run().unwrap();
            reactor.stats()
        });
        let (handle, made) = receiver.recv_timeout(PATIENCE).unwrap();
        let thread = Some(thread);
        (Running { handle, thread }, made)
    }

    /// Starts a reactor with this one service on a free port of loopback, and tells the address.
    pub fn serve<H: Handler>(
        config: Config,
        service: impl FnMut(&mut Arrival<'_>) -> Option<H> + Send + 'static,
    ) -> (Running, SocketAddr) {
        Running::start(config, |reactor| listen(reactor, service))
    }

    /// Runs a closure on the loop, and returns what it returned.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Reactor) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        let posted = self
            .handle
            .post(move |reactor: &mut Reactor| sender.send(question(reactor)).unwrap());
        assert!(posted.is_ok(), "the reactor is gone");
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    pub fn stats(&self) -> Stats {
        self.ask(|reactor| reactor.stats())
    }

    /// Asks for the statistics until they are as wanted. Panics with the last ones if they never
    /// are.
    pub fn await_stats(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let start = Instant::now();
        loop {
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "never as wanted: {stats:?}");
            std::thread::yield_now();
        }
    }

    /// Stops the loop, and returns its last statistics.
    pub fn stop(mut self) -> Stats {
        self.handle.stop().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(
                result.is_ok() || std::thread::panicking(),
                "the reactor's thread panicked"
            );
        }
    }
}
