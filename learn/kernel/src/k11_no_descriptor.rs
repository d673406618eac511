//! Without a free descriptor a client stays in the accept queue. Its event is spent, and a free descriptor has none.

use crate::setting::{Setting, events};
use check::proc;
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use std::fs::File;
use std::io::Result;

const EMFILE: i32 = 24;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let Setting { listener, poll } = &mut setting;
    poll.registry()
        .register(listener, mio::Token(0), mio::Interest::READABLE)?;

    let client = setting.client()?;
    // One descriptor is left: the one by which /proc/self/fd is listed here. A file takes it.
    let limit = proc::limit_for(getpid(), 0);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: limit,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)?;
    let file = File::open("/dev/null")?;

    let seen = setting.next_events()?;
    let error = setting
        .listener
        .accept()
        .map(drop)
        .map_err(|error| error.raw_os_error());
    assert_eq!(error, Err(Some(EMFILE)));
    let again = setting.events()?;
    assert_eq!(again.len(), 0);

    drop(file);
    let freed = setting.events()?;
    assert_eq!(freed.len(), 0);
    let (_, peer) = setting.listener.accept()?;
    assert_eq!(peer, client.local_addr()?);
    Ok(vec![
        format!("a client connects: {}; accept: EMFILE", events(&seen)),
        format!("nothing else happens: {}", events(&again)),
        format!(
            "a descriptor is free again: {}; but accept gives the client",
            events(&freed)
        ),
    ])
}
