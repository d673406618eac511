//! Two small writes wait for a delayed ACK. One write does not, and neither do two with TCP_NODELAY.

use crate::setting::Setting;
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

/// The pieces in which a request of four bytes is written.
const TWO: [&[u8]; 2] = [b"he", b"ad"];
const ONE: [&[u8]; 1] = [b"head"];

/// mio's sockets do not block.
fn blocking(stream: mio::net::TcpStream) -> Result<TcpStream> {
    let stream = TcpStream::from(OwnedFd::from(stream));
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A request in these pieces, and its answer.
fn ask(client: &mut TcpStream, pieces: &[&[u8]]) -> Result<Duration> {
    let start = Instant::now();
    for piece in pieces {
        client.write_all(piece)?;
    }
    client.read_exact(&mut [0; 4])?;
    Ok(start.elapsed())
}

/// The shortest of some such exchanges. A busy machine makes one longer, and never shorter.
fn shortest(client: &mut TcpStream, pieces: &[&[u8]]) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        shortest = shortest.min(ask(client, pieces)?);
    }
    Ok(shortest)
}

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;
    let mut client = setting.client()?;
    client.set_nodelay(false)?;
    let (server, _) = setting.listener.accept()?;
    let mut server = blocking(server)?;
    // A server that answers each request when it is whole.
    let serving = thread::spawn(move || -> Result<()> {
        let mut request = [0; 4];
        while server.read_exact(&mut request).is_ok() {
            server.write_all(&request)?;
        }
        Ok(())
    });

    // A new connection acknowledges at once. After some exchanges the kernel delays its ACKs: an answer may carry them.
    for _ in 0..20 {
        ask(&mut client, &ONE)?;
    }
    let two = shortest(&mut client, &TWO)?;
    let one = shortest(&mut client, &ONE)?;
    client.set_nodelay(true)?;
    let no_delay = shortest(&mut client, &TWO)?;
    drop(client);
    serving.join().expect("the server does not panic")?;

    assert!(two > Duration::from_millis(20), "two writes: {two:?}");
    assert!(one < two / 4 && no_delay < two / 4, "{one:?}, {no_delay:?}");
    Ok(vec![
        format!(
            "a request in two writes is answered after {} ms",
            two.as_millis()
        ),
        "in one write: in less than a quarter of that".into(),
        "in two writes with TCP_NODELAY: in less than a quarter of that".into(),
    ])
}
