//! The house: which rooms of `src` need each other, who speaks to the system, what the library
//! depends on, how long files and functions are. A room is a folder of `src`, or a file directly in
//! it. Everything is worked out from the files.

mod graph;
mod imports;
mod source;

use graph::{Graph, circles};
use imports::{Library, room, rooms, within};
use source::{code_lines, functions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The rooms that a turn of the loop crosses. To know the engine is to have read them.
const CORE: [&str; 5] = ["reactor", "connection", "handler", "buffers", "time"];
const CORE_LINES: usize = 3_988;
/// The files of the program that drive a source of their own: signals, timers, clients of --status.
const WATCHED: [&str; 3] = ["cli/signals", "cli/timer", "cli/serve/status/server"];
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;
const MEDIAN_LINES: usize = 8;

/// The files below `src` without those of tests, by name without ending: `reactor/mod`, `time`.
fn texts() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap().to_string();
            if name.split('/').all(|part| part != "tests") {
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn is_cli(file: &str) -> bool {
    file == "main" || file.starts_with("cli/")
}

/// The library's files, without the program's.
fn library() -> BTreeMap<String, String> {
    let mut texts = texts();
    texts.retain(|file, _| !is_cli(file));
    assert!(texts.len() > 10, "{:?}", texts.keys());
    texts
}

fn program() -> BTreeMap<String, String> {
    let mut texts = texts();
    texts.retain(|file, _| is_cli(file));
    assert!(texts.len() > 10, "{:?}", texts.keys());
    texts
}

/// The arrows between files that make up a circle of files or of rooms, a line each.
fn arrows(files: &Graph<'_>, circle: &BTreeSet<&str>) -> String {
    let mut lines = String::new();
    for (file, needed) in files {
        for other in needed {
            let between_files = circle.contains(file) && circle.contains(other);
            let between_rooms = room(file) != room(other)
                && circle.contains(room(file))
                && circle.contains(room(other));
            if between_files || between_rooms {
                lines += &format!("\n    {file} needs {other}");
            }
        }
    }
    lines
}

#[test]
fn no_circle_leads_from_room_to_room() {
    let texts = library();
    let files = Library::new(&texts).graph();
    let circles = circles(&rooms(&files));
    let told = circles.iter().map(|circle| arrows(&files, circle));
    let told: String = told.collect();
    assert!(circles.is_empty(), "{circles:?}{told}");
}

/// A handler is given a context or what is not its own (`others`), and these take handlers to connect with. The files of `reactor` are one
/// module, and its first comment says so.
#[test]
fn within_a_room_no_files_need_each_other_except_where_the_room_says_so() {
    let texts = library();
    let files = Library::new(&texts).graph();
    let loose = says_that_its_files_know_each_other(&texts["reactor/mod"]);
    let mut told = String::new();
    for room in rooms(&files).into_keys() {
        for circle in circles(&within(&files, room)) {
            let known = circle
                .iter()
                .eq(&["handler/context", "handler/mod", "handler/others"])
                || loose && room == "reactor";
            if !known {
                told += &arrows(&files, &circle);
            }
        }
    }
    assert!(told.is_empty(), "these files need each other:{told}");
}

fn says_that_its_files_know_each_other(text: &str) -> bool {
    let comment = text.lines().take_while(|line| line.starts_with("//!"));
    let words: Vec<&str> = comment
        .flat_map(|line| line[3..].split_whitespace())
        .collect();
    words.join(" ").contains("know each other")
}

/// A `*` hides what a file needs, and so does a `path` attribute.
#[test]
fn what_a_file_needs_can_be_read_from_it() {
    let texts = library();
    let library = Library::new(&texts);
    for (name, file) in &library.files {
        for path in file.paths.iter().filter(|path| path.glob) {
            assert_eq!(library.file_of(path), None, "{name}: {}::*", path.text());
        }
        let code: Vec<&str> = file.tokens.iter().map(|token| token.text).collect();
        let moved = code.windows(3).any(|words| words == ["[", "path", "="]);
        assert!(!moved, "{name} has a `path` attribute");
    }
}

/// System calls are made in one room, so it can be replaced, for example by a simulated network.
#[test]
fn only_sys_names_the_system() {
    let texts = library();
    for (name, file) in &Library::new(&texts).files {
        let allowed: &[&str] = match *name {
            _ if room(name) == "sys" => continue,
            // Embedders need the same version for their sources.
            "lib" => &["mio"],
            "id" => &["mio::Token"],
            // Error numbers, and nothing else of libc.
            "errno" => &["libc::E"],
            // The arguments of `adopt_listener` and `adopt_stream`.
            "reactor/api" => &["std::net::TcpListener", "std::net::TcpStream"],
            "services/qotd" => &["std::fs::read_to_string"],
            _ => &[],
        };
        for path in &file.paths {
            let path = file.bound(path).text();
            assert!(
                !is_of_the_system(&path) || allowed.iter().any(|name| path.starts_with(name)),
                "{name} names {path}"
            );
        }
    }
}

/// True for a path of mio, socket2, libc or rustix, and of those parts of std that make system
/// calls. Addresses and descriptors are data, and `thread::Result` is a panic's payload.
fn is_of_the_system(path: &str) -> bool {
    let is_below = |name: &&str| {
        let rest = path.strip_prefix(*name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let data = [
        "std::net::IpAddr",
        "std::net::Ipv4Addr",
        "std::net::Ipv6Addr",
        "std::net::SocketAddr",
        "std::net::SocketAddrV4",
        "std::net::SocketAddrV6",
        "std::os::fd::AsFd",
        "std::os::fd::BorrowedFd",
        "std::thread::Result",
    ];
    let system = [
        "mio",
        "socket2",
        "libc",
        "rustix",
        "std::env",
        "std::fs",
        "std::net",
        "std::os",
        "std::process",
        "std::thread",
    ];
    system.iter().any(is_below) && !data.iter().any(is_below)
}

#[test]
fn paths_of_the_system_are_told_from_others() {
    for path in [
        "mio",
        "mio::Poll",
        "socket2::Socket",
        "std::net",
        "std::net::TcpStream::connect",
        "std::os::fd",
        "std::thread::spawn",
    ] {
        assert!(is_of_the_system(path), "{path}");
    }
    for path in ["std::net::SocketAddr", "std::io", "crate::mio", "miox::a"] {
        assert!(!is_of_the_system(path), "{path}");
    }
}

/// They differ between systems, and on Linux between processors.
#[test]
fn no_error_number_is_written_by_hand() {
    for texts in [library(), program()] {
        for (name, file) in Library::new(&texts).files {
            let words: Vec<&str> = file.tokens.iter().map(|token| token.text).collect();
            let by_hand = words.windows(4).find(|words| {
                let is_errno = |name: &str| {
                    let rest = name.strip_prefix('E');
                    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
                };
                matches!(words, ["const", number, ":", "i32"] if is_errno(number))
            });
            assert_eq!(by_hand, None, "{name}");
        }
    }
}

/// Only the services can read the wall clock, so setting it moves no deadline.
#[test]
fn only_services_read_the_wall_clock() {
    let texts = library();
    for (name, file) in &Library::new(&texts).files {
        let mut words = file.tokens.iter().map(|token| token.text);
        assert!(
            room(name) == "services" || !words.any(|word| word == "SystemTime" || word == "jiff"),
            "{name} reads the wall clock"
        );
    }
}

#[test]
fn services_see_the_public_api_only() {
    let texts = library();
    let library = Library::new(&texts);
    let public = library.files["lib"].public_names();
    assert!(public.contains("Handler"), "{public:?}");
    for (name, file) in library
        .files
        .iter()
        .filter(|(name, _)| room(name) == "services")
    {
        for path in &file.paths {
            let path = file.bound(path);
            if let ["crate", first, ..] = path.names[..] {
                let seen = first == "services" || public.contains(first);
                assert!(seen, "{name} looks inside: {}", path.text());
            }
        }
    }
}

/// The program uses the crate `doorkeeper`, and nothing that is not public.
#[test]
fn the_command_line_is_an_embedder_like_any_other() {
    let texts = program();
    for (name, file) in &Library::new(&texts).files {
        for path in &file.paths {
            let inside = ["crate", "cli"];
            assert!(
                path.names[0] != "crate" || path.names.starts_with(&inside),
                "{name} names {}",
                path.text()
            );
            // They are watched sources, as in any program that embeds the library.
            let system = path
                .names
                .iter()
                .any(|name| ["mio", "socket2"].contains(name));
            assert!(
                !system || WATCHED.contains(name),
                "{name} names {}",
                path.text()
            );
        }
    }
}

#[test]
fn the_library_depends_on_four_crates_and_on_libc_beneath_them() {
    let args = "tree --offline -e normal --no-default-features --prefix depth --format";
    let output = Command::new(env!("CARGO"))
        .args(args.split(' '))
        .arg(" {p}")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let named = |depth: &str| -> Vec<&str> {
        let lines = tree.lines().filter_map(|line| line.strip_prefix(depth));
        lines
            .map(|line| line.split_whitespace().next().unwrap())
            .collect()
    };
    assert_eq!(named("1"), ["libc", "log", "mio", "slab", "socket2"]);
    assert!(named("2").iter().all(|&name| name == "libc"), "{tree}");
    assert!(named("3").is_empty(), "{tree}");
}

#[test]
fn no_file_and_no_function_outgrows_a_reader() {
    let texts = [library(), program()];
    for (name, file) in texts.iter().flat_map(|texts| Library::new(texts).files) {
        let lines = code_lines(&file.tokens);
        assert!(lines <= FILE_LINES, "{name} has {lines} lines of code");
        for function in functions(&file.tokens) {
            let (function, lines) = (function.name, function.lines);
            assert!(
                lines <= FUNCTION_LINES,
                "{name}: {function} has {lines} lines"
            );
        }
    }
}

#[test]
fn the_core_is_read_in_an_afternoon() {
    let texts = library();
    let library = Library::new(&texts);
    let core = library
        .files
        .iter()
        .filter(|(name, _)| CORE.contains(&room(name)))
        // What holds between turns is checked in simulations only, and is no part of the engine.
        .filter(|(name, _)| !name.ends_with("/invariants"));
    let (mut rooms, mut lines, mut lengths) = (BTreeSet::new(), 0, Vec::new());
    for (name, file) in core {
        rooms.insert(room(name));
        lines += code_lines(&file.tokens);
        let functions = functions(&file.tokens);
        lengths.extend(functions.iter().map(|function| function.lines));
    }
    assert_eq!(rooms.len(), CORE.len(), "{rooms:?}");
    lengths.sort();
    let median = lengths[lengths.len() / 2];
    println!(
        "{lines} lines of code, {} functions, median {median}",
        lengths.len()
    );
    assert!(lines <= CORE_LINES, "the core has {lines} lines of code");
    assert!(
        median <= MEDIAN_LINES,
        "half of its functions have {median} lines or more"
    );
}

#[test]
fn the_lints_that_keep_the_style_are_on() {
    let manifest = include_str!("../../Cargo.toml");
    for lint in [
        "missing_docs = \"deny\"",
        "missing_debug_implementations = \"deny\"",
        "unsafe_code = \"forbid\"",
        "incompatible_msrv = \"deny\"",
    ] {
        assert!(manifest.contains(lint), "{lint}");
    }
}
