//! The real worker, two tiny models for it, and the hub.yaml that has them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::home::Home;

/// A tiny model is up in 3 to 7 seconds where nothing else runs.
pub(crate) const LOAD: Duration = Duration::from_secs(120);

/// A spare imports at low priority: on a machine that does much else it takes far longer than a load.
pub(crate) const SPARE: Duration = Duration::from_secs(600);

/// The virtual environment of the real worker, or `None` where it is not installed; with CI=true that is a
/// failure.
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

pub(crate) fn tiny_model(worker: &Path, folder: &Path, seed: &str) {
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

/// A home whose hub.yaml has the models `plain` and `jit`.
pub(crate) fn home_with_two(worker: PathBuf) -> Home {
    let home = Home::with_real_worker(worker);
    for (name, seed) in [("plain", "0"), ("jit", "1")] {
        tiny_model(home.real_worker(), home.model_path(name).as_ref(), seed);
    }
    home.configure_two("");
    home
}

impl Home {
    /// Writes hub.yaml; `more` stands at its end, where the JIT model's entry is open.
    pub(crate) fn configure_two(&self, more: &str) {
        self.configure(&format!(
            "models:\n  - name: plain\n    model_path: {}\n    default: true\n  \
             - name: jit\n    model_path: {}\n    default: true\n    jit_enabled: true\n{more}",
            self.model_path("plain"),
            self.model_path("jit"),
        ));
    }

    pub(crate) fn model_path(&self, name: &str) -> String {
        let path = self.path().join("models").join(name);
        path.to_str().unwrap().to_owned()
    }
}
