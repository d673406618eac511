//! The clients of --status.
//!
//! They are watched sources of the loop, and not connections of the reactor. So no limit on
//! connections holds for them, no figure counts them, and they are served until a shutdown is over.

use super::http::{self, Answer};
use super::{Reply, Status};
use doorkeeper::mio::Interest;
use doorkeeper::mio::net::{TcpListener, TcpStream};
use doorkeeper::{Id, Next, Reactor};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Limit of the clients. A further one takes the place of the oldest.
pub(super) const CLIENTS_MAX: usize = 16;

/// What the kernel may hold for a client (SO_SNDBUF; Linux doubles it). A larger buffer would only
/// make a slow reader see older events.
const SEND_BUFFER: usize = 64 * 1024;

/// How often the clients are looked at, and the events of the live page are made.
const TICK: Duration = Duration::from_millis(100);

/// The time that a client has for its request, and again for taking the answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The time in which a client of a stream must take a byte.
const STREAM_TIME: Duration = Duration::from_secs(30);

/// Limit of the bytes that are read after an answer.
const LINGER_MAX: usize = 64 * 1024;

/// How long the listener waits after a failed accept, such as without a descriptor (EMFILE).
const BACKOFF: Duration = Duration::from_millis(100);

/// All clients, and whether a tick is due.
#[derive(Default)]
pub(super) struct Clients {
    outputs: RefCell<BTreeMap<Id, Rc<RefCell<Output>>>>,
    is_ticking: Cell<bool>,
}

/// What is sent to a client.
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    is_stream: bool,
    /// Events that were not made for it, because the last one was not sent yet.
    dropped: u64,
    /// For a stream: when it last took a byte. Else: when it connected, or its request was read.
    since: Instant,
}

impl Output {
    fn new() -> Output {
        Output {
            bytes: Vec::new(),
            sent: 0,
            is_stream: false,
            dropped: 0,
            since: Instant::now(),
        }
    }

    fn is_late(&self) -> bool {
        let limit = if self.is_stream {
            STREAM_TIME
        } else {
            ANSWER_TIME
        };
        self.since.elapsed() > limit
    }

    /// Writes once. True if all is sent.
    fn send(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        if self.sent < self.bytes.len() {
            self.sent += stream.write(&self.bytes[self.sent..])?;
            if self.is_stream {
                self.since = Instant::now();
            }
        }
        let is_done = self.sent == self.bytes.len();
        if is_done {
            (self.bytes, self.sent) = (Vec::new(), 0);
        }
        Ok(is_done)
    }
}

/// Opens a listener, and returns its id and its address.
pub(super) fn listen(
    reactor: &mut Reactor,
    status: &Rc<Status>,
    address: SocketAddr,
) -> io::Result<(Id, SocketAddr)> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if status.is_shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(CLIENTS_MAX as i32)?;
    let listener = TcpListener::from_std(socket.into());
    let bound = listener.local_addr()?;
    let status = Rc::clone(status);
    let on_ready = move |reactor: &mut Reactor, id: Id, listener: &mut TcpListener| {
        accept(&status, reactor, id, listener)
    };
    let id = reactor.watch(listener, Interest::READABLE, on_ready)?;
    Ok((id, bound))
}

/// Accepts one client in a turn.
fn accept(status: &Rc<Status>, reactor: &mut Reactor, id: Id, listener: &TcpListener) -> Next {
    match listener.accept() {
        Ok((stream, _)) => {
            if let Err(error) = add(status, reactor, stream) {
                log::debug!("--status: {error}");
            }
            Next::Again
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => match status.is_leaving.get() {
            true => Next::Done,
            false => Next::Wait,
        },
        Err(error) => {
            log::debug!("--status: accept: {error}");
            // It fails only if the reactor is being dropped.
            let _ = reactor.after(BACKOFF, move |reactor| _ = reactor.wake(id));
            Next::Wait
        }
    }
}

fn add(status: &Rc<Status>, reactor: &mut Reactor, stream: TcpStream) -> io::Result<()> {
    status.clients.make_room(reactor);
    let mut client = Client {
        status: Rc::clone(status),
        output: Rc::new(RefCell::new(Output::new())),
        state: State::Request(Vec::new()),
    };
    let output = Rc::clone(&client.output);
    let on_ready = move |reactor: &mut Reactor, id: Id, stream: &mut TcpStream| {
        let next = match client.turn(reactor, stream) {
            Ok(next) => next,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
            Err(error) if error.kind() == ErrorKind::Interrupted => Next::Again,
            Err(_) => Next::Done,
        };
        if next == Next::Done {
            client.status.clients.outputs.borrow_mut().remove(&id);
        }
        next
    };
    let interest = Interest::READABLE | Interest::WRITABLE;
    let id = reactor.watch(stream, interest, on_ready)?;
    status.clients.outputs.borrow_mut().insert(id, output);
    tick_later(status, reactor);
    Ok(())
}

impl Clients {
    /// Ends the oldest client if there is no room for another; streams last.
    fn make_room(&self, reactor: &mut Reactor) {
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < CLIENTS_MAX {
            return;
        }
        // Ids rise.
        let oldest = outputs
            .iter()
            .min_by_key(|(id, output)| (output.borrow().is_stream, **id));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            outputs.remove(&id);
            reactor.close(id);
        }
    }

    /// Ends those that are late.
    fn close_late(&self, reactor: &mut Reactor) {
        self.outputs.borrow_mut().retain(|&id, output| {
            let is_late = output.borrow().is_late();
            if is_late {
                reactor.close(id);
            }
            !is_late
        });
    }

    fn has_streams(&self) -> bool {
        self.outputs
            .borrow()
            .values()
            .any(|output| output.borrow().is_stream)
    }

    /// Gives every stream the event that `make` makes. One that has not sent its last event is left
    /// out, so each holds at most one event.
    fn push(&self, reactor: &mut Reactor, make: impl FnOnce(&Reactor) -> String) {
        let (mut make, mut event) = (Some(make), String::new());
        for (&id, output) in &*self.outputs.borrow() {
            let mut output = output.borrow_mut();
            if !output.is_stream {
                continue;
            }
            if !output.bytes.is_empty() {
                output.dropped += 1;
                continue;
            }
            if let Some(make) = make.take() {
                event = make(reactor);
            }
            let dropped = std::mem::take(&mut output.dropped);
            if dropped > 0 {
                let text = format!("event: dropped\ndata: {dropped} dropped\n\n");
                output.bytes.extend(text.bytes());
            }
            output.bytes.extend(event.bytes());
            reactor.wake(id);
        }
    }
}

fn tick_later(status: &Rc<Status>, reactor: &mut Reactor) {
    if status.clients.is_ticking.replace(true) {
        return;
    }
    let status = Rc::clone(status);
    // It fails only if the reactor is being dropped.
    let _ = reactor.after(TICK, move |reactor| {
        status.clients.is_ticking.set(false);
        tick(&status, reactor);
    });
}

/// Runs every 100 ms while there are clients.
fn tick(status: &Rc<Status>, reactor: &mut Reactor) {
    let clients = &status.clients;
    clients.close_late(reactor);
    let is_live = clients.has_streams();
    status.set_live(is_live);
    if is_live {
        clients.push(reactor, |reactor| status.event(reactor));
    }
    if !clients.outputs.borrow().is_empty() {
        tick_later(status, reactor);
    }
}

enum State {
    /// It has sent a part of its request.
    Request(Vec<u8>),
    /// It is sent the answer.
    Answer,
    /// It is sent events.
    Stream,
    /// The answer is sent, and a FIN. What it still sends is read, this much so far: to close with
    /// unread input would reset the connection, and the answer could be lost (RFC 9112, section 9.6).
    Linger(usize),
}

struct Client {
    status: Rc<Status>,
    output: Rc<RefCell<Output>>,
    state: State,
}

impl Client {
    /// One read or one write.
    fn turn(&mut self, reactor: &mut Reactor, stream: &mut TcpStream) -> io::Result<Next> {
        match &mut self.state {
            State::Request(input) => {
                let mut buffer = [0; 2048];
                let count = stream.read(&mut buffer)?;
                input.extend(&buffer[..count]);
                match http::parse(input, &self.status.hosts) {
                    _ if count == 0 => return Ok(Next::Done),
                    Ok(None) => {}
                    Ok(Some(request)) => {
                        let reply = self.status.reply(reactor, &request);
                        self.start(reply);
                    }
                    Err(answer) => self.start(Reply::Whole(answer)),
                }
            }
            State::Answer => {
                if self.output.borrow_mut().send(stream)? {
                    stream.shutdown(Shutdown::Write)?;
                    self.state = State::Linger(0);
                }
            }
            State::Stream => {
                if self.output.borrow_mut().send(stream)? && stream.read(&mut [0; 512])? == 0 {
                    return Ok(Next::Done);
                }
            }
            State::Linger(count) => {
                let more = stream.read(&mut [0; 2048])?;
                *count += more;
                if more == 0 || *count > LINGER_MAX {
                    return Ok(Next::Done);
                }
            }
        }
        Ok(Next::Again)
    }

    fn start(&mut self, reply: Reply) {
        let mut output = self.output.borrow_mut();
        output.since = Instant::now();
        match reply {
            Reply::Whole(answer) => {
                output.bytes = Answer::bytes(&answer);
                self.state = State::Answer;
            }
            Reply::Stream => {
                output.bytes = http::stream_head();
                output.bytes.extend(super::live::about().bytes());
                output.is_stream = true;
                self.state = State::Stream;
            }
        }
    }
}

#[cfg(test)]
mod tests;
