//! The built program: its options, its messages, its signals, its exit status.

mod common;

use common::{PATIENCE, Program, alone, client, echo, have, read_all, read_exactly};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs the program to its end.
fn doorkeeper(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorkeeper"))
        .args(args)
        .env("RUST_LOG", "error")
        .output()
        .unwrap()
}

/// Its line on stderr, with this status and nothing on stdout.
fn refusal(args: &[&str], status: i32) -> String {
    let output = doorkeeper(args);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {message}");
    assert_eq!(output.stdout, b"", "{args:?}");
    assert_eq!(message.lines().count(), 1, "{args:?}: {message}");
    assert!(message.starts_with("doorkeeper: "), "{args:?}: {message}");
    message
}

fn signal(program: &Program, signal: Signal) {
    kill_process(Pid::from_child(&program.child), signal).unwrap();
}

fn stderr(mut program: Program) -> String {
    let mut text = String::new();
    program
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Reads the log until a line has these words.
fn await_log(program: &mut Program, words: &str) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    let log = program.stderr.as_mut().unwrap();
    while !String::from_utf8_lossy(&seen).contains(words) {
        assert_eq!(
            log.read(&mut byte).unwrap(),
            1,
            "never said {words:?}: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
}

#[test]
fn help_and_version_are_for_people_and_succeed() {
    for (args, words) in [
        (&["--help"][..], "Usage: doorkeeper COMMAND"),
        (&["-h"], "serve echo, discard"),
        (&["serve", "--help"], "--shutdown-timeout DUR"),
        (&["connect", "--help"], "--no-half-close"),
        (&["bench", "--help"], "--source-addresses LIST"),
        (&["story", "--help"], "Usage: doorkeeper story"),
        (
            &["room", "--help"],
            "Usage: doorkeeper room BACKLOG CLIENTS",
        ),
        (&["serve", "echo", "-h"], "Usage: doorkeeper serve"),
        (
            &["manual", "--help"],
            "Usage: doorkeeper manual [COMMAND]\n",
        ),
        (
            &["completions", "--help"],
            "Usage: doorkeeper completions bash|zsh|fish\n",
        ),
        (
            &["--version"],
            concat!("doorkeeper ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
    ] {
        let output = doorkeeper(args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{args:?}"
        );
        assert!(text.contains(words), "{args:?}: {text}");
        assert!(
            text.lines().all(|line| line.len() <= 80),
            "{args:?}: too wide for a terminal"
        );
    }
}

#[test]
fn wrong_usage_is_one_line_on_stderr_and_status_2() {
    for (args, words) in [
        (&[][..], &["command is missing", "doorkeeper serve"][..]),
        (&["sevre"], &["unknown command `sevre`", "--help"]),
        (&["--port"], &["--port", "--help"]),
        (
            &["serve", "ecko=:0"],
            &[
                "unknown service `ecko`",
                "echo, discard, daytime, qotd, chargen, time",
            ],
        ),
        (
            &["serve", "echo=127.0.0.1"],
            &["`127.0.0.1` has no port", "127.0.0.1:7007"],
        ),
        (
            &["serve", "echo=127.0.0.1:70000"],
            &["`70000` is not a port from 0 to 65535"],
        ),
        (
            &["serve", "echo=::1:7007"],
            &["`::1` is not an address", "brackets"],
        ),
        (&["serve", "--narrate=xml"], &["--narrate=xml", "json"]),
        (
            &["serve", "--backlog=x"],
            &["--backlog x: must be a whole number, at least 0 and below 2^32"],
        ),
        (
            &["serve", "--proxy-protocol=maybe"],
            &["--proxy-protocol maybe: must be require"],
        ),
        (&["manual", "serve", "x"], &["x"]),
        (
            &["manual", "sevre"],
            &["manual: sevre: must be one of serve"],
        ),
        (
            &["serve", "--trace-max", "5"],
            &["--trace-max 5", "at least"],
        ),
        (
            &["serve", "--trace-max", "big"],
            &["--trace-max big", "whole number"],
        ),
        (&["serve", "--trace"], &["--trace"]),
        (
            &["connect", "127.0.0.1:7", "--narrate=xml"],
            &["--narrate=xml", "json"],
        ),
        (&["bench"], &["HOST:PORT is missing", "doorkeeper bench"]),
        (
            &["bench", ":7", "--mode", "fast"],
            &["--mode fast", "echo, idle, connect or read"],
        ),
        (
            &["bench", ":7", "--connections", "0"],
            &["--connections 0", "at least 1"],
        ),
        (
            &["bench", ":7", "--rate", "none"],
            &["--rate none", "whole number"],
        ),
        (
            &["bench", ":7", "--mode", "connect", "--rate", "5"],
            &["--rate", "--mode echo"],
        ),
        (&["bench", ":7", "--duration", "0s"], &["--duration 0"]),
        (
            &["bench", ":7", "--source-addresses", "a,b"],
            &["--source-addresses a,b", "IP addresses"],
        ),
        (&["bench", ":7", "loud"], &["loud", "one HOST:PORT"]),
        (&["bench", ":0"], &[":0: no server listens on port 0"]),
        (&["story", "aloud"], &["aloud", "no arguments"]),
        (
            &["--help=foo"],
            &["unexpected argument for option '--help'", "foo"],
        ),
        (
            &["--version", "x"],
            &["x", "nothing follows --help or --version"],
        ),
        (&["serve", "-h", "echo"], &["echo", "nothing follows"]),
        (&["serve", "--nope"], &["--nope", "serve --help"]),
        (&["serve", "--backlog"], &["--backlog"]),
        (
            &["serve", "--backlog", "many"],
            &["--backlog many", "whole number"],
        ),
        (&["serve", "--backlog", "-1"], &["-1", "whole number"]),
        (
            &["serve", "--max-connections", "4294967296"],
            &["--max-connections", "from 1 to 4294967295"],
        ),
        (
            &["serve", "--accept-budget", "18446744073709551615"],
            &["--accept-budget", "from 1 to 4294967295"],
        ),
        (
            &["serve", "--turn-budget", "2147479553"],
            &["--turn-budget", "from 1 to 2147479552"],
        ),
        (
            &["serve", "--output-max", "9223372036854775808"],
            &["--output-max", "from 1 to 9223372036854775807"],
        ),
        (
            &["serve", "--max-connections", "0"],
            &["--max-connections 0", "at least 1"],
        ),
        (
            &["serve", "--accept-budget", "0"],
            &["--accept-budget 0", "at least 1"],
        ),
        (
            &["serve", "--turn-budget", "64k"],
            &["--turn-budget 64k", "whole number"],
        ),
        (
            &["serve", "--output-max", "0"],
            &["--output-max 0", "at least 1"],
        ),
        (
            &["serve", "--idle-timeout", "5"],
            &["--idle-timeout 5", "30s"],
        ),
        (
            &["serve", "--idle-timeout", "0s"],
            &["--idle-timeout 0", "none"],
        ),
        (
            &["serve", "--shutdown-timeout", "soon"],
            &["--shutdown-timeout soon", "30s"],
        ),
    ] {
        let message = refusal(args, 2);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{args:?}: {message}"
        );
    }
}

#[test]
fn an_error_of_the_system_is_one_line_on_stderr_and_status_1() {
    for (args, words) in [
        (
            &["serve", "echo=192.0.2.1:7007"][..],
            &["echo on 192.0.2.1:7007", "no such address"][..],
        ),
        (
            &["serve", "echo=name.invalid:7007"],
            &["echo=name.invalid:7007", "cannot find `name.invalid`"],
        ),
        (
            &["serve", "qotd=:0", "--quotes", "/nonexistent\n/q"],
            &["--quotes /nonexistent\\n/q", "No such file"],
        ),
        (
            &["serve", "qotd=:0", "--quotes", "/dev/null"],
            &["--quotes /dev/null", "no quote"],
        ),
    ] {
        let message = refusal(args, 1);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{args:?}: {message}"
        );
    }
}

#[test]
fn a_port_in_use_is_named_and_no_other_listener_is_left() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let address = taken.local_addr().unwrap();
    let message = refusal(
        &[
            "serve",
            &format!("echo={free}"),
            &format!("daytime={address}"),
        ],
        1,
    );
    assert!(
        message.contains(&format!("daytime on {address}")) && message.contains("another port"),
        "{message}"
    );
    TcpListener::bind(free).unwrap();
}

#[test]
fn a_privileged_port_without_the_right_is_explained() {
    if !have("setpriv") || !have("unshare") {
        return;
    }
    // In a network namespace of its own: the port is free there, and the limit is the kernel's
    // default.
    let copy = std::env::temp_dir().join(format!("doorkeeper-unprivileged-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_doorkeeper"), &copy).unwrap();
    let output = Command::new("unshare")
        .args([
            "--net",
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ])
        .arg(&copy)
        .args(["serve", "echo=0.0.0.0:7"])
        .env("RUST_LOG", "error")
        .output();
    std::fs::remove_file(&copy).unwrap();
    let output = output.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("0.0.0.0:7") && message.contains("CAP_NET_BIND_SERVICE"),
        "{message}"
    );
}

#[test]
fn a_closed_standard_output_is_a_failure_and_not_a_panic() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    let output = command
        .args(["serve", "echo=:0"])
        .env("RUST_LOG", "off")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot write to standard output")
    );
}

/// In a network of its own, where nobody else has these ports.
#[test]
fn without_arguments_all_six_listen_on_their_ports_plus_7000() {
    if !have("unshare") || !have("ip") {
        return;
    }
    let setup = "ip link set lo up && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--map-root-user", "--net", "sh", "-ec", setup];
    let name = "without_arguments_all_six_listen_on_their_ports_plus_7000";
    if !alone(name, &wrapper) {
        return;
    }
    let program = Program::start(&[], &[], "warn", 6);
    let ports: Vec<String> = program
        .listening
        .iter()
        .map(|(name, at)| format!("{name} {at}"))
        .collect();
    let wanted = [
        ("echo", 7007),
        ("discard", 7009),
        ("daytime", 7013),
        ("qotd", 7017),
        ("chargen", 7019),
        ("time", 7037),
    ];
    assert_eq!(
        ports,
        wanted.map(|(name, port)| format!("{name} 127.0.0.1:{port}"))
    );
}

#[test]
fn both_signals_end_it_with_status_0_and_a_word_in_the_log() {
    for (number, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let mut program = Program::start(&[], &["echo=:0"], "info", 1);
        signal(&program, number);
        assert_eq!(program.wait().code(), Some(0));
        let log = stderr(program);
        assert!(
            log.contains(&format!("{name}: shutting down")) && log.contains("stopped: 0 accepted"),
            "{log}"
        );
    }
}

#[test]
fn after_a_signal_idle_connections_end_and_new_ones_are_refused() {
    let mut program = Program::start(&[], &["echo=:0", "--shutdown-timeout", "1h"], "info", 1);
    let address = program.address("echo");
    let mut stream = client(address);
    assert_eq!(echo(&mut stream, b"before"), b"before");
    signal(&program, Signal::TERM);
    await_log(&mut program, "listener 0.0 closed");
    assert!(TcpStream::connect_timeout(&address, PATIENCE).is_err());
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    drop(stream);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn the_drain_timeout_ends_those_who_stay() {
    let mut program = Program::serve(&["echo=:0", "--shutdown-timeout", "50ms"]);
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"here"), b"here");
    signal(&program, Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(read_all(&mut stream).unwrap(), b"");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(&[], &["echo=:0", "--shutdown-timeout", "1h"], "info", 1);
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"here"), b"here");
    signal(&program, Signal::INT);
    await_log(&mut program, "SIGINT: shutting down");
    signal(&program, Signal::INT);
    assert_eq!(program.wait().code(), Some(0));
}

/// The server closes first, so the port is in TIME_WAIT; a restart must not have to wait for it.
#[test]
fn a_restart_binds_at_once_and_a_second_live_server_is_refused() {
    let mut first = Program::serve(&["daytime=:0"]);
    let address = first.address("daytime");
    let mut stream = client(address);
    assert_eq!(read_all(&mut stream).unwrap().len(), 26);
    drop(stream);
    let argument = format!("daytime={address}");
    let message = refusal(&["serve", &argument], 1);
    assert!(
        message.contains(&address.to_string())
            && message.contains("another socket listens on port"),
        "{message}"
    );
    signal(&first, Signal::TERM);
    assert_eq!(first.wait().code(), Some(0));
    let second = Program::serve(&[&argument]);
    assert_eq!(
        read_all(&mut client(second.address("daytime")))
            .unwrap()
            .len(),
        26
    );
}

/// An earlier server that did not set SO_REUSEADDR leaves its port to connections in TIME_WAIT: no
/// socket is there to stop.
#[test]
fn a_port_that_only_time_wait_holds_is_explained() {
    let earlier = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    earlier.bind(&any.into()).unwrap();
    earlier.listen(1).unwrap();
    let address = earlier.local_addr().unwrap().as_socket().unwrap();
    let mut stream = client(address);
    // The server closes first, so its side of the connection goes to TIME_WAIT.
    drop(earlier.accept().unwrap());
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    drop(stream);
    drop(earlier);
    let message = refusal(&["serve", &format!("echo={address}")], 1);
    assert!(
        message.contains("TIME_WAIT") && !message.contains("stop it"),
        "{message}"
    );
}

#[test]
fn the_log_level_selects_listeners_connections_and_turns() {
    for (level, words, silent) in [
        ("error", &[][..], &["INFO", "DEBUG", "TRACE"][..]),
        (
            "info",
            &["open files allow", "listener 0.0 on 127.0.0.1"],
            &["DEBUG", "TRACE"],
        ),
        (
            "debug",
            &[
                "listener 0.0",
                "connection 2.2 from 127.0.0.1",
                "closed: finished; 2 bytes received, 2 sent",
            ],
            &["TRACE"],
        ),
        ("trace", &["turn 1: "], &[]),
    ] {
        let mut program = Program::start(&[], &["echo=:0"], level, 1);
        let mut stream = client(program.address("echo"));
        stream.write_all(b"hi").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"hi");
        signal(&program, Signal::TERM);
        program.wait();
        let log = stderr(program);
        assert!(
            words.iter().all(|word| log.contains(word)),
            "{level}: {log}"
        );
        assert!(
            !silent.iter().any(|word| log.contains(word)),
            "{level}: {log}"
        );
    }
}

#[test]
fn the_soft_limit_on_descriptors_is_raised_to_the_hard_one() {
    if !have("prlimit") {
        return;
    }
    let wrapper = ["prlimit", "--nofile=64:200", "--"];
    let program = Program::start(&wrapper, &["echo=:0"], "info", 1);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let files: Vec<&str> = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(files[3..5], ["200", "200"]);
    signal(&program, Signal::TERM);
    assert!(stderr(program).contains(": 200 open files allow 1"));
}

#[test]
fn inherited_descriptors_count_as_taken() {
    if !have("prlimit") || !have("bash") {
        return;
    }
    // Of --status: its listener, sixteen clients, and one more that takes the place of another.
    for (opened, args, allowed) in [
        ("", &["echo=:0"][..], 167),
        (
            "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 50</dev/null",
            &["echo=:0"],
            162,
        ),
        ("", &["echo=:0", "time=:0", "--status=:0"], 148),
    ] {
        // The test itself may have inherited some.
        let close = "for fd in /proc/self/fd/*; do fd=${fd##*/}; (( fd > 2 )) && eval \"exec $fd>&-\"; done";
        let script = format!("{close}\n{opened}\nexec \"$@\"");
        let wrapper = [
            "prlimit",
            "--nofile=64:200",
            "--",
            "bash",
            "-c",
            &script,
            "bash",
        ];
        let program = Program::start(&wrapper, args, "info", 1);
        signal(&program, Signal::TERM);
        let line = format!("200 open files allow {allowed} connections; the limit is {allowed}");
        let log = stderr(program);
        assert!(log.contains(&line), "{log}");
    }
}

#[test]
fn max_connections_and_idle_timeout_reach_the_loop() {
    let program = Program::serve(&[
        "echo=:0",
        "--max-connections",
        "1",
        "--idle-timeout",
        "100ms",
    ]);
    let mut first = client(program.address("echo"));
    assert_eq!(echo(&mut first, b"1"), b"1");
    let mut second = client(program.address("echo"));
    second.write_all(b"2").unwrap();
    // The first stays idle and is closed for it; only then is the second let in.
    assert_eq!(read_all(&mut first).unwrap(), b"");
    assert_eq!(read_exactly(&mut second, 1), b"2");
}

/// The send buffer of the connections to each service, as the kernel counts it: twice SO_SNDBUF
/// (socket(7)).
fn send_buffers(args: &[&str]) -> Vec<u32> {
    let program = Program::serve(args);
    let listening = program.listening.iter();
    let buffer = |address: SocketAddr| {
        let _client = client(address);
        let filter = format!("( sport = :{} )", address.port());
        let mut ss = Command::new("ss");
        let output = ss.args(["-Htnm", "state", "established", &filter]).output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let (_, buffer) = output.split_once(",tb").expect(&output);
        buffer.split(',').next().unwrap().parse().unwrap()
    };
    listening.map(|(_, address)| buffer(*address)).collect()
}

#[test]
fn a_client_that_never_reads_fills_a_send_buffer_of_the_size_that_is_asked_for() {
    if !have("ss") {
        return;
    }
    let chargen = send_buffers(&["chargen=:0"]);
    assert_eq!(chargen, [2 * 256 * 1024]);
    let both = send_buffers(&["chargen=:0", "echo=:0", "--send-buffer", "65536"]);
    assert_eq!(both, [2 * 65536; 2]);
}

/// Two do nothing, or nearly so, and one moves bytes all the time.
#[test]
fn a_connection_that_moves_too_few_bytes_is_reset_and_no_other() {
    let program = Program::serve(&["echo=:0", "--min-rate", "100/2s"]);
    let begin = Instant::now();
    let [mut slow, mut mute] = [(); 2].map(|()| client(program.address("echo")));
    slow.write_all(b"x").unwrap();
    assert_eq!(read_exactly(&mut slow, 1), b"x");
    slow.set_nonblocking(true).unwrap();
    let mut busy = client(program.address("echo"));
    while let Err(error) = slow.read(&mut [0]) {
        if error.kind() == ErrorKind::ConnectionReset {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "it is never reset");
        assert_eq!(echo(&mut busy, &[b'y'; 1000]).len(), 1000);
    }
    // It had a whole span.
    assert!(begin.elapsed() >= Duration::from_millis(1990));
    assert_eq!(echo(&mut busy, b"still there"), b"still there");
    let error = mute.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(busy);
    // All are counted, in one line or in two.
    let log = program.terminate();
    let told = "moved fewer than 100 bytes in 2s and were reset since the last message: ";
    let counts = log.split(told).skip(1);
    let counts = counts.map(|rest| rest.lines().next().unwrap().parse::<u32>().unwrap());
    assert_eq!(counts.sum::<u32>(), 2, "{log}");
}

#[test]
fn a_rate_that_is_none_is_wrong_usage() {
    for word in [
        "100", "100/", "/1s", "0/1s", "many/1s", "100/soon", "100/0s",
    ] {
        let message = refusal(&["serve", "echo=:0", "--min-rate", word], 2);
        assert!(message.contains("--min-rate "), "{message}");
    }
    let message = refusal(&["serve", "echo=:0", "--max-lifetime", "0s"], 2);
    assert!(message.contains("--max-lifetime 0 "), "{message}");
}

/// A client that sends a byte before each idle timeout would stay for ever.
#[test]
fn a_connection_ends_when_its_lifetime_is_over_whatever_it_does() {
    let program = Program::serve(&["echo=:0", "--max-lifetime", "1s"]);
    let begin = Instant::now();
    let mut stream = client(program.address("echo"));
    let mut byte = [b'x'];
    while stream.write_all(&byte).is_ok() && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        assert!(begin.elapsed() < PATIENCE, "it never ends");
    }
    assert!(begin.elapsed() >= Duration::from_millis(990));
    // The next one has a time of its own.
    let mut stream = client(program.address("echo"));
    stream.write_all(b"y").unwrap();
    assert_eq!(stream.read(&mut byte).unwrap(), 1);
}
