//! select, poll and epoll, with one ready descriptor of few and of many. The program is in C, because select is.

use std::io::{Error, Result};
use std::path::Path;
use std::process::Command;

/// Compiles the program and runs it.
fn run() -> Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../other/ready_of_n.c");
    let name = format!("ready_of_n-{}", std::process::id());
    let program = std::env::temp_dir().join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
    let compiled = compiler.arg(&program).arg(source).status()?;
    assert!(compiled.success());
    let output = Command::new(&program).output();
    std::fs::remove_file(&program)?;
    let output = output?;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).map_err(Error::other)
}

pub fn observe() -> Result<Vec<String>> {
    let said = run()?;
    let mut lines = vec!["one descriptor is ready, of 10 and of 1000".to_string()];
    for line in said.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, few, many] = words[..] else {
            return Err(Error::other(line.to_string()));
        };
        let [few, many] = [few, many].map(|time| time.parse::<f64>().unwrap_or(0.0));
        assert!(few > 0.0 && many > 0.0, "{line}");
        let growth = many / few;
        assert_eq!(growth > 4.0, name != "epoll", "{line}");
        assert!(name != "epoll" || growth < 3.0, "{line}");
        lines.push(format!("{name}: {growth:.0} times as long"));
    }
    assert_eq!(lines.len(), 4, "{said}");
    Ok(lines)
}
