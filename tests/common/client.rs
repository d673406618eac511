//! Plain blocking sockets for the other end of a connection.

use super::PATIENCE;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Connects, with time limits on every call.
pub fn client(address: SocketAddr) -> TcpStream {
    limited(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
}

/// The stream with time limits on every call.
pub fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A blocking listener on a free port of loopback, and its address.
pub fn blocking_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address of loopback at which nothing listens.
pub fn refusing_address() -> SocketAddr {
    blocking_listener().1
}

/// Sends the bytes, and reads as many back.
pub fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    read_exactly(stream, bytes.len())
}

/// Reads `count` bytes.
pub fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut answer = vec![0; count];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Reads to the end of the stream.
pub fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map(|_| answer)
}

/// Closes the connection with a reset, as SO_LINGER of 0 does.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Sends `block` again and again until the peer's and the own kernel buffers are full: nothing has
/// been taken for 100 ms. Returns how many bytes were taken. The stream is nonblocking afterwards.
pub fn send_until_full(stream: &mut TcpStream, block: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match stream.write(&block[sent % block.len()..]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}
