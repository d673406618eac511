//! The limits of `serve` on connections: in all, which it reports, and of one source, which it
//! enforces. It also reports how many connections the loop found too slow.
//!
//! The state is this thread's, not a field of each handler, because a handler without fields takes
//! no memory.

use super::access::Record;
use super::args::Serve;
use doorkeeper::{
    Arrival, Closed, Context, Handle, Handler, Id, MinRate, Others, Reactor, Reason, TimerKey,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The least time between two messages of the same kind.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the first connection of a kind waits to be reported with others.
const GATHER: Duration = Duration::from_millis(100);

/// The timer that reports the limit later, if an earlier message is too recent. No service has this
/// key.
pub(super) const REPORT: TimerKey = TimerKey(u64::MAX);

thread_local! {
    static LIMITS: RefCell<Option<Limits>> = const { RefCell::new(None) };
}

/// What --max-per-source counts as one source: an IPv4 address, or the /64 of an
/// IPv6 address, because a host usually has a whole /64 (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Source {
    /// An IPv4-mapped address (RFC 4291, section 2.5.5.2) is its IPv4 address.
    fn of(peer: SocketAddr) -> Source {
        match peer.ip().to_canonical() {
            IpAddr::V4(address) => Source::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&address.octets()[..8]);
                Source::V6(prefix)
            }
        }
    }
}

/// Connections of a kind that the log counts: those that close together in one line.
#[derive(Default)]
struct Gathered {
    /// Since the last line.
    count: u64,
    reported: Option<Instant>,
}

impl Gathered {
    /// Counts one. Returns when the count is to be reported, if that is not known yet.
    fn add(&mut self) -> Option<Duration> {
        self.count += 1;
        let passed = self.reported.map_or(MESSAGE_INTERVAL, |at| at.elapsed());
        let wait = MESSAGE_INTERVAL.saturating_sub(passed);
        (self.count == 1).then_some(wait.max(GATHER))
    }

    /// The count that is reported now, unless it is 0.
    fn take(&mut self) -> Option<u64> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then(|| {
            self.reported = Some(Instant::now());
            count
        })
    }
}

/// The limits, the connections that they count, and what the log said of them.
pub(super) struct Limits {
    handle: Handle,
    max_connections: usize,
    max_per_source: Option<usize>,
    min_rate: Option<MinRate>,
    open: usize,
    /// Open connections of each source. Empty without a limit.
    sources: HashMap<Source, usize>,
    /// The clients that the proxies name, by connection. Empty without --proxy-protocol.
    clients: HashMap<Id, SocketAddr>,
    /// The limit of all connections is reached, and that is logged: since when.
    full: Option<Instant>,
    /// When that was last logged.
    full_message: Option<Instant>,
    /// Connections that were closed because they were above the limit of their source.
    turned_away: Gathered,
    /// The peer of the last of them.
    last_turned_away: Option<SocketAddr>,
    /// Connections that moved fewer bytes than --min-rate.
    slow: Gathered,
}

/// Sets the limits of this thread's reactor.
pub(super) fn set(reactor: &Reactor, max_connections: usize, options: &Serve) {
    LIMITS.replace(Some(Limits {
        handle: reactor.handle(),
        max_connections,
        max_per_source: options.max_per_source,
        min_rate: options.config.min_rate,
        open: 0,
        sources: HashMap::new(),
        clients: HashMap::new(),
        full: None,
        full_message: None,
        turned_away: Gathered::default(),
        last_turned_away: None,
        slow: Gathered::default(),
    }));
}

pub(super) fn with_limits<T: Default>(work: impl FnOnce(&mut Limits) -> T) -> T {
    LIMITS.with_borrow_mut(|limits| limits.as_mut().map(work).unwrap_or_default())
}

/// The client that a proxy named for this connection.
pub(super) fn client_of(id: Id) -> Option<SocketAddr> {
    with_limits(|limits| limits.clients.get(&id).copied())
}

/// A service that counts its connections and closes those above the limit of their source.
pub(super) fn limited<H: Handler, R: Record>(
    make: impl Fn() -> H,
    record: R,
) -> impl FnMut(&mut Arrival<'_>) -> Option<Limited<H, R>> {
    move |arrival| {
        if !enter_source(&mut arrival.others, arrival.peer) {
            record.turned_away();
            return None;
        }
        with_limits(|limits| limits.enter());
        record.accepted(arrival.id);
        Some(Limited {
            handler: make(),
            record: record.clone(),
        })
    }
}

impl Limits {
    /// Counts a connection.
    pub(super) fn enter(&mut self) {
        self.open += 1;
    }

    /// Counts a connection of a source. False if it is one too many.
    pub(super) fn enter_source(&mut self, peer: SocketAddr) -> bool {
        if let Some(max) = self.max_per_source {
            let count = self.sources.entry(Source::of(peer)).or_default();
            if *count >= max {
                self.last_turned_away = Some(peer);
                return false;
            }
            *count += 1;
        }
        true
    }

    /// Reports the connections that were closed because their source has its share, if there are any.
    pub(super) fn report_turned_away(&mut self) {
        let (peer, max) = (self.last_turned_away, self.max_per_source);
        if let (Some(count), Some(peer), Some(max)) = (self.turned_away.take(), peer, max) {
            log::warn!(
                "{} had {max} connections open, the limit of one source: {count} closed since the last message",
                peer.ip().to_canonical(),
            );
        }
    }

    pub(super) fn leave_source(&mut self, peer: SocketAddr) {
        if self.max_per_source.is_some() {
            let source = Source::of(peer);
            if let Some(count) = self.sources.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.sources.remove(&source);
                }
            }
        }
    }

    pub(super) fn set_client(&mut self, id: Id, client: SocketAddr) {
        self.clients.insert(id, client);
    }

    pub(super) fn remove_client(&mut self, id: Id) -> Option<SocketAddr> {
        self.clients.remove(&id)
    }

    pub(super) fn leave(&mut self) {
        self.open -= 1;
        // A tenth below the limit, so that a loop that closes one and accepts the next is not
        // reported each time.
        let threshold = self.max_connections - (self.max_connections / 10).max(1);
        if self.open <= threshold {
            if let Some(since) = self.full.take() {
                log::info!(
                    "below the limit again: {} of {} connections are open, after {:.1} s at the limit",
                    self.open,
                    self.max_connections,
                    since.elapsed().as_secs_f64()
                );
            }
        }
    }

    /// Reports the connections that were too slow since the last message, if there are any.
    pub(super) fn report_slow(&mut self) {
        if let (Some(count), Some(rate)) = (self.slow.take(), self.min_rate) {
            let MinRate { bytes, span } = rate;
            log::warn!(
                "connections that moved fewer than {bytes} bytes in {span:?} and were reset since the last message: {count}"
            );
        }
    }

    /// Reports that the limit is reached. Returns when to try again, if an earlier message is too
    /// recent.
    fn report_full(&mut self) -> Option<Duration> {
        if self.open < self.max_connections || self.full.is_some() {
            return None;
        }
        if !is_due(self.full_message) {
            let passed = self.full_message.map_or(Duration::ZERO, |at| at.elapsed());
            return Some(MESSAGE_INTERVAL.saturating_sub(passed));
        }
        let now = Instant::now();
        (self.full, self.full_message) = (Some(now), Some(now));
        let (open, max) = (self.open, self.max_connections);
        // Only the reactor can look at the accept queues.
        let _ = self.handle.post(move |reactor: &mut Reactor| {
            let queues = reactor.snapshot().listeners;
            let queued: u32 = queues
                .iter()
                .filter_map(|listener| listener.accept_queue)
                .map(|queue| queue.depth)
                .sum();
            log::warn!(
                "at the limit of --max-connections: {open} of {max} connections are open, and {queued} wait in the accept queues"
            );
        });
        None
    }
}

fn is_due(last: Option<Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= MESSAGE_INTERVAL)
}

/// Counts a connection of a source. False if it is one too many, which is reported, together with others
/// that come at about the same time.
pub(super) fn enter_source(others: &mut Others<'_>, peer: SocketAddr) -> bool {
    let enters = with_limits(|limits| limits.enter_source(peer));
    if !enters {
        if let Some(wait) = with_limits(|limits| limits.turned_away.add()) {
            let _ = others.after(wait, |_| with_limits(Limits::report_turned_away));
        }
    }
    enters
}

/// A connection has closed: if it was too slow, that is reported, together with those that close at
/// about the same time.
pub(super) fn note_slow(others: &mut Others<'_>, closed: &Closed) {
    if closed.reason != Reason::TooSlow {
        return;
    }
    if let Some(wait) = with_limits(|limits| limits.slow.add()) {
        // Without the timer, `serve` reports them at its end.
        let _ = others.after(wait, |_| with_limits(Limits::report_slow));
    }
}

/// A service's handler, counted and recorded.
#[derive(Debug)]
pub(super) struct Limited<H, R> {
    handler: H,
    record: R,
}

/// Reports that the limit of all connections is reached, now or later.
pub(super) fn report_full(cx: &mut Context<'_>) {
    if let Some(later) = with_limits(Limits::report_full) {
        cx.set_timer(REPORT, later);
    }
}

impl<H: Handler, R: Record> Handler for Limited<H, R> {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        report_full(cx);
        self.handler.on_open(cx)
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.handler.on_data(cx, input)
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.handler.on_drain(cx)
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.handler.on_wake(cx)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.handler.on_eof(cx)
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.handler.on_shutdown(cx)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: TimerKey) -> io::Result<()> {
        if key == REPORT {
            report_full(cx);
            return Ok(());
        }
        self.handler.on_timer(cx, key)
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        with_limits(|limits| {
            limits.leave_source(closed.peer);
            limits.leave();
        });
        note_slow(others, closed);
        self.record.closed(closed.peer, closed);
        self.handler.on_close(others, closed);
    }
}

#[cfg(test)]
mod tests {
    use super::{GATHER, Gathered, MESSAGE_INTERVAL, Source};
    use std::time::{Duration, Instant};

    #[test]
    fn those_that_close_together_are_in_one_line_and_lines_are_five_seconds_apart() {
        let mut gathered = Gathered::default();
        assert_eq!([gathered.add(), gathered.add()], [Some(GATHER), None]);
        assert_eq!([gathered.take(), gathered.take()], [Some(2), None]);
        // As if no time passed since then.
        gathered.reported = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(gathered.add(), Some(MESSAGE_INTERVAL));
        assert_eq!(gathered.take(), Some(1));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |address: &str| Source::of(format!("{address}:7").parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("[::ffff:192.0.2.1]"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("[2001:db8::1]"), of("[2001:db8::ffff:ffff:ffff:ffff]"));
        assert_ne!(of("[2001:db8::1]"), of("[2001:db8:0:1::1]"));
    }
}
