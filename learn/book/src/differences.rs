//! The page that shows what each step changes.

use crate::folder;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it is.
pub fn page() -> PathBuf {
    folder().join("differences.md")
}

const HEAD: &str = "\
# The differences

Each step with what it changes of the one before. `cargo run -q -p book -- differences` has made this page, and a test keeps it true.
";

/// The text of the page, from the steps as they are.
pub fn text() -> Result<String, String> {
    let steps = steps();
    let mut page = HEAD.to_string();
    for pair in steps.windows(2) {
        page += &section(&pair[0], &pair[1])?;
    }
    Ok(page)
}

/// The programs of the steps, in order.
pub fn steps() -> Vec<PathBuf> {
    let entries = folder().join("steps").read_dir().into_iter().flatten();
    let files = entries.flatten().map(|entry| entry.path());
    let mut steps: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    steps.sort();
    steps
}

fn section(before: &Path, after: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(after).map_err(|error| error.to_string())?;
    let title = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! Step "));
    let (number, idea) = title
        .and_then(|title| title.split_once(": "))
        .ok_or_else(|| {
            format!(
                "{} does not begin with its number and idea",
                after.display()
            )
        })?;
    let lines = difference(before, after)?;
    let count = |sign| lines.iter().filter(|line| line.starts_with(sign)).count();
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    Ok(format!(
        "\n## s{number:0>2}: {idea}\n\n[`{before}`](steps/{before}) to [`{after}`](steps/{after}): {} lines added, {} removed.\n\n\
         ```diff\n{}\n```\n",
        count('+'),
        count('-'),
        lines.join("\n"),
        before = name(before),
        after = name(after),
    ))
}

/// diff(1), without the names of the files. The first line of a step always differs.
fn difference(before: &Path, after: &Path) -> Result<Vec<String>, String> {
    let mut diff = Command::new("diff");
    let output = diff.arg("--unified=2").args([before, after]).output();
    let output = output.map_err(|error| format!("diff: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().skip(2).map(String::from).collect())
}
