//! Signals as a watched source of the loop. This takes no thread.
//!
//! The handler of each signal writes a byte into a socket pair of its own (signal-safety(7)), so
//! two deliveries of one signal are two bytes, even if the loop sees both at once; and then a byte
//! into the pair that wakes the loop. The kernel itself keeps only one of a signal that is pending
//! (signal(7)).

use doorkeeper::mio::{Interest, net::UnixStream};
use doorkeeper::{Id, Next, Reactor};
use signal_hook::low_level::pipe;
use std::ffi::c_int;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;

/// Calls `on_signal` when one of these signals has arrived, with the number of deliveries since the
/// last call.
pub(super) fn watch(
    reactor: &mut Reactor,
    signals: &[c_int],
    mut on_signal: impl FnMut(&mut Reactor, c_int, usize) + 'static,
) -> io::Result<()> {
    let (wakes, wake) = UnixStream::pair()?;
    let mut deliveries = Vec::new();
    for &signal in signals {
        let (reader, writer) = UnixStream::pair()?;
        pipe::register(signal, writer)?;
        pipe::register(signal, wake.as_fd().try_clone_to_owned()?)?;
        deliveries.push((signal, reader));
    }
    let on_ready = move |reactor: &mut Reactor, _: Id, wakes: &mut UnixStream| {
        let next = match count(wakes) {
            0 => Next::Wait,
            _ => Next::Again,
        };
        for (signal, reader) in &mut deliveries {
            let count = count(reader);
            if count > 0 {
                on_signal(reactor, *signal, count);
            }
        }
        next
    };
    reactor.watch(wakes, Interest::READABLE, on_ready).map(drop)
}

/// Reads the bytes that handlers wrote: at most one buffer of them in a turn. 0 is WouldBlock,
/// because the writing end stays open.
fn count(reader: &mut UnixStream) -> usize {
    loop {
        match reader.read(&mut [0; 512]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::watch;
    use doorkeeper::{Config, Reactor};
    use signal_hook::consts::{SIGCONT, SIGURG};
    use signal_hook::low_level::raise;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    /// Both signals have no effect without a handler, so that a broken test ends nothing.
    #[test]
    fn deliveries_that_the_loop_sees_at_once_are_counted() {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let record = Rc::clone(&seen);
        watch(&mut reactor, &[SIGURG, SIGCONT], move |_, signal, count| {
            record.borrow_mut().push((signal, count));
        })
        .unwrap();
        for signal in [SIGURG, SIGCONT, SIGURG] {
            raise(signal).unwrap();
        }
        for _ in 0..3 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        seen.borrow_mut().sort();
        let mut wanted = [(SIGURG, 2), (SIGCONT, 1)];
        wanted.sort();
        assert_eq!(*seen.borrow(), wanted);
    }
}
