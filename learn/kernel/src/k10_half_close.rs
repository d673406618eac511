//! The end of one direction is not the end of the other. A close that leaves input unread is a reset.

use crate::setting::{Setting, events};
use std::io::{ErrorKind, Read, Result, Write};
use std::net::Shutdown;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    setting.watch(&mut server, 0)?;

    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let seen = setting.next_events()?;
    assert!(seen[0].readable && seen[0].read_closed);
    let mut buffer = [0; 100];
    assert_eq!(server.read(&mut buffer)?, 8);
    assert_eq!(server.read(&mut buffer)?, 0);
    server.write_all(b"answer")?;
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, "answer");

    // The same, but the server closes before it has read.
    let (mut server, mut client) = setting.pair()?;
    client.write_all(b"question")?;
    server.write_all(b"answer")?;
    drop(server);
    let error = client
        .read_to_string(&mut answer)
        .map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::ConnectionReset));

    Ok(vec![
        format!(
            "the peer sends 8 bytes and ends its side: {}, readable and read-closed",
            events(&seen)
        ),
        "read: 8 bytes, then 0; write and close: the peer reads the whole answer, then the end"
            .into(),
        "close with 8 bytes unread: the peer reads ECONNRESET".into(),
    ])
}
