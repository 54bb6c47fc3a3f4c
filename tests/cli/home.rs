//! A home folder of its own for every test, and the program that runs in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use insta_cmd::get_cargo_bin;
use tempfile::TempDir;

/// Deleted when dropped.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// With a hub.yaml of four models at the default place, for a hub on `port`.
    pub(crate) fn with_port(port: u16) -> Self {
        let home = Self::empty();
        home.write_config(&format!(
            "host: 127.0.0.1\n\
             port: {port}\n\
             models:\n\
             - {{name: c, model_path: org/c, default: true}}\n\
             - {{name: b, model_path: org/b, default: true}}\n\
             - {{name: a, model_path: org/a, jit_enabled: true, auto_unload_minutes: 60}}\n\
             - {{name: d, model_path: org/d}}\n"
        ));
        home
    }

    /// Without a hub.yaml.
    pub(crate) fn empty() -> Self {
        // On macOS the folder for temporary files is reached by a link; what programs say is the real path.
        let folder = TempDir::new_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        std::fs::create_dir(folder.path().join("mlx-openai-server-hub")).unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    /// Replaces hub.yaml.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// The default hub.yaml.
    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("mlx-openai-server-hub/hub.yaml")
    }

    /// The default `log_path`.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path().join("mlx-openai-server-hub/logs")
    }

    /// A folder on the PATH of [`Home::command`], the only one.
    pub(crate) fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program with these arguments, as this home's user would run it.
    pub(crate) fn command<'a>(&self, arguments: impl AsRef<[&'a str]>) -> Command {
        let mut command = Command::new(get_cargo_bin("mlx-openai-server-hub"));
        command
            .args(arguments.as_ref())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", self.bin())
            .env("TZ", "UTC");
        command
    }

    /// Snapshots without what differs from run to run; to be kept while they are compared.
    pub(crate) fn filters(&self, port: u16) -> impl Drop + use<> {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(&regex_of(&self.path().display().to_string()), "HOME");
        settings.add_filter(&format!(r"\b{port}\b"), "PORT");
        settings.add_filter(&format!(r"\(PID: {}\)", std::process::id()), "(PID: OURS)");
        settings.add_filter(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]", "[TIME]");
        settings.set_omit_expression(true);
        settings.bind_to_scope()
    }
}

fn regex_of(text: &str) -> String {
    text.replace('.', r"\.")
}
