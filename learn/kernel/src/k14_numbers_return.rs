//! A number is given away again as soon as it is free. An event that was fetched before does not know that.

use crate::setting::{Setting, events};
use std::io::{ErrorKind, Read, Result, Write};
use std::os::fd::AsRawFd;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let (mut first, mut first_client) = setting.pair()?;
    let (mut second, mut second_client) = setting.pair()?;
    setting.watch(&mut first, 0)?;
    setting.watch(&mut second, 1)?;
    first_client.write_all(b"hi")?;
    second_client.write_all(b"hi")?;
    let fetched = setting.next_events()?;
    assert_eq!(fetched.len(), 2);

    // The first event's handler closes connection 1. A newcomer takes its place.
    let descriptor = second.as_raw_fd();
    drop(second);
    let newcomer_client = setting.client()?;
    // The lowest free number: open(2).
    assert_eq!(newcomer_client.as_raw_fd(), descriptor);
    let (mut newcomer, _) = setting.listener.accept()?;
    setting.watch(&mut newcomer, 1)?;

    // The second event says 1, and means another.
    assert_eq!(fetched[1].number, 1);
    let error = newcomer.read(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::WouldBlock));
    let after = setting.events()?;
    assert_eq!(after.len(), 0);

    Ok(vec![
        format!("bytes for 0 and for 1: {}", events(&fetched)),
        "1 is closed: the next socket gets its descriptor, and the next connection gets its name, 1".into(),
        "the event that was fetched for the closed one now names the newcomer, whose read says EAGAIN".into(),
        format!("the kernel reports nothing of the closed one: {}", events(&after)),
    ])
}
