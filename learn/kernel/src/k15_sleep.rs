//! A wait with a time limit never ends early, and costs nothing.

use crate::setting::Setting;
use check::proc;
use rustix::process::getpid;
use std::io::Result;
use std::time::{Duration, Instant};

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let mut events = mio::Events::with_capacity(64);
    let limit = Duration::from_micros(100_500);
    let sleeps = proc::sleeps(getpid());
    let cpu = proc::cpu(getpid());
    let start = Instant::now();
    for _ in 0..5 {
        setting.poll.poll(&mut events, Some(limit))?;
        assert!(events.is_empty());
    }
    let took = start.elapsed();
    let sleeps = proc::sleeps(getpid()) - sleeps;
    let cpu = proc::cpu(getpid()) - cpu;
    assert!(took >= 5 * limit);
    assert!((5..8).contains(&sleeps));
    assert!(cpu <= Duration::from_millis(20));

    Ok(vec![
        "5 waits of 100.5 ms took no less than 502.5 ms: a wait never ends early".into(),
        "the process went to sleep once for each, and used no processor time".into(),
    ])
}
