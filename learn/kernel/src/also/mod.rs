//! The observations of the pages in also/.

mod epoll;
pub mod fin_and_reset;
pub mod herd;
pub mod nagle;
pub mod ready_of_n;
pub mod reset_in_queue;
pub mod reuse_port;
pub mod syn_retries;
pub mod time_wait;
pub mod zero_window;

use socket2::{Domain, Socket, Type};
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, None)
}

/// A listener on 127.0.0.1 with these options, and its address. std's own sets SO_REUSEADDR.
fn listen(
    port: u16,
    backlog: i32,
    prepare: impl FnOnce(&Socket) -> Result<()>,
) -> Result<(TcpListener, SocketAddr)> {
    let socket = socket()?;
    prepare(&socket)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(backlog)?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or(Error::other("no address"))?;
    Ok((socket.into(), address))
}
