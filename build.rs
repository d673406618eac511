//! The commit that a release of the program is built from, for `--version`: DOORKEEPER_COMMIT if it
//! is set, and otherwise what git says of this folder. Without either there is none, as in a
//! tarball.
//!
//! A debug build has none, because each commit would compile everything again.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DOORKEEPER_COMMIT");
    let variable = |name: &str| std::env::var(name).ok();
    if variable("CARGO_FEATURE_CLI").is_none() || variable("PROFILE").as_deref() != Some("release")
    {
        return;
    }
    let given = variable("DOORKEEPER_COMMIT").filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(from_git) {
        println!("cargo:rustc-env=DOORKEEPER_BUILT_FROM={commit}");
    }
}

fn from_git() -> Option<String> {
    // Only a repository of its own: a copy within another repository is not that one's commit.
    if !Path::new(".git").exists() {
        return None;
    }
    // A new commit, or another branch, adds a line.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo:rerun-if-changed={log}");
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| line.trim().to_string())
}
