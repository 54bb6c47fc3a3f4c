//! The Python file of a spare, by itself.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::worker::pythons;

#[test]
fn the_python_file_passes_its_own_tests_with_every_python() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut passed = Vec::new();
    for python in pythons() {
        let ran = Command::new(&python)
            .arg("-B")
            .arg(root.join("tests/spares/spare_test.py"))
            .arg(root.join("src/worker/spare/spare.py"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{}: {told}", python.display());
        let version = Command::new(&python).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        passed.push(version.trim().to_owned());
    }
    assert!(!passed.is_empty(), "no Python");
    // To the terminal, past the test runner: which there are differs from machine to machine.
    let _ = writeln!(std::io::stderr(), "spare.py: {}", passed.join(", "));
}
