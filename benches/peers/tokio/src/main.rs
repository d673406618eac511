//! Echo on tokio, one thread, as in its tutorial: a task and a buffer for each connection. `peer-tokio ADDRESS [BUFFER_BYTES]`

use std::io::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn serve(address: &str, buffer_bytes: usize) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it, as on doorkeeper and the yardstick.
    socket.set_nodelay(true)?;
    socket.bind(address.parse().map_err(Error::other)?)?;
    let listener = socket.listen(1024)?;
    println!("listening {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream, buffer_bytes));
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:0".to_string());
    let buffer_bytes = args.next().map_or(Ok(4096), |word| word.parse());
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve(&address, buffer_bytes.map_err(Error::other)?))
}
