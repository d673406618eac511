//! When the SYN of a client that meets a full accept queue is sent again.

use super::{listen, socket};
use check::diag;
use std::io::Result;
use std::time::{Duration, Instant};

/// How many are awaited. All of them take two minutes.
const AWAITED: u8 = 3;

pub fn observe() -> Result<Vec<String>> {
    let (_listener, address) = listen(0, 0, |_| Ok(()))?;
    // A backlog of 0 lets one in.
    let first = socket()?;
    first.connect(&address.into())?;
    let client = socket()?;
    client.set_nonblocking(true)?;
    let start = Instant::now();
    // EINPROGRESS.
    let _ = client.connect(&address.into());
    let own = client.local_addr()?.as_socket();
    let own = own.map_or(0, |own| own.port());
    let retries = || diag::end_of(own, address.port()).map_or(0, |socket| socket.retransmits);

    let mut times = Vec::new();
    while times.len() < AWAITED.into() {
        assert!(start.elapsed() < Duration::from_secs(20), "{times:?}");
        if usize::from(retries()) > times.len() {
            times.push(start.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The first comes after 1 s. No pause is shorter than the one before; Linux up to 6.4 doubles it.
    assert!((0.9..1.9).contains(&times[0]), "{times:?}");
    let pauses = [times[0], times[1] - times[0], times[2] - times[1]];
    assert!(
        pauses.is_sorted_by(|one, next| *next > one - 0.3),
        "{pauses:?}"
    );

    let whole: Vec<String> = times.iter().map(|time| format!("{time:.0} s")).collect();
    Ok(vec![
        "the accept queue is full, and one more client connects".into(),
        format!("its SYN is sent again after {}", whole.join(", ")),
    ])
}
