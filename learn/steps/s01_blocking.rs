//! Step 1: an echo server on blocking calls.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};

/// Sends back everything that comes, until the peer ends its side.
fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        // The program sleeps in this call until bytes come from this peer. It serves no other peer meanwhile.
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    loop {
        let (stream, _peer) = listener.accept()?;
        echo(stream)?;
    }
}
