//! `--min-rate`: connections that move too few bytes are reset.

use crate::cli::Failure;
use crate::cli::values::duration;
use doorkeeper::{Id, Reactor};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// The least number of bytes, in both directions together, that a connection moves in each span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    bytes: u64,
    span: Duration,
}

impl Rate {
    /// `BYTES/DUR`, as in `1000/10s`.
    pub(super) fn parse(word: &str) -> Result<Rate, Failure> {
        let wrong = || {
            Failure::usage(format_args!(
                "--min-rate {word}: must be BYTES/DUR, both above 0, as in 1000/10s"
            ))
        };
        let (bytes, span) = word.split_once('/').ok_or_else(wrong)?;
        let (bytes, span) = (bytes.parse().ok(), duration(span, "--min-rate")?);
        let bytes = bytes.filter(|&bytes| bytes > 0 && !span.is_zero());
        let bytes = bytes.ok_or_else(wrong)?;
        Ok(Rate { bytes, span })
    }

    /// Looks at all connections once in each span.
    pub(super) fn enforce(
        self,
        reactor: &mut Reactor,
        before: BTreeMap<Id, u64>,
    ) -> io::Result<()> {
        let look = move |reactor: &mut Reactor| {
            let now = self.look(reactor, &before);
            if let Err(error) = self.enforce(reactor, now) {
                log::warn!("--min-rate is not enforced any more: {error}");
            }
        };
        reactor.after(self.span, look).map(drop)
    }

    /// Resets the connections that moved too few bytes since they were looked at before. Returns what
    /// each of the others moved.
    fn look(self, reactor: &mut Reactor, before: &BTreeMap<Id, u64>) -> BTreeMap<Id, u64> {
        let (mut now, mut slow) = (BTreeMap::new(), 0);
        for view in reactor.snapshot().connections {
            let moved = view.received + view.sent;
            // One that was not there before has not had a whole span yet.
            let is_slow = before
                .get(&view.id)
                .is_some_and(|&then| moved - then < self.bytes);
            if is_slow && reactor.abort(view.id) {
                slow += 1;
            } else {
                now.insert(view.id, moved);
            }
        }
        if slow > 0 {
            let Rate { bytes, span } = self;
            log::warn!(
                "{slow} connections moved fewer than {bytes} bytes in {span:?} and were reset"
            );
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use doorkeeper::services::Discard;
    use doorkeeper::{Arrival, Config, Reactor};
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    #[test]
    fn a_connection_that_moved_a_byte_too_few_since_the_last_look_is_reset() {
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        let service = |_: &mut Arrival<'_>| Some(Discard);
        let listener = reactor.listen(any, service).unwrap();
        let address = reactor.local_addr(listener).unwrap();
        let mut streams = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let mut send = |reactor: &mut Reactor, counts: [usize; 2]| {
            let wanted = reactor.stats().bytes_received + (counts[0] + counts[1]) as u64;
            for (stream, count) in streams.iter_mut().zip(counts) {
                stream.write_all(&vec![b'x'; count]).unwrap();
            }
            let begin = Instant::now();
            while reactor.stats().bytes_received < wanted || reactor.stats().open < 2 {
                assert!(begin.elapsed() < Duration::from_secs(10));
                reactor.turn(Some(Duration::from_millis(1))).unwrap();
            }
        };
        let rate = Rate {
            bytes: 100,
            span: Duration::from_secs(1),
        };
        send(&mut reactor, [7, 7]);
        let first = rate.look(&mut reactor, &BTreeMap::new());
        assert_eq!(first.values().collect::<Vec<_>>(), [&7, &7]);
        send(&mut reactor, [100, 99]);
        let second = rate.look(&mut reactor, &first);
        assert_eq!(second.values().collect::<Vec<_>>(), [&107]);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(reactor.stats().open, 1);
    }
}
