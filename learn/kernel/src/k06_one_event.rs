//! An edge says that clients have come, not how many, and not that some are still there. A level says that some are there.

use crate::setting::{Setting, events};
use check::diag;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Result;

pub fn observe() -> Result<Vec<String>> {
    let mut setting = Setting::new()?;
    let Setting {
        listener,
        poll: poller,
    } = &mut setting;
    poller
        .registry()
        .register(listener, mio::Token(0), mio::Interest::READABLE)?;

    let _clients = [(); 5].map(|()| setting.client());
    let first = setting.next_events()?;
    assert_eq!(first.len(), 1);

    setting.listener.accept()?;
    let second = setting.events()?;
    assert_eq!(second.len(), 0);
    let queue = diag::listener(setting.port()).map(|socket| socket.receive_queue);
    assert_eq!(queue, Some(4));

    // poll(2) is level-triggered.
    let mut level = [PollFd::new(&setting.listener, PollFlags::IN)];
    let ready = poll(&mut level, Some(&Timespec::default()))?;
    assert_eq!(ready, 1);

    // One more arrives: an edge again.
    let _client = setting.client()?;
    let third = setting.next_events()?;
    assert_eq!(third.len(), 1);

    Ok(vec![
        format!("5 clients connect: {}", events(&first)),
        format!(
            "1 of them is accepted: {}, though 4 are in the accept queue",
            events(&second)
        ),
        "poll(2), which is level-triggered, says that the listener is readable".into(),
        format!("1 more connects: {}", events(&third)),
    ])
}
