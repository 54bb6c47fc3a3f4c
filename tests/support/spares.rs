//! The tests with spare processes and without: with `TEST_SPARES=1` a Python stands before the simulated worker, and
//! loads wait for a spare of it once the hub makes some; with `TEST_SPARES=0` hubs keep none. Otherwise they do as users have it, and the
//! simulated worker is no program that could have any.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::http::Http;
use super::{BINARY, within};

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

/// hub.yaml with the setting of this run above it, unless it has one: none, or one of each simulated worker.
pub fn configured(yaml: &str) -> String {
    let is_set = yaml.lines().any(|line| line.starts_with("spares:"));
    match wanted() {
        Some(is_wanted) if !is_set => format!("spares: {}\n{yaml}", if is_wanted { 2 } else { 0 }),
        _ => yaml.to_owned(),
    }
}

/// Has the next hub with these logs know what these programs import, which they cannot teach: they become others.
pub fn teach(logs: &Path, programs: &[PathBuf]) {
    let modules = json!({"lm": {"server": ["json"], "model": null}});
    let lessons = programs.iter().map(|program| {
        let file = program.metadata().expect("a program");
        let modified = file
            .modified()
            .expect("its time")
            .duration_since(UNIX_EPOCH);
        let nanoseconds = modified.expect("a time").as_nanos();
        let key = format!("{} [] {} {nanoseconds}", program.display(), file.len());
        (key, modules.clone())
    });
    let lessons = Value::Object(lessons.collect::<Map<_, _>>());
    std::fs::create_dir_all(logs).expect("a folder of logs");
    std::fs::write(logs.join("spares.json"), lessons.to_string()).expect("a file in it");
}

/// The spares that are ready; `None` while one is being made.
pub fn ready(http: Http) -> Option<Vec<u64>> {
    let status = http.hub_status();
    let spares = status["spares"].as_array()?;
    let is_ready = spares.iter().all(|spare| spare["ready"] == true);
    is_ready.then(|| {
        spares
            .iter()
            .filter_map(|spare| spare["pid"].as_u64())
            .collect()
    })
}

/// Gives the hub the time to make spares, if it makes some.
pub fn settle(http: Http) {
    let _ = within(Duration::from_secs(3), || {
        ready(http).filter(|spares| !spares.is_empty())
    });
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
