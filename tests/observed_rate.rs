//! What `--narrate` and `--trace` cost: with six listeners, one client keeps at least half of its
//! rate.

mod common;

use common::{Program, client, echo, temporary};
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SERVICES: [&str; 6] = [
    "echo=:0",
    "discard=:0",
    "daytime=:0",
    "qotd=:0",
    "chargen=:0",
    "time=:0",
];

/// A program whose standard error is read, and a client of its echo.
fn start(options: &[&str]) -> (Program, TcpStream) {
    let mut program = Program::serve(&[options, &SERVICES].concat());
    let mut story = program.stderr.take().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while story.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let stream = client(program.address("echo"));
    (program, stream)
}

/// What one request takes.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Until its answer is there.
    round_trip: Duration,
    /// Of the loop's thread, which is the first of the program. Others write the story and the trace.
    processor: Duration,
}

/// The time that a program's first thread has run (proc_pid_schedstat).
fn processor_time(program: &Program) -> Duration {
    let pid = program.pid();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The least of both times, each over a tenth of a second.
fn measure((program, stream): &mut (Program, TcpStream), least: &mut Cost) {
    let (start, begin, mut count) = (Instant::now(), processor_time(program), 0);
    while start.elapsed() < Duration::from_millis(100) {
        assert_eq!(echo(stream, b"hello"), b"hello");
        count += 1;
    }
    let processor = (processor_time(program) - begin) / count;
    least.round_trip = least.round_trip.min(start.elapsed() / count);
    least.processor = least.processor.min(processor);
}

/// A client that waits for each answer keeps half of its rate if the loop takes no more time for
/// the observation than a request takes without it. The processor's time is compared, because other
/// programs may delay every answer. They only add to a measurement, so the least of several in
/// alternation counts, and the measurement goes on for a while as long as that is too much.
fn assert_half_of_the_rate(options: &[&str]) {
    let (mut plain, mut observed) = (start(&[]), start(options));
    let none = Cost {
        round_trip: Duration::MAX,
        processor: Duration::MAX,
    };
    let mut least = [none; 2];
    // Without optimization an event takes several times as long.
    let factor = if cfg!(debug_assertions) { 8 } else { 1 };
    for round in 0..100 {
        measure(&mut plain, &mut least[0]);
        measure(&mut observed, &mut least[1]);
        let [without, with] = least;
        let most = without.processor + factor * without.round_trip;
        if round >= 5 && with.processor <= most {
            println!("{options:?}: {least:?}");
            return;
        }
    }
    panic!("{options:?}: without and with it: {least:?}");
}

/// One after the other, so that they do not slow each other down.
#[test]
fn a_client_of_six_listeners_keeps_half_of_its_rate_when_the_loop_is_observed() {
    let file = temporary("rate.json");
    let trace = format!("--trace={}", file.display());
    for options in [&["--narrate"][..], &[&trace], &["--narrate", &trace]] {
        assert_half_of_the_rate(options);
    }
    std::fs::remove_file(file).unwrap();
}
