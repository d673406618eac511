//! What packages contain beside the program. `packaging/test` builds and installs them.

mod common;

use common::have;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What a command in the folder of the project prints.
fn output(words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_units_expose_little() {
    if !have("systemd-analyze") {
        return;
    }
    for unit in ["doorkeeper.service", "doorkeeper@.service"] {
        let path = Path::new("packaging/systemd").join(unit);
        let path = path.to_str().unwrap();
        // In tenths; it fails above.
        let words = [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
            path,
        ];
        output(&words);
    }
}

#[test]
fn the_bill_of_materials_lists_what_the_build_uses() {
    if !have("jq") {
        return;
    }
    let bill: serde_json::Value = serde_json::from_str(&output(&["packaging/sbom"])).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let components = bill["components"].as_array().unwrap();
    let listed: BTreeSet<String> = components
        .iter()
        .map(|one| format!("{} v{}", one["name"], one["version"]).replace('"', ""))
        .collect();
    let tree = output(&[
        "cargo",
        "tree",
        "--edges=normal,build",
        "--prefix=none",
        "--no-dedupe",
    ]);
    let used: BTreeSet<String> = tree
        .lines()
        .skip(1)
        .map(|line| line.split(" (").next().unwrap().to_string())
        .collect();
    assert_eq!(listed, used);
    for one in components {
        let name = &one["name"];
        assert!(one["licenses"][0]["expression"].is_string(), "{name}");
        let sum = one["hashes"][0]["content"].as_str().unwrap();
        assert_eq!(sum.len(), 64, "{name}");
    }
}
