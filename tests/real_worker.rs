//! The main job with the real `mlx-openai-server` 1.8.1 and two tiny models: started by the command
//! line, used through the official `openai` client, stopped without a trace.
//!
//! The worker is a virtual environment under target/real-worker, made by tests/run.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::http::Http;
use support::{hub, processes, wait_for, wait_until};
use tempfile::TempDir;

/// A tiny model is up in 3 to 7 seconds where nothing else runs.
const LOAD: Duration = Duration::from_secs(120);

/// The real worker, or `None` where it is not installed; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn real_worker() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-worker");
    if folder.join("bin/mlx-openai-server").exists() {
        return Some(folder);
    }
    println!("not run: real worker: it is not in {}", folder.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no real worker");
    None
}

fn tiny_model(worker: &Path, folder: &Path, seed: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/make_tiny_model.py");
    let made = Command::new(worker.join("bin/python"))
        .arg(script)
        .arg(folder)
        .args(["--seed", seed])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// A home with two models, and the command line in it.
struct Home {
    folder: TempDir,
    worker: PathBuf,
    port: u16,
}

impl Home {
    fn new(worker: PathBuf) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, seed) in [("plain", "0"), ("jit", "1")] {
            tiny_model(&worker, &folder.path().join("models").join(name), seed);
        }
        let home = Self {
            folder,
            worker,
            port: processes::ports(),
        };
        home.configure("");
        home
    }

    /// Writes hub.yaml; `more` is added to the JIT model's entry.
    fn configure(&self, more: &str) {
        let workers = self.port + 1;
        let yaml = format!(
            "host: 127.0.0.1\nport: {}\nmodel_starting_port: {workers}\nmodels:\n  \
             - name: plain\n    model_path: {}\n    default: true\n  \
             - name: jit\n    model_path: {}\n    default: true\n    jit_enabled: true\n{more}",
            self.port,
            self.model_path("plain"),
            self.model_path("jit"),
        );
        std::fs::create_dir_all(self.base()).unwrap();
        std::fs::write(self.base().join("hub.yaml"), yaml).unwrap();
    }

    fn base(&self) -> PathBuf {
        self.folder.path().join("mlx-openai-server-hub")
    }

    fn model_path(&self, name: &str) -> String {
        let path = self.folder.path().join("models").join(name);
        path.to_str().unwrap().to_owned()
    }

    /// The hub's program with the real worker on PATH, as a user has it.
    fn command(&self, args: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.worker.join("bin");
        let mut command = hub::command(self.folder.path());
        command
            .args(args)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("HF_HUB_OFFLINE", "1");
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    fn http(&self) -> Http {
        Http { port: self.port }
    }

    fn model(&self, name: &str) -> Value {
        let status = self.http().get("/hub/status").json();
        let models = status["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["id"] == name).unwrap();
        model["metadata"].clone()
    }

    fn states(&self, name: &str) -> (String, String) {
        let model = self.model(name);
        let word = |key: &str| model[key].as_str().unwrap().to_owned();
        (word("process_state"), word("memory_state"))
    }

    #[track_caller]
    fn assert_states(&self, name: &str, process: &str, memory: &str) {
        let expected = (process.to_owned(), memory.to_owned());
        assert_eq!(self.states(name), expected, "{name}");
    }

    /// Processes that name this home: the daemon and every worker do.
    fn processes(&self) -> Vec<String> {
        processes::with_argument(self.folder.path().to_str().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for process in self.processes() {
            let pid = process
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid {
                processes::send(pid, Signal::SIGKILL);
            }
        }
    }
}

#[test]
fn the_main_job_with_the_real_worker() {
    let Some(worker) = real_worker() else { return };
    let home = Home::new(worker);

    let started = home.run(&["start"]);
    assert!(started.contains("[ok] plain"), "{started}");
    assert!(
        started.contains("/hub for the status dashboard"),
        "{started}"
    );
    wait_until("plain to be loaded", LOAD, || {
        home.states("plain").1 == "loaded"
    });
    home.assert_states("jit", "running", "unloaded");

    // A group has all processes of a worker: 1.8.1's children do not name the home.
    let group = |name: &str| {
        let pid = home.model(name)["pid"].as_u64()?;
        u32::try_from(pid).ok()
    };
    let mut groups = vec![group("plain").expect("a loaded model has a process")];
    assert_eq!(
        processes::members(groups[0]).len(),
        3,
        "server, tracker, model"
    );

    the_openai_client_is_served(&home);
    home.assert_states("jit", "running", "loaded");
    groups.extend(group("jit"));

    watch_shows_both(&home);

    assert!(home.run(&["unload-model", "jit"]).contains("[ok]"));
    home.assert_states("jit", "running", "unloaded");
    assert!(home.run(&["load-model", "jit"]).contains("[ok]"));
    home.assert_states("jit", "running", "loaded");
    groups.extend(group("jit"));

    let unchanged = home.run(&["reload"]);
    assert!(unchanged.contains("unchanged=plain, jit"), "{unchanged}");
    home.configure("    queue_size: 7\n");
    let restarted = home.run(&["reload"]);
    assert!(restarted.contains("started=jit"), "{restarted}");
    assert!(restarted.contains("stopped=jit"), "{restarted}");
    assert!(restarted.contains("unchanged=plain"), "{restarted}");

    assert!(home.run(&["stop-model", "plain"]).contains("[ok]"));
    home.assert_states("plain", "stopped", "unloaded");
    assert!(processes::members(groups[0]).is_empty(), "plain has ended");
    let refused = home.http().chat("plain", "hello");
    assert_eq!(refused.status, 400, "{}", refused.text());

    // Something must be there to be stopped.
    home.run(&["load-model", "jit"]);
    groups.extend(group("jit"));
    home.run(&["stop"]);
    assert!(
        home.http().try_get("/health").is_err(),
        "the daemon has ended"
    );
    for group in groups {
        assert_eq!(
            processes::members(group),
            Vec::<u32>::new(),
            "group {group}"
        );
    }
    assert_eq!(home.processes(), Vec::<String>::new());
    let again = home.run(&["stop"]);
    assert!(
        again.contains("Hub manager is not running; nothing to stop"),
        "{again}"
    );
}

/// The first request to the JIT model loads it.
fn the_openai_client_is_served(home: &Home) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/openai_client.py");
    let client = Command::new(home.worker.join("bin/python"))
        .arg(script)
        .arg(format!("http://127.0.0.1:{}/v1", home.port))
        .args([
            "plain",
            &home.model_path("plain"),
            "jit",
            &home.model_path("jit"),
        ])
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", text(&client));
}

fn watch_shows_both(home: &Home) {
    let mut watch = home
        .command(&["watch", "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let shown: Vec<String> = lines
        .by_ref()
        .map(Result::unwrap)
        .take(20)
        .take_while(|line| !line.trim_start().starts_with("plain"))
        .collect();
    assert!(shown[0].starts_with("Watching hub manager"), "{shown:?}");
    assert!(
        shown.iter().any(|line| line.contains("models=2 running=2")),
        "{shown:?}"
    );
    processes::send(watch.id(), Signal::SIGINT);
    let ended = wait_for("watch to end", support::SOON, || watch.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_path_that_is_no_model_is_a_failure_with_its_log() {
    let Some(worker) = real_worker() else { return };
    let home = Home::new(worker);
    std::fs::remove_dir_all(home.model_path("jit")).unwrap();
    std::fs::create_dir(home.model_path("jit")).unwrap();
    home.run(&["start"]);
    let answer = home.http().chat("jit", "hello");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("jit"), "{message}");
    assert!(
        message.contains("config.json"),
        "the log's last lines: {message}"
    );
    home.run(&["stop"]);
    assert_eq!(home.processes(), Vec::<String>::new());
}
