//! The descriptions of the commands: man pages that formatters accept, and completions that the
//! shells make.

mod common;

use common::have;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const COMMANDS: [&str; 7] = [
    "serve",
    "connect",
    "bench",
    "story",
    "room",
    "manual",
    "completions",
];

/// What the program prints.
fn doorkeeper(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_doorkeeper"))
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {errors}");
    assert_eq!(errors, "", "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What another program prints, on both streams, when it gets this input.
fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// A new folder that holds the completion script of a shell by this name.
fn script(shell: &str, name: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("completion-{shell}"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, doorkeeper(&["completions", shell])).unwrap();
    (folder, file)
}

/// The first words of the lines that describe options: `--backlog`, `-4`, `-h,`.
fn options(help: &str) -> Vec<&str> {
    let lines = help.lines().filter(|line| line.starts_with("  -"));
    let words = lines.flat_map(|line| line.split([' ', '[', ',']));
    words.filter(|word| word.starts_with('-')).collect()
}

#[test]
fn a_man_page_has_every_option_and_formatters_accept_it() {
    if !have("mandoc") {
        return;
    }
    for words in [&[][..]]
        .into_iter()
        .chain(COMMANDS.each_ref().map(std::slice::from_ref))
    {
        let page = doorkeeper(&[&["manual"], words].concat());
        let complaints = run(
            Command::new("mandoc").args(["-T", "lint", "-W", "warning"]),
            &page,
        );
        // The date would be that of the build.
        let complaints = complaints
            .lines()
            .filter(|line| !line.contains("missing date"));
        assert_eq!(complaints.collect::<Vec<_>>(), [""; 0], "{words:?}");
        let text = run(Command::new("mandoc").args(["-T", "ascii"]), &page);
        // Bold is a letter, a backspace, and the letter again.
        let mut plain = String::new();
        for c in text.chars() {
            if c == '\u{8}' {
                plain.pop();
            } else {
                plain.push(c);
            }
        }
        let help = doorkeeper(&[words, &["--help"]].concat());
        assert!(!options(&help).is_empty());
        for option in options(&help) {
            assert!(plain.contains(option), "{words:?}: {option}: {plain}");
        }
    }
}

/// Lines of a command, and what Tab makes of their last word.
const BASH: [(&str, &str); 8] = [
    ("'' sto", "story"),
    ("'' --ver", "--version"),
    ("serve --backl", "--backlog"),
    ("serve --backlog ''", ""),
    ("serve disc", "discard"),
    ("bench --mode id", "idle"),
    ("serve --log = j", "json"),
    ("connect --trace /proc/self/statu", "/proc/self/status"),
];

#[test]
fn bash_completes_commands_options_and_values() {
    if !have("bash") {
        return;
    }
    let (_, file) = script("bash", "doorkeeper");
    // `compopt` works in a completion only.
    let setup = format!(
        "compopt() {{ :; }}; source {}; tab() {{ COMP_WORDS=(doorkeeper \"$@\"); \
         COMP_CWORD=$#; _doorkeeper; echo \"${{COMPREPLY[0]}}\"; }}",
        file.display()
    );
    for (line, completed) in BASH {
        let line = line.trim_start_matches("'' ");
        let answer = run(&mut Command::new("bash"), &format!("{setup}\ntab {line}\n"));
        assert_eq!(answer, format!("{completed}\n"), "{line}");
    }
}

#[test]
fn fish_completes_commands_options_and_values() {
    if !have("fish") {
        return;
    }
    let (folder, file) = script("fish", "doorkeeper.fish");
    for (line, completed) in [
        ("sto", "story"),
        ("--ver", "--version"),
        ("serve --backl", "--backlog"),
        ("serve disc", "discard"),
        ("bench --mode id", "idle"),
        ("serve --log=j", "--log=json"),
        ("serve --trace /proc/self/statu", "/proc/self/status"),
    ] {
        let commands = format!("source {}; complete -C 'doorkeeper {line}'", file.display());
        let mut fish = Command::new("fish");
        fish.env("HOME", &folder)
            .args(["--no-config", "-c", &commands]);
        let answer = run(&mut fish, "");
        let words = answer.lines().map(|line| line.split('\t').next().unwrap());
        assert!(
            words.clone().any(|word| word == completed),
            "{line}: {answer}"
        );
    }
}

/// Types lines into an interactive zsh, each with Tab behind it, and prints what they become. Ctrl-X
/// prints the line.
const ZSH: &str = r#"
zmodload zsh/zpty
folder=$1; shift
zpty shell zsh -f -i
zpty -w shell "PS1=; fpath=($folder \$fpath); autoload -Uz compinit; compinit -D -u"
zpty -w shell 'show() { print -r -- "[<$BUFFER>]"; BUFFER= }; zle -N show; bindkey "^X" show; print rea""dy'
zpty -r -m shell seen '*ready*'
for line; do
    zpty -w -n shell "doorkeeper $line"$'\t\x18'
    zpty -r -m shell seen '*\[<*>\]*'
    [[ $seen =~ '\[<doorkeeper ([^>]*)>\]' ]] && print -r -- $match[1]
done
zpty -d shell
"#;

#[test]
fn zsh_completes_commands_options_and_values() {
    if !have("zsh") {
        return;
    }
    let (folder, _) = script("zsh", "_doorkeeper");
    let lines = [
        ("sto", "story "),
        ("--ver", "--version "),
        ("serve --backl", "--backlog="),
        ("serve disc", "discard "),
        ("bench --mode id", "idle "),
        ("serve --log=j", "--log=json "),
    ];
    let mut zsh = Command::new("zsh");
    zsh.env("HOME", &folder).args(["-f", "-c", ZSH, "zsh"]);
    zsh.arg(&folder).args(lines.map(|(line, _)| line));
    let answer = run(&mut zsh, "");
    let wanted: String = lines
        .iter()
        .map(|(line, completed)| match line.rsplit_once(' ') {
            Some((before, _)) => format!("{before} {completed}\n"),
            None => format!("{completed}\n"),
        })
        .collect();
    assert_eq!(answer, wanted);
}
