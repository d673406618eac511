//! What the library writes in the log. One test, for a process has one logger.

mod common;

use common::{PATIENCE, client, set};
use doorkeeper::{Config, Context, Handler, ListenOptions, Reactor};
use log::{LevelFilter, Log, Metadata, Record};
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

struct Capture(Mutex<Vec<String>>);

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

static LOG: Capture = Capture(Mutex::new(Vec::new()));

/// Fails with what the peer sent in its error, as a careless handler does.
struct Careless;

impl Handler for Careless {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Err(io::Error::other(format!(
            "no such command: {}",
            String::from_utf8_lossy(input)
        )))
    }
}

fn lines(start: &str) -> Vec<String> {
    LOG.0
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.starts_with(start))
        .cloned()
        .collect()
}

#[test]
fn errors_are_logged_once_a_second_on_one_line_and_a_clamped_backlog_once() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let mut reactor = Reactor::new(Config::default()).unwrap();
    let somaxconn: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let asked = set(|options: &mut ListenOptions| {
        options.backlog = somaxconn;
    });
    reactor
        .listen_with(any, &asked, |_| Some(Careless))
        .unwrap();
    assert!(lines("WARN").is_empty());
    let too_much = set(|options: &mut ListenOptions| {
        options.backlog = somaxconn + 1;
    });
    let listener = reactor
        .listen_with(any, &too_much, |_| Some(Careless))
        .unwrap();
    let wanted = format!(
        "the system clamps backlog {} to {somaxconn} (net.core.somaxconn)",
        somaxconn + 1
    );
    assert!(
        matches!(&lines("WARN")[..], [line] if line.ends_with(&wanted)),
        "{:?}",
        lines("WARN")
    );

    let address = reactor.local_addr(listener).unwrap();
    let start = Instant::now();
    for round in 0..500 {
        let mut stream = client(address);
        stream.write_all(b"x\r\nINFO all is well\x1b[2J").unwrap();
        let before = reactor.stats().closed(doorkeeper::Reason::HandlerError);
        assert_eq!(before, round);
        while reactor.stats().closed(doorkeeper::Reason::HandlerError) == before {
            assert!(start.elapsed() < PATIENCE);
            reactor.turn(Some(Duration::from_millis(5))).unwrap();
        }
    }
    let seconds = start.elapsed().as_secs() as usize + 1;
    let logged = lines("WARN connection");
    assert!(
        (1..=seconds).contains(&logged.len()),
        "{} lines in {seconds} s",
        logged.len()
    );
    assert!(
        logged[0].ends_with(r"handler error (no such command: x\r\nINFO all is well\u{1b}[2J)"),
        "{}",
        logged[0]
    );
    assert_eq!(
        lines("DEBUG connection")
            .iter()
            .filter(|line| line.contains("closed: handler error"))
            .count(),
        500
    );
    assert!(
        LOG.0
            .lock()
            .unwrap()
            .iter()
            .all(|line| !line.contains(char::is_control))
    );
    a_callback_that_holds_the_loop_is_named();
}

/// Sleeps on demand.
struct Sleepy;

impl Handler for Sleepy {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(if input == b"sleep" {
            60
        } else {
            0
        }));
        Ok(input.len())
    }
}

fn a_callback_that_holds_the_loop_is_named() {
    let config = set(|config: &mut Config| {
        config.stall_warning = Some(Duration::from_millis(50));
    });
    let mut reactor = Reactor::new(config).unwrap();
    let id = reactor
        .listen("127.0.0.1:0".parse().unwrap(), |_| Some(Sleepy))
        .unwrap();
    let mut streams = [(); 3].map(|()| client(reactor.local_addr(id).unwrap()));
    while reactor.stats().accepted < 3 {
        reactor.turn(Some(PATIENCE)).unwrap();
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    streams[0].write_all(b"sleep").unwrap();
    streams[1].write_all(b"wait").unwrap();
    streams[2].write_all(b"wait").unwrap();
    while reactor.stats().bytes_received < 13 {
        reactor.turn(Some(PATIENCE)).unwrap();
    }
    let logged: Vec<String> = lines("WARN")
        .into_iter()
        .filter(|line| line.contains("held the loop"))
        .collect();
    let start = format!(
        "WARN connection 1.1 with {}: on_data held the loop for ",
        streams[0].local_addr().unwrap()
    );
    assert!(
        matches!(&logged[..], [line] if line.starts_with(&start) && line.ends_with("; 2 others waited")),
        "{logged:?}"
    );
}
