//! The chapters are kept true here: their code comes from the files that are built, their outputs from the commands that are run.
//!
//! A fenced block says where it comes from. "rust steps/s03_drain_accept.rs: fn accept_all" is the item of that file which begins with
//! these words. "console" is a command, after "$ ", and its output; "console varies" the same, with numbers that differ from run to
//! run. All other blocks are left alone.

pub mod differences;
pub mod languages;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The exit status of `check` and `kernel` if something is missing. Where nothing may be missing they exit with 1.
const NOT_CHECKED: i32 = 3;

/// The folder `learn`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The chapters of a folder, in order: files that begin with two digits.
pub fn chapters(folder: &Path) -> Vec<PathBuf> {
    let is_chapter = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(|c: char| c.is_ascii_digit())
    };
    let texts = texts(folder).into_iter();
    texts.filter(is_chapter).collect()
}

/// The chapters, and the pages that they lead to.
pub fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut pages = chapters(folder);
    pages.extend(texts(&folder.join("also")));
    pages
}

fn texts(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_text = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut files: Vec<PathBuf> = paths.filter(is_text).collect();
    files.sort();
    files
}

/// The translation of a page.
pub fn translation(page: &Path) -> PathBuf {
    let name = page.strip_prefix(folder()).unwrap_or(page);
    folder().join("ko").join(name)
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The text after the opening fence.
    pub info: String,
    /// The lines between the fences.
    pub lines: Vec<String>,
}

/// All fenced blocks of a text.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    rewrite(text, |block| {
        found.push(block.clone());
        Ok(block.lines.clone())
    })
    .expect("nothing is rewritten");
    found
}

/// The text with the lines of each fenced block as `new` says.
pub fn rewrite(
    text: &str,
    mut new: impl FnMut(&Block) -> Result<Vec<String>, String>,
) -> Result<String, String> {
    let mut out: Vec<String> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out.push(line.to_string());
        if let Some(info) = line.strip_prefix("```") {
            let body = lines.by_ref().take_while(|line| *line != "```");
            let block = Block {
                info: info.to_string(),
                lines: body.map(String::from).collect(),
            };
            out.extend(new(&block)?);
            out.push("```".to_string());
        }
    }
    Ok(out.join("\n") + "\n")
}

/// The code that a block must have; `None` if it is not from a file.
pub fn code(block: &Block, folder: &Path) -> Option<Result<Vec<String>, String>> {
    let (_, source) = block.info.split_once(' ')?;
    let (file, start) = source.split_once(": ")?;
    let text = std::fs::read_to_string(folder.join(file));
    Some(match text {
        Ok(text) => item(&text, start).ok_or(format!("{file} has no `{start}`, or several")),
        Err(error) => Err(format!("{file}: {error}")),
    })
}

/// The item, or the block of statements, whose first line begins with `start`; with the comments above it.
fn item(text: &str, start: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &&str| line.trim_start().starts_with(start);
    let at = lines.iter().position(begins)?;
    if lines.iter().filter(|line| begins(line)).count() > 1 {
        return None;
    }
    let indent = lines[at].len() - lines[at].trim_start().len();
    let is_comment = |line: &&&str| line.trim_start().starts_with("//");
    let comments = lines[..at].iter().rev().take_while(is_comment).count();
    // Up to the first line that is indented no further than the first, and closes it.
    let closes = |line: &&str| {
        let own = line.len() - line.trim_start().len();
        own == indent && (line.trim_end().ends_with(['}', ';', ',']))
    };
    let one = lines[at].trim_end().ends_with(';');
    let more = if one {
        0
    } else {
        lines[at + 1..].iter().position(closes)? + 1
    };
    let whole = &lines[at - comments..=at + more];
    let dedent = |line: &&str| line.get(indent..).unwrap_or("").to_string();
    Some(whole.iter().map(dedent).collect())
}

/// Runs the commands of a console block; its lines as they must be. `None` for other blocks.
pub fn console(block: &Block) -> Option<Result<Vec<String>, String>> {
    if !block.info.starts_with("console") {
        return None;
    }
    let mut lines = Vec::new();
    for command in block
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("$ "))
    {
        lines.push(format!("$ {command}"));
        match run(command) {
            Ok(Some(output)) => lines.extend(output.lines().map(String::from)),
            Ok(None) => return Some(Ok(block.lines.clone())),
            Err(error) => return Some(Err(error)),
        }
    }
    if block.info.ends_with("varies") && same_but_numbers(&lines, &block.lines) {
        return Some(Ok(block.lines.clone()));
    }
    Some(Ok(lines))
}

/// Runs a command of a chapter in the folder `learn`. `cargo run` is spared its work: the programs stand beside this one.
/// `None` if the command says, by its exit status, that something is missing which it needs; this is said loudly.
fn run(command: &str) -> Result<Option<String>, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, arguments) = match words.as_slice() {
        ["cargo", "run", "-q", "-p", package, "--", rest @ ..] => (programs().join(package), rest),
        [
            "cargo",
            "run",
            "-q",
            "--manifest-path",
            "../Cargo.toml",
            "--",
            rest @ ..,
        ] => (doorkeeper(), rest),
        [program, rest @ ..] => (PathBuf::from(program), rest),
        [] => return Err("an empty command".to_string()),
    };
    let mut process = Command::new(&program);
    let output = process.args(arguments).current_dir(folder()).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    if output.status.code() == Some(NOT_CHECKED) {
        let (said, error) = (&output.stdout, &output.stderr);
        let words = [said, error].map(|bytes| String::from_utf8_lossy(bytes).trim().to_string());
        eprintln!("{command}: {}", words.join(" "));
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The built program of the repository.
fn doorkeeper() -> PathBuf {
    let own = folder().join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
    target.join("debug/doorkeeper")
}

/// The folder of the built programs: that of this one, or above it for a test.
fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = own.parent().expect("it is in a folder");
    match folder.ends_with("deps") {
        true => folder.parent().expect("deps is in a folder").to_path_buf(),
        false => folder.to_path_buf(),
    }
}

/// Equal, once every number is the same, and every gap, because the width of a column depends on the numbers in it.
fn same_but_numbers(one: &[String], other: &[String]) -> bool {
    let plain =
        |lines: &[String]| -> Vec<String> { lines.iter().map(|line| plain(line)).collect() };
    plain(one) == plain(other)
}

fn plain(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = line.split(|c: char| c.is_ascii_digit());
    let words: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    words.join("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
/// One.
fn one() {
    two();
}

impl Two {
    // Why.
    fn two(
        &self,
    ) -> bool {
        if true {
            false
        }
    }
}

const THREE: usize = 3;
";

    #[test]
    fn an_item_has_its_comments_and_its_end() {
        let one = item(TEXT, "fn one").unwrap();
        assert_eq!(one, ["/// One.", "fn one() {", "    two();", "}"]);
        let two = item(TEXT, "fn two").unwrap();
        assert_eq!(
            (two.len(), two[0].as_str(), two[7].as_str()),
            (8, "// Why.", "}")
        );
        assert_eq!(
            item(TEXT, "const THREE").unwrap(),
            ["const THREE: usize = 3;"]
        );
        assert_eq!(item(TEXT, "fn three"), None);
        assert_eq!(item(TEXT, "fn"), None, "several");
    }

    #[test]
    fn a_block_that_is_rewritten_stays_where_it_is() {
        let text = "a\n```rust x.rs: fn y\nold\n```\nb\n";
        let new = rewrite(text, |block| {
            assert_eq!(block.info, "rust x.rs: fn y");
            Ok(vec!["new".to_string(), "line".to_string()])
        });
        assert_eq!(new.unwrap(), "a\n```rust x.rs: fn y\nnew\nline\n```\nb\n");
    }

    #[test]
    fn numbers_may_vary_and_nothing_else() {
        let lines = |text: &str| vec![text.to_string()];
        assert!(same_but_numbers(
            &lines("4096 of 20000 bytes"),
            &lines("1 of 2 bytes")
        ));
        assert!(!same_but_numbers(
            &lines("4096 of 20000 bytes"),
            &lines("1 of 2 bits")
        ));
        assert!(!same_but_numbers(&lines("FAIL 1"), &lines("pass 1")));
    }
}
