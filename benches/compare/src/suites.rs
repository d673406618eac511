//! The suites: each has its scenarios, and one server that the others are compared with.

/// A group of servers that do the same.
pub struct Suite {
    pub name: &'static str,
    /// How the tables name it.
    pub title: &'static str,
    /// The server that the others of the suite are compared with.
    pub yardstick: &'static str,
    /// The servers of the closer rounds: those that the figures to reach are about.
    pub closer: &'static [&'static str],
    pub scenarios: &'static [Scenario],
}

pub struct Scenario {
    pub name: &'static str,
    pub load: Load,
    /// A figure is to be reached: it takes part in the closer rounds.
    pub goal: bool,
}

/// The program that makes the load, and its arguments.
pub enum Load {
    /// `doorkeeper bench`.
    Bench(&'static str),
    /// redis-benchmark.
    Redis(Redis),
    /// ab. Without `-k` the answer closes the connection.
    Ab(&'static str),
}

pub struct Redis {
    pub tests: &'static [&'static str],
    pub args: &'static str,
    /// Requests of each test, for each second that a run is to last: redis-benchmark counts requests, not time.
    pub requests: u32,
}

const fn bench(name: &'static str, goal: bool, args: &'static str) -> Scenario {
    Scenario {
        name,
        load: Load::Bench(args),
        goal,
    }
}

const fn redis(name: &'static str, redis: Redis) -> Scenario {
    Scenario {
        name,
        load: Load::Redis(redis),
        goal: true,
    }
}

/// `ADDRESSES` in the arguments of a load stands for [`addresses`].
pub static ALL: [Suite; 4] = [
    Suite {
        name: "echo",
        title: "Echo",
        yardstick: "epoll",
        closer: &["epoll", "epoll-64", "doorkeeper", "tokio"],
        scenarios: &[
            bench("64 B × 1", false, "--connections 1"),
            bench("64 B × 64", true, "--connections 64"),
            bench("64 B × 1000", true, "--connections 1000"),
            bench("64 B × 10000", true, "--connections 10000"),
            bench("16 KiB × 64", true, "--connections 64 --size 16384"),
            bench("1 MiB × 4", true, "--connections 4 --size 1048576"),
            bench(
                "pipelined lines",
                false,
                "--connections 64 --size 32 --pipeline 16 --lines",
            ),
            bench(
                "connect-echo-close",
                true,
                "--mode connect --connections 64 --source-addresses ADDRESSES",
            ),
            bench("idle", false, "--mode idle --connections 10000"),
            bench("50 pingers", false, "--connections 50"),
            bench("flood", false, "--connections 50 --flooders 4"),
            bench("mute", false, "--connections 50 --mutes 8"),
        ],
    },
    Suite {
        name: "relay",
        title: "Relay",
        yardstick: "haproxy",
        closer: &["haproxy", "doorkeeper"],
        scenarios: &[
            bench("relay 64 B × 64", true, "--connections 64"),
            bench("relay 4 KiB × 64", true, "--connections 64 --size 4096"),
            bench("relay 16 KiB × 64", true, "--connections 64 --size 16384"),
            bench("relay 64 KiB × 64", true, "--connections 64 --size 65536"),
            bench("relay 1 MiB × 4", true, "--connections 4 --size 1048576"),
            bench(
                "relay connect-echo-close",
                true,
                "--mode connect --connections 64 --source-addresses ADDRESSES",
            ),
        ],
    },
    Suite {
        name: "kv",
        title: "Key-value server",
        yardstick: "redis-server",
        closer: &["redis-server", "doorkeeper"],
        scenarios: &[
            redis(
                "kv -P 16 64 B",
                Redis {
                    tests: &["set", "get"],
                    args: "-c 50 -P 16 -d 64",
                    requests: 300_000,
                },
            ),
            redis(
                "kv SET 1 MB",
                Redis {
                    tests: &["set"],
                    args: "-c 4 -d 1000000",
                    requests: 1_500,
                },
            ),
            redis(
                "kv GET 1 MB",
                Redis {
                    tests: &["get"],
                    args: "-c 4 -d 1000000",
                    requests: 1_500,
                },
            ),
        ],
    },
    Suite {
        name: "http",
        title: "HTTP, an answer that closes",
        yardstick: "nginx",
        closer: &["nginx", "doorkeeper", "doorkeeper-close-when-sent"],
        scenarios: &[Scenario {
            name: "http close",
            load: Load::Ab("-c 64"),
            goal: true,
        }],
    },
];

pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().flat_map(|suite| suite.scenarios)
}

/// Each address has ports of its own. With one address, a run's connections use up its ports, and the run measures how soon the
/// kernel gives a port back.
pub fn addresses() -> String {
    let addresses: Vec<String> = (2..=33).map(|last| format!("127.0.0.{last}")).collect();
    addresses.join(",")
}
