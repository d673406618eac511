//! Every observation of the chapters, on this machine's kernel.

use std::process::Command;

#[test]
fn the_kernel_does_what_the_chapters_say() {
    for chapter in 1..=15 {
        let mut kernel = Command::new(env!("CARGO_BIN_EXE_kernel"));
        let output = kernel.arg(format!("{chapter:02}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{chapter:02}: {said}{error}");
        assert!(said.lines().count() > 1, "{chapter:02}: {said}");
    }
}
