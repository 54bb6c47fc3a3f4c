//! The stand-in worker in Python, for every Python that is there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Hub, wait_for};

const STANDIN: &str = include_str!("standin.py");
/// None is made while the machine's memory is scarce, nor for half a minute after that.
pub(crate) const SPARE: Duration = Duration::from_secs(150);
/// Its modules that take long to import.
const SLOW: &str = "\
import os, sys, time
SAW = os.environ.get('STANDIN_IMPORT')
time.sleep(float(SAW or 0))
NAME = __name__
FOLDER = os.getcwd()

def priority():
    if sys.platform == 'darwin':
        return os.getpriority(4, 0)
    return [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)]

IMPORTED_AT = priority()
";
/// The oldest that a spare runs in, and newer ones.
const VERSIONS: [&str; 6] = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"];

/// A folder with a script that runs it, as installers write them.
pub(crate) struct Worker {
    folder: TempDir,
}

impl Worker {
    /// One whose first lines are these; `PYTHON` in them stands for an interpreter.
    pub(crate) fn with(python: &Path, first_lines: &str) -> Self {
        let temporary = std::env::temp_dir().canonicalize().unwrap();
        let folder = TempDir::new_in(temporary).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("standin.py", STANDIN);
        write("standin_server.py", SLOW);
        write("standin_model.py", SLOW);
        let first_lines = first_lines.replace("PYTHON", python.to_str().unwrap());
        let body = "import sys\nfrom standin import main\nif __name__ == '__main__':\n    sys.exit(main())\n";
        write("worker", &format!("{first_lines}\n{body}"));
        let worker = Self { folder };
        std::fs::set_permissions(worker.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        worker
    }

    /// One that this Python runs.
    pub(crate) fn of(python: &Path) -> Self {
        Self::with(python, "#!PYTHON")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("worker")
    }

    /// A hub.yaml with the models `alpha` and `beta` on it, and `more` above them.
    pub(crate) fn yaml(&self, more: &str, keys: &str) -> String {
        format!(
            "worker_command: {}\nlog_level: debug\n{more}models:\n\
             - {{name: alpha, model_path: org/alpha, default: true, {keys}}}\n\
             - {{name: beta, model_path: org/beta, default: true, jit_enabled: true, {keys}}}\n",
            self.path().display()
        )
    }

    /// In one step: a process may be reading it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        std::fs::write(new.path(), text).unwrap();
        new.persist(self.folder.path().join(name)).unwrap();
    }
}

/// The Pythons of this machine, one of each version, the newest last: those on PATH, and pyenv's.
pub(crate) fn pythons() -> Vec<PathBuf> {
    let pyenv = std::env::home_dir().map(|home| home.join(".pyenv/versions"));
    let installed = pyenv.and_then(|versions| std::fs::read_dir(versions).ok());
    let installed: Vec<PathBuf> = installed
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    let real = |version: &&str| {
        let name = format!("python{version}");
        let mut candidates = installed.iter().map(|folder| folder.join(&name));
        real(Path::new(&name)).or_else(|| candidates.find_map(|candidate| real(&candidate)))
    };
    VERSIONS.iter().filter_map(real).collect()
}

/// The interpreter itself, where a name leads to one.
fn real(python: &Path) -> Option<PathBuf> {
    let look = Command::new(python)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(look.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}

/// The newest of them.
pub(crate) fn python() -> PathBuf {
    pythons().pop().expect("a Python of 3.10 or newer")
}

/// The spares that are ready.
pub(crate) fn ready(hub: &Hub) -> Vec<u32> {
    let status = hub.status();
    let spares = status["spares"].as_array().unwrap();
    let ready = spares.iter().filter(|spare| spare["ready"] == true);
    ready
        .map(|spare| u32::try_from(spare["pid"].as_u64().unwrap()).unwrap())
        .collect()
}

/// Waits for one.
pub(crate) fn spare(hub: &Hub) -> u32 {
    wait_for("a spare", SPARE, || ready(hub).first().copied())
}

/// What the two processes of a model say of themselves.
pub(crate) fn facts(hub: &Hub, model: &str) -> Value {
    let answer = hub.http.chat(model, "hello");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let content = answer["choices"][0]["message"]["content"].as_str();
    serde_json::from_str(content.unwrap()).unwrap()
}
