//! The examples, each run with real clients.

mod common;

use common::{
    Example, PATIENCE, Program, blocking_listener, built, client, echo, limited, read_all,
    read_exactly, refusing_address, reset, resident,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn the_echo_sends_back_what_it_gets() {
    let example = Example::start("echo");
    let mut stream = client(example.address);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
}

#[test]
fn the_calculator_frames_requests_however_they_come() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    let wanted =
        b"5\n-6\nerror: division by zero\nerror: too large\nerror: write a sum as in: 2 + 3\n4\n";
    let sums = b"2 + 3\n2 * -3\r\n1 / 0\n9223372036854775807 + 1\nhello\n9 / 2\n";
    assert_eq!(answer(&mut stream, sums, wanted.len()), wanted);
    // One request in many reads: without delay each byte is a segment of its own.
    stream.set_nodelay(true).unwrap();
    for byte in b"20 - 1" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(answer(&mut stream, b"\n", 3), b"19\n");
    // The last line has no end.
    stream.write_all(b"1 + 1\n2 +").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        read_all(&mut stream).unwrap(),
        b"2\nerror: the last line has no end\n"
    );
}

/// Sends a request, and reads an answer of `count` bytes.
fn answer(stream: &mut TcpStream, request: &[u8], count: usize) -> Vec<u8> {
    stream.write_all(request).unwrap();
    read_exactly(stream, count)
}

#[test]
fn the_calculator_answers_a_flood_of_requests_to_a_slow_reader() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        sender
            .write_all(&b"12345 * 100000\n".repeat(200_000))
            .unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(
        read_all(&mut stream).unwrap(),
        b"1234500000\n".repeat(200_000)
    );
    sending.join().unwrap();
}

#[test]
fn the_calculator_refuses_a_line_that_is_too_long() {
    let example = Example::start("calculator");
    let mut stream = client(example.address);
    stream.write_all(&[b'1'; 257]).unwrap();
    assert_eq!(
        read_all(&mut stream).unwrap(),
        b"error: a line has at most 256 bytes\n"
    );
}

/// A new member and its name. It has joined once `listener` has received its first line.
fn joined(
    example: &Example,
    listener: &mut BufReader<TcpStream>,
) -> (BufReader<TcpStream>, String) {
    let stream = client(example.address);
    let name = stream.local_addr().unwrap().to_string();
    (&stream).write_all(b"hi\n").unwrap();
    assert_eq!(line(listener), format!("{name}: hi\n"));
    (BufReader::new(stream), name)
}

#[test]
fn chat_sends_a_line_to_all_other_members() {
    let example = Example::start("chat");
    let mut first = BufReader::new(client(example.address));
    // Connections are accepted in their order, so the first has joined before the others.
    let (mut second, _) = joined(&example, &mut first);
    let (third, name) = joined(&example, &mut first);
    assert_eq!(line(&mut second), format!("{name}: hi\n"));
    third.get_ref().write_all(b"one\r\ntwo\nthr").unwrap();
    third.get_ref().write_all(b"ee\n").unwrap();
    for listener in [&mut first, &mut second] {
        for word in ["one", "two", "three"] {
            assert_eq!(line(listener), format!("{name}: {word}\n"));
        }
    }
}

#[test]
fn a_chat_member_that_does_not_read_slows_nobody_and_is_told_what_it_missed() {
    let example = Example::start("chat");
    let mut reader = BufReader::new(client(example.address));
    let (mut slow, _) = joined(&example, &mut reader);
    let (talker, name) = joined(&example, &mut reader);
    assert_eq!(line(&mut slow), format!("{name}: hi\n"));
    let text = "x".repeat(1000);
    let said = 20_000;
    let mut sender = talker.get_ref().try_clone().unwrap();
    let message = format!("{text}\n").into_bytes();
    let sending =
        std::thread::spawn(move || (0..said).for_each(|_| sender.write_all(&message).unwrap()));
    let wanted = format!("{name}: {text}\n");
    // A member that reads may also miss lines on a busy machine, and is then told. It never waits
    // for the slow one.
    let mut heard = 0;
    while heard < said {
        heard += count_line(&line(&mut reader), &wanted);
    }
    sending.join().unwrap();
    let (mut heard, mut missed) = (0, 0);
    while heard < said {
        let line = line(&mut slow);
        let count = count_line(&line, &wanted);
        missed += if line == wanted { 0 } else { count };
        heard += count;
    }
    assert!(missed > 0, "it missed nothing");
}

/// How many lines this one stands for: itself, or the missed ones that it counts.
fn count_line(line: &str, wanted: &str) -> usize {
    if line == wanted {
        return 1;
    }
    let count = line
        .strip_prefix("* you missed ")
        .and_then(|rest| rest.strip_suffix(" lines\n"));
    count
        .unwrap_or_else(|| panic!("neither a whole line nor a count of missed ones: {line:?}"))
        .parse()
        .unwrap()
}

/// A megabyte that differs for each number and each direction (`seed`).
fn megabyte(seed: usize, number: usize) -> Vec<u8> {
    (0..1_usize << 20)
        .map(|i| (i ^ (i >> 8) ^ (number * 31) ^ seed) as u8)
        .collect()
}

/// Sends `count` megabytes and ends the output, on a thread of its own.
fn send(mut stream: TcpStream, seed: usize, count: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        (0..count).for_each(|number| stream.write_all(&megabyte(seed, number)).unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

/// Reads `count` megabytes and the end. Calls `each` after each of them.
fn receive(stream: &mut TcpStream, seed: usize, count: usize, mut each: impl FnMut(usize)) {
    for number in 0..count {
        assert!(
            read_exactly(stream, 1 << 20) == megabyte(seed, number),
            "megabyte {number} of {seed}"
        );
        each(number);
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more than was sent");
}

/// A relay between two sockets of the test: the client's and the server's.
fn relayed() -> (Example, TcpStream, TcpStream) {
    let (listener, target) = blocking_listener();
    let relay = Example::start_with("relay", &[&target.to_string()]);
    let near = client(relay.address);
    let far = limited(listener.accept().unwrap().0);
    (relay, near, far)
}

#[test]
fn the_relay_passes_a_hundred_megabytes_each_way_with_one_slow_end_in_flat_memory() {
    const COUNT: usize = 100;
    let (relay, mut near, mut far) = relayed();
    let sending = [
        send(near.try_clone().unwrap(), 1, COUNT),
        send(far.try_clone().unwrap(), 2, COUNT),
    ];
    // The near end reads nothing until the far end has read everything. Its direction is full
    // meanwhile, and must not hold up the other.
    let mut early = 0;
    receive(&mut far, 1, COUNT, |number| {
        if number == 4 {
            early = resident(relay.child.id());
        }
    });
    let full = resident(relay.child.id());
    receive(&mut near, 2, COUNT, |_| ());
    sending
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let late = resident(relay.child.id());
    assert!(early < 16 << 20, "{early} bytes");
    assert!(
        full.max(late) < early + (1 << 20),
        "grew from {early} to {full} and {late} bytes"
    );
}

#[test]
fn the_relay_passes_on_a_half_close_and_the_answer_to_it() {
    let (_relay, mut near, mut far) = relayed();
    near.write_all(b"a question").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut far).unwrap(), b"a question");
    far.write_all(b"its answer").unwrap();
    drop(far);
    assert_eq!(read_all(&mut near).unwrap(), b"its answer");
}

#[test]
fn a_reset_of_one_end_closes_the_other_end_of_the_relay() {
    let (relay, mut near, far) = relayed();
    reset(far);
    let end = near.read(&mut [0]);
    assert!(end.as_ref().map_or(true, |&count| count == 0), "{end:?}");
    // The listener is closed, so the relay closes a new connection at once, perhaps before it is used.
    let stream = TcpStream::connect(relay.address);
    let end = stream.and_then(|stream| limited(stream).read(&mut [0]));
    assert!(end.as_ref().map_or(true, |&count| count == 0), "{end:?}");
}

#[test]
fn two_relays_in_a_row_before_an_echo_do_not_deadlock() {
    let program = Program::serve(&["echo=:0"]);
    let target = program.address("echo").to_string();
    let inner = Example::start_with("relay", &[&target]);
    let relay = Example::start_with("relay", &[&inner.address.to_string()]);
    let mut near = client(relay.address);
    let sending = send(near.try_clone().unwrap(), 3, 30);
    receive(&mut near, 3, 30, |_| ());
    sending.join().unwrap();
}

#[test]
fn the_host_loop_echoes_over_tcp_and_udp() {
    let example = Example::start("host_loop");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.connect(example.address).unwrap();
    let mut tcp = client(example.address);
    for round in 0..100 {
        let bytes = vec![round; 1 + usize::from(round) * 50];
        assert_eq!(echo(&mut tcp, &bytes), bytes);
        udp.send(&bytes[..1]).unwrap();
        let mut answer = [0; 10];
        assert_eq!((udp.recv(&mut answer).unwrap(), answer[0]), (1, round));
    }
}

#[test]
fn two_loops_share_a_port_and_one_owner_stops_both() {
    let mut example = Example::start("two_loops");
    let mut streams: Vec<TcpStream> = (0..64).map(|_| client(example.address)).collect();
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(echo(stream, b"hello"), b"hello"));
    drop(example.child.stdin.take());
    // Open connections are served to their end.
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(echo(stream, b"still here"), b"still here"));
    drop(streams);
    let mut line = String::new();
    example.stdout.read_line(&mut line).unwrap();
    let counts: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(
        counts.len() == 2
            && counts.iter().all(|&count| count > 0)
            && counts.iter().sum::<u64>() == 64,
        "{line}"
    );
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn the_client_prints_the_answer_and_how_the_connection_ended() {
    let echo = Example::start("echo");
    let run = |address: SocketAddr| {
        Command::new(built("client"))
            .args([&address.to_string(), "good", "morning"])
            .output()
            .unwrap()
    };
    let output = run(echo.address);
    assert!(output.status.success());
    assert_eq!(output.stdout, b"good morning\n");
    let told = format!("{}: finished; 13 bytes sent, 13 received\n", echo.address);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), told);
    let nobody = refusing_address();
    let told = format!("{nobody}: refused; 0 bytes sent, 0 received\n");
    assert_eq!(String::from_utf8(run(nobody).stderr).unwrap(), told);
}

/// Standard output may take a part of a text that has a line and more.
#[test]
fn the_client_prints_all_of_an_answer_that_does_not_end_with_a_line() {
    let (listener, address) = blocking_listener();
    let answer = [&b"a line\n"[..], &[b'x'; 5000]].concat();
    let sent = answer.clone();
    let server = std::thread::spawn(move || {
        let mut stream = limited(listener.accept().unwrap().0);
        read_all(&mut stream).unwrap();
        stream.write_all(&sent).unwrap();
    });
    let mut command = Command::new(built("client"));
    let output = command.arg(address.to_string()).output().unwrap();
    server.join().unwrap();
    assert!(output.stdout == answer, "{}", output.stdout.len());
}
