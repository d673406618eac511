//! The house: which file may import which, what the library depends on, how long a function and a file may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn sources(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().with_extension("");
                found.insert(
                    name.to_str().unwrap().to_string(),
                    std::fs::read_to_string(&path).unwrap(),
                );
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// What comes before the unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn only_the_waist_names_the_system() {
    for (file, text) in sources("src") {
        let allowed: &[&str] = match file.as_str() {
            // The second speaks to the kernel about sockets, not on them.
            file if file.starts_with("sys/") => continue,
            "id" => &["mio::Token"],
            // Error numbers, and nothing else of libc.
            "errno" => &["libc::E"],
            "reactor/mailbox" => &["mio::Waker"],
            // Signals, as any embedder would watch them.
            "cli/signals" | "cli/timer" => &["doorkeeper::mio::"],
            _ => &[],
        };
        for line in code(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            let names = ["mio::", "socket2::", "libc::"]
                .iter()
                .any(|name| line.contains(name));
            assert!(
                !names || allowed.iter().any(|name| line.contains(name)),
                "{file}: {line}"
            );
        }
    }
}

/// They differ between systems, and on Linux between processors.
#[test]
fn no_error_number_is_written_by_hand() {
    for (file, text) in sources("src") {
        let by_hand = text.lines().find(|line| {
            let name = line.trim_start().strip_prefix("const E");
            name.is_some_and(|name| {
                name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(": i32")
            })
        });
        assert_eq!(by_hand, None, "{file}");
    }
}

/// A step of the wall clock moves no deadline if nothing but the services can read it.
#[test]
fn only_services_read_the_wall_clock() {
    for (file, text) in sources("src")
        .into_iter()
        .filter(|(file, _)| !file.starts_with("services/") && !file.starts_with("cli/"))
    {
        assert!(
            !text.contains("SystemTime") && !text.contains("jiff::"),
            "{file} reads the wall clock"
        );
    }
}

#[test]
fn services_and_the_command_line_see_the_public_api_only() {
    let public = ["Config", "Context", "Handler"];
    for (file, text) in sources("src/services") {
        for rest in code(&text).split("crate::").skip(1) {
            let names = rest.split(';').next().unwrap();
            let lower = names.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(
                !lower
                    && (names.starts_with('{')
                        || public.iter().any(|name| names.starts_with(name))),
                "{file}: {names}"
            );
        }
    }
    for (file, text) in sources("src/cli") {
        assert!(!text.contains("crate::"), "{file} looks inside");
    }
}

#[test]
fn the_library_depends_on_four_crates_and_on_libc_beneath_them() {
    let args = [
        "tree",
        "--offline",
        "-e",
        "normal",
        "--no-default-features",
        "--prefix",
        "depth",
        "--format",
        " {p}",
    ];
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
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
    for (file, text) in sources("src")
        .into_iter()
        .filter(|(file, _)| !file.ends_with("/tests"))
    {
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let lines = code(&text).lines().filter(is_code).count();
        assert!(lines <= 400, "{file} has {lines} lines of code; split it");
        for (name, length) in functions(code(&text)) {
            assert!(length <= 60, "{file}: {name} has {length} lines");
        }
    }
}

/// Every function and its length, from the indentation that rustfmt gives its first and last line.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let starts = ["fn ", "pub fn ", "pub(crate) fn ", "const fn "]
            .iter()
            .any(|start| words.starts_with(start));
        if starts && !words.ends_with(';') && !words.ends_with('}') {
            let end = format!("{}}}", &line[..line.len() - words.len()]);
            let length = lines[at..].iter().position(|&line| line == end);
            found.extend(length.map(|length| (words, length + 1)));
        }
    }
    found
}

#[test]
fn the_lints_that_hold_the_manner_are_on() {
    let manifest = include_str!("../Cargo.toml");
    for lint in [
        "missing_docs = \"deny\"",
        "missing_debug_implementations = \"deny\"",
        "unsafe_code = \"forbid\"",
        "incompatible_msrv = \"deny\"",
    ] {
        assert!(manifest.contains(lint), "{lint}");
    }
}
