//! Echo on tokio, one thread, with what doorkeeper has switched on: an idle timeout, and a limit on connections.

use std::io::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const IDLE: Duration = Duration::from_secs(600);
const CONNECTIONS_MAX: usize = 20_000;

async fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let count = timeout(IDLE, stream.read(&mut buffer)).await??;
        if count == 0 {
            return Ok(());
        }
        timeout(IDLE, stream.write_all(&buffer[..count])).await??;
    }
}

async fn serve(address: &str) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it, as on doorkeeper and the yardstick.
    socket.set_nodelay(true)?;
    socket.bind(address.parse().map_err(Error::other)?)?;
    let listener = socket.listen(1024)?;
    println!("listening {}", listener.local_addr()?);
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = limit.clone().acquire_owned().await.expect("never closed");
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _permit = permit;
            echo(stream).await
        });
    }
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_string());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(&address))
}
