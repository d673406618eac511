//! A write takes as many bytes as there is room for. An event says when there is room again, which is not at once.

use crate::setting::{Setting, events};
use mio::{Interest, Token};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Result, Write};

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    // A size that is set does not grow: tcp(7), tcp_wmem.
    SockRef::from(&server).set_send_buffer_size(100_000)?;
    let registry = setting.poll.registry();
    registry.register(&mut server, Token(0), Interest::WRITABLE)?;
    let at_first = setting.next_events()?;
    assert!(at_first[0].writable);

    // 1,000,003 is no multiple of anything that the kernel counts in, so that the last write is a part.
    let message = vec![0; 1_000_003];
    let mut taken = 0;
    let mut parts = 0;
    let error = loop {
        match server.write(&message) {
            Ok(count) => {
                taken += count;
                parts += usize::from(count < message.len());
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(parts > 0);
    let while_full = setting.events()?;
    assert_eq!(while_full.len(), 0);

    client.read_exact(&mut vec![0; 1000])?;
    let after_a_little = setting.events()?;
    assert_eq!(after_a_little.len(), 0);

    client.read_exact(&mut vec![0; taken - 1000])?;
    let after_all = setting.next_events()?;
    assert!(after_all[0].writable);

    Ok(vec![
        format!("a new connection: {}, it is writable", events(&at_first)),
        "writes of 1000003 bytes: at last a part of one is taken, and the next is EAGAIN".into(),
        format!("meanwhile: {}", events(&while_full)),
        format!("the peer reads 1000 bytes: {}", events(&after_a_little)),
        format!("the peer reads all: {}, it is writable", events(&after_all)),
    ])
}
