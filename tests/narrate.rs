//! The story of `--narrate` and `story`, line by line, against what happened.

mod common;

use common::{
    PATIENCE, Program, client, cpu_time, echo, have, read_all, read_exactly, send_until_full,
    temporary,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::SockRef;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

fn terminate(program: &Program) {
    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
}

/// A narrated server and its story.
struct Narrated {
    program: Program,
    lines: BufReader<ChildStderr>,
}

impl Narrated {
    fn serve(args: &[&str]) -> Narrated {
        let mut program = Program::start(&[], args, "error", 1);
        let lines = BufReader::new(program.stderr.take().unwrap());
        Narrated { program, lines }
    }

    fn address(&self) -> SocketAddr {
        self.program.listening[0].1
    }

    /// Reads to the first line with this in it, and returns all read, without times, ids and
    /// meanings.
    fn until(&mut self, words: &str) -> Vec<String> {
        let mut story = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "no line has {words:?}: {story:#?}"
            );
            story.push(
                line.split_whitespace()
                    .skip(2)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
            if line.contains(words) {
                return story;
            }
        }
    }
}

/// The beginnings of the lines, in order.
fn assert_story(story: &[String], wanted: &[&str]) {
    let matches = story.len() == wanted.len()
        && story
            .iter()
            .zip(wanted)
            .all(|(line, wanted)| line.starts_with(wanted));
    assert!(matches, "{story:#?}\nis not\n{wanted:#?}");
}

/// Where the columns of `story` begin and end: id, listener, accepted socket, client.
const COLUMNS: [(usize, usize); 4] = [(0, 5), (5, 31), (31, 54), (54, 98)];

/// A line of the story: the number of its column, from 1 on, and its cells.
fn cells(line: &str) -> (usize, [&str; 4]) {
    let cells = COLUMNS.map(|(begin, end)| line[begin..end].trim());
    let full: Vec<usize> = (1..4).filter(|&column| !cells[column].is_empty()).collect();
    assert_eq!(full.len(), 1, "{line}");
    let (columns, meaning) = line.split_at(COLUMNS[3].1);
    assert!(
        columns.ends_with(' ') && !meaning.starts_with(' '),
        "{line}"
    );
    (full[0], cells)
}

/// The lines of `story` without the head.
fn story(words: &[&str]) -> Vec<String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    let output = program.args(words).output().unwrap();
    let is_quiet = output.status.success() && output.stderr.is_empty();
    assert!(is_quiet, "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(1).map(str::to_string).collect()
}

/// The beginnings of the cells of a column, each with the id that it must have.
fn assert_column(lines: &[String], number: usize, id: &str, wanted: &[&str]) {
    let in_column: Vec<[&str; 4]> = lines
        .iter()
        .map(|line| cells(line))
        .filter(|(column, _)| *column == number)
        .map(|(_, cells)| cells)
        .collect();
    let texts: Vec<String> = in_column.iter().map(|cells| cells[number].into()).collect();
    assert_story(&texts, wanted);
    assert!(in_column.iter().all(|cells| cells[0] == id), "{lines:#?}");
}

#[test]
fn the_story_is_the_whole_diagram_in_three_columns() {
    let lines = story(&["story"]);
    let descriptor = |words: &str| {
        let line = lines.iter().find(|line| line.contains(words)).unwrap();
        let (_, result) = line.split_once(" = ").unwrap();
        result.split(' ').next().unwrap().to_string()
    };
    let listener = descriptor("socket() = ");
    let accepted = descriptor("accept(");
    let [bind, listen] = ["bind", "listen"].map(|name| format!("{name}({listener}, "));
    let accept = format!("accept({listener}) = ");
    let wanted = [
        "socket() = ",
        &bind,
        &listen,
        &format!("{accept}{accepted}"),
        &format!("{accept}EAGAIN"),
        &format!("close({listener}) = ok"),
    ];
    assert_column(&lines, 1, "0.0", &wanted);
    let wanted = [
        &format!("read({accepted}, 65536) = 6"),
        &format!("write({accepted}, 6) = 6"),
        &format!("read({accepted}, 65536) = 0"),
        &format!("close({accepted}) = ok"),
    ];
    assert_column(&lines, 2, "2.2", &wanted.map(String::as_str));
    let of_client = lines.iter().find(|line| line.starts_with("1.1")).unwrap();
    let client = of_client.split_once(" = ").unwrap().1;
    let client = client.split(' ').next().unwrap();
    let wanted = [
        "socket() = ",
        &format!("connect({client}, 127.0.0.1:"),
        &format!("getsockopt({client}, SO_ERROR) = ok"),
        &format!("write({client}, 6) = 6"),
        &format!("shutdown({client}) = ok"),
        &format!("read({client}, 65536) = 6"),
        &format!("read({client}, 65536) = 0"),
        &format!("close({client}) = ok"),
    ];
    assert_column(&lines, 3, "1.1", &wanted);
}

/// Not by chance: the server does not accept before.
#[test]
fn in_the_story_the_client_is_connected_and_has_sent_before_accept() {
    for _ in 0..20 {
        let lines = story(&["story"]);
        let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
        let order = ["= EINPROGRESS", "SO_ERROR) = ok", "write(", "shutdown("].map(at);
        assert!(order.is_sorted() && order[3] < at("accept("), "{lines:#?}");
    }
}

/// The lines of `story --loop` as strace has them: the call, the descriptor, the result.
fn told(lines: &[String]) -> Vec<String> {
    let calls = lines.iter().filter_map(|line| {
        let (column, cells) = cells(line);
        let (call, result) = cells[column].split_once(" = ")?;
        let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
        let (first, rest) = arguments.split_once(", ").unwrap_or((arguments, ""));
        let result = if result == "ok" { "0" } else { result };
        let events = || line.rsplit_once(' ').unwrap().1;
        Some(match name {
            "epoll_ctl" => format!("epoll_ctl {rest} {first} {} {result}", events()),
            _ => format!("{name} {first} {result}"),
        })
    });
    calls.collect()
}

/// The same of strace's output.
fn told_by_strace(trace: &str) -> Vec<String> {
    let calls = trace.lines().filter_map(|line| {
        let (call, result) = line.rsplit_once(" = ")?;
        let (name, arguments) = call.split_once(' ')?.1.trim_start().split_once('(')?;
        let words: Vec<&str> = arguments.trim_end_matches(')').split(", ").collect();
        let mut result = result.split(' ').filter(|word| *word != "-1");
        let (name, result) = (name.trim_end_matches('4'), result.next()?);
        Some(match name {
            "epoll_ctl" => {
                let operation = words[1].trim_start_matches("EPOLL_CTL_");
                let events = words[3].trim_start_matches("{events=");
                format!("epoll_ctl {operation} {} {events} {result}", words[2])
            }
            "epoll_wait" => format!("epoll_wait  {result}"),
            "socket" => format!("socket  {result}"),
            "recvfrom" => format!("read {} {result}", words[0]),
            "sendto" => format!("write {} {result}", words[0]),
            _ => format!("{name} {} {result}", words[0]),
        })
    });
    calls.collect()
}

#[test]
fn the_story_of_the_loop_has_the_calls_and_descriptors_that_strace_sees() {
    let path = temporary("story");
    let filter = "trace=socket,bind,listen,accept4,connect,getsockopt,recvfrom,sendto,shutdown,\
        epoll_ctl,epoll_wait";
    if !have("strace") {
        return;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", filter, "-o", path.to_str().unwrap()]);
    strace.args([env!("CARGO_BIN_EXE_doorkeeper"), "story", "--loop"]);
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().skip(1).map(str::to_string).collect();
    // strace shows every close of the program, and the registration of the waker's descriptor.
    let mut told = told(&lines);
    told.retain(|call| !call.starts_with("close "));
    let traced = told_by_strace(&trace);
    let waker = traced.iter().position(|call| call.starts_with("socket "));
    assert_eq!(told, traced[waker.unwrap()..], "{trace}");
    let reported = lines.iter().filter(|line| line.contains("reported"));
    assert!(reported.count() > 4, "{text}");
}

#[test]
fn an_echo_a_half_close_and_a_reset_are_narrated_as_they_happen() {
    let mut narrated = Narrated::serve(&["echo=127.0.0.1:0", "--narrate"]);
    let begin = [
        "socket() = ok",
        "bind(127.0.0.1:0) = ok",
        "listen(1024) = ok the listener is open; its accept queue has the limit 1024",
        "accept() = EAGAIN the accept queue is empty",
    ];
    assert_story(&narrated.until("EAGAIN"), &begin);
    let mut stream = client(narrated.address());
    let mut story = narrated.until("accepted 127.0.0.1:");
    let queue = format!("accept queue of {}: ", narrated.address());
    assert_story(
        &story,
        &[
            &format!("{queue}1 of 1024"),
            &format!(
                "accept() = 2.2 accepted {} on a new socket",
                stream.local_addr().unwrap()
            ),
        ],
    );
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    story = narrated.until("write(5)");
    assert_story(
        &story,
        &[
            "accept() = EAGAIN",
            &format!("{queue}0 of 1024"),
            "read(65536) = 5 5 bytes received",
            "write(5) = 5 5 bytes",
        ],
    );
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"");
    assert_story(
        &narrated.until("close()"),
        &[
            "read(65536) = 0 the peer sends no more",
            "close() = ok the socket is closed",
        ],
    );
    let stream = client(narrated.address());
    narrated.until("accepted 127.0.0.1:");
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let story = narrated.until("close()");
    let reset = &story[story.len() - 2..];
    assert_story(
        reset,
        &[
            "read(65536) = ECONNRESET Connection reset by peer",
            "close() = ok",
        ],
    );
}

/// The queue is shown empty again without any further event.
#[test]
fn an_accept_queue_that_is_emptied_is_shown_empty() {
    let mut narrated = Narrated::serve(&["echo=127.0.0.1:0", "--narrate"]);
    // The first sample, with which later ones are compared, comes before the first turn.
    narrated.until("EAGAIN");
    let _stream = client(narrated.address());
    narrated.until(": 1 of 1024");
    let program = Pid::from_child(&narrated.program.child);
    // A reader that waits too long ends with the program.
    let (done, is_done) = std::sync::mpsc::channel();
    let watchdog = std::thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE).is_err() {
            kill_process(program, Signal::KILL).unwrap();
        }
    });
    narrated.until(": 0 of 1024");
    done.send(()).unwrap();
    watchdog.join().unwrap();
}

#[test]
fn a_daytime_the_connection_limit_and_a_full_accept_queue_are_narrated() {
    let mut narrated = Narrated::serve(&["daytime=127.0.0.1:0", "--narrate"]);
    let mut stream = client(narrated.address());
    assert_eq!(read_all(&mut stream).unwrap().len(), 26);
    drop(stream);
    let story = narrated.until("close()");
    let end = &story[story.len() - 4..];
    assert_story(
        end,
        &[
            "write(26) = 26",
            "shutdown() = ok this side sends no more",
            "read(65536) = 0 the peer",
            "close() = ok",
        ],
    );
    drop(narrated);

    let mut narrated = Narrated::serve(&[
        "echo=127.0.0.1:0",
        "--narrate",
        "--max-connections",
        "1",
        "--backlog",
        "1",
    ]);
    let mut first = client(narrated.address());
    assert_eq!(echo(&mut first, b"hello"), b"hello");
    let _waiting = [client(narrated.address()), client(narrated.address())];
    // Linux lets one more in than the backlog says.
    let story = narrated.until(": 2 of 1");
    assert!(
        story.iter().any(|line| line == "listener: full"),
        "{story:#?}"
    );
    drop(first);
    let story = narrated.until("accepted 127.0.0.1:");
    assert!(
        story.iter().any(|line| line.starts_with("close()")),
        "{story:#?}"
    );
}

#[test]
fn running_out_of_descriptors_is_narrated() {
    if !have("prlimit") {
        return;
    }
    let wrapper = ["prlimit", "--nofile=24", "--"];
    let mut program = Program::start(
        &wrapper,
        &["echo=127.0.0.1:0", "--narrate", "--max-connections", "100"],
        "error",
        1,
    );
    let (lines, address) = (
        BufReader::new(program.stderr.take().unwrap()),
        program.listening[0].1,
    );
    let mut narrated = Narrated { program, lines };
    let streams: Vec<TcpStream> = (0..30).map(|_| client(address)).collect();
    let story = narrated.until("listener: backing off");
    assert!(
        story
            .iter()
            .any(|line| line.starts_with("accept() = EMFILE Too many open files")),
        "{story:#?}"
    );
    drop(streams);
    narrated.until("listener: accepting");
}

#[test]
fn a_refused_connect_is_narrated() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorkeeper"));
    let output = command
        .args(["connect", "--narrate", &nobody.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let story: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_whitespace()
                .skip(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let connect = format!("connect({nobody}) = EINPROGRESS");
    let wanted = [
        "socket() = ok",
        &connect,
        "getsockopt(SO_ERROR) = ECONNREFUSED Connection refused",
        "close() = ok",
    ];
    assert_story(&story[..4], &wanted);
}

/// The lines of strace's output, each call on one line. If another thread has a call in between,
/// strace splits the line at `<unfinished ...>` and `<... NAME resumed>`.
fn whole_lines(trace: &str) -> Vec<String> {
    let (mut begun, mut lines) = (HashMap::new(), Vec::new());
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, begin);
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            lines.push(format!("{thread} {}{end}", begun.remove(thread).unwrap()));
        } else {
            lines.push(line.to_string());
        }
    }
    lines
}

/// The calls on internet sockets in the output of strace: each with its result, without
/// descriptors.
fn traced(trace: &str) -> Vec<String> {
    let (mut ours, mut calls) = (HashSet::new(), Vec::new());
    for line in whole_lines(trace) {
        let Some((call, result)) = line.rsplit_once(" = ") else {
            continue;
        };
        let Some((name, args)) = call
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .split_once('(')
        else {
            continue;
        };
        let fd: String = args.chars().take_while(char::is_ascii_digit).collect();
        let mut words = result.split(' ');
        let returned = words.next().unwrap();
        let result = match returned {
            "-1" => words.next().unwrap(),
            returned => returned,
        };
        let mut call = |name: &str, result: &str| calls.push(format!("{name} {result}"));
        match name {
            "socket" if args.starts_with("AF_INET") => {
                ours.insert(returned.to_string());
                call("socket", "0");
            }
            "accept4" if returned == "-1" => call("accept", result),
            "accept4" => {
                ours.insert(returned.to_string());
                call("accept", "0");
            }
            // The descriptor of the source is the third argument.
            "epoll_ctl" => {
                let words: Vec<&str> = args.split(", ").collect();
                let operation = words[1].trim_start_matches("EPOLL_CTL_");
                let events = words[3].trim_start_matches("{events=");
                if ours.contains(words[2]) {
                    call(&format!("epoll_ctl {operation} {events}"), result);
                }
            }
            "epoll_wait" => call("epoll_wait", result),
            _ if !ours.contains(&fd) => {}
            "recvfrom" => call("read", result),
            "sendto" => call("write", result),
            "bind" | "listen" | "connect" | "shutdown" => call(name, result),
            // The call itself succeeds; the error of the connect stands between the brackets.
            "getsockopt" if args.contains("SO_ERROR") => {
                let value = args.split(['[', ']']).nth(1).unwrap();
                call("getsockopt", value);
            }
            "close" => {
                ours.remove(&fd);
                call("close", result);
            }
            _ => {}
        }
    }
    calls
}

/// The calls of a story in JSON, in the form of [`traced`].
fn narrated(story: &str) -> Vec<String> {
    let names = HashMap::from([
        (11, "EAGAIN"),
        (32, "EPIPE"),
        (104, "ECONNRESET"),
        (111, "ECONNREFUSED"),
        (115, "EINPROGRESS"),
    ]);
    let lines = story
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    // Watched sources are no internet sockets.
    let mut ours = HashSet::new();
    lines
        .filter(|line| line["call"].is_string())
        .filter(|line| {
            let name = line["call"].as_str().unwrap();
            if name == "socket" {
                ours.insert(line["id"].to_string());
            } else if name == "accept" {
                ours.insert(line["connection"].to_string());
            }
            name != "epoll_ctl" || ours.contains(&line["id"].to_string())
        })
        .map(|line| {
            let mut name = line["call"].as_str().unwrap().to_string();
            if name == "epoll_ctl" {
                let [operation, events] = ["operation", "events"].map(|name| line[name].as_str());
                name = format!("{name} {} {}", operation.unwrap(), events.unwrap());
            }
            match line["errno"].as_i64() {
                Some(errno) => format!("{name} {}", names[&errno]),
                None => format!("{name} {}", line["result"]),
            }
        })
        .collect()
}

/// A wrapper that traces a program's calls on sockets into a file, and takes the program with it
/// when it is killed; `None` if a tool is missing.
fn strace(path: &str) -> Option<Vec<&str>> {
    let filter = "trace=socket,bind,listen,accept4,connect,getsockopt,recvfrom,sendto,shutdown,close,\
        epoll_ctl,epoll_wait";
    let tools = have("strace") && have("setpriv");
    let words = ["strace", "-f", "-qq", "-e", filter, "-o", path];
    tools.then(|| [&words[..], &["setpriv", "--pdeathsig", "KILL", "--"]].concat())
}

#[test]
fn the_narrated_calls_are_the_traced_calls() {
    let path = std::env::temp_dir().join(format!("doorkeeper-narrate-{}", std::process::id()));
    let Some(wrapper) = strace(path.to_str().unwrap()) else {
        return;
    };
    let args = [
        "echo=127.0.0.1:0",
        "daytime=127.0.0.1:0",
        "--narrate=json",
        "--loop",
        "--shutdown-timeout",
        "0s",
    ];
    let mut program = Program::start(&wrapper, &args, "off", 2);
    for round in 1..5 {
        let mut stream = client(program.address("echo"));
        for _ in 0..round {
            assert_eq!(
                echo(&mut stream, &vec![b'x'; 1000 * round]).len(),
                1000 * round
            );
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream).unwrap(), b"");
        assert_eq!(
            read_all(&mut client(program.address("daytime")))
                .unwrap()
                .len(),
            26
        );
        let stream = client(program.address("echo"));
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
    kill_process(
        Pid::from_raw(children.trim().parse().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    let mut story = String::new();
    program
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut story)
        .unwrap();
    program.wait();
    let trace = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let narrated = narrated(&story);
    assert!(narrated.len() > 60, "{narrated:?}");
    assert_eq!(narrated, traced(&trace), "{trace}");
}

/// The same of a client: an address that refuses, and one that answers.
#[test]
fn the_narrated_calls_of_a_client_are_the_traced_calls() {
    let path = std::env::temp_dir().join(format!("doorkeeper-client-{}", std::process::id()));
    let Some(wrapper) = strace(path.to_str().unwrap()) else {
        return;
    };
    let program = Program::serve(&["daytime=127.0.0.1:0"]);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (address, status, seen) in [
        (nobody, 1, "getsockopt ECONNREFUSED"),
        (program.address("daytime"), 0, "read 26"),
    ] {
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .args([env!("CARGO_BIN_EXE_doorkeeper"), "connect"])
            .args(["--narrate=json", "--loop", &address.to_string()]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let trace = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let story: String = text
            .lines()
            .filter(|line| line.starts_with('{'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let narrated = narrated(&story);
        for call in ["socket 0", "connect EINPROGRESS", seen, "close 0"] {
            assert!(narrated.contains(&call.to_string()), "{call}: {story}");
        }
        assert_eq!(narrated, traced(&trace), "{trace}");
    }
}

#[test]
fn a_blocked_reader_of_the_story_stalls_nobody_and_learns_how_many_lines_are_left_out() {
    let mut program = Program::start(&[], &["echo=127.0.0.1:0", "--narrate"], "error", 1);
    let mut stderr = program.stderr.take().unwrap();
    let mut stream = client(program.listening[0].1);
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let (start, mut early) = (Instant::now(), 0);
    // The queue, the thread and the pipe are full after some 5,000, and then nothing may grow.
    for round in 0..20_000 {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        assert!(start.elapsed() < 3 * PATIENCE);
        if round == 7_000 {
            early = resident();
        }
    }
    let late = resident();
    assert!(late < early + 1024, "grew from {early} to {late} KiB");
    // When it reads again, a line says how many lines are missing there, and the story goes on.
    let reader = std::thread::spawn(move || {
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        loop {
            let count = stderr.read(&mut piece).unwrap();
            assert!(count > 0, "no line counts them");
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
            let goes_on = |(_, after): (&str, &str)| after.contains("read(65536) = 5");
            if text.split_once(" lines left out").is_some_and(goes_on) {
                return text;
            }
        }
    });
    while !reader.is_finished() {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
        assert!(start.elapsed() < 4 * PATIENCE);
    }
    let text = reader.join().unwrap();
    let before = text.split(" lines left out").next().unwrap();
    let left_out: usize = before.rsplit('(').next().unwrap().parse().unwrap();
    assert!(left_out > 25_000, "{left_out}");
}

/// The signal that asks for a table. Most loaded first: one holds input, one has moved more than
/// the other.
#[test]
fn a_signal_logs_a_table_of_everything() {
    let mut program = Program::start(&[], &["echo=127.0.0.1:0"], "info", 1);
    let address = program.listening[0].1;
    let (mut quiet, mut busy) = (client(address), client(address));
    assert_eq!(echo(&mut quiet, b"hello"), b"hello");
    assert_eq!(echo(&mut busy, &[b'x'; 5000]).len(), 5000);
    kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    let mut table = String::new();
    while !table.contains("0 connected") {
        assert!(log.read_line(&mut table).unwrap() > 0, "{table}");
    }
    let place = |word: &str| {
        table
            .find(word)
            .unwrap_or_else(|| panic!("no {word}: {table}"))
    };
    assert!(
        place(&busy.local_addr().unwrap().to_string())
            < place(&quiet.local_addr().unwrap().to_string())
    );
    place("1 listeners, 2 connections");
    place("accept queue 0 of 1024");
    terminate(&program);
}

/// Bytes that wait come before bytes that have moved: one client has moved less, and does not read.
#[test]
fn the_table_puts_what_waits_first() {
    let mut program = Program::start(&[], &["echo=127.0.0.1:0"], "info", 1);
    let address = program.listening[0].1;
    let (mut mute, mut busy) = (client(address), client(address));
    let block = vec![b'x'; 1 << 16];
    let moved = send_until_full(&mut mute, &block);
    for _ in 0..=2 * moved / block.len() {
        assert_eq!(echo(&mut busy, &block), block);
    }
    kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    let mut table = String::new();
    while !table.contains("0 connected") {
        assert!(log.read_line(&mut table).unwrap() > 0, "{table}");
    }
    let row = |stream: &TcpStream| {
        let peer = stream.local_addr().unwrap().to_string();
        table.lines().position(|line| line.contains(&peer)).unwrap()
    };
    assert!(row(&mute) < row(&busy), "{table}");
}

/// Each row has its service, and there are totals of services and of peers.
#[test]
fn the_table_has_services_and_totals() {
    let args = ["echo=127.0.0.1:0", "discard=127.0.0.1:0"];
    let mut program = Program::start(&[], &args, "info", 2);
    let (echoes, discard) = (program.address("echo"), program.address("discard"));
    let mut streams = [client(echoes), client(echoes), client(discard)];
    for stream in &mut streams[..2] {
        assert_eq!(echo(stream, b"hello"), b"hello");
    }
    streams[2].write_all(b"1234567").unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    let mut table = String::new();
    // The third has no answer that says that it was accepted, and a table a second is the most.
    while !table.contains("7 received") {
        kill_process(Pid::from_child(&program.child), Signal::USR1).unwrap();
        table.clear();
        while !table.contains(" connected, ") {
            assert!(log.read_line(&mut table).unwrap() > 0, "{table}");
        }
    }
    let line = |words: &[&str]| {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        let found = table.lines().find(has_all);
        found.unwrap_or_else(|| panic!("{words:?}: {table}"))
    };
    line(&["service  echo", " 2 connections", "10 received, 10 sent"]);
    line(&["service  discard", " 1 connections", "7 received, 0 sent"]);
    line(&[
        "peer     127.0.0.1",
        " 3 connections",
        "17 received, 10 sent",
    ]);
    line(&["listener 0.0", "echo", &echoes.to_string()]);
    let row = line(&[&format!("{} ", streams[2].local_addr().unwrap()), "open"]);
    assert!(row.contains(" discard "), "{row}");
}

/// Every line is an object, whatever it is about, and says which connection it is about.
#[test]
fn the_json_of_a_story_is_json() {
    let args = ["echo=127.0.0.1:0", "--narrate=json", "--max-connections=1"];
    let mut program = Program::start(&[], &args, "off", 1);
    let mut stream = client(program.listening[0].1);
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    let waiting = client(program.listening[0].1);
    let mut stderr = BufReader::new(program.stderr.take().unwrap());
    let mut lines: Vec<Value> = Vec::new();
    let mut until = |wanted: fn(&Value) -> bool| {
        while !lines.last().is_some_and(wanted) {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{lines:?}");
            lines.push(serde_json::from_str(&line).unwrap());
        }
    };
    until(|line| line["depth"] == 1 && line["limit"] == 1024);
    drop(waiting);
    drop(stream);
    until(|line| line["listener"] == "accepting");
    terminate(&program);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    lines.extend(rest.lines().map(|line| serde_json::from_str(line).unwrap()));
    assert!(
        lines
            .iter()
            .all(|line| line["at"].is_f64() && line["id"].is_string())
    );
    let states: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["listener"].as_str())
        .collect();
    assert_eq!((states[0], states[1]), ("full", "accepting"), "{states:?}");
    assert_eq!(states.last(), Some(&"shutting down"), "{states:?}");
    // A connection is called by one name, from its accept on.
    let find = |call: &str| {
        let is_it = |line: &&Value| line["call"] == call && line["result"].is_u64();
        lines.iter().find(is_it).unwrap()
    };
    let (accept, read) = (find("accept"), find("read"));
    assert_eq!(accept["connection"], read["id"]);
    assert_ne!(accept["id"], read["id"]);
    assert_eq!(find("listen")["id"], accept["id"]);
}

#[test]
fn bytes_of_a_peer_do_not_reach_the_terminal() {
    let mut narrated = Narrated::serve(&["echo=127.0.0.1:0", "--narrate"]);
    let mut stream = client(narrated.address());
    stream.write_all(b"\x1b[2J\x07secret").unwrap();
    assert_eq!(read_exactly(&mut stream, 11).len(), 11);
    let story = narrated.until("write(11)").concat();
    assert!(
        !story.contains("secret") && !story.contains(|c: char| c.is_control()),
        "{story:?}"
    );
}

/// What a server with six listeners costs for so many requests of one client, in seconds of CPU.
fn cost(options: &[&str]) -> f64 {
    let names = ["echo", "discard", "daytime", "qotd", "chargen", "time"];
    let services = names.map(|name| format!("{name}=127.0.0.1:0"));
    let mut args: Vec<&str> = services.iter().map(String::as_str).collect();
    args.extend(options);
    let mut program = Program::start(&[], &args, "error", 6);
    let mut stderr = program.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let mut stream = client(program.address("echo"));
    for _ in 0..5000 {
        assert_eq!(echo(&mut stream, b"hello"), b"hello");
    }
    cpu_time(program.pid())
}

/// A look at the accept queue of each listener in each turn would cost many times the rest.
#[test]
fn a_narrated_and_traced_server_costs_a_few_times_a_plain_one() {
    let path = temporary("cost");
    let plain = cost(&[]);
    for options in [
        &["--narrate"][..],
        &["--narrate=json"],
        &["--trace", path.to_str().unwrap()],
    ] {
        let observed = cost(options);
        assert!(observed < 20.0 * plain, "{options:?}: {observed}, {plain}");
    }
    std::fs::remove_file(path).unwrap();
}
