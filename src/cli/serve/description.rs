//! The description of `doorkeeper serve`: its help, its man page and its completions.

use super::super::describe::{Description, Opt, Part, Value};
use super::super::shared_args;

pub(crate) const DESCRIPTION: Description = Description {
    command: "serve",
    about: "Serve standard services over TCP.",
    usage: &[
        "[OPTION]... [SERVICE[=[HOST]:PORT]]...",
        "[OPTION]... SERVICE=fd:NAME...",
    ],
    before: &[
        Part::Text(
            "Without a SERVICE, all six listen on 127.0.0.1. Without an address, a service listens \
             on 127.0.0.1 and the port below. An empty HOST means 127.0.0.1; [::] means every IPv6 \
             address of the machine, 0.0.0.0 every IPv4 address. PORT 0 means any free port. The \
             same service can be given several times. With fd:NAME or fd:NUMBER it listens on the \
             sockets that systemd passes by that name or that number (LISTEN_FDS).",
        ),
        Part::List(
            "Services",
            &[
                ("echo", "port 7007, sends back what it receives (RFC 862)"),
                ("discard", "port 7009, discards what it receives (RFC 863)"),
                (
                    "daytime",
                    "port 7013, sends the date and time, one line (RFC 867)",
                ),
                ("qotd", "port 7017, sends a quote (RFC 865)"),
                (
                    "chargen",
                    "port 7019, sends a pattern of characters, without end (RFC 864)",
                ),
                (
                    "time",
                    "port 7037, sends the seconds since 1900, four bytes (RFC 868)",
                ),
            ],
        ),
    ],
    options: &[OPTIONS, shared_args::OPTIONS],
    after: &[
        Part::Text("A DUR is a number with a unit, as in 500ms, 30s, 5min, 1h 30min."),
        Part::Text(
            "Each listener prints one line, `listening SERVICE ADDRESS`, to standard output. The \
             kernel probes idle clients (TCP keepalive): a connection whose client is gone without \
             a FIN closes after two minutes.",
        ),
        Part::Text(
            "SIGUSR1 logs a table of every listener and connection, most loaded first, at most once \
             a second. SIGHUP reads the file of --quotes and the system's time zone again; the zone \
             is also read once a minute. SIGUSR2 does nothing.",
        ),
        Part::Text(
            "The log goes to standard error; RUST_LOG sets its level: error, warn, info [the \
             default], debug or trace. Access records, one for each connection, have the target \
             doorkeeper::access and the level debug; --log=json shows them by default. If standard \
             error is the journal of systemd, lines begin with <N> and have no time.",
        ),
    ],
    exit_status: "0 ended by a signal; 1 it could not serve (standard error says why); 2 wrong \
                  usage.",
    operands: &["echo", "discard", "daytime", "qotd", "chargen", "time"],
};

const OPTIONS: &[Opt] = &[
    Opt::long(
        "backlog",
        Value::Any("N"),
        "limit of each listener's accept queue: connections that are established and not yet \
         accepted [1024; the system may clamp it]. A passed socket keeps its own",
    ),
    Opt::long(
        "max-connections",
        Value::Any("N"),
        "limit of open connections; at the limit, newcomers stay in the accept queue [what the \
         descriptor limit allows]",
    ),
    Opt::long(
        "max-per-source",
        Value::Any("N"),
        "limit of open connections of one IPv4 address or one IPv6 /64; further ones are closed at \
         once [no limit]",
    ),
    Opt::long(
        "max-lifetime",
        Value::Any("DUR"),
        "reset a connection this time after it was accepted, whatever it does [no limit]",
    ),
    Opt::long(
        "min-rate",
        Value::Any("BYTES/DUR"),
        "reset a connection that moves fewer bytes than that, in both directions together, in a span \
         of that length [no limit]",
    ),
    Opt::long(
        "reuse-port",
        Value::None,
        "share the ports with other processes that do the same (SO_REUSEPORT), as for a restart: \
         the new one first",
    ),
    Opt::long(
        "take-over",
        Value::None,
        "like --reuse-port, and all new connections are for this process, not for earlier ones on \
         the same ports: they can end without a loss (Linux)",
    ),
    Opt::long(
        "proxy-protocol",
        Value::OneOf(&["require"]),
        "every connection begins with a header of the PROXY protocol, version 1 or 2, within 3 s; a \
         wrong one ends its connection. The log and --max-per-source use the client's address",
    ),
    Opt::long(
        "proxy-from",
        Value::Any("LIST"),
        "the proxies, as in 192.0.2.1,2001:db8::/32; connections from elsewhere are closed at once",
    ),
    Opt::long(
        "accept-budget",
        Value::Any("N"),
        "connections that a listener accepts in one turn [64]",
    ),
    Opt::long(
        "turn-budget",
        Value::Any("BYTES"),
        "bytes that a connection reads in one turn [65536]",
    ),
    Opt::long(
        "output-max",
        Value::Any("BYTES"),
        "unsent bytes that a connection may hold [65536]",
    ),
    Opt::long(
        "send-buffer",
        Value::Any("BYTES"),
        "the kernel's send buffer of a connection (SO_SNDBUF), half of what Linux uses for it \
         [chargen: 262144; others: the system's]",
    ),
    Opt::long(
        "idle-timeout",
        Value::Any("DUR"),
        "close a connection after this time without a byte; `none` means never [10min]",
    ),
    Opt::long(
        "shutdown-timeout",
        Value::Any("DUR"),
        "time that open connections have to finish after the first SIGINT or SIGTERM; a second \
         signal stops at once [5s]",
    ),
    Opt::long(
        "quotes",
        Value::File("FILE"),
        "quotes for qotd, separated by lines of a single %; those longer than 512 bytes are \
         skipped [four built-in quotes]",
    ),
    Opt::long("utc", Value::None, "daytime sends UTC, not local time"),
    Opt::long(
        "status",
        Value::Any("[HOST]:PORT"),
        "serve HTTP there, on the same loop: a live page at /, /metrics for Prometheus, /healthz, \
         /connections as JSON; limits and figures leave its clients out",
    ),
];
