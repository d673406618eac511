//! What stands between a connection and its service passes every callback on.

use super::args::Serve;
use super::limits::{self, limited, with_limits};
use super::proxied::{Proxies, proxied};
use doorkeeper::{
    Closed, Config, ConnectionState, Context, Handler, Id, Others, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The callbacks of a service, in their order.
type Heard = Rc<RefCell<Vec<&'static str>>>;

/// Answers input with a byte and with a timer.
struct Service(Heard);

impl Service {
    fn hears(&self, callback: &'static str) -> io::Result<()> {
        self.0.borrow_mut().push(callback);
        Ok(())
    }
}

impl Handler for Service {
    fn on_open(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.hears("open")
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        cx.write(b"!");
        cx.set_timer(TimerKey(7), Duration::from_millis(1));
        self.hears("data").map(|()| input.len())
    }

    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.hears("drain")
    }

    fn on_wake(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.hears("wake")
    }

    fn on_timer(&mut self, _: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        assert_eq!(key, TimerKey(7));
        self.hears("timer")
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        self.hears("eof")
    }

    fn on_shutdown(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.hears("shutdown")
    }

    fn on_close(&mut self, _: &mut Others<'_>, _: &Closed) {
        self.0.borrow_mut().push("close");
    }
}

/// A reactor with one listener, and a client of it.
struct Server {
    reactor: Reactor,
    heard: Heard,
    stream: TcpStream,
}

impl Server {
    fn new(
        config: Config,
        listen: impl FnOnce(&mut Reactor, SocketAddr, Heard) -> io::Result<Id>,
    ) -> Server {
        let mut reactor = Reactor::new(config).unwrap();
        limits::set(&reactor, 10, &Serve::default());
        let heard = Heard::default();
        let any = ([127, 0, 0, 1], 0).into();
        let id = listen(&mut reactor, any, Rc::clone(&heard)).unwrap();
        let stream = TcpStream::connect(reactor.local_addr(id).unwrap()).unwrap();
        Server {
            reactor,
            heard,
            stream,
        }
    }

    fn plain() -> Server {
        Server::plain_with(Config::default())
    }

    fn plain_with(config: Config) -> Server {
        Server::new(config, |reactor, any, heard| {
            reactor.listen(any, limited(move || Service(Rc::clone(&heard)), ()))
        })
    }

    fn behind_a_proxy() -> Server {
        Server::behind_a_proxy_with(Config::default())
    }

    fn behind_a_proxy_with(config: Config) -> Server {
        Server::new(config, |reactor, any, heard| {
            let proxies = Proxies::parse("127.0.0.1").unwrap();
            let service = proxied(move || Service(Rc::clone(&heard)), (), proxies);
            reactor.listen(any, service)
        })
    }

    fn run_until(&mut self, is_reached: impl Fn(&Server) -> bool) {
        let begin = Instant::now();
        while !is_reached(self) {
            let heard = self.heard.borrow().clone();
            assert!(begin.elapsed() < Duration::from_secs(10), "{heard:?}");
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Runs until the service has heard these, and nothing else.
    fn hears(&mut self, wanted: &[&str]) {
        self.run_until(|server| server.heard.borrow().len() >= wanted.len());
        assert_eq!(self.heard.take(), wanted);
    }

    fn received(&mut self, bytes: u64) {
        self.run_until(|server| server.reactor.stats().bytes_received == bytes);
    }

    fn connection(&self) -> Id {
        self.reactor.snapshot().connections[0].id
    }

    /// From the first input to the end.
    fn hears_everything(mut self) {
        self.hears(&["open", "data", "drain", "timer"]);
        let id = self.connection();
        self.reactor.wake(id);
        self.hears(&["wake"]);
        self.reactor.shutdown(Duration::from_secs(10));
        self.hears(&["shutdown"]);
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.hears(&["eof", "close"]);
    }
}

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";

#[test]
fn every_callback_reaches_a_service_behind_its_limits() {
    let mut server = Server::plain();
    server.stream.write_all(b"x").unwrap();
    server.hears_everything();
}

#[test]
fn every_callback_reaches_a_service_behind_a_proxy() {
    let mut server = Server::behind_a_proxy();
    server.stream.write_all(&[HEADER, b"x"].concat()).unwrap();
    server.hears_everything();
}

#[test]
fn a_service_behind_a_proxy_hears_nothing_before_the_header() {
    let mut server = Server::behind_a_proxy();
    server.stream.write_all(&HEADER[..9]).unwrap();
    server.received(9);
    let id = server.connection();
    server.reactor.wake(id);
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    server.stream.shutdown(Shutdown::Write).unwrap();
    server.run_until(|server| server.reactor.stats().open == 0);
    assert_eq!(*server.heard.borrow(), [""; 0]);
}

/// A proxy that has just connected may not have sent the header yet, so it has half a second.
#[test]
fn a_shutdown_ends_a_connection_of_a_proxy_that_has_sent_nothing() {
    let mut server = Server::behind_a_proxy();
    server.run_until(|server| server.reactor.stats().accepted == 1);
    let begin = Instant::now();
    server.reactor.shutdown(Duration::from_secs(10));
    server.run_until(|server| {
        let view = &server.reactor.snapshot().connections[0];
        view.state == ConnectionState::Finishing
    });
    let took = begin.elapsed().as_millis();
    assert!((400..2500).contains(&took), "{took}");
    assert_eq!(server.stream.read(&mut [0]).unwrap(), 0);
    server.stream.shutdown(Shutdown::Write).unwrap();
    server.run_until(|server| server.reactor.stats().open == 0);
    assert_eq!(server.reactor.stats().closed(Reason::Finished), 1);
    assert_eq!(*server.heard.borrow(), [""; 0]);
}

#[test]
fn a_proxy_that_sends_nothing_for_three_seconds_is_an_error() {
    let mut server = Server::behind_a_proxy();
    server.run_until(|server| server.reactor.stats().accepted == 1);
    server.run_until(|server| server.reactor.stats().open == 0);
    assert_eq!(server.reactor.stats().closed(Reason::HandlerError), 1);
}

#[test]
fn a_lifetime_ends_connections_with_and_without_a_proxy() {
    for (is_proxied, head) in [(false, &b""[..]), (true, HEADER)] {
        let mut config = Config::default();
        config.max_lifetime = Some(Duration::from_millis(500));
        let mut server = match is_proxied {
            false => Server::plain_with(config),
            true => Server::behind_a_proxy_with(config),
        };
        server.stream.write_all(&[head, b"x"].concat()).unwrap();
        server.hears(&["open", "data", "drain", "timer", "close"]);
        assert_eq!(server.reactor.stats().closed(Reason::LifetimeOver), 1);
    }
}

#[test]
fn a_source_gets_back_as_many_places_as_it_leaves() {
    let reactor = Reactor::new(Config::default()).unwrap();
    let mut options = Serve::default();
    options.max_per_source = Some(2);
    limits::set(&reactor, 10, &options);
    let peer = "192.0.2.1:7".parse().unwrap();
    let enter = || with_limits(|limits| limits.enter_source(peer));
    let leave = || with_limits(|limits| limits.leave_source(peer));
    for _ in 0..2 {
        assert_eq!([enter(), enter(), enter()], [true, true, false]);
        leave();
        assert_eq!([enter(), enter()], [true, false]);
        leave();
        leave();
    }
}
