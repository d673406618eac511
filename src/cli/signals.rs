//! Signals as a watched source of the loop, as an embedder would have them. This takes no thread.

use doorkeeper::mio::Interest;
use doorkeeper::{Id, Next, Reactor};
use signal_hook_mio::v1_0::Signals;
use std::ffi::c_int;
use std::io;

/// Calls `on_signal` with each of these signals that arrives.
pub(super) fn watch(
    reactor: &mut Reactor,
    signals: &[c_int],
    mut on_signal: impl FnMut(&mut Reactor, c_int) + 'static,
) -> io::Result<()> {
    let on_ready = move |reactor: &mut Reactor, _: Id, signals: &mut Signals| {
        signals
            .pending()
            .for_each(|signal| on_signal(reactor, signal));
        Next::Wait
    };
    reactor
        .watch(Signals::new(signals)?, Interest::READABLE, on_ready)
        .map(drop)
}
