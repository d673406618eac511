//! `serve --status`: what the loop does, over HTTP on the same loop. The client is curl.

mod common;

use common::{PATIENCE, Program, client, descriptors, echo, have, limited, read_all, resident};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `doorkeeper serve --status=:0 ARGS` with so many services.
fn serve(args: &[&str], services: usize) -> Program {
    let args = [&["--status=:0"], args].concat();
    Program::start(&[], &args, "warn", services + 1)
}

/// The status and the body of an answer.
fn curl(program: &Program, path: &str, options: &[&str]) -> (u16, String) {
    let url = format!("http://{}{path}", program.address("status"));
    let output = Command::new("curl")
        .args(["-sS", "-g", "-m", "20", "-w", "\n%{http_code}"])
        .args(options)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{path}: {text} {:?}",
        output.stderr
    );
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_string())
}

fn get(program: &Program, path: &str) -> String {
    let (status, body) = curl(program, path, &[]);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Asks until the answer is as wanted.
fn get_until(program: &Program, path: &str, wanted: impl Fn(&(u16, String)) -> bool) {
    let start = Instant::now();
    loop {
        let answer = curl(program, path, &[]);
        if wanted(&answer) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{path}: never: {answer:?}");
    }
}

/// The samples of a text in the format of Prometheus, each checked against its HELP and TYPE.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut found, mut kinds, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, _] => assert!(helped.insert(name), "{line}"),
            ["#", "TYPE", name, kind] => assert_eq!(kinds.insert(name, kind), None, "{line}"),
            _ => {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let parts = ["_bucket", "_sum", "_count"];
                let family = parts.iter().find_map(|part| name.strip_suffix(part));
                let family = family.filter(|name| kinds.get(name) == Some(&"histogram"));
                let kind = kinds[family.unwrap_or(name)];
                assert!(helped.contains(family.unwrap_or(name)), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let value = value.parse().unwrap();
                assert_eq!(found.insert(series.to_string(), value), None, "{line}");
            }
        }
    }
    found
}

/// The figures of one listener, without the name and the labels that all have.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn of(program: &Program, service: &str) -> Figures {
        let labels = format!(
            "{{service=\"{service}\",listener=\"{}\"",
            program.address(service)
        );
        let all = samples(&get(program, "/metrics"));
        let own = all.into_iter().filter_map(|(series, value)| {
            let name = series.strip_prefix("doorkeeper_")?;
            let (name, rest) = name.split_once(&labels)?;
            Some((format!("{name}{}", rest.trim_end_matches('}')), value))
        });
        Figures(own.collect())
    }

    fn get(&self, name: &str) -> f64 {
        self.0[name]
    }

    fn closed(&self) -> f64 {
        let closed = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with("closed_total"));
        closed.map(|(_, value)| value).sum()
    }
}

#[test]
fn metrics_count_what_happened_to_each_service() {
    if !have("curl") {
        return;
    }
    let args = ["--max-per-source=2", "--backlog=7", "echo=:0", "daytime=:0"];
    let program = serve(&args, 2);
    let mut first = client(program.address("echo"));
    assert_eq!(echo(&mut first, b"hello"), b"hello");
    let mut second = client(program.address("echo"));
    assert_eq!(echo(&mut second, b"hi"), b"hi");
    // The third of this source is closed at once.
    assert_eq!(read_all(&mut client(program.address("echo"))).unwrap(), b"");
    let echo = Figures::of(&program, "echo");
    let figures = ["accepted_total", "open_connections", "turned_away_total"];
    assert_eq!(figures.map(|name| echo.get(name)), [3.0, 2.0, 1.0]);
    let figures = [
        "received_bytes_total",
        "sent_bytes_total",
        "accept_queue_limit",
    ];
    assert_eq!(figures.map(|name| echo.get(name)), [7.0, 7.0, 7.0]);
    assert_eq!((echo.closed(), echo.get("accept_queue_depth")), (0.0, 0.0));
    drop((first, second));
    get_until(&program, "/connections", |(_, body)| {
        body.contains("\"open\":0")
    });
    let echo = Figures::of(&program, "echo");
    assert_eq!(echo.get("closed_total,reason=\"finished\""), 2.0);
    assert_eq!((echo.closed(), echo.get("open_connections")), (2.0, 0.0));
    assert_eq!(echo.get("received_bytes_total"), 7.0);
    let answer = read_all(&mut client(program.address("daytime"))).unwrap();
    get_until(&program, "/connections", |(_, body)| {
        body.contains("\"open\":0")
    });
    let daytime = Figures::of(&program, "daytime");
    assert_eq!(daytime.get("sent_bytes_total"), answer.len() as f64);
    assert_eq!(
        (daytime.get("accepted_total"), daytime.closed()),
        (1.0, 1.0)
    );
}

#[test]
fn metrics_of_the_loop_agree_with_each_other() {
    if !have("curl") {
        return;
    }
    let program = serve(&["echo=:0"], 1);
    let before = samples(&get(&program, "/metrics"));
    let mut stream = client(program.address("echo"));
    for _ in 0..100 {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
    }
    let after = samples(&get(&program, "/metrics"));
    let more = |name: &str| {
        let name = format!("doorkeeper_loop_{name}");
        after[&name] - before[&name]
    };
    // `open`, `on_open`, and `on_data` and `on_drain` for each message: curl's own connections have
    // none.
    assert_eq!(more("callback_seconds_count"), 202.0);
    assert_eq!(more("callback_seconds_bucket{le=\"+Inf\"}"), 202.0);
    assert_eq!(more("turns_total"), more("turn_seconds_count"));
    assert!((100.0..400.0).contains(&more("turns_total")), "{after:?}");
    assert!(more("events_total") >= 100.0, "{after:?}");
    assert!(more("callback_seconds_sum") < more("turn_seconds_sum"));
    assert!(more("asleep_seconds_total") > 0.0);
    assert_eq!((more("stalls_total"), more("posts_total")), (0.0, 0.0));
    assert!(after["doorkeeper_max_connections"] > 0.0);
    let failures = ["accept_errors", "panics"].map(|name| format!("doorkeeper_{name}_total"));
    assert_eq!(failures.map(|name| after[&name]), [0.0, 0.0]);
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(after[&format!("doorkeeper_build_info{version}")], 1.0);
    let ends = after.keys().filter_map(|name| {
        let end = name.strip_prefix("doorkeeper_loop_turn_seconds_bucket{le=\"")?;
        end.strip_suffix("\"}")?.parse().ok()
    });
    let mut ends: Vec<f64> = ends.collect();
    ends.sort_by(f64::total_cmp);
    assert_eq!(
        (ends[0], ends[10], ends[11]),
        (1e-6, 1.048576, f64::INFINITY)
    );
    let buckets = after
        .iter()
        .filter(|(name, _)| name.contains("turn_seconds_bucket"));
    let mut counts: Vec<f64> = buckets.map(|(_, count)| *count).collect();
    counts.sort_by(f64::total_cmp);
    assert_eq!(
        counts.last(),
        Some(&after["doorkeeper_loop_turn_seconds_count"])
    );
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    if !(have("curl") && have("promtool")) {
        return;
    }
    let program = serve(&["echo=:0", "chargen=:0"], 2);
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = get(&program, "/metrics");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && told.is_empty(),
        "{}",
        String::from_utf8_lossy(&told)
    );
}

#[test]
fn health_tells_a_full_program_and_one_that_shuts_down() {
    if !have("curl") {
        return;
    }
    let mut program = serve(
        &["--max-connections=1", "--shutdown-timeout=60s", "echo=:0"],
        1,
    );
    let health = |program: &Program| curl(program, "/healthz", &[]);
    let text = |text: &str| text.to_string();
    assert_eq!(
        health(&program),
        (200, text("ok: 0 of 1 connections are open\n"))
    );
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    assert_eq!(
        health(&program),
        (503, text("full: 1 of 1 connections are open\n"))
    );
    let waiting = client(program.address("echo"));
    get_until(&program, "/metrics", |(_, body)| {
        body.contains("accept_queue_depth{service=\"echo\"")
            && samples(body)
                .iter()
                .any(|(name, &value)| name.contains("depth") && value == 1.0)
    });
    assert!(Figures::of(&program, "echo").get("full_seconds_total") > 0.0);
    drop(waiting);
    drop(stream);
    get_until(&program, "/healthz", |(status, _)| *status == 200);
    let full = Figures::of(&program, "echo").get("full_seconds_total");
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    assert!(Figures::of(&program, "echo").get("full_seconds_total") >= full);
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    let wanted = (503, text("shutting down: 1 connections are open\n"));
    get_until(&program, "/healthz", |answer| *answer == wanted);
    assert_eq!(Figures::of(&program, "echo").get("open_connections"), 1.0);
    // The server has ended its side of an idle connection.
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    drop(stream);
    assert!(program.wait().success());
}

#[test]
fn after_a_restart_with_shared_ports_the_new_process_answers() {
    if !have("curl") {
        return;
    }
    let start = |status: String, chargen: String| {
        let args = ["--take-over", "--shutdown-timeout=60s", &status, &chargen];
        Program::start(&[], &args, "warn", 2)
    };
    let mut old = start("--status=:0".to_string(), "chargen=:0".to_string());
    let [status, service] = ["status", "chargen"].map(|name| old.address(name));
    // It reads no more than this, so the old process waits for it.
    let mut stream = narrow(service);
    stream.read_exact(&mut [0; 8]).unwrap();
    let new = start(format!("--status={status}"), format!("chargen={service}"));
    kill_process(Pid::from_child(&old.child), Signal::TERM).unwrap();
    let is_new = |(status, body): &(u16, String)| *status == 200 && body.starts_with("ok: 0 of");
    let begin = Instant::now();
    let mut in_a_row = 0;
    // While both listen, chance alone gives the new one so many.
    while in_a_row < 30 {
        assert!(begin.elapsed() < PATIENCE, "the old process answers still");
        in_a_row = if is_new(&curl(&new, "/healthz", &[])) {
            in_a_row + 1
        } else {
            0
        };
    }
    assert!(old.child.try_wait().unwrap().is_none());
    drop(stream);
    assert!(old.wait().success());
}

/// The connections of an answer.
fn connections(program: &Program, query: &str) -> Vec<Value> {
    let body = get(program, &format!("/connections{query}"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["connections"].as_array().unwrap().clone()
}

#[test]
fn connections_are_sorted_and_filtered_and_have_no_payload() {
    if !have("curl") {
        return;
    }
    let program = serve(&["echo=:0", "discard=:0", "chargen=:0"], 3);
    let mut small = client(program.address("echo"));
    assert_eq!(echo(&mut small, b"secret"), b"secret");
    let mut large = client(program.address("echo"));
    for _ in 0..1000 {
        assert_eq!(echo(&mut large, &[b'x'; 10_000]), [b'x'; 10_000]);
    }
    let other = client(program.address("discard"));
    other.shutdown(std::net::Shutdown::Write).unwrap();
    get_until(&program, "/connections", |(_, body)| {
        body.contains("\"open\":2")
    });
    let mut quiet = client(program.address("discard"));
    quiet.write_all(&b"secret".repeat(10)).unwrap();
    let wanted = "\"received_bytes\":60,";
    get_until(&program, "/connections?service=discard", |(_, body)| {
        body.contains(wanted)
    });
    let peer = |stream: &TcpStream| stream.local_addr().unwrap().to_string();
    let peers = |query: &str| -> Vec<String> {
        let rows = connections(&program, query).into_iter();
        rows.map(|row| row["peer"].as_str().unwrap().to_string())
            .collect()
    };
    let [small, large, quiet] = [&small, &large, &quiet].map(peer);
    assert_eq!(peers(""), [&*large, &*quiet, &*small]);
    // Bytes that are held count before bytes that have moved.
    let mute = narrow(program.address("chargen"));
    get_until(&program, "/connections?service=chargen", |(_, body)| {
        body.contains("\"interest\":\"read, write\"")
    });
    assert_eq!(peers(""), [&*peer(&mute), &*large, &*quiet, &*small]);
    drop(mute);
    get_until(&program, "/connections", |(_, body)| {
        body.contains("\"open\":3")
    });
    assert_eq!(peers("?limit=1"), [&*large]);
    assert_eq!(peers("?service=echo"), [&*large, &*small]);
    assert_eq!(peers(&format!("?peer={quiet}")), [&*quiet]);
    assert_eq!(peers("?peer=127.0.0.1").len(), 3);
    assert_eq!(peers("?peer=127.0.0.2").len(), 0);
    assert_eq!(peers("?state=open&service=discard"), [&*quiet]);
    assert_eq!(peers("?state=peer%20ended").len(), 0);
    let row = &connections(&program, "?service=discard")[0];
    assert_eq!(
        (&row["sent_bytes"], &row["received_bytes"]),
        (&0.into(), &60.into())
    );
    assert_eq!(
        (&row["interest"], &row["state"]),
        (&"read".into(), &"open".into())
    );
    for path in ["/connections", "/metrics", "/healthz", "/"] {
        assert!(!get(&program, path).contains("secret"), "{path}");
    }
    for wrong in [
        "?service=time",
        "?peer=here",
        "?state=shut",
        "?limit=0",
        "?port=7",
        "?peer=%zz",
    ] {
        assert_eq!(
            curl(&program, &format!("/connections{wrong}"), &[]).0,
            400,
            "{wrong}"
        );
    }
}

#[test]
fn only_requests_that_are_meant_for_it_are_answered() {
    if !have("curl") {
        return;
    }
    let program = serve(&["echo=:0"], 1);
    let status = |path: &str, options: &[&str]| curl(&program, path, options).0;
    for endpoint in ["/", "/metrics", "/healthz", "/connections"] {
        assert_eq!(status(endpoint, &[]), 200, "{endpoint}");
        assert_eq!(
            status(endpoint, &["-H", "Host: evil.example"]),
            403,
            "{endpoint}"
        );
        assert_eq!(status(endpoint, &["-H", "Host:"]), 400, "{endpoint}");
        assert_eq!(
            status(endpoint, &["-X", "POST", "-d", "a=b"]),
            405,
            "{endpoint}"
        );
        assert_eq!(
            status(endpoint, &["-H", "Host: localhost:80"]),
            200,
            "{endpoint}"
        );
    }
    assert_eq!(status("/nothing", &[]), 404);
    assert_eq!(status("/metrics?a=b", &[]), 400);
    let long = format!("A: {}", "a".repeat(9000));
    assert_eq!(status("/", &["-H", &long]), 431);
    // A body that is not awaited does not cost the client its answer.
    let body = "x".repeat(50_000);
    assert_eq!(status("/", &["-H", "Expect:", "-d", &body]), 405);
    let mut stream = client(program.address("status"));
    stream.write_all(b"hello\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_all(&mut stream).unwrap()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

/// To close with unread input resets the connection, and what the kernel still holds is lost.
#[test]
fn a_slow_reader_that_sends_too_much_gets_the_whole_answer() {
    let program = serve(&["echo=:0"], 1);
    let mut slow = narrow(program.address("status"));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    slow.write_all(&[&request[..], &[b'x'; 4000]].concat())
        .unwrap();
    slow.read_exact(&mut [0; 12]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let answer = String::from_utf8(read_all(&mut slow).unwrap()).unwrap();
    assert!(answer.ends_with("</html>\n"), "{answer}");
}

#[test]
fn an_address_that_others_can_reach_is_warned_of() {
    for (place, is_warned) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
        let place = format!("--status={place}");
        let program = Program::start(&[], &["echo=:0", &place], "warn", 2);
        let address = program.address("status");
        let warning = format!("--status listens on {address}: whoever can connect there sees");
        let log = program.terminate();
        assert_eq!(log.contains(&warning), is_warned, "{log}");
        assert_eq!(log.lines().count(), usize::from(is_warned), "{log}");
    }
}

#[test]
fn silent_clients_take_nothing_from_others() {
    if !have("curl") {
        return;
    }
    let program = serve(&["--max-connections=1", "echo=:0"], 1);
    get(&program, "/healthz");
    let before = descriptors(program.pid());
    let mut silent = Vec::new();
    for _ in 0..60 {
        let mut stream = client(program.address("status"));
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        silent.push(stream);
    }
    assert_eq!(
        get(&program, "/healthz"),
        "ok: 0 of 1 connections are open\n"
    );
    let more = descriptors(program.pid()) - before;
    assert!(more <= 17, "{more}");
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    // The clients that were closed for others see the end, and the rest are closed for being late.
    for stream in &mut silent {
        let end = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        assert!(
            matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );
    }
    get_until(&program, "/healthz", |_| {
        descriptors(program.pid()) <= before + 2
    });
}

/// The data of the events of a stream.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let whole = lines.map(|line| serde_json::from_str(&format!("{{{line}")));
    whole.filter_map(Result::ok).collect()
}

#[test]
fn curl_reads_the_events_of_the_live_page() {
    if !have("curl") {
        return;
    }
    let program = serve(&["echo=:0"], 1);
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"secret"), b"secret");
    let url = format!("http://{}/events", program.address("status"));
    let curl = Command::new("curl")
        .args(["-sSN", "-m", "2", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(echo(&mut stream, b"secret"), b"secret");
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap();
    let events = events(&text);
    assert!((5..=21).contains(&events.len()), "{}: {text}", events.len());
    assert!(text.starts_with("event: about\ndata: {"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let calls = events[0]["calls"].as_object().unwrap();
    let last = events.last().unwrap();
    let connection = &last["connections"][0];
    assert_eq!(connection["peer"], stream.local_addr().unwrap().to_string());
    for field in [
        "interest",
        "state",
        "held_in_bytes",
        "held_out_bytes",
        "age_seconds",
    ] {
        assert!(
            calls.contains_key(field) && !connection[field].is_null(),
            "{field}"
        );
    }
    let listener = &last["listeners"][0];
    assert_eq!(
        (&listener["limit"], &listener["service"]),
        (&1024.into(), &"echo".into())
    );
    assert_eq!(last["connections_left_out"], 0);
    let turn = &last["turn"];
    let callback = &turn["callbacks"][0];
    assert_eq!(callback["callback"], "on_data");
    assert!(
        callback["call"].as_str().unwrap().starts_with("read("),
        "{turn}"
    );
    let [took, callback] = [&turn["took_us"], &callback["us"]].map(|us| us.as_f64().unwrap());
    assert!(0.0 < callback && callback <= took && took < 1e6, "{turn}");
    rates_are_those_of_the_totals(&events[1..]);
}

/// Each rate is that of the time since the event before.
fn rates_are_those_of_the_totals(events: &[Value]) {
    let figure = |event: &Value, name: &str| event["loop"][name].as_f64().unwrap();
    let more = |pair: &[Value], name: &str| figure(&pair[1], name) - figure(&pair[0], name);
    let (mut turns, mut asleep) = (0.0, 0.0);
    for pair in events.windows(2) {
        let seconds = more(pair, "up_seconds");
        turns += figure(&pair[1], "turns_per_second") * seconds;
        asleep += figure(&pair[1], "asleep_share") * seconds;
    }
    let ends = [events[0].clone(), events.last().unwrap().clone()];
    let (all, seconds) = (more(&ends, "turns"), more(&ends, "up_seconds"));
    assert!(
        (0.9 * all..=1.1 * all).contains(&turns),
        "{turns} of {all} turns"
    );
    // The loop sleeps for most of the time, but not all of it.
    assert!(
        (0.2 * seconds..0.9999 * seconds).contains(&asleep),
        "{asleep} of {seconds} s"
    );
}

/// A client whose kernel holds little input.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    limited(socket.into())
}

#[test]
fn events_that_a_slow_reader_cannot_take_are_dropped_and_counted() {
    let program = serve(&["echo=:0"], 1);
    // They make an event some 30 kB long.
    let mut streams: Vec<TcpStream> = (0..100).map(|_| client(program.address("echo"))).collect();
    let mut slow: Vec<TcpStream> = (0..8).map(|_| narrow(program.address("status"))).collect();
    for stream in &mut slow {
        let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).unwrap();
    }
    let (start, before) = (Instant::now(), resident(program.pid()));
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(2) {
        let sent = Instant::now();
        assert_eq!(echo(&mut streams[0], b"hello"), b"hello");
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let grown = resident(program.pid()).saturating_sub(before);
    // 8 clients with one event each, and the text that is being made.
    assert!(grown < 3_000_000, "{grown}");
    let mut text = String::new();
    let mut buffer = [0; 65_536];
    while !text.contains(" dropped\n") {
        assert!(start.elapsed() < PATIENCE, "{text}");
        let count = slow[0].read(&mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    let told = text.split("event: dropped\ndata: ").nth(1).unwrap();
    let count: u32 = told.split(' ').next().unwrap().parse().unwrap();
    assert!((1..=40).contains(&count), "{count}");
}
