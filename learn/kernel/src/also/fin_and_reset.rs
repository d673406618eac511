//! What epoll reports of a FIN and of a RST, and what the next read returns.

use super::epoll::{Watch, names};
use crate::setting::Setting;
use rustix::event::epoll::EventFlags;
use socket2::SockRef;
use std::io::{Read, Result};
use std::net::Shutdown;
use std::time::Duration;

/// Everything that can be asked for. EPOLLERR and EPOLLHUP are reported unasked.
const ASKED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP);

fn result(read: Result<usize>) -> String {
    match read {
        Ok(count) => format!("read() = {count}"),
        Err(error) => format!("read(): {:?}", error.kind()),
    }
}

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;

    // The peer ends its side.
    let (mut server, client) = setting.pair()?;
    let watch = Watch::new(&server, ASKED)?;
    client.shutdown(Shutdown::Write)?;
    let half = watch.until(EventFlags::RDHUP)?;
    let half_read = result(server.read(&mut [0; 10]));
    assert_eq!(half, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP);
    assert_eq!(half_read, "read() = 0");

    // Then this side ends too.
    server.shutdown(Shutdown::Write)?;
    let both = watch.until(EventFlags::HUP)?;
    assert!(both.contains(EventFlags::HUP) && !both.contains(EventFlags::ERR));

    // Another peer resets.
    let (mut server, client) = setting.pair()?;
    let watch = Watch::new(&server, ASKED)?;
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    let reset = watch.until(EventFlags::HUP)?;
    let reset_read = result(server.read(&mut [0; 10]));
    assert!(reset.contains(EventFlags::ERR | EventFlags::HUP | EventFlags::IN));
    assert_eq!(reset_read, "read(): ConnectionReset");
    let again = result(server.read(&mut [0; 10]));
    assert_eq!(again, "read() = 0");

    Ok(vec![
        format!("FIN: {}; {half_read}", names(half)),
        format!("FIN both ways: {}", names(both)),
        format!("RST: {}; {reset_read}, and then {again}", names(reset)),
    ])
}
