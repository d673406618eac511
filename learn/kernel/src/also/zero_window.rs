//! A peer that does not read closes its window. A few bytes that it reads open neither the window nor the sender's buffer.

use super::epoll::Watch;
use crate::setting::Setting;
use check::diag;
use rustix::event::epoll::EventFlags;
use std::io::{ErrorKind, Read, Result, Write};
use std::time::{Duration, Instant};

/// `idiag_timer` of a socket that probes a closed window: include/uapi/linux/inet_diag.h does not name it, ss(8) says "persist".
const PERSIST: u8 = 4;

/// How much is read first, and how much at once after that.
const LITTLE: usize = 4096;
const PIECE: usize = 65_536;

/// How long an event is awaited that need not come. On the loopback it is there when read returns.
const SHORT: Duration = Duration::from_millis(3);

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    let (port, own) = (setting.port(), client.local_addr()?.port());

    // The server sends until its kernel takes no more. The client does not read.
    let mut sent = 0;
    let chunk = [7; 65_536];
    let error = loop {
        match server.write(&chunk) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let start = Instant::now();
    let timer = || diag::end_of(port, own).map_or(0, |socket| socket.timer);
    while timer() != PERSIST {
        assert!(start.elapsed() < Duration::from_secs(10), "no probe");
    }

    // The client reads a little, and then more, until the server can write again.
    let watch = Watch::new(&server, EventFlags::OUT)?;
    client.read_exact(&mut [0; LITTLE])?;
    let mut read = LITTLE;
    let early = watch.wait(10 * SHORT)?;
    assert!(early.is_empty(), "{early:?} after {LITTLE} bytes");
    while !watch.wait(SHORT)?.contains(EventFlags::OUT) {
        assert!(read < sent, "all is read, and nothing can be written");
        let piece = PIECE.min(sent - read);
        client.read_exact(&mut vec![0; piece])?;
        read += piece;
    }
    let waiting = diag::end_of(port, own).map_or(0, |socket| socket.send_queue);
    assert!(waiting > 0, "the buffer need not be empty");

    Ok(vec![
        "the peer does not read: write() = EAGAIN, and the kernel probes the closed window".into(),
        format!("the peer has read {LITTLE} bytes: no EPOLLOUT"),
        format!("the peer has read {read} of {sent} bytes: EPOLLOUT; {waiting} bytes still wait"),
    ])
}
