//! The six services of the built program, byte for byte.

mod common;

use common::{Program, client, echo, read_all, read_exactly};
use doorkeeper::services::Chargen;
use doorkeeper::{Config, Reactor};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime};

/// Lines of chargen as RFC 864 describes them: 72 of the 95 printable characters, each line one
/// further round the ring.
fn chargen_line(number: usize) -> Vec<u8> {
    let characters = (0..72).map(|column| b' ' + ((number + column) % 95) as u8);
    characters.chain(*b"\r\n").collect()
}

fn seconds_since_1900() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 2_208_988_800
}

#[test]
fn echo_sends_back_every_byte_and_then_the_end() {
    let program = Program::serve(&["echo=:0"]);
    let mut stream = client(program.address("echo"));
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(echo(&mut stream, &every_byte), every_byte);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"last words");
}

#[test]
fn discard_answers_nothing_and_closes_after_the_peer() {
    let program = Program::serve(&["discard=:0"]);
    let mut stream = client(program.address("discard"));
    stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
}

#[test]
fn chargen_sends_the_ring_through_its_whole_period_twice() {
    let program = Program::serve(&["chargen=:0"]);
    let mut stream = client(program.address("chargen"));
    let wanted: Vec<u8> = (0..200).flat_map(chargen_line).collect();
    assert_eq!(read_exactly(&mut stream, wanted.len()), wanted);
}

/// Reads all that is there; the bytes are those of the ring from `at` on. Returns the new place.
fn read_ring(stream: &mut TcpStream, ring: &[u8], mut at: usize) -> usize {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match stream.read(&mut bytes) {
            Ok(count) => {
                assert!(count > 0, "chargen never ends");
                for &byte in &bytes[..count] {
                    assert_eq!(byte, ring[at % ring.len()], "byte {at}");
                    at += 1;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return at,
            Err(error) => panic!("{error}"),
        }
    }
}

/// 64 connections with room for 64 KiB each would write 4 MiB in a turn, in which a client of another
/// service waits.
#[test]
fn many_connections_of_chargen_leave_a_turn_to_others_and_all_go_on() {
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let listen = reactor.listen(([127, 0, 0, 1], 0).into(), |_| Some(Chargen::default()));
    let address = reactor.local_addr(listen.unwrap()).unwrap();
    let mut clients: Vec<(TcpStream, usize)> = (0..64).map(|_| (client(address), 0)).collect();
    for (stream, _) in &mut clients {
        stream.set_nonblocking(true).unwrap();
    }
    let ring: Vec<u8> = (0..95).flat_map(chargen_line).collect();
    let mut turns = 0;
    while clients.iter().any(|&(_, at)| at < 1 << 18) {
        let before = reactor.stats().bytes_sent;
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let sent = reactor.stats().bytes_sent - before;
        assert!(sent <= (512 + 64) * 1024, "{sent} bytes in one turn");
        for (stream, at) in &mut clients {
            *at = read_ring(stream, &ring, *at);
        }
        turns += 1;
        assert!(turns < 10_000, "somebody gets nothing");
    }
}

#[test]
fn chargen_discards_input_while_it_sends() {
    let program = Program::serve(&["chargen=:0"]);
    let mut stream = client(program.address("chargen"));
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(&vec![b'x'; 8 << 20]).unwrap());
    let wanted: Vec<u8> = (0..20_000).flat_map(chargen_line).collect();
    assert_eq!(read_exactly(&mut stream, wanted.len()), wanted);
    sending.join().unwrap();
}

#[test]
fn chargen_stays_within_its_buffers_when_nobody_reads() {
    let program = Program::serve(&["chargen=:0", "echo=:0"]);
    let mute: Vec<_> = (0..20)
        .map(|_| client(program.address("chargen")))
        .collect();
    let mut other = client(program.address("echo"));
    for _ in 0..100 {
        assert_eq!(echo(&mut other, b"still here"), b"still here");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 32 * 1024, "{kilobytes} kB resident");
    drop(mute);
}

#[test]
fn daytime_is_one_line_as_asctime_writes_it() {
    let program = Program::serve(&["daytime=:0", "--utc"]);
    let line =
        String::from_utf8(read_all(&mut client(program.address("daytime"))).unwrap()).unwrap();
    let sent = jiff_free_parse(&line);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(now.abs_diff(sent) < 60, "{line:?}");
}

/// Seconds since 1970 of a line such as `Tue Nov 24 02:42:17 2026\r\n`, read by place and not by
/// any library.
fn jiff_free_parse(line: &str) -> u64 {
    assert_eq!(line.len(), 26, "{line:?}");
    assert!(line.ends_with("\r\n"));
    let number = |from: usize, to: usize| line[from..to].trim_start().parse::<u64>().unwrap();
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec"
        .find(&line[4..7])
        .unwrap() as u64
        / 3;
    let (day, year) = (number(8, 10), number(20, 24));
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let years: u64 = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum();
    let days = years + lengths[..month as usize].iter().sum::<u64>() + day - 1;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    assert_eq!(&line[..3], weekday, "{line:?}");
    days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19)
}

#[test]
fn time_is_four_bytes_in_network_order_since_1900() {
    let program = Program::serve(&["time=:0"]);
    let before = seconds_since_1900();
    let answer = read_all(&mut client(program.address("time"))).unwrap();
    let after = seconds_since_1900();
    let sent = u64::from(u32::from_be_bytes(answer.try_into().unwrap()));
    assert!((before..=after).contains(&((before & !0xffff_ffff) | sent)));
}

#[test]
fn qotd_hands_out_the_quotes_of_a_file_by_turn() {
    let path = std::env::temp_dir().join(format!("doorkeeper-quotes-{}", std::process::id()));
    std::fs::write(&path, "one\n%\ntwo\nlines\n%\n").unwrap();
    let program = Program::serve(&["qotd=:0", "--quotes", path.to_str().unwrap()]);
    let quote = || read_all(&mut client(program.address("qotd"))).unwrap();
    assert_eq!(
        [quote(), quote(), quote()],
        [&b"one\r\n"[..], b"two\r\nlines\r\n", b"one\r\n"]
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn qotd_skips_long_quotes_and_says_how_many() {
    let path = std::env::temp_dir().join(format!("doorkeeper-long-{}", std::process::id()));
    let long = "x".repeat(600);
    std::fs::write(&path, format!("{long}\n%\nshort\n%\n{long}\n")).unwrap();
    let args = ["qotd=:0", "--quotes", path.to_str().unwrap()];
    let mut program = Program::start(&[], &args, "warn", 1);
    for _ in 0..3 {
        let mut stream = client(program.address("qotd"));
        assert_eq!(read_all(&mut stream).unwrap(), b"short\r\n");
    }
    let mut line = String::new();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    assert!(line.contains("1 quotes; 2 more are skipped"), "{line}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn qotd_has_quotes_of_its_own_of_at_most_512_bytes() {
    let program = Program::serve(&["qotd=:0"]);
    for _ in 0..8 {
        let quote = read_all(&mut client(program.address("qotd"))).unwrap();
        assert!((1..=512).contains(&quote.len()));
        assert!(quote.ends_with(b"\r\n"));
    }
}

/// Closing with unread input would reset the connection and destroy the answer (TRAPS: closing with
/// unread input).
#[test]
fn short_answers_reach_a_client_that_keeps_sending() {
    let program = Program::serve(&["daytime=:0", "time=:0", "qotd=:0"]);
    for (service, least) in [("daytime", 26), ("time", 4), ("qotd", 10)] {
        let mut stream = client(program.address(service));
        let mut sender = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let mut sent = 0;
            while sent < 16 << 20 && sender.write_all(&[b'x'; 4096]).is_ok() {
                sent += 4096;
            }
        });
        let answer = read_all(&mut stream).unwrap();
        assert!(answer.len() >= least, "{service}: {answer:?}");
        stream.shutdown(Shutdown::Both).unwrap_or(());
        sending.join().unwrap();
    }
}

#[test]
fn all_six_answer_side_by_side_over_ipv6() {
    let names = ["echo", "discard", "daytime", "qotd", "chargen", "time"];
    let args = names.map(|name| format!("{name}=[::1]:0"));
    let program = Program::serve(&args.each_ref().map(String::as_str));
    for (name, wanted) in names.into_iter().zip([0, 0, 26, 10, 74, 4]) {
        let mut stream = client(program.address(name));
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        read_exactly(&mut stream, wanted);
    }
}
