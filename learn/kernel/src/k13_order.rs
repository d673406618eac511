//! Events come in the order of their causes. A peer that goes on sending is never drained.

use crate::setting::Setting;
use std::io::{Read, Result, Write};

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let mut pairs = [setting.pair()?, setting.pair()?, setting.pair()?];
    for (number, (server, _)) in pairs.iter_mut().enumerate() {
        setting.watch(server, number)?;
    }
    for number in [2, 0, 1] {
        pairs[number].1.write_all(b"hi")?;
    }
    let order: Vec<usize> = setting
        .next_events()?
        .iter()
        .map(|seen| seen.number)
        .collect();
    assert_eq!(order, [2, 0, 1]);

    // The peer sends 4096 bytes whenever 4096 are read: EAGAIN never comes.
    let (server, client) = &mut pairs[0];
    let mut buffer = [0; 4096];
    assert_eq!(server.read(&mut buffer)?, 2);
    client.write_all(&buffer)?;
    let mut reads = 0;
    while reads < 1000 && server.read(&mut buffer).is_ok() {
        reads += 1;
        client.write_all(&buffer)?;
    }
    assert_eq!(reads, 1000);

    Ok(vec![
        "bytes are sent to connections 2, 0, 1: the events come in the order 2, 0, 1".into(),
        "a peer sends as fast as it is read: 1000 reads, and still no EAGAIN".into(),
    ])
}
