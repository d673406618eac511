//! Values of an embedder whose drop panics: the payload of a panic, an error, a handler, a service,
//! a closure, an observer. None of them gets a panic out of the loop. Promise 18.

mod common;

use common::{Discard, Echo, NOW, client, listen, listen_as, reactor, read_exactly, turn_until};
use doorkeeper::mio::{Interest, net::UnixStream};
use doorkeeper::{
    Closed, Context, Event, Handler, Id, Next, Observer, Others, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

/// Its drop panics, with a payload whose drop panics, and so on for ever.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl std::error::Error for Bomb {}

/// How a callback fails.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Panic,
    Error,
}

use How::{Error, Panic};

/// The reasons that `on_close` was told, one for each call.
type Closes = Rc<RefCell<Vec<Reason>>>;

/// Fails in one of its callbacks.
struct Fails {
    callback: &'static str,
    how: How,
    closes: Closes,
}

impl Fails {
    fn reached(&self, callback: &str) -> io::Result<()> {
        match self.how {
            _ if callback != self.callback => Ok(()),
            Panic => panic_any(Bomb),
            Error => Err(io::Error::other(Bomb)),
        }
    }
}

impl Handler for Fails {
    fn on_open(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.reached("open")
    }
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.reached("data")?;
        if self.callback == "timer" {
            cx.set_timer(TimerKey(0), Duration::ZERO);
        } else {
            cx.write(input);
        }
        Ok(input.len())
    }
    fn on_drain(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        self.reached("drain")
    }
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.reached("eof")?;
        cx.finish();
        Ok(())
    }
    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.reached("timer")
    }
    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.closes.borrow_mut().push(closed.reason);
        let _ = self.reached("close");
    }
}

/// A connection beside the one that fails.
struct Bystander(TcpStream);

impl Bystander {
    fn new(reactor: &mut Reactor) -> Bystander {
        let stream = client(listen(reactor, |_| Some(Echo)));
        turn_until(reactor, |reactor| reactor.stats().open == 1);
        Bystander(stream)
    }

    /// The loop goes on, is lent to nobody, and counted a panic or not.
    fn is_served(&mut self, reactor: &mut Reactor, panicked: bool) {
        assert_eq!(reactor.stats().panics > 0, panicked);
        assert_eq!(reactor.stats().open, 1);
        let before = reactor.stats().bytes_sent;
        self.0.write_all(b"echo").unwrap();
        turn_until(reactor, |reactor| reactor.stats().bytes_sent == before + 4);
        assert_eq!(read_exactly(&mut self.0, 4), b"echo");
        reactor.handle().stop().unwrap();
        reactor.run().unwrap();
    }
}

fn check(callback: &'static str, how: How, reason: Reason) {
    let (mut reactor, closes) = (reactor(), Closes::default());
    let mut bystander = Bystander::new(&mut reactor);
    let shared = Rc::clone(&closes);
    let address = listen(&mut reactor, move |_| {
        let closes = Rc::clone(&shared);
        Some(Fails {
            callback,
            how,
            closes,
        })
    });
    let mut stream = client(address);
    stream.write_all(b"go").unwrap();
    if ["eof", "close"].contains(&callback) {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    turn_until(&mut reactor, |_| !closes.borrow().is_empty());
    bystander.is_served(&mut reactor, true);
    drop(reactor);
    assert_eq!(*closes.borrow(), [reason]);
}

#[test]
fn a_panic_in_on_data() {
    check("data", Panic, Reason::Panic);
}

#[test]
fn an_error_from_on_data() {
    check("data", Error, Reason::HandlerError);
}

#[test]
fn a_panic_in_on_drain() {
    check("drain", Panic, Reason::Panic);
}

#[test]
fn an_error_from_on_drain() {
    check("drain", Error, Reason::HandlerError);
}

#[test]
fn a_panic_in_on_eof() {
    check("eof", Panic, Reason::Panic);
}

#[test]
fn an_error_from_on_eof() {
    check("eof", Error, Reason::HandlerError);
}

#[test]
fn a_panic_in_on_timer() {
    check("timer", Panic, Reason::Panic);
}

#[test]
fn an_error_from_on_timer() {
    check("timer", Error, Reason::HandlerError);
}

#[test]
fn a_panic_in_on_close() {
    check("close", Panic, Reason::Finished);
}

/// An outgoing connection has `on_open`.
fn check_open(how: How, reason: Reason) {
    let (mut reactor, closes) = (reactor(), Closes::default());
    let mut bystander = Bystander::new(&mut reactor);
    let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fails = Fails {
        callback: "open",
        how,
        closes: Rc::clone(&closes),
    };
    reactor.connect(peer.local_addr().unwrap(), fails).unwrap();
    turn_until(&mut reactor, |_| !closes.borrow().is_empty());
    bystander.is_served(&mut reactor, true);
    drop(reactor);
    assert_eq!(*closes.borrow(), [reason]);
}

#[test]
fn a_panic_in_on_open() {
    check_open(Panic, Reason::Panic);
}

#[test]
fn an_error_from_on_open() {
    check_open(Error, Reason::HandlerError);
}

/// `on_close` of a connection that was never established.
#[test]
fn a_panic_in_on_close_of_an_outgoing_connection() {
    let (mut reactor, closes) = (reactor(), Closes::default());
    let mut bystander = Bystander::new(&mut reactor);
    let closed_port = {
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        peer.local_addr().unwrap()
    };
    let fails = Fails {
        callback: "close",
        how: Panic,
        closes: Rc::clone(&closes),
    };
    reactor.connect(closed_port, fails).unwrap();
    turn_until(&mut reactor, |_| !closes.borrow().is_empty());
    bystander.is_served(&mut reactor, true);
    assert_eq!(*closes.borrow(), [Reason::Refused]);
}

/// A handler that owns one.
struct Owner(#[allow(dead_code)] Bomb);

impl Handler for Owner {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[test]
fn the_drop_of_a_handler() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    drop(client(listen(&mut reactor, |_| Some(Owner(Bomb)))));
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

#[test]
fn a_panic_in_a_service() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    let _stream = client(listen(&mut reactor, |_| -> Option<Discard> {
        panic_any(Bomb)
    }));
    turn_until(&mut reactor, |reactor| reactor.stats().turned_away == 1);
    bystander.is_served(&mut reactor, true);
}

#[test]
fn the_drop_of_a_service() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    let owned = Bomb;
    let (id, _) = listen_as(&mut reactor, move |_| {
        let _ = &owned;
        Some(Discard)
    });
    assert!(reactor.close(id));
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

#[test]
fn a_panic_in_a_posted_closure() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    assert!(reactor.handle().post(|_| panic_any(Bomb)).is_ok());
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

#[test]
fn a_panic_in_a_timer_of_no_connection() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    reactor.after(Duration::ZERO, |_| panic_any(Bomb)).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

/// Two, because a second panic while the first one unwinds would end the process.
#[test]
fn the_drop_of_posted_closures_that_never_run() {
    let reactor = reactor();
    let handle = reactor.handle();
    for _ in 0..2 {
        let owned = Bomb;
        let posted = handle.post(move |_| std::mem::forget(owned));
        assert!(posted.is_ok());
    }
    drop(reactor);
    assert!(handle.post(|_| ()).is_err());
}

/// Watches a source that is new, so the callback is called once.
fn watch(
    reactor: &mut Reactor,
    mut callback: impl FnMut(&mut Reactor, Id) -> Next + 'static,
) -> UnixStream {
    let (near, far) = UnixStream::pair().unwrap();
    let callback = move |reactor: &mut Reactor, id, _: &mut UnixStream| callback(reactor, id);
    reactor.watch(near, Interest::READABLE, callback).unwrap();
    far
}

#[test]
fn a_panic_in_the_callback_of_a_watched_source() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    let _far = watch(&mut reactor, |_, _| panic_any(Bomb));
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

#[test]
fn the_drop_of_the_callback_of_a_watched_source() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    let owned = Bomb;
    let _far = watch(&mut reactor, move |_, _| {
        let _ = &owned;
        Next::Done
    });
    turn_until(&mut reactor, |reactor| reactor.stats().panics == 1);
    bystander.is_served(&mut reactor, true);
}

/// An observer that owns one, and may panic.
struct Watcher {
    panics: bool,
    _owned: Bomb,
}

impl Observer for Watcher {
    fn event(&mut self, _: &Event<'_>) {
        if self.panics {
            panic_any(Bomb);
        }
    }
}

fn watcher(panics: bool) -> Box<Watcher> {
    Box::new(Watcher {
        panics,
        _owned: Bomb,
    })
}

#[test]
fn a_panic_in_an_observer_and_in_its_drop() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    reactor.observe(watcher(true));
    reactor.turn(NOW).unwrap();
    bystander.is_served(&mut reactor, false);
}

#[test]
fn the_drop_of_an_observer_that_another_replaces_and_at_the_end() {
    let mut reactor = reactor();
    let mut bystander = Bystander::new(&mut reactor);
    reactor.observe(watcher(false));
    reactor.observe(watcher(false));
    bystander.is_served(&mut reactor, false);
    drop(reactor);
}
