//! Signals of an operator: what `serve` reads again, what it ignores, and how often it answers.

mod common;

use common::{PATIENCE, Program, client, echo, read_all};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

fn signal(program: &Program, signal: Signal) {
    kill_process(Pid::from_child(&program.child), signal).unwrap();
}

/// A file of this test, removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Scratch {
        let name = format!("doorkeeper-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        Scratch(path)
    }

    /// Replaces the content, as an editor does: there is no moment with half of it.
    fn replace(&self, content: &[u8]) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Asks again until the answer is as wanted.
fn until<T: PartialEq + std::fmt::Debug>(ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) {
    let start = Instant::now();
    loop {
        let answer = ask();
        if wanted(&answer) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{answer:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn hangup_and_user_signals_end_no_connection() {
    let program = Program::serve(&["echo=:0"]);
    let mut stream = client(program.address("echo"));
    for number in [Signal::HUP, Signal::USR2, Signal::USR1, Signal::HUP] {
        assert_eq!(echo(&mut stream, b"before"), b"before");
        signal(&program, number);
        assert_eq!(echo(&mut stream, b"after"), b"after");
    }
}

#[test]
fn hangup_reads_the_quotes_again() {
    let file = Scratch::new("quotes-again", b"old\n");
    let args = ["qotd=:0", "--quotes", file.path()];
    let mut program = Program::start(&[], &args, "error", 1);
    let address = program.address("qotd");
    let quote = || read_all(&mut client(address)).unwrap();
    assert_eq!(quote(), b"old\r\n");
    file.replace(b"new\n");
    signal(&program, Signal::HUP);
    until(quote, |quote| quote == b"new\r\n");
    // A file that cannot be used changes nothing, and is named.
    file.replace(b"%\n");
    signal(&program, Signal::HUP);
    let mut line = String::new();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    assert!(
        line.contains(file.path()) && line.contains("no quote; the earlier quotes stay"),
        "{line}"
    );
    assert_eq!(quote(), b"new\r\n");
}

/// A file of one time zone without transitions, so many hours east of UTC (RFC 9636).
fn zone_file(hours: i32) -> Vec<u8> {
    let counts = |characters: u32| [0, 0, 0, 0, 1, characters].map(u32::to_be_bytes).concat();
    let header = |counts: Vec<u8>| [&b"TZif2"[..], &[0; 15], &counts].concat();
    let kind = [&(hours * 3600).to_be_bytes()[..], &[0, 0], b"ABC\0"].concat();
    let block = [header(counts(4)), kind].concat();
    let footer = format!("\n<ABC>{}\n", -hours);
    [&block, &block, footer.as_bytes()].concat()
}

/// How far the time of daytime is from UTC, in minutes, from -12 to 12 hours.
fn offset(program: &Program) -> i64 {
    let line = read_all(&mut client(program.address("daytime"))).unwrap();
    let line = String::from_utf8(line).unwrap();
    let number = |from: usize| line[from..from + 2].parse::<i64>().unwrap();
    let local = number(11) * 60 + number(14);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let utc = (now.as_secs() / 60) as i64;
    (local - utc + 720).rem_euclid(1440) - 720
}

fn start_in_zone(zone: &str) -> Program {
    let variable = format!("TZ={zone}");
    Program::start(&["env", &variable], &["daytime=:0"], "info", 1)
}

#[test]
fn hangup_reads_the_time_zone_again() {
    let file = Scratch::new("zone-again", &zone_file(9));
    let program = start_in_zone(file.path());
    // A minute may begin between the two clocks.
    let is_near = |hours: i64| move |offset: &i64| (offset - hours * 60).abs() <= 1;
    until(|| offset(&program), is_near(9));
    file.replace(&zone_file(-5));
    assert!(is_near(9)(&offset(&program)));
    signal(&program, Signal::HUP);
    until(|| offset(&program), is_near(-5));
}

/// The log of a program that has served daytime in this zone.
fn log_in_zone(zone: &str) -> String {
    let mut program = start_in_zone(zone);
    assert_eq!(
        read_all(&mut client(program.address("daytime")))
            .unwrap()
            .len(),
        26
    );
    signal(&program, Signal::TERM);
    assert!(program.wait().success());
    let mut log = String::new();
    let mut stderr = program.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    log
}

#[test]
fn the_log_names_the_time_zone_and_warns_of_none() {
    let log = log_in_zone("UTC");
    assert!(
        log.contains("the time zone is UTC") && !log.contains("WARN"),
        "{log}"
    );
    let file = Scratch::new("zone-name", &zone_file(9));
    let log = log_in_zone(file.path());
    assert!(
        log.contains("the time zone is without a name, UTC+09"),
        "{log}"
    );
    if Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        let log = log_in_zone("Asia/Tokyo");
        assert!(log.contains("the time zone is Asia/Tokyo"), "{log}");
    }
    let log = log_in_zone("Nowhere/Land");
    assert!(
        log.contains("WARN") && log.contains("TZ=Nowhere/Land names no time zone"),
        "{log}"
    );
}

#[test]
fn a_flood_of_signals_costs_one_table_a_second() {
    let mut program = Program::start(&[], &["echo=:0"], "info", 1);
    let mut stream = client(program.address("echo"));
    let start = Instant::now();
    for _ in 0..300 {
        signal(&program, Signal::USR1);
        assert_eq!(echo(&mut stream, b"here"), b"here");
    }
    let seconds = start.elapsed().as_secs() as usize;
    drop(stream);
    signal(&program, Signal::TERM);
    assert!(program.wait().success());
    let mut log = String::new();
    let mut stderr = program.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    let tables = log.matches("1 listeners, 1 connections").count();
    assert!(
        (1..=seconds + 1).contains(&tables),
        "{tables} tables in {seconds} s"
    );
}
