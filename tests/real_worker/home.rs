//! A home as a user of the real worker has it: two tiny models, hub.yaml, the program on PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::http::Http;
use crate::support::{hub, processes};

/// A tiny model is up in 3 to 7 seconds where nothing else runs.
pub(crate) const LOAD: Duration = Duration::from_secs(120);

/// The real worker, or `None` where it is not installed; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
pub(crate) fn real_worker() -> Option<PathBuf> {
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

pub(crate) fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// A home with two models, and the command line in it.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) worker: PathBuf,
    pub(crate) port: u16,
}

impl Home {
    pub(crate) fn new(worker: PathBuf) -> Self {
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

    /// Writes hub.yaml; `more` stands at its end, where the JIT model's entry is open.
    pub(crate) fn configure(&self, more: &str) {
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

    pub(crate) fn base(&self) -> PathBuf {
        self.folder.path().join("mlx-openai-server-hub")
    }

    pub(crate) fn model_path(&self, name: &str) -> String {
        let path = self.folder.path().join("models").join(name);
        path.to_str().unwrap().to_owned()
    }

    /// The hub's program with the real worker on PATH, as a user has it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
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
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    pub(crate) fn http(&self) -> Http {
        Http { port: self.port }
    }

    pub(crate) fn model(&self, name: &str) -> Value {
        let status = self.http().get("/hub/status").json();
        let models = status["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["id"] == name).unwrap();
        model["metadata"].clone()
    }

    pub(crate) fn states(&self, name: &str) -> (String, String) {
        let model = self.model(name);
        let word = |key: &str| model[key].as_str().unwrap().to_owned();
        (word("process_state"), word("memory_state"))
    }

    #[track_caller]
    pub(crate) fn assert_states(&self, name: &str, process: &str, memory: &str) {
        let expected = (process.to_owned(), memory.to_owned());
        assert_eq!(self.states(name), expected, "{name}");
    }

    /// Processes that name this home: the daemon and every worker do.
    pub(crate) fn processes(&self) -> Vec<String> {
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
