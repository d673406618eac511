//! The report of a measurement that never was.

use super::super::args::{Bench, Mode};
use super::super::counters::Counters;
use super::Report;
use std::time::{Duration, Instant};

/// 1000 requests in two seconds, of a millisecond each.
fn report() -> Report {
    let [measured, flood, mutes] = [(); 3].map(|()| Counters::new());
    let now = Instant::now();
    measured.begin.set(Some(now));
    for _ in 0..1000 {
        measured.answered(now, now + Duration::from_millis(1));
    }
    measured.received(6_000_000);
    measured.delayed(Duration::from_micros(1500));
    flood.bytes.set(20_000_000);
    Report {
        options: Bench::default(),
        address: "127.0.0.1:7".parse().unwrap(),
        measured,
        flood,
        mutes,
        connected: Duration::from_millis(250),
        took: Duration::from_secs(2),
        cpu: Some(1_000_000_000),
    }
}

const HEAD: &str = "echo on 127.0.0.1:7: 64 connections, 64 bytes, 1 at once, as fast as answered
connected in 0.250 s, measured for 2.000 s

requests   1000, 500 a second
bytes back 3.0 MB a second
";

const LATENCY: &str = "latency    p50 1.000  p75 1.000  p90 1.000  p99 1.000  p99.9 1.000  \
                       p99.99 1.000  max 1.000  ms\n";

#[test]
fn the_text_has_what_there_is() {
    let mut report = report();
    let cpu = "own CPU    50 % of a processor, 1000.00 µs a request\n";
    assert_eq!(report.text(), format!("{HEAD}{LATENCY}{cpu}"));
    report.measured.unanswered.set(5);
    report.measured.fail("refused".to_string());
    report.mutes.fail("refused".to_string());
    assert_eq!(
        report.text(),
        format!(
            "{HEAD}{LATENCY}unanswered 5; the latencies include their waiting\n{cpu}\
             failed     2: refused\n"
        )
    );
    // Connections that are not measured use some of the time.
    report.options.mutes = 1;
    let text = report.text();
    assert!(text.contains("own CPU    50 % of a processor\n"), "{text}");
    report.options.mode = Mode::Connect;
    let text = report.text();
    assert!(
        text.starts_with("connect on 127.0.0.1:7: 64 connections\nconnected in"),
        "{text}"
    );
}

#[test]
fn the_text_of_a_rate_has_the_loads_own_delay_and_no_processor_time() {
    let mut report = report();
    report.options.rate = Some(100);
    report.options.flooders = 1;
    report.measured.unanswered.set(5);
    let head = HEAD.replace("as fast as answered", "100 due a second");
    assert_eq!(
        report.text(),
        format!(
            "{head}flood      10.0 MB a second\n{LATENCY}\
             unanswered 5 that were due by the end; the latencies include their waiting\n\
             own delay  at most 1.500 ms of a latency\n"
        )
    );
}

#[test]
fn without_a_request_there_is_no_latency_and_no_time_of_one() {
    let mut report = report();
    report.measured = Counters::new();
    let text = report.text();
    assert!(text.ends_with("own CPU    50 % of a processor\n"), "{text}");
    assert!(!text.contains("latency"), "{text}");
    assert_eq!(
        report.faults(),
        ["no request was answered during the measurement"]
    );
    report.options.mode = Mode::Idle;
    assert_eq!(report.faults(), [""; 0]);
}

#[test]
fn requests_without_an_answer_fail_the_run_unless_their_number_ended_it() {
    let mut report = report();
    assert_eq!(report.faults(), [""; 0]);
    report.measured.unanswered.set(5);
    let fault = ["requests without an answer during the whole measurement: 5"];
    assert_eq!(report.faults(), fault);
    for (most, is_cut_short) in [(999, true), (1000, true), (1001, false)] {
        report.options.requests = Some(most);
        assert_eq!(report.faults().is_empty(), is_cut_short, "{most}");
    }
    report.options.rate = Some(100);
    assert_eq!(report.faults(), [""; 0]);
    report.measured.mute.set(2);
    assert_eq!(
        report.faults(),
        ["connections without an answer during the measurement: 2"]
    );
}
