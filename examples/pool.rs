//! A pool of Redis clients that other threads call: `cargo run --example pool [ADDRESS
//! [CONNECTIONS]]`. It reads commands from standard input, one a line, and four threads execute them.
//!
//! It shows calls from other threads, and connecting again. A thread that calls posts its request to
//! the loop, and waits for the reply in a channel of its own. Each connection has its requests in the
//! order of their replies. When it closes, its calls fail, and `on_close` connects again after a
//! pause: 50 ms at first, twice as long after each failure, and at most 5 s.
//!
//! A call is not repeated, because the server may have executed it before the connection closed. Two
//! limits matter: `input_max_bytes` must hold the largest reply, and `output_max_bytes` the requests
//! that wait to be sent; a call beyond it fails.

use doorkeeper::frame::{Decoded, Lines};
use doorkeeper::{Closed, Config, Context, Handle, Handler, Id, Others, Reactor, Reason};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const REPLY_MAX: usize = 16 << 20;
const LINE_MAX: usize = 64 << 10;

/// One connection of the pool.
#[derive(Debug, Default)]
pub struct Slot {
    /// `None` while it is not established.
    pub id: Option<Id>,
    /// The calls whose replies are to come, in their order.
    waiting: VecDeque<Sender<Result<Vec<u8>>>>,
}

/// Only the loop's thread uses the slots. The lock is never waited for; it lets the closures that need
/// the slots move between threads.
pub type Slots = Arc<Mutex<Vec<Slot>>>;

/// The slots, for the loop's thread.
pub fn lock(slots: &Slots) -> MutexGuard<'_, Vec<Slot>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What other threads have.
#[derive(Clone)]
struct Pool {
    handle: Handle,
    slots: Slots,
}

impl Pool {
    /// Sends a request, and waits for its reply, which is returned as it came.
    fn call(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        let (sender, receiver) = channel();
        let slots = Arc::clone(&self.slots);
        let posted = self
            .handle
            .post(move |reactor: &mut Reactor| begin(reactor, &slots, &request, sender));
        posted.map_err(|error| Error::other(error.to_string()))?;
        let reply = receiver.recv_timeout(CALL_TIMEOUT);
        reply.unwrap_or(Err(ErrorKind::TimedOut.into()))
    }
}

/// Gives a request to the connection with the fewest calls.
pub fn begin(
    reactor: &mut Reactor,
    slots: &Slots,
    request: &[u8],
    sender: Sender<Result<Vec<u8>>>,
) {
    let mut slots = lock(slots);
    let open = slots
        .iter_mut()
        .filter_map(|slot| slot.id.map(|id| (id, slot)));
    let refused = match open.min_by_key(|(_, slot)| slot.waiting.len()) {
        Some((id, slot)) if reactor.room(id) >= request.len() => {
            reactor.send(id, request);
            return slot.waiting.push_back(sender);
        }
        Some(_) => "too many requests wait",
        None => "not connected",
    };
    // The thread that called may have stopped waiting.
    let _ = sender.send(Err(Error::other(refused)));
}

struct Client {
    address: SocketAddr,
    slots: Slots,
    index: usize,
    pause: Duration,
}

impl Handler for Client {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.pause = FIRST_PAUSE;
        lock(&self.slots)[self.index].id = Some(cx.id());
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let mut consumed = 0;
        let mut slots = lock(&self.slots);
        while let Some(size) = reply_size(&input[consumed..])? {
            let reply = &input[consumed..consumed + size];
            let sender = slots[self.index].waiting.pop_front();
            let sender = sender.ok_or(Error::other("a reply without a request"))?;
            let _ = sender.send(Ok(reply.to_vec()));
            consumed += size;
        }
        Ok(consumed)
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        for sender in std::mem::take(&mut lock(&self.slots)[self.index]).waiting {
            let _ = sender.send(Err(Error::other(closed.reason.to_string())));
        }
        if closed.reason == Reason::ReactorDropped {
            return;
        }
        let (index, pause) = (self.index, self.pause);
        eprintln!("connection {index}: {}; again in {pause:?}", closed.reason);
        let next = Client {
            address: self.address,
            slots: Arc::clone(&self.slots),
            index,
            pause: (pause * 2).min(LONGEST_PAUSE),
        };
        let again = others.after(pause, move |reactor| next.connect(reactor));
        again.unwrap_or_else(|error| panic!("connection {index} is lost: {error}"));
    }
}

impl Client {
    fn connect(self, reactor: &mut Reactor) {
        // A refused connection is told to `on_close`; this fails only if the loop has no slot.
        let connected = reactor.connect(self.address, self);
        connected.unwrap_or_else(|error| panic!("a connection is lost: {error}"));
    }
}

/// A connection for each slot.
pub fn connect_all(reactor: &mut Reactor, address: SocketAddr, slots: &Slots) {
    let count = lock(slots).len();
    for index in 0..count {
        let client = Client {
            address,
            slots: Arc::clone(slots),
            index,
            pause: FIRST_PAUSE,
        };
        client.connect(reactor);
    }
}

/// The size of the reply at the front of the input, or `None` if it is not whole. A reply is a line; a
/// bulk string has its length there, and an array the number of replies in it.
fn reply_size(input: &[u8]) -> Result<Option<usize>> {
    let (mut size, mut replies) = (0, 1);
    while replies > 0 {
        let rest = input.get(size..).unwrap_or_default();
        let Decoded::Frame {
            payload,
            size: line,
        } = Lines::new(LINE_MAX).decode(rest)?
        else {
            return Ok(None);
        };
        size += line;
        replies -= 1;
        let number: Option<i32> = payload
            .get(1..)
            .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        match (payload.first(), number) {
            (Some(b'+' | b'-' | b':'), _) | (Some(b'$' | b'*'), Some(-1)) => {}
            (Some(b'$'), Some(length @ 0..)) => size += length as usize + 2,
            (Some(b'*'), Some(count @ 0..)) => replies += count,
            _ => return Err(ErrorKind::InvalidData.into()),
        }
        if size > REPLY_MAX {
            return Err(Error::other("a reply is too large"));
        }
    }
    Ok(Some(size).filter(|&size| size <= input.len()))
}

/// Executes the commands that come from the channel, which all threads share.
fn work(pool: &Pool, commands: &Mutex<Receiver<String>>) {
    loop {
        let next = commands.lock().map(|commands| commands.recv());
        let Ok(Ok(command)) = next else {
            return;
        };
        match pool.call(format!("{command}\r\n").into_bytes()) {
            Ok(reply) => println!("{command}: {}", reply.escape_ascii()),
            Err(error) => println!("{command}: error: {error}"),
        }
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:6379".to_string());
    let address = address.parse().map_err(Error::other)?;
    let connections = args.next().unwrap_or("2".to_string());
    let connections: usize = connections.parse().map_err(Error::other)?;
    let mut config = Config::default();
    config.input_max_bytes = REPLY_MAX + LINE_MAX + 2;
    let mut reactor = Reactor::new(config)?;
    let slots = Slots::default();
    lock(&slots).resize_with(connections, Slot::default);
    connect_all(&mut reactor, address, &slots);
    let handle = reactor.handle();
    let pool = Pool {
        handle: handle.clone(),
        slots,
    };
    std::thread::spawn(move || {
        let (sender, receiver) = channel();
        let receiver = Mutex::new(receiver);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| work(&pool, &receiver));
            }
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
            drop(sender); // So the threads end.
        });
        let _ = handle.stop();
    });
    reactor.run()
}
