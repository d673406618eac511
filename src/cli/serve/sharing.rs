//! Which process gets a connection to a port that several share (SO_REUSEPORT).
//!
//! The kernel keeps the listeners of an address in an array: a new one is the last, and the last
//! takes the place of one that closes. Without a program it chooses by a hash of the addresses. A
//! program on the array (SO_ATTACH_REUSEPORT_CBPF, socket(7)) returns the index of the listener, and
//! the hash decides again if there is none of that index. So if the process that begins last
//! attaches a program that returns its own index, all others get no more connections, can serve
//! those in their accept queues, and close without a loss. After that, or if the new process ends
//! first, the index is beyond the end of the array.

use super::super::ports;
use doorkeeper::{Id, Reactor};
use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use std::io;
use std::net::SocketAddr;

/// Beyond the end of every array.
const NONE: u32 = u32::MAX;

/// To be called once the listener listens. If it takes over, all new connections to its address are
/// for it. If not, the hash decides, whatever an earlier process has attached.
pub(super) fn share(
    reactor: &Reactor,
    listener: Id,
    address: SocketAddr,
    takes_over: bool,
) -> io::Result<()> {
    let others = ports::listeners(address)?.saturating_sub(1);
    let own = u32::try_from(others).unwrap_or(NONE);
    let index = if takes_over { own } else { NONE };
    match reactor.socket(listener) {
        Some(socket) if others > 0 => attach(&socket, index),
        _ => Ok(()),
    }
}

fn attach(socket: &impl std::os::fd::AsFd, index: u32) -> io::Result<()> {
    let mut program = [sock_filter {
        code: (BPF_RET | BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: index,
    }];
    let program = sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}
