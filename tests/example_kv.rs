//! The example `kv`, with the clients of Redis.

mod common;

use common::{Example, PATIENCE, client, have, peak, read_exactly};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};

/// Runs a program with this input, ended after a time that only a hang reaches. Returns what it
/// writes to standard output.
fn run(program: &str, address: SocketAddr, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("timeout")
        .args([&PATIENCE.as_secs().to_string(), program])
        .args(["-p", &address.port().to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program that ends early closes its input; what it says is checked by the caller.
    let writing = std::thread::spawn(move || _ = stdin.write_all(&input));
    let mut output = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut output).unwrap();
    writing.join().unwrap();
    let status = child.wait().unwrap();
    let text = String::from_utf8_lossy(&output[..output.len().min(1000)]);
    assert!(status.success(), "{program} {args:?}: {status}: {text}");
    output
}

fn redis_cli(address: SocketAddr, commands: &str) -> String {
    String::from_utf8(run("redis-cli", address, &[], commands.as_bytes())).unwrap()
}

/// Bytes without a pattern, for which xorshift is enough.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn kv_answers_redis_cli() {
    if !have("redis-cli") {
        return;
    }
    let example = Example::start("kv");
    let answers = [
        ("PING", "PONG"),
        ("ping hello", "hello"),
        ("ECHO \"two words\"", "two words"),
        ("GET name", ""),
        ("SET name \"a\\r\\nb\\x00\"", "OK"),
        ("GET name", "a\r\nb\0"),
        ("INCR counter", "1"),
        ("INCR counter", "2"),
        ("GET counter", "2"),
        ("INCR name", "ERR value is not an integer or out of range\n"),
        ("SET most 9223372036854775807", "OK"),
        ("INCR most", "ERR value is not an integer or out of range\n"),
        ("LPUSH list a b c", "3"),
        ("LPUSH list d", "4"),
        ("LRANGE list 0 -1", "d\nc\nb\na"),
        ("LRANGE list 1 2", "c\nb"),
        ("LRANGE list -2 100", "b\na"),
        ("LRANGE list 3 1", ""),
        ("LRANGE nothing 0 -1", ""),
        (
            "GET list",
            "WRONGTYPE Operation against a key holding the wrong kind of value\n",
        ),
        (
            "LPUSH name x",
            "WRONGTYPE Operation against a key holding the wrong kind of value\n",
        ),
        (
            "LRANGE name 0 1",
            "WRONGTYPE Operation against a key holding the wrong kind of value\n",
        ),
        ("DEL name list nothing", "2"),
        ("GET name", ""),
        ("GET", "ERR unknown command, or wrong number of arguments\n"),
        (
            "FLY away",
            "ERR unknown command, or wrong number of arguments\n",
        ),
    ];
    let commands: String = answers
        .iter()
        .map(|(command, _)| format!("{command}\n"))
        .collect();
    let wanted: String = answers
        .iter()
        .map(|(_, answer)| format!("{answer}\n"))
        .collect();
    assert_eq!(redis_cli(example.address, &commands), wanted);
}

#[test]
fn kv_executes_a_pipe_of_100_000_commands_of_each_form() {
    if !have("redis-cli") {
        return;
    }
    let example = Example::start("kv");
    let arrays = "*3\r\n$5\r\nLPUSH\r\n$4\r\nlist\r\n$1\r\nx\r\n".repeat(50_000);
    let commands = "INCR counter\r\n".repeat(50_000) + &arrays;
    let output = run(
        "redis-cli",
        example.address,
        &["--pipe"],
        commands.as_bytes(),
    );
    let output = String::from_utf8(output).unwrap();
    assert!(output.ends_with("errors: 0, replies: 100000\n"), "{output}");
    assert_eq!(redis_cli(example.address, "GET counter\n"), "50000\n");
    assert_eq!(redis_cli(example.address, "LPUSH list y\n"), "50001\n");
}

#[test]
fn kv_serves_redis_benchmark() {
    if !have("redis-benchmark") {
        return;
    }
    let example = Example::start("kv");
    let args = [
        "--csv",
        "-n",
        "2000",
        "-P",
        "16",
        "-t",
        "ping,set,get,incr,lpush,lrange_100",
    ];
    let csv = String::from_utf8(run("redis-benchmark", example.address, &args, b"")).unwrap();
    let names = csv
        .lines()
        .skip(1)
        .map(|line| line.split('"').nth(1).unwrap());
    let wanted = [
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "LPUSH",
        "LPUSH (needed to benchmark LRANGE)",
        "LRANGE_100 (first 100 elements)",
    ];
    assert!(names.eq(wanted), "{csv}");
    let list = redis_cli(example.address, "LRANGE mylist 0 -1\n");
    assert!(
        list.lines().count() >= 4000,
        "{} items",
        list.lines().count()
    );
}

#[test]
fn kv_keeps_a_value_of_20_mb_from_redis_cli() {
    if !have("redis-cli") {
        return;
    }
    let example = Example::start("kv");
    let value = noise(20_000_000);
    let output = run(
        "redis-cli",
        example.address,
        &["-x", "SET", "large"],
        &value,
    );
    assert_eq!(output, b"OK\n");
    let mut output = run("redis-cli", example.address, &["GET", "large"], b"");
    assert_eq!(output.pop(), Some(b'\n'), "redis-cli appends it");
    assert!(output == value, "{} bytes differ", output.len());
}

/// All six replies at once would be more than may wait.
#[test]
fn kv_answers_pipelined_requests_of_20_mb_one_after_the_other() {
    let example = Example::start("kv");
    let value = noise(20_000_000);
    let mut stream = client(example.address);
    let length = value.len();
    write!(stream, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${length}\r\n").unwrap();
    stream.write_all(&value).unwrap();
    stream.write_all(b"\r\n").unwrap();
    stream.write_all(&b"GET large\r\n".repeat(6)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_exactly(&mut stream, 5), b"+OK\r\n");
    let reply = [format!("${length}\r\n").as_bytes(), &value, b"\r\n"].concat();
    for number in 0..6 {
        assert!(
            read_exactly(&mut stream, reply.len()) == reply,
            "reply {number}"
        );
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more than was asked for");
    let peak = peak(example.child.id());
    assert!(peak < 120_000_000, "{peak} bytes");
}

#[test]
fn kv_refuses_what_is_no_command_and_ends() {
    let example = Example::start("kv");
    for (request, reply) in [
        (&b"*1\r\n:4\r\n"[..], "expected '$'"),
        (b"*1025\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$33554432\r\n", "invalid bulk length"),
        (b"*1\r\n$18446744073709551615\r\n", "invalid bulk length"),
        (&[b'x'; 2000], "too big inline request"),
    ] {
        let mut stream = client(example.address);
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("-ERR Protocol error: {reply}\r\n"));
    }
}
