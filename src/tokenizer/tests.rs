//! The processes, by shell scripts in their place.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

/// Tokenizers whose processes are a script, which writes its process id to a file for each of them.
struct Scripted {
    folder: TempDir,
    tokenizers: Tokenizers,
}

impl Scripted {
    fn new(script: &str, idle: Duration, limit: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("counts");
        let pids = folder.path().join("pids");
        let script = format!("#!/bin/sh\necho $$ >>'{}'\n{script}\n", pids.display());
        std::fs::write(&program, script).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let tokenizers = Tokenizers::new(Some(vec![program.into()]), idle, limit);
        Self { folder, tokenizers }
    }

    /// A tokenizer's file.
    fn file(&self, name: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, "{}").unwrap();
        file
    }

    fn pids(&self) -> Vec<i32> {
        let pids = std::fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    async fn has_gone(&self, pid: i32) {
        let end = Instant::now() + Duration::from_secs(20);
        let pid = nix::unistd::Pid::from_raw(pid);
        while nix::sys::signal::kill(pid, None).is_ok() {
            assert!(Instant::now() < end, "{pid} is still there");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

const LONG: Duration = Duration::from_secs(60);
/// Counts the bytes of a line.
const COUNTS: &str = "echo ready; while read -r line; do echo ${#line}; done";

#[tokio::test]
async fn many_counts_at_once_are_one_process() {
    let scripted = Scripted::new(&format!("sleep 0.2; {COUNTS}"), LONG, LONG);
    let file = scripted.file("a.json");
    let count = |text: &'static str| {
        let (tokenizers, file) = (&scripted.tokenizers, &file);
        async move { tokenizers.count(file, &[text]).await }
    };
    let counts = futures_util::future::join_all((0..14).map(|_| count("abc"))).await;
    assert_eq!(counts, vec![Some(7); 14]);
    assert_eq!(scripted.pids().len(), 1);
    // A client that leaves while its texts are counted takes nothing from the others.
    drop(tokio::time::timeout(Duration::ZERO, count("abcdef")).await);
    assert_eq!(count("").await, Some(4));
    assert_eq!(scripted.pids().len(), 1);
}

#[tokio::test]
async fn a_process_that_nobody_asks_ends_and_comes_again() {
    let scripted = Scripted::new(COUNTS, Duration::from_millis(50), LONG);
    let file = scripted.file("a.json");
    assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, Some(7));
    scripted.has_gone(scripted.pids()[0]).await;
    assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, Some(7));
    assert_eq!(scripted.pids().len(), 2);
}

#[tokio::test]
async fn there_are_two_at_a_time_and_all_end_with_the_last_clone() {
    let scripted = Scripted::new(COUNTS, LONG, LONG);
    let files = ["a", "b", "c"].map(|name| scripted.file(name));
    // The second is the one that nobody used for longest.
    for at in [0, 1, 0, 2] {
        let counted = scripted.tokenizers.count(&files[at], &["abc"]).await;
        assert_eq!(counted, Some(7));
    }
    let pids = scripted.pids();
    assert_eq!(pids.len(), 3);
    scripted.has_gone(pids[1]).await;
    assert_eq!(scripted.tokenizers.count(&files[0], &["a"]).await, Some(5));
    assert_eq!(scripted.pids().len(), 3);
    let Scripted { folder, tokenizers } = scripted;
    drop(tokenizers);
    let left = Scripted {
        folder,
        tokenizers: Tokenizers::new(None, LONG, LONG),
    };
    left.has_gone(pids[0]).await;
    left.has_gone(pids[2]).await;
}

#[tokio::test]
async fn a_file_that_has_changed_is_read_again() {
    let scripted = Scripted::new(COUNTS, LONG, LONG);
    let file = scripted.file("a.json");
    assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, Some(7));
    let older = SystemTime::now() - Duration::from_secs(60);
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(older).unwrap();
    assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, Some(7));
    let pids = scripted.pids();
    assert_eq!(pids.len(), 2);
    scripted.has_gone(pids[0]).await;
}

#[tokio::test]
async fn nothing_is_counted_by_what_does_not_answer() {
    for script in [
        "echo 'no tokenizer'; exit 1",
        "exit 1",
        "echo ready; read -r line; exit 1",
        "echo ready; while read -r line; do echo refused; done",
        "echo ready; read -r line; exec sleep 60",
        "exec sleep 60",
    ] {
        let scripted = Scripted::new(script, LONG, Duration::from_millis(500));
        let file = scripted.file("a.json");
        assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, None);
        // It is not started once more for each request.
        assert_eq!(scripted.tokenizers.count(&file, &["abc"]).await, None);
        assert_eq!(scripted.pids().len(), 1, "{script}");
    }
    let nowhere = Tokenizers::new(Some(vec!["/nowhere".into()]), LONG, LONG);
    let scripted = Scripted::new(COUNTS, LONG, LONG);
    let file = scripted.file("a.json");
    assert_eq!(nowhere.count(&file, &["abc"]).await, None);
    let gone = scripted.folder.path().join("gone.json");
    assert_eq!(scripted.tokenizers.count(&gone, &["abc"]).await, None);
}
