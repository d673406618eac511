//! The chapters are true.

use book::{Block, blocks, chapters, code, console, differences, folder, languages};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sections of every chapter from 05 on.
const SECTIONS: [&str; 6] = [
    "See it first",
    "Why",
    "In the kernel",
    "The code",
    "Exercise",
    "Still wrong",
];

fn texts() -> Vec<(PathBuf, String)> {
    let files = chapters(&folder());
    files
        .into_iter()
        .map(|file| (file.clone(), read_to_string(file).unwrap()))
        .collect()
}

/// Compares each block with the lines that it must have.
fn compare(must_be: impl Fn(&Block) -> Option<Result<Vec<String>, String>>) -> usize {
    let mut compared = 0;
    for (file, text) in texts() {
        for block in blocks(&text) {
            if let Some(fresh) = must_be(&block) {
                let fresh = fresh.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                assert_eq!(block.lines, fresh, "{}: {}", file.display(), block.info);
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn the_differences_are_those_of_the_steps() {
    let page = read_to_string(differences::page()).unwrap();
    let fresh = differences::text().unwrap();
    assert!(page == fresh, "run `cargo run -q -p book -- differences`");
}

#[test]
fn code_is_that_of_the_files_that_are_built() {
    let folder = folder();
    let compared = compare(|block| code(block, &folder));
    assert!(compared >= 11, "{compared} blocks of code");
    for (file, text) in texts() {
        let loose = |block: &Block| block.info == "rust";
        assert!(
            !blocks(&text).iter().any(loose),
            "{}: code from no file",
            file.display()
        );
    }
}

#[test]
fn commands_print_what_the_chapters_say() {
    // The programs that the commands run.
    for (place, what) in [(folder(), "--workspace"), (folder().join(".."), "--bins")] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", what]).current_dir(place);
        assert!(cargo.status().unwrap().success());
    }
    let compared = compare(console);
    assert!(compared >= 22, "{compared} blocks of commands");
}

#[test]
fn every_chapter_has_its_sections() {
    for (file, text) in texts() {
        let number: u8 = name(&file)[..2].parse().unwrap();
        let title = text.lines().next().unwrap();
        assert!(
            title.starts_with(&format!("# {number:02} ")),
            "{}",
            file.display()
        );
        let sections: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .collect();
        if (5..=15).contains(&number) {
            assert_eq!(sections, SECTIONS, "{}", file.display());
        }
    }
}

fn name(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

#[test]
fn links_lead_somewhere() {
    let korean = folder().join("ko");
    let mut pages = chapters(&folder());
    pages.extend(chapters(&korean));
    pages.extend([folder(), korean].map(|place| place.join("README.md")));
    pages.push(differences::page());
    for page in pages {
        let text = read_to_string(&page).unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            let is_web = link.starts_with("https://");
            let there = page.parent().unwrap().join(file).exists();
            assert!(is_web || there, "{}: {link}", page.display());
        }
    }
}

#[test]
fn translations_say_the_same() {
    let translated = chapters(&folder().join("ko"));
    let names = |files: &[PathBuf]| -> Vec<String> {
        files.iter().map(|file| name(file).to_string()).collect()
    };
    assert_eq!(names(&translated), names(&chapters(&folder())));
    for file in translated {
        let original = folder().join(name(&file));
        let original = languages::skeleton(&read_to_string(original).unwrap());
        let translation = languages::skeleton(&read_to_string(&file).unwrap());
        assert_eq!(original, translation, "{}", file.display());
    }
}
