//! Which of several addresses to load.

use super::super::Failure;
use super::super::race::{Lane, Racer, interleave, race};
use super::super::values::resolve_server;
use super::args::Bench;
use doorkeeper::{Closed, Config, ConnectOptions, Context, Handler, Id, Others, Reactor};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time limit for the connection that tests an address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The address to load: the first one that accepts a connection, of those that fit the source
/// addresses. A name such as `localhost` has two addresses, and a server may listen on either. If
/// none accepts one, the load itself says why.
pub(super) fn find_address(options: &Bench) -> Result<SocketAddr, Failure> {
    let mut found = resolve_server(&options.target)?;
    found.retain(|address| {
        let mut sources = options.sources.iter();
        sources.all(|source| source.is_ipv4() == address.is_ipv4())
    });
    let found = interleave(found);
    match found[..] {
        [] => Err(Failure::failed(format_args!(
            "{} has no address that fits --source-addresses",
            options.target
        ))),
        [only] => Ok(only),
        [first, ..] => {
            let mut reactor = Reactor::new(Config::default()).map_err(Failure::start)?;
            let winner = race(&mut reactor, &found, &mut Probes)?;
            Ok(winner.map_or(first, |winner| found[winner]))
        }
    }
}

struct Probes;

impl Racer for Probes {
    fn attempt(
        &mut self,
        reactor: &mut Reactor,
        address: SocketAddr,
        lane: Lane,
    ) -> io::Result<Id> {
        let mut options = ConnectOptions::default();
        options.timeout = Some(PROBE_TIMEOUT);
        reactor.connect_with(address, &options, Probe(lane))
    }

    fn run(&mut self, reactor: &mut Reactor, until: Option<Instant>) -> Result<(), Failure> {
        super::super::observe::run(reactor, &mut None, &[], until)
    }
}

/// A connection that is closed once it is established.
struct Probe(Lane);

impl Handler for Probe {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.opened(cx);
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        self.0.closed(others, &closed.reason.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Id, Instant, Lane, Probes, Racer, Reactor, SocketAddr, io, race};
    use doorkeeper::Config;
    use std::net::TcpListener;
    use std::time::Duration;

    /// The probes, within a time.
    struct Patient(Instant);

    impl Racer for Patient {
        fn attempt(
            &mut self,
            reactor: &mut Reactor,
            address: SocketAddr,
            lane: Lane,
        ) -> io::Result<Id> {
            Probes.attempt(reactor, address, lane)
        }

        fn run(&mut self, reactor: &mut Reactor, until: Option<Instant>) -> Result<(), Failure> {
            if Instant::now() >= self.0 {
                return Err(Failure::failed("the race does not end"));
            }
            Probes.run(reactor, Some(until.unwrap_or(self.0)))
        }
    }

    #[test]
    fn a_probe_that_fails_ends_and_the_next_address_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let mut reactor = Reactor::new(Config::default()).unwrap();
        let mut probe = |addresses: [SocketAddr; 2]| {
            let end = Instant::now() + Duration::from_secs(20);
            race(&mut reactor, &addresses, &mut Patient(end)).unwrap()
        };
        let [one, other] = [(); 2].map(|()| nobody().unwrap());
        assert_eq!(probe([one, listener.local_addr().unwrap()]), Ok(1));
        let failures = format!("{one}: refused; {other}: refused");
        assert_eq!(probe([one, other]), Err(failures));
    }
}
