//! Every limit of the reactor, with its unit in its name or its type.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The limits a [`Reactor`](crate::Reactor) keeps to. All of them hold for the whole life of the reactor.
///
/// ```
/// use doorkeeper::Config;
/// use std::time::Duration;
///
/// let mut config = Config::default();
/// config.idle_timeout = Some(Duration::from_secs(60));
/// # assert_eq!(config.max_connections, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// At how many open connections, accepted and outgoing ones together, nothing more is accepted: newcomers stay in the
    /// kernel's waiting room until someone leaves. Outgoing ones are counted but never refused: that the program asks for them
    /// is limit enough. Default 10,000.
    pub max_connections: usize,
    /// How many connections one listener accepts in one turn before the others have theirs. Default 64.
    pub accept_budget: usize,
    /// How many bytes one connection may read, and about how many it may write, in one turn before the others have theirs. A turn
    /// reads once, so no more than [`input_max_bytes`](Config::input_max_bytes) are ever read in it. Default 65,536.
    pub turn_budget_bytes: usize,
    /// How many unconsumed bytes a handler can be offered at once; also the size of the one input scratch buffer. A request
    /// that does not fit can never be seen whole. Default 65,536.
    pub input_max_bytes: usize,
    /// How many unsent bytes a connection may hold; also the size of the one output scratch buffer. While it holds that many,
    /// and its handler leaves input unconsumed, nothing more is read from its peer. Default 65,536.
    pub output_max_bytes: usize,
    /// After how long without a byte in either direction a connection is closed. `None`, the default: never.
    pub idle_timeout: Option<Duration>,
    /// How long an outgoing connection may take to be established, unless its [`ConnectOptions`] say otherwise.
    /// `Duration::MAX` leaves it to the kernel (on Linux about two minutes, [tcp(7)], tcp_syn_retries). Default 30 s.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub connect_timeout: Duration,
    /// How long a finished connection waits for its peer to close too. Default 5 s.
    pub linger_timeout: Duration,
    /// How much input of a finished connection is read and thrown away before it is closed all the same, whereupon the kernel
    /// may reset it. Default 64 MiB.
    pub linger_max_bytes: u64,
    /// How long a callback may hold the loop before a warning in the log names it, with its connection and how many others
    /// waited. `None`, the default: no clock is read for it.
    pub stall_warning: Option<Duration>,
    /// How many bytes of each read and write an observer is shown ([`Reactor::observe`](crate::Reactor::observe)). Default 0.
    pub observed_bytes: usize,
    /// How many readiness events one turn takes from the poller. With thousands of busy connections a small batch is faster: what
    /// is touched when an event is noted is still in the cache when its turn comes. Default 64.
    pub events_per_turn: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_connections: 10_000,
            accept_budget: 64,
            turn_budget_bytes: 64 * 1024,
            input_max_bytes: 64 * 1024,
            output_max_bytes: 64 * 1024,
            idle_timeout: None,
            connect_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(5),
            linger_max_bytes: 64 * 1024 * 1024,
            stall_warning: None,
            observed_bytes: 0,
            events_per_turn: 64,
        }
    }
}

impl Config {
    /// Refuses the values with which nothing could ever move.
    pub(crate) fn check(&self) -> io::Result<()> {
        let counts = [
            ("max_connections", self.max_connections),
            ("accept_budget", self.accept_budget),
            ("turn_budget_bytes", self.turn_budget_bytes),
            ("input_max_bytes", self.input_max_bytes),
            ("output_max_bytes", self.output_max_bytes),
            ("events_per_turn", self.events_per_turn),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(invalid(&format!("{name} is 0; it must be at least 1")));
            }
        }
        if self.connect_timeout.is_zero() {
            return Err(invalid(
                "connect_timeout is 0; it must be longer, or Duration::MAX to leave it to the kernel",
            ));
        }
        if self.idle_timeout == Some(Duration::ZERO) {
            return Err(invalid(
                "idle_timeout is 0; it must be longer, or None for no timeout",
            ));
        }
        Ok(())
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// How one listener listens.
///
/// The defaults suit a server that may be restarted at any time and shares its port with nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The size of the waiting room: how many connection requests the kernel queues before this program has accepted them
    /// ([listen(2)]). Linux clamps it to `net.core.somaxconn` and admits one more than it says. Default 1,024.
    ///
    /// [listen(2)]: https://man7.org/linux/man-pages/man2/listen.2.html
    pub backlog: u32,
    /// `SO_REUSEADDR` ([socket(7)]): bind although connections of an earlier server on this port are in TIME_WAIT. A second
    /// live server is still refused. Default on; left alone on Windows, where it means something else.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub reuse_address: bool,
    /// `SO_REUSEPORT` (socket(7)): several sockets of one user listen on one port, and the kernel spreads the connections over
    /// them. Unix only. Default off.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY` ([ipv6(7)]): an IPv6 listener takes IPv6 connections only, so that `[::]` and `0.0.0.0` can listen on one
    /// port side by side. Without it `[::]` takes IPv4 too, and shows such a peer as the IPv4 address it is. Default on, on
    /// every system; without effect on an IPv4 address.
    ///
    /// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
    pub ipv6_only: bool,
    /// `TCP_NODELAY` ([tcp(7)]) on the accepted connections: a small answer leaves at once. The reactor gathers what one turn
    /// writes, so Nagle's algorithm has nothing to add. Default on.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub no_delay: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 1024,
            reuse_address: true,
            reuse_port: false,
            ipv6_only: true,
            no_delay: true,
        }
    }
}

/// How one outgoing connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// How long it may take; `None`, the default, is [`Config::connect_timeout`].
    pub timeout: Option<Duration>,
    /// The address, and with a port other than 0 the port, that this side is to have ([bind(2)]). `None`, the default, leaves
    /// both to the kernel; so does port 0 for the port alone.
    ///
    /// [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
    pub local: Option<SocketAddr>,
    /// `TCP_NODELAY`, as in [`ListenOptions::no_delay`]. Default on.
    pub no_delay: bool,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            timeout: None,
            local: None,
            no_delay: true,
        }
    }
}
