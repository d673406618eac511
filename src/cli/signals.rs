//! Signals, as any embedder would watch them: a queue of signals is a source like any other, so this takes no thread.

use doorkeeper::mio::Interest;
use doorkeeper::{Id, Next, Reactor};
use signal_hook_mio::v1_0::Signals;
use std::ffi::c_int;
use std::io;

/// Calls `heed` with each of these signals that comes.
pub(super) fn watch(
    reactor: &mut Reactor,
    which: &[c_int],
    mut heed: impl FnMut(&mut Reactor, c_int) + 'static,
) -> io::Result<()> {
    let look = move |reactor: &mut Reactor, _: Id, signals: &mut Signals| {
        signals.pending().for_each(|signal| heed(reactor, signal));
        Next::Wait
    };
    reactor
        .watch(Signals::new(which)?, Interest::READABLE, look)
        .map(drop)
}
