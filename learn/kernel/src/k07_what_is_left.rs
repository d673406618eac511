//! Bytes that a read leaves have no event of their own. A reset is reported once.

use crate::setting::{Setting, events};
use rustix::io::ioctl_fionread;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Result, Write};
use std::time::Duration;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    setting.watch(&mut server, 0)?;

    client.write_all(&[0; 20_000])?;
    let first = setting.next_events()?;
    assert_eq!(first.len(), 1);
    let mut buffer = [0; 4096];
    assert_eq!(server.read(&mut buffer)?, 4096);
    let second = setting.events()?;
    assert_eq!(second.len(), 0);
    let left = ioctl_fionread(&server)?;
    assert_eq!(left, 15_904);

    // The peer is gone, with an RST: socket(7), SO_LINGER with a time of 0.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    let third = setting.next_events()?;
    let mut rest = 0;
    let error = loop {
        match server.read(&mut buffer) {
            Ok(count) => rest += count,
            Err(error) => break error,
        }
    };
    assert_eq!((rest, error.kind()), (15_904, ErrorKind::ConnectionReset));
    assert_eq!(server.read(&mut buffer)?, 0);

    Ok(vec![
        format!("20000 bytes arrive: {}", events(&first)),
        format!(
            "4096 of them are read: {}, though {left} are left",
            events(&second)
        ),
        format!("the peer resets the connection: {}", events(&third)),
        format!("read: the {rest} bytes, then ECONNRESET, then 0"),
    ])
}
