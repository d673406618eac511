//! A short read has emptied the socket. A later arrival has an event, EAGAIN or not. The end of the stream can come with data.

use crate::setting::{Setting, events};
use rustix::io::ioctl_fionread;
use std::io::{Read, Result, Write};
use std::net::Shutdown;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    setting.watch(&mut server, 0)?;
    let mut buffer = [0; 4096];

    client.write_all(&[0; 64])?;
    let first = setting.next_events()?;
    let short = server.read(&mut buffer)?;
    assert_eq!((short, ioctl_fionread(&server)?), (64, 0));
    // No read has said EAGAIN.
    client.write_all(&[0; 64])?;
    let second = setting.next_events()?;
    assert_eq!(server.read(&mut buffer)?, 64);

    // Data and the end, before anyone waits.
    client.write_all(&[0; 64])?;
    client.shutdown(Shutdown::Write)?;
    let third = setting.next_events()?;
    assert!(third.len() == 1 && third[0].readable && third[0].read_closed);
    assert_eq!(server.read(&mut buffer)?, 64);
    let after = setting.events()?;
    assert_eq!(after.len(), 0);
    assert_eq!(server.read(&mut buffer)?, 0);

    Ok(vec![
        format!(
            "64 bytes arrive: {}; a read of 4096 gives 64, and nothing is left",
            events(&first)
        ),
        format!(
            "64 more arrive, though no read said EAGAIN: {}",
            events(&second)
        ),
        format!(
            "64 bytes and the end arrive together: {}, and it says read-closed",
            events(&third)
        ),
        format!(
            "a read of 4096 gives 64: {} follows; the next read gives 0",
            events(&after)
        ),
    ])
}
