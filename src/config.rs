//! Every limit of the reactor. The unit is in the name or in the type.

use crate::errno::failure;
use crate::id::Id;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// The limits of a [`Reactor`](crate::Reactor). They hold for the whole life of the reactor.
///
/// `Reactor::new` refuses a limit beyond its bounds with `InvalidInput`. A limit may not be 0, except
/// where 0 is listed as allowed. A time may be `Duration::MAX`: it then never passes.
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
    /// The number of open connections, accepted and outgoing together, at which listeners stop
    /// accepting. New clients then stay in the kernel's accept queue until a connection closes.
    /// Outgoing connections count, but none is refused: the program itself decides how many it asks
    /// for. At most 2³² − 1 (2¹⁶ − 1 where a `usize` has 32 bits), the number of sources that an
    /// [`Id`](crate::Id) can name. Default 10,000.
    pub max_connections: usize,
    /// The number of connections that one listener accepts in one turn. At this number the listener
    /// is queued again, behind all other sources. The same bound. Default 64.
    pub accept_budget: usize,
    /// The number of bytes that one connection reads in one turn. A turn reads once, so it reads at
    /// most the smaller of this and [`input_max_bytes`](Config::input_max_bytes). A turn also sends
    /// once, at most [`output_max_bytes`](Config::output_max_bytes); if it sends this many bytes or
    /// more, [`on_drain`](crate::Handler::on_drain) is called in the next turn. At most
    /// 2,147,479,552, which is all that one call moves on Linux (read(2)). Default 65,536.
    pub turn_budget_bytes: usize,
    /// The number of unconsumed input bytes that a connection keeps, and therefore the longest
    /// input that one [`on_data`](crate::Handler::on_data) is offered. A request that is longer
    /// never arrives whole. While this many bytes are unconsumed, the connection is not read.
    /// At most `isize::MAX`, which is all that a `Vec` holds. Default 65,536.
    pub input_max_bytes: usize,
    /// The number of unsent output bytes that a connection keeps.
    /// [`Context::write`](crate::Context::write) takes no more than that. While the output is full
    /// and the handler leaves input unconsumed, the connection is not read; nor while there is more
    /// output than that ([`Context::write_all`](crate::Context::write_all)). The same bound. Default
    /// 65,536.
    pub output_max_bytes: usize,
    /// The number of unsent output bytes beyond which [`Context::write_all`](crate::Context::write_all)
    /// fails, and ends the connection. If [`output_max_bytes`](Config::output_max_bytes) is more, that
    /// counts. The same bound. Default 16 MiB.
    pub output_hard_max_bytes: usize,
    /// A connection closes with [`Reason::IdleTimeout`](crate::Reason::IdleTimeout) after this time
    /// without a byte in either direction. `None`, the default, means never.
    pub idle_timeout: Option<Duration>,
    /// The time that an outgoing connection may take to be established, unless its
    /// [`ConnectOptions`] set another. When it is over, the connection closes with
    /// [`Reason::TimedOut`](crate::Reason::TimedOut). `Duration::MAX` leaves the limit to the
    /// kernel (on Linux about two minutes: [tcp(7)], `tcp_syn_retries`). Default 30 s.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub connect_timeout: Duration,
    /// The time that a finished connection waits for the peer's end after its own FIN, while the peer
    /// takes nothing. When it is over, the kernel is asked how much output it still holds. If there is
    /// some, and less than the last time, the peer is slow, and the time begins again. It also begins
    /// again once if there is no last time. Otherwise the connection closes with
    /// [`Reason::LingerTimeout`](crate::Reason::LingerTimeout). So a peer that takes a byte each time is
    /// waited for until it has all that the kernel holds, which is up to 4 MiB by default (`tcp_wmem`,
    /// [tcp(7)]).
    ///
    /// Only Linux tells. On other systems, or if sock_diag(7) is not allowed, the time counts from the
    /// FIN, and should be as long as a slow peer takes to read what the kernel holds. With 0, which is
    /// allowed, the kernel is not asked either. Default 5 s.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub linger_timeout: Duration,
    /// The number of input bytes that a finished connection reads and discards. Beyond it, the
    /// connection closes with [`Reason::LingerLimit`](crate::Reason::LingerLimit), and the kernel
    /// may then reset it because input is unread (RFC 1122, 4.2.2.13). 0 is allowed. Default 64
    /// MiB.
    pub linger_max_bytes: u64,
    /// A finished connection closes as soon as the kernel has all of its output and no input is known
    /// to be unread, with [`Reason::Finished`](crate::Reason::Finished). It does not wait for the peer's
    /// end, which saves a system call and a turn for a server that closes after each answer.
    ///
    /// The risk ([RFC 9112, section 9.6]): if the peer sends anything later, the kernel answers with a
    /// reset, and that can destroy the part of the answer that the peer has not read. So it is for peers
    /// that send one request and then only read. Default off.
    ///
    /// [RFC 9112, section 9.6]: https://www.rfc-editor.org/rfc/rfc9112.html#section-9.6
    pub close_when_sent: bool,
    /// A connection is reset with [`Reason::LifetimeOver`](crate::Reason::LifetimeOver) this time after
    /// it was established, whatever it does. A reset, because a connection that ends in order takes as
    /// long as its peer likes. `None`, the default, means never.
    pub max_lifetime: Option<Duration>,
    /// A connection is reset with [`Reason::TooSlow`](crate::Reason::TooSlow) if it moves fewer bytes
    /// than this. The idle timeout does not end a connection whose peer sends or takes a byte at a time;
    /// this does. It costs 24 bytes for each slot of the reactor. `None`, the default, means no such
    /// limit.
    pub min_rate: Option<MinRate>,
    /// A callback that takes longer than this is logged as a warning, with its connection and the
    /// number of other sources that waited. The clock is read twice a callback for it. `None`, the
    /// default, reads no clock.
    pub stall_warning: Option<Duration>,
    /// The number of bytes of each read and write that an observer is shown
    /// ([`Reactor::observe`](crate::Reactor::observe)). At most
    /// 2,147,479,552. Default 0: none.
    pub observed_bytes: usize,
    /// The number of readiness events that one turn takes from the poller. With thousands of busy
    /// connections a small batch is faster, because the memory touched when an event is enqueued is
    /// still in the processor's cache when its source is driven. At most 134,217,727, because
    /// epoll_wait(2) takes no more. Default 64.
    pub events_per_turn: usize,
    /// The number of timers of one connection that are called in one of its turns, and the number of
    /// deadlines that pass in one turn of the loop: those of connections, and of
    /// [`Reactor::after`](crate::Reactor::after). The others have the next turns, and the loop does
    /// not sleep before. At most 2³² − 1 (2¹⁶ − 1 where a `usize` has 32 bits). Default 64.
    pub timers_per_turn: usize,
    /// The number of posted closures that one turn runs ([`Handle::post`](crate::Handle::post)). The
    /// others run in the next turns, and the loop does not sleep before. The same bound as for
    /// [`posts_max`](Config::posts_max). Default 1,024.
    pub posts_per_turn: usize,
    /// The number of posted closures that wait for the loop. Beyond it,
    /// [`Handle::post`](crate::Handle::post) hands the closure back. At most `isize::MAX` / 16, which
    /// is all that a `Vec` of boxed closures holds (`isize::MAX` / 8 where a `usize` has 32 bits).
    /// Default 65,536.
    pub posts_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_connections: 10_000,
            accept_budget: 64,
            turn_budget_bytes: 64 * 1024,
            input_max_bytes: 64 * 1024,
            output_max_bytes: 64 * 1024,
            output_hard_max_bytes: 16 * 1024 * 1024,
            idle_timeout: None,
            connect_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(5),
            linger_max_bytes: 64 * 1024 * 1024,
            close_when_sent: false,
            max_lifetime: None,
            min_rate: None,
            stall_warning: None,
            observed_bytes: 0,
            events_per_turn: 64,
            timers_per_turn: 64,
            posts_per_turn: 1024,
            posts_max: 64 * 1024,
        }
    }
}

/// The most bytes that one call moves: read(2) and write(2), "NOTES", of Linux.
const MOST_MOVED: usize = 0x7fff_f000;
/// The most bytes that a `Vec` holds.
const MOST_HELD: usize = isize::MAX as usize;
/// epoll_wait(2) takes INT_MAX / sizeof(struct epoll_event), which is 12 or 16 bytes.
const MOST_EVENTS: usize = i32::MAX as usize / 16;

/// The most boxed closures that a `Vec` holds: each is two pointers.
const MOST_POSTS: usize = MOST_HELD / (2 * size_of::<usize>());

impl Config {
    /// Checks each limit against its bounds, as [`Reactor::new`](crate::Reactor::new) does.
    ///
    /// # Errors
    /// `InvalidInput`, which names the limit, its value and its bounds.
    pub fn check(&self) -> io::Result<()> {
        for (name, value, least, most) in [
            ("max_connections", self.max_connections, 1, Id::SLOTS),
            ("accept_budget", self.accept_budget, 1, Id::SLOTS),
            ("turn_budget_bytes", self.turn_budget_bytes, 1, MOST_MOVED),
            ("input_max_bytes", self.input_max_bytes, 1, MOST_HELD),
            ("output_max_bytes", self.output_max_bytes, 1, MOST_HELD),
            (
                "output_hard_max_bytes",
                self.output_hard_max_bytes,
                1,
                MOST_HELD,
            ),
            ("observed_bytes", self.observed_bytes, 0, MOST_MOVED),
            ("events_per_turn", self.events_per_turn, 1, MOST_EVENTS),
            ("timers_per_turn", self.timers_per_turn, 1, Id::SLOTS),
            ("posts_per_turn", self.posts_per_turn, 1, MOST_POSTS),
            ("posts_max", self.posts_max, 1, MOST_POSTS),
        ] {
            in_range(name, value as u64, least, most as u64)?;
        }
        if self.connect_timeout.is_zero() {
            return Err(invalid(
                "connect_timeout is 0; it must be longer, or Duration::MAX to leave it to the kernel",
            ));
        }
        for (name, time) in [
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
            ("min_rate.span", self.min_rate.map(|rate| rate.span)),
        ] {
            if time == Some(Duration::ZERO) {
                return Err(invalid(&format!(
                    "{name} is 0; it must be longer, or Duration::MAX for no limit"
                )));
            }
        }
        Ok(())
    }

    /// True if the clock can end a connection that is established and has not finished.
    pub(crate) fn has_time_limit(&self) -> bool {
        self.idle_timeout.is_some() || self.max_lifetime.is_some() || self.rate().is_some()
    }

    /// `min_rate`, unless it asks for 0 bytes.
    pub(crate) fn rate(&self) -> Option<MinRate> {
        self.min_rate.filter(|rate| rate.bytes > 0)
    }

    /// The most that a connection writes in one turn. Large messages of other code leave at once: one
    /// before its own turn, and one after it.
    #[cfg(feature = "sim")]
    pub(crate) fn most_written(&self) -> usize {
        let waits = self.output_hard_max_bytes.max(self.output_max_bytes);
        // Each may be as much as `isize::MAX`.
        waits.saturating_add(2 * self.output_max_bytes)
    }

    /// A clone, out of line, because the code for it is long.
    #[inline(never)]
    pub(crate) fn copy(&self) -> Config {
        self.clone()
    }

    /// A copy of these limits, with `limits` in the place of those that they name. `None` if they name none.
    ///
    /// # Errors
    /// `InvalidInput`, which names the limit, its value and its bounds.
    pub(crate) fn with(&self, limits: &Limits) -> io::Result<Option<Rc<Config>>> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        let mut config = self.copy();
        let or = |own: Option<usize>, limit: &mut usize| *limit = own.unwrap_or(*limit);
        or(limits.input_max_bytes, &mut config.input_max_bytes);
        or(limits.output_max_bytes, &mut config.output_max_bytes);
        or(
            limits.output_hard_max_bytes,
            &mut config.output_hard_max_bytes,
        );
        config.idle_timeout = limits.idle_timeout.or(config.idle_timeout);
        config.linger_timeout = limits.linger_timeout.unwrap_or(config.linger_timeout);
        config.linger_max_bytes = limits.linger_max_bytes.unwrap_or(config.linger_max_bytes);
        config.close_when_sent = limits.close_when_sent.unwrap_or(config.close_when_sent);
        config.max_lifetime = limits.max_lifetime.or(config.max_lifetime);
        config.min_rate = limits.min_rate.or(config.min_rate);
        config.check()?;
        Ok(Some(Rc::new(config)))
    }
}

/// How many bytes a connection must move, those received and those sent together, in each span of time:
/// the first begins when it is established, or when a layer is added, and each of the others when one is
/// over. With 0 bytes there is no such limit. While a finished connection waits for its peer's end,
/// [`Config::linger_timeout`] applies instead. Of a connection with layers the plain bytes count.
///
/// It does not matter which side is the cause: a connection that is idle, or whose handler consumes nothing,
/// is too slow as well. So the limit suits protocols whose clients connect, ask and leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// The number of bytes.
    pub bytes: u64,
    /// The length of a span. 0 is refused, also with 0 bytes.
    pub span: Duration,
}

/// The limits of the connections of one listener, or of one outgoing connection, where they are not
/// those of the reactor's [`Config`], which says what each means. `None`, the default of each, is the
/// reactor's.
///
/// If any connection has some, they cost 24 bytes for each slot of the reactor, and about 220 bytes for each
/// listener and each outgoing connection that has some. A turn of a connection with limits of its own
/// copies all limits twice (208 bytes on 64-bit systems). A turn of every other connection costs the same as
/// without them.
///
/// ```
/// use doorkeeper::ListenOptions;
/// use std::time::Duration;
///
/// let mut options = ListenOptions::default();
/// options.limits.input_max_bytes = Some(1024);
/// options.limits.idle_timeout = Some(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// [`Config::input_max_bytes`]. One read takes no more than the reactor's
    /// [`input_max_bytes`](Config::input_max_bytes), so a higher limit takes several turns to fill.
    pub input_max_bytes: Option<usize>,
    /// [`Config::output_max_bytes`].
    pub output_max_bytes: Option<usize>,
    /// [`Config::output_hard_max_bytes`].
    pub output_hard_max_bytes: Option<usize>,
    /// [`Config::idle_timeout`]. `Some(Duration::MAX)` means never.
    pub idle_timeout: Option<Duration>,
    /// [`Config::linger_timeout`].
    pub linger_timeout: Option<Duration>,
    /// [`Config::linger_max_bytes`].
    pub linger_max_bytes: Option<u64>,
    /// [`Config::close_when_sent`].
    pub close_when_sent: Option<bool>,
    /// [`Config::max_lifetime`]. `Some(Duration::MAX)` means no limit.
    pub max_lifetime: Option<Duration>,
    /// [`Config::min_rate`]. With 0 bytes there is no such limit.
    pub min_rate: Option<MinRate>,
}

/// Checks a number against its bounds. Times are given as numbers too: to print a `Duration` would add
/// 2 kB to every program.
///
/// # Errors
/// `InvalidInput`, which names the value and its bounds.
#[inline(never)]
fn in_range(name: &str, value: u64, least: u64, most: u64) -> io::Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(&format!(
        "{name} is {value}; it must be from {least} to {most}"
    )))
}

fn invalid(message: &str) -> io::Error {
    failure(io::ErrorKind::InvalidInput, message)
}

/// The options of one listener.
///
/// The defaults suit a server that may be restarted at any time and does not share its port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The length of the accept queue: the number of connections with a completed handshake that
    /// the kernel keeps until this program accepts them ([listen(2)]). Half-open connections do not
    /// count; Linux bounds them by `tcp_max_syn_backlog` ([tcp(7)]).
    ///
    /// Linux clamps the value to `net.core.somaxconn` and queues one connection more than it says.
    /// While the queue is full, Linux drops the client's SYN; the client sends it again, after 1 s
    /// at first, and connects once there is room. Default 1,024; 0 is allowed.
    ///
    /// [listen(2)]: https://man7.org/linux/man-pages/man2/listen.2.html
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub backlog: u32,
    /// `SO_REUSEADDR` ([socket(7)]): bind although connections of an earlier server on this port
    /// still exist, in TIME_WAIT or open. On Linux this helps only if the earlier server's socket
    /// had the option too. A live listener on the port still makes the bind fail with `AddrInUse`.
    /// Default on. Ignored on Windows, where the option means something else.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub reuse_address: bool,
    /// `SO_REUSEPORT` ([socket(7)]): several sockets of one user listen on one port. Each must set
    /// it. Linux distributes new connections among them; other systems may not. Unix only, but not
    /// on Solaris and illumos; ignored elsewhere. Default off.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub reuse_port: bool,
    /// `IPV6_V6ONLY` ([ipv6(7)]): an IPv6 listener accepts IPv6 connections only, so `[::]` and
    /// `0.0.0.0` can listen on one port side by side. If it is off, `[::]` also accepts IPv4, and
    /// the address of such a peer is shown as IPv4. Default on, on every system. No effect on an
    /// IPv4 address.
    ///
    /// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
    pub ipv6_only: bool,
    /// `TCP_NODELAY` ([tcp(7)]) on the accepted connections: a small answer is sent at once.
    /// Nagle's algorithm (RFC 896) has nothing to gather, because the reactor already sends the
    /// output of one turn in one call. Default on.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub no_delay: bool,
    /// Keepalive probes (`SO_KEEPALIVE`, [socket(7)]) on the accepted connections. They find a peer
    /// that is gone without a FIN or a reset, for example because it lost its power, although no
    /// data is sent. The connection then closes with
    /// [`Reason::TimedOut`](crate::Reason::TimedOut). `None`, the default, sends no probes.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT` ([tcp(7)], RFC 5482) on the accepted connections: the time that sent data
    /// may stay unacknowledged, and output may wait for a peer whose window is closed. When it is
    /// over, the connection closes with [`Reason::TimedOut`](crate::Reason::TimedOut). With
    /// [`keepalive`](ListenOptions::keepalive) it takes the place of
    /// [`Keepalive::probes`](Keepalive::probes). Whole milliseconds, from 1 ms to 2³¹ − 1 ms (24
    /// days); a fraction is dropped. `None`, the default, leaves the time to the kernel (on Linux about 15 minutes,
    /// `tcp_retries2`). Linux and Android only; ignored elsewhere.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub user_timeout: Option<Duration>,
    /// `SO_SNDBUF` ([socket(7)]) on the accepted connections: how much output the kernel holds for
    /// one. Linux clamps it to `net.core.wmem_max`, doubles it to allow for its own overhead, and
    /// makes it 4,608 bytes at least; it then no longer adapts the size to the connection. From 1 to
    /// 2³¹ − 1. `None`, the default, leaves the size to the kernel (on Linux up to 4 MiB,
    /// `tcp_wmem`).
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF` ([socket(7)]) on the accepted connections: how much input the kernel holds for
    /// one, and so the largest window that it offers. It is set before listen(2), as [tcp(7)]
    /// demands, so that the window scale follows it. Linux clamps it to `net.core.rmem_max`, doubles
    /// it to allow for its own overhead, and makes it 2,304 bytes at least; it then no longer adapts
    /// the size to the connection. From 1 to 2³¹ − 1. `None`, the default, leaves the size to the
    /// kernel (on Linux up to 6 MiB, `tcp_rmem`).
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub receive_buffer_bytes: Option<usize>,
    /// The limits of the accepted connections, where they are not the reactor's.
    pub limits: Limits,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 1024,
            reuse_address: true,
            reuse_port: false,
            ipv6_only: true,
            no_delay: true,
            keepalive: None,
            user_timeout: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            limits: Limits::default(),
        }
    }
}

/// The options of one outgoing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The time that it may take to be established. `None`, the default, means
    /// [`Config::connect_timeout`].
    pub timeout: Option<Duration>,
    /// The local address to connect from ([bind(2)]). With port 0 the kernel chooses the port; any
    /// other port is used as it is, also while an earlier connection from it is in TIME_WAIT
    /// (SO_REUSEADDR, [socket(7)]; not on Windows). `None`, the default, leaves address and port to
    /// the kernel.
    ///
    /// [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub local: Option<SocketAddr>,
    /// `TCP_NODELAY`, as in [`ListenOptions::no_delay`]. Default on.
    pub no_delay: bool,
    /// Keepalive probes, as in [`ListenOptions::keepalive`]. `None`, the default, sends none.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`, as in [`ListenOptions::user_timeout`]. On Linux it also limits the time
    /// to be established. `None`, the default, leaves the time to the kernel.
    pub user_timeout: Option<Duration>,
    /// `SO_SNDBUF`, as in [`ListenOptions::send_buffer_bytes`]. `None`, the default, leaves the size
    /// to the kernel.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF`, as in [`ListenOptions::receive_buffer_bytes`]. It is set before connect(2).
    /// `None`, the default, leaves the size to the kernel.
    pub receive_buffer_bytes: Option<usize>,
    /// The limits of the connection, where they are not the reactor's.
    pub limits: Limits,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            timeout: None,
            local: None,
            no_delay: true,
            keepalive: None,
            user_timeout: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            limits: Limits::default(),
        }
    }
}

/// When the kernel probes whether an idle peer is still there ([tcp(7)]; RFC 9293, section 3.8.4).
///
/// A peer that answers none of the probes is given up after `idle` + `probes` × `interval`: after two
/// minutes by default.
///
/// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The time without a byte from the peer after which the first probe is sent (`TCP_KEEPIDLE`).
    /// Whole seconds, from 1 s to 32,767 s; a fraction is rounded up. Default 60 s.
    pub idle: Duration,
    /// The time between two probes (`TCP_KEEPINTVL`), within the same bounds. Default 10 s. Ignored
    /// on OpenBSD and other systems without this option; so is `probes`.
    pub interval: Duration,
    /// The number of unanswered probes after which the connection ends (`TCP_KEEPCNT`), from 1 to
    /// 127. Default 6.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            probes: 6,
        }
    }
}

impl Keepalive {
    /// `idle` and `interval` in whole seconds, because that is what the kernel takes.
    pub(crate) fn seconds(&self) -> (u64, u64) {
        let round_up = |time: Duration| {
            let fraction = u64::from(time.subsec_nanos() > 0);
            time.as_secs().saturating_add(fraction)
        };
        (round_up(self.idle), round_up(self.interval))
    }
}

/// What the options of both kinds say of a connection's socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    pub(crate) no_delay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) receive_buffer_bytes: Option<usize>,
}

impl From<&ListenOptions> for SocketOptions {
    fn from(options: &ListenOptions) -> SocketOptions {
        SocketOptions {
            no_delay: options.no_delay,
            keepalive: options.keepalive,
            user_timeout: options.user_timeout,
            send_buffer_bytes: options.send_buffer_bytes,
            receive_buffer_bytes: options.receive_buffer_bytes,
        }
    }
}

impl From<&ConnectOptions> for SocketOptions {
    fn from(options: &ConnectOptions) -> SocketOptions {
        SocketOptions {
            no_delay: options.no_delay,
            keepalive: options.keepalive,
            user_timeout: options.user_timeout,
            send_buffer_bytes: options.send_buffer_bytes,
            receive_buffer_bytes: options.receive_buffer_bytes,
        }
    }
}

impl SocketOptions {
    /// Refuses values that the kernel refuses (include/net/tcp.h), or that do not fit its integers.
    pub(crate) fn check(&self) -> io::Result<()> {
        const MOST: u64 = i32::MAX as u64;
        if let Some(keepalive) = self.keepalive {
            let (idle, interval) = keepalive.seconds();
            in_range("keepalive.idle in seconds", idle, 1, 32_767)?;
            in_range("keepalive.interval in seconds", interval, 1, 32_767)?;
            in_range("keepalive.probes", keepalive.probes.into(), 1, 127)?;
        }
        if let Some(time) = self.user_timeout {
            let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            in_range("user_timeout in milliseconds", time, 1, MOST)?;
        }
        for (name, size) in [
            ("send_buffer_bytes", self.send_buffer_bytes),
            ("receive_buffer_bytes", self.receive_buffer_bytes),
        ] {
            in_range(name, size.unwrap_or(1) as u64, 1, MOST)?;
        }
        Ok(())
    }
}
