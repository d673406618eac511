//! Echo on tokio, one thread, with what doorkeeper has switched on: an idle timeout, and a limit on connections.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const IDLE: Duration = Duration::from_secs(600);

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        let count = timeout(IDLE, stream.read(&mut buffer)).await??;
        if count == 0 {
            return Ok(());
        }
        timeout(IDLE, stream.write_all(&buffer[..count])).await??;
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_string());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind(address).await?;
            println!("listening {}", listener.local_addr()?);
            let house = Arc::new(Semaphore::new(20_000));
            loop {
                let place = house.clone().acquire_owned().await.expect("never closed");
                let (stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let _place = place;
                    echo(stream).await
                });
            }
        })
}
