//! The other end of a connection, in a test's hands.

use super::story::shown;
use crate::sys::sim::{Process, SharedWorld, Socket};
use crate::time::Tick;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How the input of a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The other side ended its output in order (FIN).
    Fin,
    /// An error: `ConnectionReset`, or why connecting failed, such as `ConnectionRefused`.
    Error(ErrorKind),
}

/// What follows when all is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    HalfClose,
    Close,
}

/// The state of a peer, which its handle and the simulation share.
pub(super) struct State {
    world: SharedWorld,
    /// Its index in the list of peers.
    index: usize,
    socket: Option<Socket>,
    address: SocketAddr,
    connected: bool,
    outbox: VecDeque<u8>,
    after: After,
    /// How many bytes it still wants to read; `None` is all.
    wants: Option<usize>,
    received: Vec<u8>,
    ending: Option<(Ending, Tick)>,
}

pub(super) type SharedPeer = Rc<RefCell<State>>;

impl State {
    fn new(world: SharedWorld, index: usize, address: SocketAddr) -> State {
        world.borrow_mut().touched.push(index);
        State {
            world,
            index,
            socket: None,
            address,
            connected: false,
            outbox: VecDeque::new(),
            after: After::Nothing,
            wants: None,
            received: Vec::new(),
            ending: None,
        }
    }

    /// A peer that connects. The attempt has begun, or has failed.
    pub(super) fn connect(world: &SharedWorld, index: usize, address: SocketAddr) -> State {
        let mut peer = State::new(Rc::clone(world), index, address);
        let socket = Process::new(world, 1).socket();
        let connect = |socket: Socket| {
            socket.watch(index);
            (socket.connect(address), socket)
        };
        match socket.map(connect) {
            Ok((Err(error), socket)) if crate::errno::is_in_progress(&error) => {
                peer.socket = Some(socket);
            }
            Ok((Err(error), _)) | Err(error) => peer.end(Ending::Error(error.kind())),
            Ok((Ok(()), socket)) => peer.socket = Some(socket),
        }
        peer
    }

    /// It may have something to do from now on.
    fn touch(&self) {
        self.world.borrow_mut().touched.push(self.index);
    }

    fn tell(&self, line: &str) {
        let address = self.address;
        let mut world = self.world.borrow_mut();
        world.tell(|| format!("peer of {address}  {line}"));
    }

    fn end(&mut self, ending: Ending) {
        self.tell(&format!("sees {ending:?}"));
        let now = self.world.borrow().now();
        self.ending.get_or_insert((ending, now));
        if ending != Ending::Fin {
            self.outbox.clear();
        }
    }

    /// Whether it could read something now, or its attempt has a result.
    pub(super) fn may_read(&self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        if !self.connected {
            return socket.is_readable() || socket.is_writable();
        }
        self.ending.is_none() && self.wants != Some(0) && socket.is_readable()
    }

    /// Whether it could write something now, or end its output.
    pub(super) fn may_write(&self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let writes = !self.outbox.is_empty() && socket.is_writable();
        self.connected && (writes || self.outbox.is_empty() && self.after != After::Nothing)
    }

    /// One call: the result of the attempt, or one read.
    pub(super) fn read(&mut self) {
        let Some(socket) = &self.socket else {
            return;
        };
        if !self.connected {
            let error = socket.take_error().ok().flatten();
            self.connected = socket.peer_addr().is_ok();
            if let Some(error) = error {
                self.end(Ending::Error(error.kind()));
                self.socket = None;
            }
            return;
        }
        let mut buffer = [0; 4096];
        let length = self.wants.unwrap_or(buffer.len()).min(buffer.len());
        let mut stream: &Socket = socket;
        match stream.read(&mut buffer[..length]) {
            Ok(0) => self.end(Ending::Fin),
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                self.tell(&format!("read {count} {}", shown(&buffer[..count])));
                self.wants = self.wants.map(|wants| wants - count);
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => self.end(Ending::Error(error.kind())),
        }
    }

    /// One call: a write, a shutdown or a close.
    pub(super) fn write(&mut self) {
        let Some(mut stream) = self.socket.as_ref() else {
            return;
        };
        if !self.outbox.is_empty() {
            match stream.write(self.outbox.make_contiguous()) {
                Ok(count) => {
                    let bytes: Vec<u8> = self.outbox.drain(..count).collect();
                    self.tell(&format!("wrote {count} {}", shown(&bytes)));
                }
                Err(error) if is_temporary(&error) => {}
                Err(error) => self.end(Ending::Error(error.kind())),
            }
            return;
        }
        match std::mem::replace(&mut self.after, After::Nothing) {
            After::Nothing => {}
            // After a reset there is nothing to end (ENOTCONN).
            After::HalfClose => {
                drop(stream.shutdown_write());
                self.tell("ended its output (FIN)");
            }
            After::Close => {
                self.tell("closes");
                self.socket = None;
            }
        }
    }

    /// What it waits for, in words.
    pub(super) fn describe(&self) -> String {
        let mut words = format!("the peer of {}", self.address);
        match &self.socket {
            None => words.push_str(" is closed"),
            Some(_) if !self.connected => words.push_str(" waits to be connected"),
            Some(_) => {
                if !self.outbox.is_empty() {
                    words.push_str(&format!(" has {} bytes to send", self.outbox.len()));
                }
                match (self.ending, self.wants) {
                    (Some((ending, _)), _) => words.push_str(&format!(" saw {ending:?}")),
                    (None, Some(0)) => words.push_str(" reads nothing"),
                    (None, _) => words.push_str(" waits for input"),
                }
            }
        }
        let received = String::from_utf8_lossy(&self.received);
        let shown: String = received.chars().take(60).collect();
        words.push_str(&format!(
            "; it received {} bytes: {shown:?}",
            self.received.len()
        ));
        words
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The other end of a connection. It acts by itself while the simulation runs: it sends what
/// [`send`](Peer::send) gave it, and reads.
///
/// It reads all that comes, unless [`read`](Peer::read) or [`stop_reading`](Peer::stop_reading) says
/// less. Dropping the handle changes nothing; the peer stays until [`close`](Peer::close) or
/// [`reset`](Peer::reset), or the end of the simulation.
#[derive(Clone)]
pub struct Peer(pub(super) SharedPeer);

impl Peer {
    /// Sends these bytes after those that are not sent yet. How many go at once is the network's choice.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        state.outbox.extend(bytes);
        state.touch();
    }

    /// Ends the output in order, when all is sent (FIN, [shutdown(2)] with `SHUT_WR`).
    ///
    /// [shutdown(2)]: https://man7.org/linux/man-pages/man2/shutdown.2.html
    pub fn half_close(&self) {
        self.end_by(After::HalfClose);
    }

    /// Closes the socket, when all is sent. With unread input that is a reset (RFC 1122, section
    /// 4.2.2.13).
    pub fn close(&self) {
        self.end_by(After::Close);
    }

    /// Resets the connection now. What is not sent is lost, and so may be what is in flight.
    pub fn reset(&self) {
        let mut state = self.0.borrow_mut();
        state.tell("resets");
        state.outbox.clear();
        let socket = state.socket.take();
        if let Some(socket) = &socket {
            socket.reset_on_close();
        }
    }

    /// Reads no more input than it has read by now. So the other side's output stays in the buffers.
    pub fn stop_reading(&self) {
        self.want(Some(0));
    }

    /// Reads this many bytes more, and then nothing.
    pub fn read(&self, count: usize) {
        self.want(Some(count));
    }

    /// Reads all that comes, as it does from the start.
    pub fn read_all(&self) {
        self.want(None);
    }

    fn want(&self, wants: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.wants = wants;
        state.touch();
    }

    fn end_by(&self, after: After) {
        let mut state = self.0.borrow_mut();
        state.after = after;
        state.touch();
    }

    /// Everything that it has read.
    pub fn received(&self) -> Vec<u8> {
        self.0.borrow().received.clone()
    }

    /// True from when the connection is established, even after its end.
    pub fn is_connected(&self) -> bool {
        self.0.borrow().connected
    }

    /// How the input ended, once it has. A peer that reads nothing does not see the end.
    pub fn ending(&self) -> Option<Ending> {
        self.0.borrow().ending.map(|(ending, _)| ending)
    }

    /// When the input ended, since the simulation's start.
    pub fn ended_at(&self) -> Option<Duration> {
        let ending = self.0.borrow().ending;
        ending.map(|(_, at)| at.since(Tick::default()))
    }

    /// Bytes of [`send`](Peer::send) that its socket has not taken yet.
    pub fn unsent(&self) -> usize {
        self.0.borrow().outbox.len()
    }

    /// Its own address; `None` if it has no socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let state = self.0.borrow();
        state
            .socket
            .as_ref()
            .and_then(|socket| socket.local_addr().ok())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.0.borrow().describe())
    }
}

/// A listening socket in a test's hands, for the connections that a reactor makes.
pub struct Listening {
    world: SharedWorld,
    socket: Socket,
    peers: Rc<RefCell<Vec<SharedPeer>>>,
}

impl Listening {
    pub(super) fn new(
        world: &SharedWorld,
        peers: &Rc<RefCell<Vec<SharedPeer>>>,
        address: SocketAddr,
        backlog: u32,
    ) -> io::Result<Listening> {
        let socket = Process::new(world, 1).socket()?;
        socket.set_reuse(Some(true), None);
        socket.bind(address)?;
        socket.listen(backlog)?;
        Ok(Listening {
            world: Rc::clone(world),
            socket,
            peers: Rc::clone(peers),
        })
    }

    /// The first connection of the accept queue, if one waits.
    pub fn accept(&self) -> Option<Peer> {
        let (socket, address) = self.socket.accept().ok()?;
        let index = self.peers.borrow().len();
        let mut state = State::new(Rc::clone(&self.world), index, address);
        socket.watch(index);
        state.socket = Some(socket);
        state.connected = true;
        let peer = Rc::new(RefCell::new(state));
        self.peers.borrow_mut().push(Rc::clone(&peer));
        Some(Peer(peer))
    }

    /// How many connections wait in the accept queue.
    pub fn waiting(&self) -> usize {
        self.socket.accept_queue().depth as usize
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listening({:?})", self.socket.local_addr().ok())
    }
}
