//! A client is connected before it is accepted. A poller names the socket that is ready.

use crate::setting::{Setting, events};
use check::diag;
use std::io::{Result, Write};

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;

    // The server has called listen, and nothing since.
    let mut early = setting.client()?;
    early.write_all(b"hi")?;
    let queue = diag::listener(setting.port()).map(|socket| socket.receive_queue);
    assert_eq!(queue, Some(1));
    let own = early.local_addr()?.port();
    let unread = diag::end_of(setting.port(), own).map(|socket| socket.receive_queue);
    assert_eq!(unread, Some(2));
    setting.listener.accept()?;

    // Three connections. One of them has something to read.
    let mut pairs = [setting.pair()?, setting.pair()?, setting.pair()?];
    for (number, (server, _)) in pairs.iter_mut().enumerate() {
        setting.watch(server, number)?;
    }
    pairs[1].1.write_all(b"hi")?;
    let seen = setting.next_events()?;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].number, 1);

    Ok(vec![
        "before accept: 1 client is in the accept queue, and its 2 bytes are in its Recv-Q".into(),
        format!(
            "connection 1 of 0, 1, 2 is sent something: {}, for connection 1",
            events(&seen)
        ),
    ])
}
