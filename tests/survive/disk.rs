//! A disk that is full, a log folder that cannot be written: the hub says so and serves on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{BINARY, Hub, SOON, hub, processes, wait_until};
use crate::{models, not_run, wait_for_warning, warnings, worker};

/// Runs the daemon with a tiny disk of its own for its logs.
const ON_A_TINY_DISK: &str = "mkdir -m 700 logs && exec unshare -m sh -c \
    'mount -t tmpfs -o size=128k,mode=700 none logs && exec \"$0\" \"$@\"' \"$0\" \"$@\"";

const LOG: &str = "`app.log` cannot be written";
const RUNTIME: &str = "`hub_runtime.json` cannot be written";

fn can_mount() -> bool {
    let command = "mount -t tmpfs -o size=64k none /mnt";
    let tried = Command::new("unshare")
        .args(["-m", "sh", "-c", command])
        .output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Writes to the disk until nothing more fits; the file that takes the room.
fn fill(logs: &Path) -> PathBuf {
    let filler = logs.join("filler");
    let error = std::fs::write(&filler, vec![b'x'; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    filler
}

fn two_models() -> String {
    let entries = [
        ("alpha", "default: true"),
        ("beta", "jit_enabled: true, default: true"),
    ];
    format!("{}\n{}", worker(&[]), models(&entries))
}

/// Reloads until the warnings say `text`: each writes a line to the log.
fn reload_until(hub: &Hub, what: &str, warned: impl Fn(&str) -> bool) {
    wait_until(what, SOON, || {
        hub.http.post("/hub/reload", &Value::Null);
        warned(&warnings(hub))
    });
}

#[test]
fn a_full_disk_is_a_warning_and_the_hub_serves_on() {
    if !can_mount() {
        return not_run("a full disk", "this user may not mount a tmpfs");
    }
    let hub = Hub::start_under(&two_models(), ON_A_TINY_DISK);
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.status()["warnings"], Value::Array(Vec::new()));
    // The disk is the daemon's alone: through its eyes.
    let logs = hub.logs();
    let seen = Path::new("/proc").join(hub.pid().to_string()).join("root");
    let filler = fill(&seen.join(logs.strip_prefix("/").unwrap()));
    reload_until(&hub, "a warning about the log", |warnings| {
        warnings.contains(LOG)
    });
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert!(hub.http.stream("alpha", "hello").said().contains("hello"));
    assert_eq!(hub.act("alpha", "stop").status, 200);
    wait_for_warning(&hub, RUNTIME);
    // A model that cannot write its log cannot be started: the reason is told, and no more.
    let answer = hub.http.chat("beta", "hello");
    assert!([200, 503].contains(&answer.status), "{}", answer.text());
    std::fs::remove_file(filler).unwrap();
    reload_until(&hub, "the warnings to go", |warnings| warnings == "[]");
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    assert_eq!(hub.act("alpha", "start").status, 200);
}

#[test]
fn a_log_folder_that_goes_while_the_hub_runs_is_a_warning_until_it_is_back() {
    let hub = Hub::start(&two_models());
    hub.wait_for_state("alpha", "running", "loaded");
    let (logs, away) = (hub.logs(), hub.folder().join("away"));
    std::fs::rename(&logs, &away).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    let answer = hub.http.chat("beta", "hello");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let says = answer.text().contains("beta.log` cannot be written");
    assert!(says, "{}", answer.text());
    assert_eq!(hub.act("alpha", "unload").status, 200);
    wait_for_warning(&hub, RUNTIME);
    insta::assert_snapshot!(warnings(&hub), @r#"["`hub_runtime.json` cannot be written: a hub that is killed now would lose sight of its workers: Not a directory (os error 20)"]"#);
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(&away, &logs).unwrap();
    wait_until("the warning to go", SOON, || {
        !warnings(&hub).contains(RUNTIME)
    });
    for model in ["alpha", "beta"] {
        assert_eq!(hub.http.chat(model, "hello").status, 200);
    }
}

/// A home whose log folder, or what is in it, is not what it should be, and what `serve` and `start`
/// say to it.
fn start_on(spoil: impl Fn(&Path)) -> [Output; 2] {
    start_on_with(spoil, None)
}

/// The same under a shell script, which must end by executing the program, `"$0" "$@"`.
fn start_on_with(spoil: impl Fn(&Path), script: Option<&str>) -> [Output; 2] {
    let home = tempfile::tempdir().unwrap();
    let port = processes::ports();
    let config = home.path().join("hub.yaml");
    let text = format!(
        "host: 127.0.0.1\nport: {port}\nmodel_starting_port: {}\nlog_path: deep/logs\n{}",
        port + 1,
        two_models()
    );
    std::fs::write(&config, text).unwrap();
    spoil(home.path());
    ["serve", "start"].map(|verb| {
        let mut command = hub::command(home.path());
        if let Some(script) = script {
            command = hub::in_home(Command::new("sh"), home.path());
            command.args(["-c", script, BINARY]);
        }
        command.arg("--config").arg(&config).arg(verb);
        command.output().unwrap()
    })
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

#[test]
fn a_log_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let outputs = start_on(|home| std::fs::write(home.join("deep"), "in the way").unwrap());
    for output in outputs {
        assert_refused(&output, &["log folder", "deep/logs`", "Not a directory"]);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_that_names_it() {
    let outputs = start_on(|home| {
        std::fs::create_dir_all(home.join("deep/logs/app.log")).unwrap();
    });
    for output in outputs {
        assert_refused(&output, &["deep/logs/app.log`", "Is a directory"]);
    }
}

#[test]
fn a_start_on_a_full_disk_says_so() {
    if !can_mount() {
        return not_run("a full disk", "this user may not mount a tmpfs");
    }
    let script = "mkdir -p deep/logs && exec unshare -m sh -c \
        'mount -t tmpfs -o size=128k none deep/logs && touch deep/logs/app.log deep/logs/hub.lock; \
         cat /dev/zero > deep/logs/filler 2> /dev/null; exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let outputs = start_on_with(|_| {}, Some(script));
    for output in outputs {
        assert_refused(&output, &["deep/logs` cannot be written", "No space left"]);
    }
}

#[test]
fn a_log_folder_that_others_may_write_to_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut hub = Hub::start(&two_models());
    assert!(
        !warnings(&hub).contains("other users"),
        "{}",
        warnings(&hub)
    );
    hub.kill();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(hub.logs(), open).unwrap();
    hub.serve_again();
    let remedy = format!("close it with `chmod go-w {}`", hub.logs().display());
    assert!(warnings(&hub).contains(&remedy), "{}", warnings(&hub));
}
