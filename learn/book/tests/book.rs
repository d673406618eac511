//! The chapters are true.

use book::{
    Block, blocks, chapters, code, console, differences, folder, languages, pages, translation,
};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

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
    let files = pages(&folder());
    files
        .into_iter()
        .map(|file| (file.clone(), read_to_string(file).unwrap()))
        .collect()
}

/// Compares each block with the lines that it must have. Several at once, because most commands wait more than they work.
fn compare(must_be: impl Fn(&Block) -> Option<Result<Vec<String>, String>> + Sync) -> usize {
    let texts = texts();
    let of_file = |(file, text): &(PathBuf, String)| {
        let all = blocks(text).into_iter();
        all.map(|block| (file.clone(), block)).collect::<Vec<_>>()
    };
    let left = Mutex::new(texts.iter().flat_map(of_file).collect::<Vec<_>>());
    let compared = AtomicUsize::new(0);
    let compare_some = || {
        loop {
            let next = left.lock().unwrap().pop();
            let Some((file, block)) = next else { return };
            if let Some(fresh) = must_be(&block) {
                let fresh = fresh.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                assert_eq!(block.lines, fresh, "{}: {}", file.display(), block.info);
                compared.fetch_add(1, Relaxed);
            }
        }
    };
    thread::scope(|scope| (0..6).for_each(|_| drop(scope.spawn(compare_some))));
    compared.into_inner()
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
    for file in chapters(&folder()) {
        let text = read_to_string(&file).unwrap();
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
    let mut all = pages(&folder());
    all.extend(pages(&korean));
    all.extend([folder(), korean].map(|place| place.join("README.md")));
    all.push(differences::page());
    for page in all {
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
    let originals = pages(&folder());
    let translations: Vec<PathBuf> = originals.iter().map(|page| translation(page)).collect();
    assert_eq!(pages(&folder().join("ko")), translations);
    for (original, translated) in originals.iter().zip(translations) {
        let original = languages::skeleton(&read_to_string(original).unwrap());
        let translation = languages::skeleton(&read_to_string(&translated).unwrap());
        assert_eq!(original, translation, "{}", translated.display());
    }
}

/// Each page in also/ is named by a chapter, and names that chapter first.
#[test]
fn a_page_and_its_chapter_name_each_other() {
    let all = pages(&folder());
    let (chapters, also): (Vec<&PathBuf>, Vec<&PathBuf>) = all
        .iter()
        .partition(|page| !page.parent().unwrap().ends_with("also"));
    assert!(also.len() >= 9, "{also:?}");
    for page in also {
        let text = read_to_string(page).unwrap();
        let back = text.split("](../").skip(1).map(|rest| &rest[..2]);
        let back: Vec<&str> = back
            .take_while(|number| number.parse::<u8>().is_ok())
            .collect();
        let there: Vec<&str> = chapters
            .iter()
            .filter(|chapter| {
                let link = format!("](also/{})", name(page));
                read_to_string(chapter).unwrap().contains(&link)
            })
            .map(|chapter| &name(chapter)[..2])
            .collect();
        assert!(!there.is_empty(), "no chapter names {}", page.display());
        assert_eq!(back, there, "{}", page.display());
    }
}
