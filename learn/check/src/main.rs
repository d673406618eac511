//! `check NN PROGRAM [ARGUMENT]...`: does this program do what chapter NN asks?

use check::answers::{QUESTIONS, Question};
use check::checks::{CHECKS, Check, FIRST, Verdict};
use check::program::Subject;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: check NN PROGRAM [ARGUMENT]...     run the check of chapter NN on a program
       check NN ANSWER                    the same of an answer, in chapters 02 to 04
       check NN                           the question of chapter NN
       check --all PROGRAM [ARGUMENT]...  run all checks, and show how far it is
       check --hint NN                    a hint

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
        (number, _) => match find(number) {
            Some(chapter) if rest.is_empty() => explain(&chapter),
            Some(Chapter::Check(check)) => one(check.chapter, &check.run(&subject(rest))),
            Some(Chapter::Question(question)) => {
                let answer = rest[0].to_string_lossy();
                one(question.chapter, &question.judge(&answer))
            }
            None => usage(),
        },
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// The exercise of a chapter.
enum Chapter {
    Check(&'static Check),
    Question(&'static Question),
}

fn find(number: &str) -> Option<Chapter> {
    let number: u8 = number.parse().ok()?;
    let mut checks = [&FIRST].into_iter().chain(&CHECKS);
    let mut questions = QUESTIONS.iter();
    let question = questions.find(|question| question.chapter == number);
    let check = checks.find(|check| check.chapter == number);
    question
        .map(Chapter::Question)
        .or(check.map(Chapter::Check))
}

fn explain(chapter: &Chapter) -> ExitCode {
    match chapter {
        Chapter::Check(check) => println!("{:02} {}", check.chapter, check.title),
        Chapter::Question(question) => println!("{:02} {}", question.chapter, question.asks),
    }
    ExitCode::SUCCESS
}

fn hint(number: &str) -> ExitCode {
    match find(number) {
        Some(Chapter::Check(check)) => println!("{}", check.hint),
        Some(Chapter::Question(question)) => println!("{}", question.hint),
        None => return usage(),
    }
    ExitCode::SUCCESS
}

/// The name of a step stands for its program, which is built beside this one.
fn subject(mut words: Vec<OsString>) -> Subject {
    match step(&words[0]) {
        Some(step) => words[0] = step.into_os_string(),
        None if is_step(&words[0]) => {
            eprintln!("step {} is not built: cargo build", words[0].display())
        }
        None => {}
    }
    Subject { words, loud: true }
}

/// `s01` to `s12`.
fn is_step(word: &OsStr) -> bool {
    let number = word.to_str().and_then(|word| word.strip_prefix('s'));
    number.is_some_and(|number| number.len() == 2 && number.parse::<u8>().is_ok())
}

fn step(word: &OsStr) -> Option<PathBuf> {
    let prefix = format!("{}_", word.to_str().filter(|_| is_step(word))?);
    let folder = std::env::current_exe().ok()?.parent()?.to_path_buf();
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let is_program = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && path.extension().is_none()
    };
    files.map(|file| file.path()).find(is_program)
}

fn one(chapter: u8, verdict: &Verdict) -> ExitCode {
    println!("{chapter:02} {verdict}");
    if let Verdict::Fail(_) = verdict {
        eprintln!("For a hint: check --hint {chapter:02}");
    }
    status(verdict)
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
