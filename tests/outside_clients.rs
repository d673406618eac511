//! Other clients against the built program: each gets what it should.

mod common;

use common::{Program, have};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Some clients want the services' own ports. Those are bound on a loopback address of this test
/// alone.
const OWN: &str = "127.77.0.1";

fn on_own_ports() -> Program {
    let services = [
        ("echo", 7),
        ("discard", 9),
        ("daytime", 13),
        ("qotd", 17),
        ("chargen", 19),
        ("time", 37),
    ];
    let args = services.map(|(name, port)| format!("{name}={OWN}:{port}"));
    let args: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .chain(["--utc", "--shutdown-timeout=0s"])
        .collect();
    Program::start(&[], &args, "off", 6)
}

fn program() -> Program {
    Program::serve(&["echo=:0", "daytime=:0", "time=:0", "qotd=:0", "--utc"])
}

/// Runs a client for at most 20 seconds, with this on its standard input, and returns its standard
/// output.
fn run(words: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=1", "20"])
        .args(words)
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A client may have ended before it read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert_ne!(
        output.status.code(),
        Some(124),
        "{words:?} hangs: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn text(words: &[&str], input: &[u8]) -> String {
    String::from_utf8(run(words, input)).unwrap()
}

fn assert_daytime(line: &str, client: &str) {
    let year_at = 20..24;
    assert!(
        line.len() >= 24 && line[year_at].parse::<u16>().is_ok_and(|year| year >= 2024),
        "{client}: {line:?}"
    );
    assert_eq!(&line[3..4], " ", "{client}: {line:?}");
}

/// Every kind of client that copies its input to the socket and the socket to its output.
fn pipes(echo: SocketAddr) -> Vec<(&'static str, Vec<String>)> {
    let (host, port) = (echo.ip().to_string(), echo.port().to_string());
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    vec![
        ("nc.openbsd", words(&["nc.openbsd", "-N", &host, &port])),
        (
            "nc.traditional",
            words(&["nc.traditional", "-q", "1", &host, &port]),
        ),
        ("busybox", words(&["busybox", "nc", &host, &port])),
        ("ncat", words(&["ncat", &host, &port])),
        (
            "socat",
            words(&["socat", "-t", "10", "-", &format!("TCP4:{host}:{port}")]),
        ),
        (
            "curl",
            words(&[
                "curl",
                "--silent",
                "--no-buffer",
                "--max-time",
                "3",
                &format!("telnet://{host}:{port}"),
            ]),
        ),
    ]
}

#[test]
fn every_netcat_and_similar_tool_gets_its_echo() {
    let program = program();
    // 100,000 bytes that telnet would take for nothing else, in lines.
    let input: Vec<u8> = (0..100_000)
        .map(|i: u32| {
            if i % 64 == 63 {
                b'\n'
            } else {
                b'a' + (i % 26) as u8
            }
        })
        .collect();
    for (tool, command) in pipes(program.address("echo")) {
        if !have(tool) {
            continue;
        }
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if ["curl", "nc.traditional", "busybox"].contains(&tool) {
            // These leave at the end of their input, or never: they are given time to hear the
            // answer.
            let script = format!("(printf 'hello\\n'; sleep 1) | {}", words.join(" "));
            assert_eq!(text(&["sh", "-c", &script], b""), "hello\n", "{tool}");
        } else {
            assert!(run(&words, &input) == input, "{tool}");
        }
    }
}

#[test]
fn every_netcat_and_similar_tool_gets_the_time() {
    let program = program();
    for (tool, command) in pipes(program.address("daytime")) {
        if have(tool) {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let line = text(&words, b"");
            assert!(
                line.len() == 26 && line.ends_with("\r\n"),
                "{tool}: {line:?}"
            );
            assert_daytime(&line, tool);
        }
    }
}

#[test]
fn a_shell_speaks_through_dev_tcp() {
    if !have("bash") {
        return;
    }
    let program = program();
    let (echo, daytime) = (program.address("echo"), program.address("daytime"));
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; printf 'to and fro\\n' >&3; read -r line <&3; echo \"$line\"; cat </dev/tcp/{}/{}",
        echo.ip(),
        echo.port(),
        daytime.ip(),
        daytime.port()
    );
    let answer = text(&["bash", "-c", &script], b"");
    let (first, second) = answer.split_once('\n').unwrap();
    assert_eq!(first, "to and fro");
    assert_daytime(second, "bash");
}

#[test]
fn telnet_shows_the_time_and_hears_the_echo() {
    if !have("telnet") {
        return;
    }
    let program = program();
    let (echo, daytime) = (program.address("echo"), program.address("daytime"));
    // It leaves at the end of its input, so that is held open until it has had time to hear.
    let script = format!("sleep 1 | telnet {} {}", daytime.ip(), daytime.port());
    let shown = text(&["sh", "-c", &script], b"");
    assert_daytime(shown.lines().last().unwrap(), "telnet");
    let script = format!(
        "(sleep 1; echo hello; sleep 1) | telnet {} {}",
        echo.ip(),
        echo.port()
    );
    assert!(text(&["sh", "-c", &script], b"").ends_with("hello\n"));
}

/// nmap sends its probes by port number, so the services stand on their own.
#[test]
fn outside_tools_that_want_the_own_ports_know_the_services() {
    let program = on_own_ports();
    if have("nmap") {
        let report = text(
            &[
                "nmap",
                "-Pn",
                "-n",
                "-sV",
                "--version-light",
                "-p",
                "7,13,19,37",
                OWN,
            ],
            b"",
        );
        for (port, name) in [(7, "echo"), (13, "daytime"), (19, "chargen"), (37, "time")] {
            let start = format!("{port}/tcp");
            let line = report
                .lines()
                .find(|line| line.starts_with(&start))
                .unwrap_or_else(|| panic!("{report}"));
            let words: Vec<&str> = line.split_whitespace().collect();
            // A question mark after the name would be a guess from the port alone.
            assert_eq!(words[1..3], ["open", name], "{report}");
        }
        assert!(!report.contains("unrecognized"), "{report}");
    }
    if have("rdate") {
        let shown = text(&["rdate", "-p", OWN], b"");
        assert!(shown.contains(" UTC 20"), "{shown}");
    }
    if have("perl") {
        let script = format!(
            "use Net::Time qw(inet_time inet_daytime); use Net::Ping; my $t = inet_time('{OWN}', 'tcp', 10);
             print abs($t - time) < 60 ? 'right' : 'wrong', \"\\n\", inet_daytime('{OWN}', 'tcp', 10), \"\\n\";
             my $p = Net::Ping->new('tcp', 10); $p->port_number(7); print $p->ping('{OWN}') ? 'alive' : 'dead';"
        );
        let answer = text(&["perl", "-e", &script], b"");
        let lines: Vec<&str> = answer
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        assert_eq!((lines[0], lines[2]), ("right", "alive"), "{answer}");
        assert_daytime(lines[1], "perl");
    }
    drop(program);
}
