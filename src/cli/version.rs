//! The version of the program.

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, if the build script found one.
const COMMIT: Option<&str> = option_env!("DOORKEEPER_BUILT_FROM");

/// What `--version` shows.
pub(crate) fn line() -> String {
    match COMMIT {
        Some(commit) => format!("doorkeeper {VERSION} ({commit})\n"),
        None => format!("doorkeeper {VERSION}\n"),
    }
}
