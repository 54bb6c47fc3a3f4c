//! The tests with spare processes and without: with `TEST_SPARES=1` a Python stands before the simulated worker, so that
//! every worker begins as a spare, with `TEST_SPARES=0` hubs keep none. Otherwise they do as users have it, and the
//! simulated worker is no program that could have any.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::BINARY;

/// The setting of this run, if it has one.
fn wanted() -> Option<bool> {
    match std::env::var("TEST_SPARES").ok()?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        other => panic!("TEST_SPARES is `0` or `1`, and not `{other}`"),
    }
}

/// True if workers are to begin as spares.
pub fn are_used() -> bool {
    wanted() == Some(true)
}

/// True if hubs keep spares, of workers that can have some.
pub fn are_kept() -> bool {
    wanted() != Some(false)
}

/// hub.yaml with `spares: 0` above it, if there are to be none and it says nothing else.
pub fn configured(yaml: &str) -> String {
    let is_set = yaml.lines().any(|line| line.starts_with("spares:"));
    match wanted() {
        Some(false) if !is_set => format!("spares: 0\n{yaml}"),
        _ => yaml.to_owned(),
    }
}

/// Writes a program in Python that executes these words, and its own arguments behind them.
pub fn write_program(path: &Path, words: &[&str]) {
    let python = interpreter().display();
    // Without what a Python imports for itself it begins twice as fast.
    let text =
        format!("#!{python} -S\nimport os, sys\nos.execv({BINARY:?}, {words:?} + sys.argv[1:])\n");
    let new = tempfile::NamedTempFile::new_in(path.parent().expect("a folder"));
    let new = new.expect("a file beside it");
    std::fs::write(new.path(), text).expect("a program");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(new.path(), mode).expect("a program");
    new.persist(path).expect("a program");
}

/// A program in Python that executes the simulated worker, for all tests of this run.
pub fn stub() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stub-worker");
        write_program(&path, &[BINARY, "stub-worker"]);
        path
    })
}

/// The Python on PATH, itself and not a name that leads to it.
fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let look = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("python3");
        let path = String::from_utf8(look.stdout).expect("UTF-8");
        PathBuf::from(path.trim())
    })
}
