//! A peer that does not read closes its window, and the sender's buffer fills.

use crate::setting::Setting;
use check::diag;
use std::io::{ErrorKind, Read, Result, Write};

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;
    let (mut server, mut client) = setting.pair()?;
    client.set_nonblocking(true)?;
    let (port, own) = (setting.port(), client.local_addr()?.port());

    // The client sends. The server does not read.
    let mut sent = 0;
    let chunk = [7; 10_000];
    let error = loop {
        match client.write(&chunk) {
            Ok(count) => sent += count as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let at_the_server = diag::end_of(port, own).map_or(0, |socket| socket.receive_queue);
    let at_the_client = diag::end_of(own, port).map_or(0, |socket| socket.send_queue);
    assert!(at_the_server > 0 && at_the_client > 0);
    // A byte that has arrived and is not acknowledged yet is counted at both.
    assert!(sent <= at_the_server + at_the_client);

    // The server reads on: nothing was lost, and the client can send again.
    let mut read = 0;
    let mut buffer = [0; 65_536];
    while read < sent {
        match server.read(&mut buffer) {
            Ok(count) => {
                assert!(count > 0 && buffer[..count].iter().all(|byte| *byte == 7));
                read += count as u64;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(client.write(&chunk)? > 0);

    Ok(vec![
        "the server does not read: the client sends until EAGAIN".into(),
        "every byte is in the server's Recv-Q or in the client's Send-Q".into(),
        "the server reads: every byte comes, and the client can send again".into(),
    ])
}
