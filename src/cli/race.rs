//! Connecting to a name with several addresses, after RFC 8305 ("Happy Eyeballs"): an attempt that
//! does not answer delays the next one, but does not prevent it.

use super::Failure;
use doorkeeper::{Context, Id, Others, Reactor};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The Connection Attempt Delay that section 5 of the RFC recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses of both families in turn, beginning with the family that the resolver recommends
/// (section 4).
pub(crate) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let mut second = second.into_iter();
    let mut both = Vec::new();
    for address in first {
        both.push(address);
        both.extend(second.next());
    }
    both.extend(second);
    both
}

#[derive(Debug, Default)]
struct State {
    winner: Cell<Option<usize>>,
    /// The attempts that failed, and why.
    failures: RefCell<Vec<(usize, String)>>,
}

/// An attempt's part in the race, for its handler.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    state: Rc<State>,
    number: usize,
}

impl Lane {
    /// For `on_open`.
    pub(crate) fn opened(&self, cx: &mut Context<'_>) {
        if self.state.winner.get().is_none() {
            self.state.winner.set(Some(self.number));
        }
        cx.others.stop();
    }

    pub(crate) fn has_won(&self) -> bool {
        self.state.winner.get() == Some(self.number)
    }

    /// For `on_close`: if the attempt has not opened, it failed for this reason.
    pub(crate) fn closed(&self, others: &mut Others<'_>, reason: &str) {
        if self.state.winner.get().is_none() {
            let failure = (self.number, reason.to_string());
            self.state.failures.borrow_mut().push(failure);
            others.stop();
        }
    }
}

/// What the race needs of its caller.
pub(crate) trait Racer {
    /// Connects to an address with a handler that reports to the lane.
    fn attempt(&mut self, reactor: &mut Reactor, address: SocketAddr, lane: Lane)
    -> io::Result<Id>;

    /// Runs the loop until it is stopped, or until this time.
    fn run(&mut self, reactor: &mut Reactor, until: Option<Instant>) -> Result<(), Failure>;
}

/// Returns the number of the first address that answered, or why each one failed.
pub(crate) fn race(
    reactor: &mut Reactor,
    addresses: &[SocketAddr],
    racer: &mut impl Racer,
) -> Result<Result<usize, String>, Failure> {
    let state = Rc::<State>::default();
    let mut ids: Vec<Id> = Vec::new();
    let (mut next_at, mut failed_before) = (None, 0);
    loop {
        if let Some(winner) = state.winner.get() {
            let losers = ids.iter().enumerate().filter(|&(lane, _)| lane != winner);
            losers.for_each(|(_, &id)| {
                reactor.abort(id);
            });
            return Ok(Ok(winner));
        }
        let failed = state.failures.borrow().len();
        if failed == addresses.len() {
            return Ok(Err(list(addresses, &state.failures.borrow())));
        }
        let is_due = next_at.is_none_or(|at| Instant::now() >= at) || failed > failed_before;
        if let Some(&address) = addresses.get(ids.len()).filter(|_| is_due) {
            let lane = Lane {
                state: Rc::clone(&state),
                number: ids.len(),
            };
            let id = racer
                .attempt(reactor, address, lane)
                .map_err(|error| cannot_connect(address, &error))?;
            ids.push(id);
            failed_before = failed;
            next_at = Some(Instant::now() + ATTEMPT_DELAY);
        }
        let is_last = ids.len() == addresses.len();
        racer.run(reactor, next_at.filter(|_| !is_last))?;
    }
}

/// The failures in the order of the addresses.
fn list(addresses: &[SocketAddr], failures: &[(usize, String)]) -> String {
    let mut sorted: Vec<_> = failures.iter().collect();
    sorted.sort();
    let lines: Vec<String> = sorted
        .iter()
        .map(|(number, reason)| format!("{}: {reason}", addresses[*number]))
        .collect();
    lines.join("; ")
}

fn cannot_connect(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot connect to {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn the_families_take_turns() {
        let [a, b, c, x, y] = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]
            .map(|address| address.parse().unwrap());
        assert_eq!(interleave(vec![a, b, c, x, y]), [a, x, b, y, c]);
        assert_eq!(interleave(vec![x, y, a]), [x, a, y]);
        assert_eq!(interleave(vec![x, a, b, c]), [x, a, b, c]);
        assert_eq!(interleave(Vec::new()), []);
    }
}
