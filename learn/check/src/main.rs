//! `check NN PROGRAM [ARGUMENT]...`: does this program do what chapter NN asks?

use check::checks::{CHECKS, Check, Verdict};
use check::program::Subject;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: check NN PROGRAM [ARGUMENT]...     run the check of chapter NN on a program
       check --all PROGRAM [ARGUMENT]...  run all checks, and show how far it is
       check --hint NN                    what to think of

PROGRAM is any server that echoes, and prints a line that ends with its port.
s01 to s12 are the steps, once they are built.
The exit status is 0 if it passes, 1 if it fails, 2 if the words make no sense,
and 3 if something that the check needs is missing (1 if CI is set).";

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let rest = words.split_off(words.len().min(1));
    let first = words
        .first()
        .and_then(|word| word.to_str())
        .unwrap_or("--help");
    match (first, rest.first()) {
        ("--help" | "-h", _) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        ("--all", Some(_)) => all(&subject(rest)),
        ("--hint", Some(number)) => hint(number.to_str().unwrap_or_default()),
        (number, Some(word)) if word == "--hint" => hint(number),
        (number, Some(_)) => match find(number) {
            Some(check) => one(check, &subject(rest)),
            None => usage(),
        },
        (_, None) => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn find(number: &str) -> Option<&'static Check> {
    let chapter: u8 = number.parse().ok()?;
    CHECKS.iter().find(|check| check.chapter == chapter)
}

fn hint(number: &str) -> ExitCode {
    let Some(check) = find(number) else {
        return usage();
    };
    println!("{:02} {}\n{}", check.chapter, check.title, check.hint);
    ExitCode::SUCCESS
}

/// The name of a step stands for its program, which is built beside this one.
fn subject(mut words: Vec<OsString>) -> Subject {
    if let Some(step) = step(&words[0]) {
        words[0] = step.into_os_string();
    }
    Subject { words, loud: true }
}

fn step(word: &OsString) -> Option<PathBuf> {
    let word = word
        .to_str()
        .filter(|word| word.len() == 3 && word.starts_with('s'))?;
    let folder = std::env::current_exe().ok()?.parent()?.to_path_buf();
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let is_step = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{word}_")) && path.extension().is_none()
    };
    files.map(|file| file.path()).find(is_step)
}

fn one(check: &Check, subject: &Subject) -> ExitCode {
    let verdict = check.run(subject);
    println!("{:02} {verdict}", check.chapter);
    if let Verdict::Fail(_) = verdict {
        println!("For a hint: check --hint {:02}", check.chapter);
    }
    status(&verdict)
}

fn all(subject: &Subject) -> ExitCode {
    let mut passed = 0;
    let mut worst = ExitCode::SUCCESS;
    for check in &CHECKS {
        let verdict = check.run(subject);
        println!("{:02} {verdict}", check.chapter);
        match verdict {
            Verdict::Pass(_) => passed += 1,
            other => worst = status(&other),
        }
    }
    println!("{passed} of {} checks pass", CHECKS.len());
    worst
}

fn status(verdict: &Verdict) -> ExitCode {
    match verdict {
        Verdict::Pass(_) => ExitCode::SUCCESS,
        Verdict::Fail(_) => ExitCode::from(1),
        Verdict::Unchecked(_) if std::env::var_os("CI").is_some() => ExitCode::from(1),
        Verdict::Unchecked(_) => ExitCode::from(3),
    }
}
