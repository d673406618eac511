//! The load, with the time given to it.

use super::args::Bench;
use super::counters::Counters;
use super::{AWAKE, CONNECTING_MAX, Load, NAP, check_descriptors, own_cpu, sleep_of, used};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Longer than any step takes, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load whose server listens, and accepts nobody.
fn load(options: &Bench) -> (Load<'_>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut load = Load::new(options).unwrap();
    load.address = listener.local_addr().unwrap();
    load.show_at = None;
    (load, listener)
}

fn options(change: impl FnOnce(&mut Bench)) -> Bench {
    let mut options = Bench {
        target: "127.0.0.1:7".to_string(),
        connections: 8,
        ..Bench::default()
    };
    change(&mut options);
    options
}

#[test]
fn a_ramp_spreads_connecting_evenly() {
    let options = options(|options| {
        options.connections = 5;
        options.flooders = 2;
        options.mutes = 1;
        options.ramp = Duration::from_secs(16);
    });
    let (mut load, _listener) = load(&options);
    for (ms, left) in [
        (0, 8),
        (1999, 8),
        (2000, 7),
        (6000, 5),
        (15_999, 1),
        (16_000, 0),
        (16_001, 0),
    ] {
        let elapsed = Duration::from_millis(ms);
        assert_eq!(load.left_at(elapsed), left, "{ms}");
        load.connect_some(elapsed).unwrap();
        assert_eq!(load.planned.len(), left, "{ms}");
        assert_eq!(load.connecting(), 8 - left, "{ms}");
    }
}

#[test]
fn without_a_ramp_all_connect_at_once_within_a_limit() {
    let options = options(|options| options.connections = 200);
    let (mut load, _listener) = load(&options);
    assert_eq!(load.left_at(Duration::ZERO), 0);
    for _ in 0..2 {
        load.connect_some(Duration::ZERO).unwrap();
        assert_eq!(load.connecting(), CONNECTING_MAX);
        assert_eq!(load.planned.len(), 200 - CONNECTING_MAX);
    }
}

#[test]
fn a_phase_lasts_its_time_unless_the_load_is_over_before() {
    const PHASE: Duration = Duration::from_millis(30);
    let lasts = |change: fn(&Load<'_>), time: Duration| {
        let options = options(|options| options.requests = Some(5));
        let (mut load, _listener) = load(&options);
        change(&load);
        let begin = Instant::now();
        load.run_for(time, "measuring").unwrap();
        begin.elapsed()
    };
    let change: [fn(&Load<'_>); 3] = [
        |_| {},
        |load| load.measured.counters.failed.set(7),
        |load| load.measured.counters.requests.set(4),
    ];
    for change in change {
        assert!(lasts(change, PHASE) >= PHASE);
    }
    let change: [fn(&Load<'_>); 4] = [
        |load| load.interrupted.set(true),
        |load| load.measured.counters.failed.set(8),
        |load| load.measured.counters.requests.set(5),
        |load| load.measured.counters.requests.set(6),
    ];
    for change in change {
        assert!(lasts(change, PATIENCE) < PATIENCE);
    }
}

#[test]
fn with_a_rate_the_load_is_awake_when_a_request_is_due() {
    let now = Instant::now();
    let [awake, more] = [AWAKE, AWAKE + Duration::from_nanos(1)];
    for (next, limit, sleep) in [
        (None, more, NAP),
        (None, awake, Duration::ZERO),
        (Some(more), 2 * more, NAP),
        (Some(awake), 2 * more, Duration::ZERO),
        (Some(more), awake, Duration::ZERO),
        (Some(Duration::ZERO), more, Duration::ZERO),
    ] {
        let next = next.map(|time| now + time);
        assert_eq!(sleep_of(now, next, limit), sleep, "{next:?} {limit:?}");
    }
}

#[test]
fn progress_is_a_line_twice_a_second() {
    let options = options(|_| {});
    let (mut load, _listener) = load(&options);
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(load.progress("connecting", start, at(9000)), None);
    load.show_at = Some(start);
    load.planned.truncate(3);
    load.flood.counters.connecting.set(2);
    assert_eq!(
        load.progress("connecting", start, at(0)).unwrap(),
        "\r\x1b[Kconnecting 0.0 s: 5 to connect, 0 requests, p99 0.000 ms, 0 failed"
    );
    assert_eq!(load.progress("connecting", start, at(499)), None);
    let counters = &load.measured.counters;
    counters.begin.set(Some(start));
    counters.answered(start, start + Duration::from_micros(1500));
    counters.fail("refused".to_string());
    load.planned.clear();
    assert_eq!(
        load.progress("measuring", at(200), at(500)).unwrap(),
        "\r\x1b[Kmeasuring 0.3 s: 2 to connect, 1 requests, p99 1.500 ms, 1 failed"
    );
    assert_eq!(load.progress("measuring", start, at(999)), None);
    assert!(load.progress("measuring", start, at(1000)).is_some());
}

#[test]
fn as_many_connections_are_allowed_as_there_are_descriptors() {
    assert_eq!(check_descriptors(10, 10).unwrap(), 10);
    let refused = check_descriptors(11, 10).unwrap_err();
    let wanted = "the limit on open files allows 10 connections, not 11";
    assert!(format!("{refused:?}").contains(wanted), "{refused:?}");
}

#[test]
fn the_cpu_time_of_a_measurement_is_what_was_added() {
    assert_eq!(used(Some(3_000), Some(10_000)), Some(7_000));
    assert_eq!(used(None, Some(10_000)), None);
    assert_eq!(used(Some(3_000), None), None);
}

/// At least as much as the clock of this thread has it, and no more.
#[test]
#[cfg(target_os = "linux")]
fn own_cpu_is_the_time_of_this_thread() {
    use rustix::time::{ClockId, clock_gettime};
    let clock = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    const TIME: u64 = 50_000_000;
    let (before, own) = (clock(), own_cpu().unwrap());
    while clock() - before < TIME {}
    // The scheduler adds to the file now and then.
    while own_cpu().unwrap() - own < TIME / 2 {
        assert!(clock() - before < 20 * TIME);
    }
    assert!(own_cpu().unwrap() <= clock() + TIME);
}

#[test]
fn a_load_has_counters_of_its_own_for_each_kind() {
    let options = options(|_| {});
    let (load, _listener) = load(&options);
    let all: [&Counters; 3] = load.all_counters().map(|counters| &**counters);
    all[0].connecting.set(1);
    all[1].connecting.set(2);
    all[2].connecting.set(4);
    assert_eq!(load.connecting(), 7);
}
