//! `doorkeeper connect`: files, pipes and terminals on its two ends, every way to fail, and the
//! servers of others.

mod common;

use common::{PATIENCE, Program, alone, have, only_child, peak, read_exactly};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorkeeper");

/// `doorkeeper connect ARGS`, for a minute at most.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=1", "60", PROGRAM, "connect"])
        .args(args)
        .env("RUST_LOG", "error");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end with this on its standard input, which then ends.
fn connect(args: &[&str], input: &[u8]) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // It may end before it has read everything.
    let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    output
}

/// What it printed, and that both ends finished.
fn answer(args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = connect(args, input);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Its one line on stderr, with this status.
fn complaint(output: &Output, status: i32) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{message}");
    assert!(
        message.starts_with("doorkeeper: ") && message.lines().count() == 1,
        "{message}"
    );
    message
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A server for one connection: what the closure makes of it, and what it returns.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        serve(stream)
    });
    (address, thread)
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn a_pipe_through_an_echo_comes_back_whole() {
    let program = Program::serve(&["echo=:0"]);
    let (address, input) = (program.address("echo").to_string(), noise(20_000_000));
    assert!(answer(&[&address], &input) == input);
    assert_eq!(answer(&[&address], b""), b"");
    // From a file into a file.
    let folder = std::env::temp_dir().join(format!("doorkeeper-connect-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (from, into) = (folder.join("from"), folder.join("into"));
    std::fs::write(&from, &input).unwrap();
    let mut files = command(&[&address]);
    files
        .stdin(std::fs::File::open(from).unwrap())
        .stdout(std::fs::File::create(&into).unwrap());
    assert!(files.status().unwrap().success());
    assert!(std::fs::read(into).unwrap() == input);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_end_of_standard_input_is_carried_across_and_the_answer_still_comes() {
    let (address, thread) = server(|mut stream| {
        let heard = read_to_end(&mut stream);
        stream.write_all(b"heard").unwrap();
        heard
    });
    assert_eq!(answer(&[&address], b"a question"), b"heard");
    assert_eq!(thread.join().unwrap(), b"a question");
}

#[test]
fn without_half_close_the_end_of_standard_input_is_kept_to_itself() {
    let (address, thread) = server(|mut stream| {
        assert_eq!(read_exactly(&mut stream, 10), b"a question");
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let quiet = stream.read(&mut [0]).unwrap_err().kind();
        stream.write_all(b"heard").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (quiet, read_to_end(&mut stream).len())
    });
    assert_eq!(
        answer(&["--no-half-close", &address], b"a question"),
        b"heard"
    );
    assert_eq!(thread.join().unwrap(), (ErrorKind::WouldBlock, 0));
}

#[test]
fn a_server_that_is_done_ends_it_though_standard_input_stays_open() {
    let program = Program::serve(&["daytime=:0"]);
    let start = Instant::now();
    let mut child = command(&[&program.address("daytime").to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert!(
        output.status.success() && output.stdout.len() == 26,
        "{output:?}"
    );
    assert!(start.elapsed() < PATIENCE);
}

/// A server may end its output and go on reading: nothing that standard input still gives is lost.
#[test]
fn a_server_that_only_listens_gets_everything() {
    let input = noise(5_000_000);
    let (address, thread) = server(|mut stream| {
        stream.write_all(b"go on").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream)
    });
    assert_eq!(answer(&[&address], &input), b"go on");
    assert!(thread.join().unwrap() == input);
}

/// A server that half-closes at once and returns everything that it then reads.
fn listener_only() -> (String, JoinHandle<Vec<u8>>) {
    server(|mut stream| {
        stream.write_all(b"banner\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream)
    })
}

/// Standard input pauses after the server's end. Whatever happens, the status tells whether all of
/// it has arrived.
#[test]
fn input_that_pauses_after_the_servers_end_is_sent_or_the_status_is_1() {
    for (linger, status) in [(&["--linger", "1h"][..], 0), (&[], 1)] {
        let (address, thread) = listener_only();
        let args = [linger, &[address.as_str()]].concat();
        let mut child = command(&args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"one\n").unwrap();
        let mut banner = [0; 7];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut banner).unwrap();
        if status == 0 {
            // Longer than the default.
            std::thread::sleep(Duration::from_millis(700));
            stdin.write_all(b"two\n").unwrap();
            drop(stdin);
            assert!(child.wait().unwrap().success());
            assert_eq!(thread.join().unwrap(), b"one\ntwo\n");
        } else {
            // Standard input stays open until the program has ended.
            let output = child.wait_with_output().unwrap();
            let message = complaint(&output, 1);
            assert!(
                message.contains("standard input has not ended; --linger waits longer"),
                "{message}"
            );
            assert_eq!(thread.join().unwrap(), b"one\n");
        }
    }
}

/// The default gives a producer time: it is not shorter than it says.
#[test]
fn the_default_linger_is_half_a_second() {
    let (address, thread) = listener_only();
    let mut child = command(&[&address]).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let mut banner = [0; 7];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut banner).unwrap();
    let start = Instant::now();
    assert_eq!(thread.join().unwrap(), b"");
    let lingered = start.elapsed();
    assert!(lingered > Duration::from_millis(400), "{lingered:?}");
    // An input that never gave a byte is not in use.
    assert!(child.wait().unwrap().success());
    drop(stdin);
}

/// A peer that reads late is not an input that gives nothing. The linger is far above what a busy
/// machine delays the writer of standard input.
#[test]
fn a_slow_server_gets_all_input_although_it_pauses_for_longer_than_the_linger() {
    let input = noise(20_000_000);
    let (address, thread) = server(|mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(2000));
        read_to_end(&mut stream)
    });
    assert_eq!(answer(&["--linger", "700ms", &address], &input), b"");
    assert!(thread.join().unwrap() == input);
}

/// With a linger of zero the rest of the input is cut off, and the status says so.
#[test]
fn input_that_is_cut_off_is_counted() {
    let (address, thread) = server(|mut stream| {
        assert_eq!(read_exactly(&mut stream, 4), b"one\n");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let mut child = command(&["--linger", "0s", &address])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(complaint(&output, 1).contains("standard input has not ended"));
    thread.join().unwrap();
}

/// What was read from standard input and not sent is counted.
#[test]
fn input_that_the_connection_has_not_taken_is_counted() {
    let (address, thread) = server(|mut stream| {
        read_exactly(&mut stream, 1);
        // Until the buffers between are full, nothing may be unsent.
        std::thread::sleep(Duration::from_secs(1));
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest.len() + 1
    });
    let input = noise(20_000_000);
    let output = connect(&["--linger", "0s", &address], &input);
    let message = complaint(&output, 1);
    let (before, _) = message.split_once(" bytes of standard input").unwrap();
    let unsent: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
    let received = thread.join().unwrap();
    // The rest was still in the pipe.
    assert!(unsent > 0 && received + unsent < input.len(), "{message}");
}

#[test]
fn a_closed_standard_output_is_a_failure() {
    let program = Program::serve(&["daytime=:0"]);
    let line = format!("exec {PROGRAM} connect {} >&-", program.address("daytime"));
    let mut shell = Command::new("sh");
    let output = shell
        .args(["-c", &line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let message = complaint(&output, 1);
    assert!(
        message.contains("cannot write to standard output: it is closed"),
        "{message}"
    );
    // Output that is thrown away on purpose is no failure.
    let mut child = command(&[&program.address("daytime").to_string()]);
    assert!(child.stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn a_terminal_is_given_back_at_once_and_still_blocks() {
    if !have("script") {
        return;
    }
    let program = Program::serve(&["daytime=:0", "echo=:0"]);
    let terminal = |service: &str, input: &'static [u8]| {
        let line = format!("{PROGRAM} connect {}", program.address(service));
        let mut script = Command::new("timeout");
        script.args([
            "--kill-after=1",
            "20",
            "script",
            "--quiet",
            "--return",
            "--echo",
            "never",
            "--command",
            &line,
            "/dev/null",
        ]);
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(terminal("daytime", b"").trim_end().len(), 24);
    // Ctrl-D is the end of a terminal's input.
    assert_eq!(
        terminal("echo", b"over a terminal\n\x04").trim_end(),
        "over a terminal"
    );
}

fn feed(mut stdin: ChildStdin, count: usize) -> JoinHandle<ChildStdin> {
    std::thread::spawn(move || {
        let piece = noise(1 << 20);
        (0..count >> 20).for_each(|_| stdin.write_all(&piece).unwrap());
        stdin
    })
}

#[test]
fn a_gigabyte_through_a_pipe_leaves_memory_flat() {
    const COUNT: usize = 1 << 30;
    let program = Program::serve(&["echo=:0"]);
    let mut child = command(&[&program.address("echo").to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let feed = feed(child.stdin.take().unwrap(), COUNT);
    let (mut stdout, mut piece, wanted, mut early) = (
        child.stdout.take().unwrap(),
        vec![0; 1 << 20],
        noise(1 << 20),
        0,
    );
    for number in 0..COUNT >> 20 {
        stdout.read_exact(&mut piece).unwrap();
        assert!(piece == wanted, "megabyte {number}");
        if number == 16 {
            early = peak(only_child(child.id()));
        }
    }
    let grown = peak(only_child(child.id())) - early;
    assert!(grown < 1 << 20, "grew by {grown} bytes from {early}");
    assert!(early < 16 << 20, "{early} bytes");
    drop(feed.join().unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_slow_reader_of_standard_output_holds_the_socket_back() {
    let (sender, held_back) = std::sync::mpsc::channel();
    let (address, thread) = server(move |mut stream| {
        // So much and no more goes into buffers, for a second.
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let (piece, mut sent) = (noise(1 << 16), 0);
        while let Ok(count) = stream.write(&piece[sent % piece.len()..]) {
            sent += count;
            assert!(sent < 64 << 20, "nothing holds it back");
        }
        sender.send(()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let rest = piece.len() - sent % piece.len();
        stream.write_all(&piece[piece.len() - rest..]).unwrap();
        sent + rest
    });
    let mut child = command(&[&address]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut all, mut first) = (Vec::new(), [0]);
    stdout.read_exact(&mut first).unwrap();
    held_back.recv_timeout(PATIENCE).unwrap();
    all.push(first[0]);
    stdout.read_to_end(&mut all).unwrap();
    assert!(child.wait().unwrap().success());
    let (sent, piece) = (thread.join().unwrap(), noise(1 << 16));
    assert!(all.len() == sent && all.chunks(piece.len()).all(|chunk| chunk == piece));
}

#[test]
fn a_reader_that_goes_away_is_a_failure_that_is_named() {
    let program = Program::serve(&["chargen=:0"]);
    let mut child = command(&[&program.address("chargen").to_string()])
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 74]).unwrap();
    drop(stdout);
    let message = complaint(&child.wait_with_output().unwrap(), 1);
    assert!(
        message.contains("cannot write to standard output: Broken pipe"),
        "{message}"
    );
}

#[test]
fn standard_input_that_cannot_be_read_is_named() {
    let program = Program::serve(&["echo=:0"]);
    let mut child = command(&[&program.address("echo").to_string()]);
    let output = child
        .stdin(std::fs::File::open("/").unwrap())
        .output()
        .unwrap();
    assert!(complaint(&output, 1).contains("cannot read standard input: Is a directory"));
}

#[test]
fn what_is_not_an_address_is_named() {
    for (target, problem) in [
        ("256.0.0.1:7", "`256.0.0.1` is not an IPv4 address"),
        (
            "[fe80::1%nowhere]:7",
            "`nowhere` is not a network interface of this machine",
        ),
        (
            "no-such-name.invalid:7",
            "cannot find `no-such-name.invalid`",
        ),
    ] {
        let message = complaint(&connect(&[target], b""), 1);
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn a_host_and_a_port_are_two_words_too() {
    let program = Program::serve(&["daytime=127.0.0.1:0", "daytime=[::1]:0"]);
    for (_, address) in &program.listening {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        assert_eq!(answer(&[&host, &port], b"").len(), 26);
    }
}

/// A name whose first address does not answer, and what runs with it, in a network and with names
/// of their own.
fn with_a_dead_first_address(test: &str, run: impl FnOnce()) {
    if !have("unshare") || !have("ip") {
        return;
    }
    let hosts = std::env::temp_dir().join(format!("doorkeeper-dual-{test}"));
    std::fs::write(&hosts, "::1 dual\n127.0.0.1 dual\n").unwrap();
    let setup = format!(
        "ip link set lo up && mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
        hosts.display()
    );
    let options = ["--map-root-user", "--net", "--mount", "sh", "-ec", &setup];
    let wrapper = [&["unshare"], &options[..]].concat();
    if alone(test, &wrapper) {
        run();
    } else {
        std::fs::remove_file(hosts).unwrap();
    }
}

/// A listener at this port of ::1 whose accept queue is full, so that a request has no answer.
fn dead_listener(port: u16) -> (socket2::Socket, TcpStream) {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    (socket, common::client(address))
}

#[test]
fn a_dead_first_address_costs_a_quarter_of_a_second() {
    with_a_dead_first_address("a_dead_first_address_costs_a_quarter_of_a_second", || {
        let program = Program::serve(&["echo=127.0.0.1:0"]);
        let port = program.address("echo").port();
        let _dead = dead_listener(port);
        let start = Instant::now();
        assert_eq!(answer(&[&format!("dual:{port}")], b"hello"), b"hello");
        let mut bench = Command::new(PROGRAM);
        bench
            .args(["bench", &format!("dual:{port}"), "--connections=1"])
            .args(["--warm-up=0s", "--duration=10ms"]);
        assert!(bench.output().unwrap().status.success());
        // The first attempt alone would take 30 s, and 3 s in the bench.
        let took = start.elapsed();
        assert!(
            (Duration::from_millis(500)..Duration::from_millis(2800)).contains(&took),
            "{took:?}"
        );
    });
}

#[test]
fn an_address_that_answers_is_the_only_one_that_is_tried() {
    with_a_dead_first_address(
        "an_address_that_answers_is_the_only_one_that_is_tried",
        || {
            let program = Program::serve(&["echo=[::1]:0"]);
            let port = program.address("echo").port();
            let second = TcpListener::bind(("127.0.0.1", port)).unwrap();
            second.set_nonblocking(true).unwrap();
            assert_eq!(answer(&[&format!("dual:{port}")], b"hello"), b"hello");
            assert_eq!(second.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        },
    );
}

/// A link-local address means something only with its network interface.
#[test]
fn an_ipv6_zone_is_known_by_its_name() {
    if !have("unshare") || !have("ip") {
        return;
    }
    let setup =
        "ip link set lo up && ip -6 address add fe80::7/64 dev lo nodad && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--map-root-user", "--net", "sh", "-ec", setup];
    if !alone("an_ipv6_zone_is_known_by_its_name", &wrapper) {
        return;
    }
    let program = Program::serve(&["daytime=[fe80::7%lo]:0"]);
    let port = program.address("daytime").port();
    let target = format!("[fe80::7%lo]:{port}");
    assert_eq!(answer(&[&target], b"").len(), 26);
    let args = ["--source", "fe80::7%lo", "fe80::7%lo", &port.to_string()];
    assert_eq!(answer(&args, b"").len(), 26);
}

/// `ss -K` ends a connection on this machine. The peer has not reset it.
#[test]
fn a_connection_that_is_killed_on_this_machine_is_reported_as_that() {
    if !have("unshare") || !have("ip") || !have("ss") {
        return;
    }
    let setup = "ip link set lo up && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--map-root-user", "--net", "sh", "-ec", setup];
    if !alone(
        "a_connection_that_is_killed_on_this_machine_is_reported_as_that",
        &wrapper,
    ) {
        return;
    }
    let program = Program::serve(&["echo=127.0.0.1:0"]);
    let address = program.address("echo");
    let mut child = command(&[&address.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"here").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    let filter = format!("dport = {}", address.port());
    let mut kill = Command::new("ss");
    kill.args(["-K", "dst", "127.0.0.1"])
        .args(filter.split(' '));
    assert!(kill.output().unwrap().status.success());
    let message = complaint(&child.wait_with_output().unwrap(), 1);
    assert!(
        message.contains("ended on this machine") && !message.contains("peer"),
        "{message}"
    );
}

#[test]
fn a_local_port_in_time_wait_is_named_as_that() {
    let (address, thread) = server(drop);
    let source = format!("127.0.0.1:{}", nobody().port());
    // The client closes last, so a plain socket takes its port first.
    let local = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    local
        .bind(&source.parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    local
        .connect(&listener.local_addr().unwrap().into())
        .unwrap();
    let mut peer = listener.accept().unwrap().0;
    local.shutdown(Shutdown::Both).unwrap();
    assert_eq!(read_to_end(&mut peer), b"");
    drop(peer);
    drop(local);
    let output = connect(&["--source", &source, &address], b"");
    let message = complaint(&output, 1);
    assert!(message.contains("TIME_WAIT"), "{message}");
    let _ = TcpStream::connect(&address);
    thread.join().unwrap();
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn each_way_to_fail_has_its_own_word_and_names_the_address() {
    let address = nobody().to_string();
    let message = complaint(&connect(&[&address], b""), 1);
    assert!(
        message.contains(&format!("cannot connect to {address}: {address}: refused"))
            && message.contains("): is the server running?"),
        "{message}"
    );
    // A waiting room of backlog 0 that is full drops the request.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let _waiting = common::client(full);
    let message = complaint(&connect(&["--timeout", "300ms", &full.to_string()], b""), 1);
    assert!(
        message.contains(&format!(
            "{full}: timed out (no answer within 300 ms): is the address right, and does a firewall"
        )),
        "{message}"
    );
    let (address, thread) = server(|mut stream| {
        stream.write_all(b"half an ans").unwrap();
        assert_eq!(read_exactly(&mut stream, 2), b"go");
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let output = connect(&["--no-half-close", &address], b"go");
    assert!(complaint(&output, 1).contains(&format!("{address}: reset by peer")));
    thread.join().unwrap();
    let message = complaint(&connect(&["no-such-name.invalid:7"], b""), 1);
    assert!(
        message.contains("cannot find `no-such-name.invalid`"),
        "{message}"
    );
    let program = Program::serve(&["echo=:0"]);
    let address = program.address("echo").to_string();
    let message = complaint(
        &connect(
            &["--no-half-close", "--idle-timeout", "200ms", &address],
            b"",
        ),
        1,
    );
    assert!(message.contains(&format!("{address}: idle")), "{message}");
}

#[test]
fn an_unreachable_address_is_reported_and_each_address_of_a_name_is_tried() {
    if !have("unshare") || !have("ip") {
        return;
    }
    // A network of its own without routes, and names of its own.
    let many: String = (10..20).map(|n| format!("127.0.0.{n} many\n")).collect();
    let hosts = std::env::temp_dir().join(format!("doorkeeper-hosts-{}", std::process::id()));
    std::fs::write(
        &hosts,
        "127.0.0.2 several\n127.0.0.3 several\n192.0.2.1 nowhere\n".to_string() + &many,
    )
    .unwrap();
    let setup = format!(
        "ip link set lo up && mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
        hosts.display()
    );
    let wrapper = [
        "unshare",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-ec",
        &setup,
    ];
    if alone(
        "an_unreachable_address_is_reported_and_each_address_of_a_name_is_tried",
        &wrapper,
    ) {
        let message = complaint(&connect(&["nowhere:9"], b""), 1);
        assert!(
            message.contains("cannot connect to nowhere:9: 192.0.2.1:9: unreachable"),
            "{message}"
        );
        let message = complaint(&connect(&["several:9"], b""), 1);
        let [one, two] = ["127.0.0.2:9: refused", "127.0.0.3:9: refused"];
        assert!(
            message.contains("cannot connect to several:9: ")
                && message.contains(one)
                && message.contains(two),
            "{message}"
        );
        // An address that refuses does not delay the next one.
        let start = Instant::now();
        assert!(complaint(&connect(&["many:9"], b""), 1).contains("127.0.0.19:9: refused"));
        assert!(start.elapsed() < Duration::from_secs(2));
        let listener = TcpListener::bind("127.0.0.3:9").unwrap();
        let thread =
            std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"here").unwrap());
        assert_eq!(answer(&["several:9"], b""), b"here");
        thread.join().unwrap();
    } else {
        std::fs::remove_file(hosts).unwrap();
    }
}

#[test]
fn the_local_address_and_the_family_can_be_chosen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || [(); 2].map(|()| listener.accept().unwrap().1));
    let port = nobody().port();
    answer(&["--source", "127.0.0.9", &address], b"");
    answer(
        &[
            "-4",
            "-4",
            "--source",
            &format!("127.0.0.9:{port}"),
            &address,
        ],
        b"",
    );
    let [first, second] = thread.join().unwrap();
    assert_eq!(
        (first.ip(), second),
        (
            "127.0.0.9".parse().unwrap(),
            SocketAddr::from(([127, 0, 0, 9], port))
        )
    );
    for wrong in [&["-6"][..], &["--source", "::1"]] {
        let args: Vec<&str> = wrong.iter().copied().chain([address.as_str()]).collect();
        assert!(complaint(&connect(&args, b""), 1).contains("has no address that fits"));
    }
    let message = complaint(&connect(&["--source", "192.0.2.1", &address], b""), 1);
    assert!(
        message.contains("192.0.2.1 is not an address of this machine"),
        "{message}"
    );
}

#[test]
fn wrong_usage_names_what_would_be_right() {
    for (args, words) in [
        (&[][..], "HOST:PORT is missing"),
        (&["127.0.0.1"], "has no port; it must be HOST:PORT"),
        (
            &["127.0.0.1:7", "7"],
            "`7` after 127.0.0.1:7: there is one HOST:PORT, or one HOST PORT",
        ),
        (
            &["127.0.0.1", "echo"],
            "`echo` after 127.0.0.1: there is one HOST:PORT",
        ),
        (&["127.0.0.1", "7", "8"], "`8` after 127.0.0.1:7"),
        (&["[::g]:7"], "`::g` is not an IPv6 address"),
        (&["[127.0.0.1]:7"], "`127.0.0.1` is not an IPv6 address"),
        (&["[::1]:x"], "`x` is not a port"),
        (&[":0"], "the port must be from 1 to 65535"),
        (&["::1:7"], "an IPv6 address stands in brackets"),
        (&["-4", "-6", ":7"], "-4 and -6 exclude each other"),
        (
            &["--source", "here", ":7"],
            "--source here: must be an IP address",
        ),
        (
            &["--timeout", "0s", ":7"],
            "--timeout 0 would never connect",
        ),
        (&["--timeout", "3", ":7"], "must be a number with a unit"),
        (&["--idle-timeout", "0s", ":7"], "`none` means no timeout"),
        (&["--listen", ":7"], "see `doorkeeper connect --help`"),
    ] {
        let message = complaint(&connect(args, b""), 2);
        assert!(message.contains(words), "{args:?}: {message}");
    }
}

/// Someone else's server, ended by its own id when this is dropped.
struct Outside(Child);

impl Outside {
    /// Starts it, and waits until it listens.
    fn start(words: &[&str], address: &str) -> Outside {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        await_listener(address);
        Outside(child)
    }
}

/// Waits until the kernel knows of a listener there, without knocking: some servers serve one
/// client and no more.
fn await_listener(address: &str) {
    let (start, address) = (
        Instant::now(),
        address.parse::<std::net::SocketAddrV4>().unwrap(),
    );
    let entry = format!(
        "{:08X}:{:04X} 00000000:0000 0A",
        u32::from(*address.ip()).swap_bytes(),
        address.port()
    );
    while !std::fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .contains(&entry)
    {
        assert!(start.elapsed() < PATIENCE, "nobody listens on {address}");
        std::thread::yield_now();
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn writes(name: &str, text: &str) -> String {
    let path = std::env::temp_dir().join(format!("doorkeeper-{name}-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// The services that all inetds have built in.
fn built_in_services_answer(address: impl Fn(u16) -> String, name: &str) {
    let input = noise(1_000_000);
    assert!(answer(&[&address(7)], &input) == input, "{name} echo");
    assert_eq!(answer(&[&address(9)], &input), b"", "{name} discard");
    assert!(
        answer(&[&address(13)], b"").ends_with(b"\r\n"),
        "{name} daytime"
    );
    assert!(
        [4, 8].contains(&answer(&[&address(37)], b"").len()),
        "{name} time; inetutils sends eight bytes where long has"
    );
    let mut child = command(&[&address(19)]).spawn().unwrap();
    let mut line = [0; 74];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert!(line.ends_with(b"\r\n"), "{name} chargen");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn inetd_is_understood() {
    if !have("inetutils-inetd") {
        return;
    }
    let address = |port: u16| format!("127.77.0.2:{port}");
    let names = ["echo", "discard", "daytime", "time", "chargen"];
    let lines = names.map(|name| format!("127.77.0.2:{name} stream tcp nowait root internal\n"));
    let (conf, pid) = (
        writes("inetd.conf", &lines.concat()),
        writes("inetd.pid", ""),
    );
    let inetd = Outside::start(
        &["inetutils-inetd", "-d", &format!("--pidfile={pid}"), &conf],
        &address(19),
    );
    built_in_services_answer(address, "inetd");
    drop(inetd);
    [conf, pid]
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap_or_default());
}

#[test]
fn xinetd_is_understood() {
    if !have("xinetd") {
        return;
    }
    let address = |port: u16| format!("127.77.0.3:{port}");
    let names = ["echo", "discard", "daytime", "time", "chargen"];
    let services = names.map(|name| {
        format!("service {name}\n{{\ntype = INTERNAL\nid = {name}\nsocket_type = stream\nprotocol = tcp\nuser = root\nwait = no\n}}\n")
    });
    let conf = format!(
        "defaults\n{{\nbind = 127.77.0.3\ncps = 1000 1\n}}\n{}",
        services.concat()
    );
    let (conf, pid) = (writes("xinetd.conf", &conf), writes("xinetd.pid", ""));
    let xinetd = Outside::start(
        &["xinetd", "-dontfork", "-f", &conf, "-pidfile", &pid],
        &address(7),
    );
    built_in_services_answer(address, "xinetd");
    drop(xinetd);
    [conf, pid]
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap_or_default());
}

#[test]
fn ncat_is_understood() {
    if !have("ncat") {
        return;
    }
    // One client, its own input and output. With --exec it loses what lies in its pipe when the
    // client half-closes.
    let (port, input) = (nobody().port().to_string(), noise(1_000_000));
    let path = writes("ncat.in", "");
    std::fs::write(&path, &input).unwrap();
    let mut command = Command::new("timeout");
    command
        .args([
            "--kill-after=1",
            "20",
            "ncat",
            "--listen",
            "127.0.0.1",
            &port,
        ])
        .stdin(std::fs::File::open(&path).unwrap());
    let ncat = command.stdout(Stdio::piped()).spawn().unwrap();
    let heard = std::thread::spawn(move || ncat.wait_with_output().unwrap());
    let address = format!("127.0.0.1:{port}");
    await_listener(&address);
    assert!(answer(&[&address], &input) == input);
    assert!(heard.join().unwrap().stdout == input);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn socat_is_understood() {
    if !have("socat") {
        return;
    }
    let (port, input) = (nobody().port(), noise(1_000_000));
    let (socket, address) = (
        format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"),
        format!("127.0.0.1:{port}"),
    );
    let _socat = Outside::start(&["socat", "-t", "10", &socket, "EXEC:/bin/cat"], &address);
    assert!(answer(&[&address], &input) == input);
}
