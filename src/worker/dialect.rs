//! The options that the installed worker program understands.
//!
//! A dialect is read off `launch --help`, once per program, never off a version number. It turns a
//! model entry into a command line: only what the user set and the worker lists is passed, and a set
//! option that is not listed becomes a warning.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anstream::adapter::strip_str;
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::command;
use crate::config::ModelConfig;
use crate::upstream::Accepts;

/// A Python program on a cold disk takes seconds for its `--help`.
const HELP_TIMEOUT: Duration = Duration::from_secs(60);

/// The options that `launch --help` of one program lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    flags: BTreeSet<String>,
    /// The words that a flag takes, where the help lists them: `--log-level [DEBUG|INFO]`.
    choices: BTreeMap<String, BTreeSet<String>>,
}

/// The command that starts one model's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Options of the model's entry that the worker lacks.
    pub warnings: Vec<String>,
}

impl Dialect {
    /// Reads the output of `launch --help`.
    ///
    /// # Errors
    /// When it lists no `--model-path`, as any mlx-openai-server does.
    pub fn from_help(help: &str) -> Result<Self, String> {
        // A worker that takes its output for a terminal may colour its options.
        let help = strip_str(help).to_string();
        let flags: BTreeSet<String> = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.len() > 2 && word.starts_with("--"))
            .map(str::to_owned)
            .collect();
        if !flags.contains("--model-path") || !flags.contains("--port") {
            return Err("its `launch --help` lists no `--model-path` and `--port`: is it mlx-openai-server?".into());
        }
        let choices = choices(&help);
        Ok(Self { flags, choices })
    }

    /// True if the worker has the flag and takes that word for it.
    pub fn takes(&self, flag: &str, word: &str) -> bool {
        let choices = self.choices.get(flag);
        self.has(flag) && choices.is_none_or(|words| words.contains(word))
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// True if this model's worker stays up without the weights and loads on demand.
    pub fn is_resident(&self, model: &ModelConfig) -> bool {
        model.jit_enabled && self.has("--jit")
    }

    /// The `model` values that the worker answers to.
    pub fn accepts(&self, model: &ModelConfig) -> Accepts {
        if self.has("--served-model-name") {
            Accepts::Only(model.name.as_str().into())
        } else if self.has("--jit") {
            Accepts::Any
        } else {
            Accepts::Only(model.resolved_path.as_str().into())
        }
    }

    /// The command line that serves `model` on `port`.
    pub fn command_line(&self, model: &ModelConfig, port: u16) -> CommandLine {
        let mut argv = model.worker_command.clone();
        argv.push("launch".into());
        let mut pass = |flag: &str, value: Option<&str>| {
            argv.push(flag.to_owned());
            argv.extend(value.map(str::to_owned));
        };
        pass("--model-path", Some(&model.resolved_path));
        pass("--model-type", Some(model.model_type.as_str()));
        pass("--host", Some(&model.host));
        pass("--port", Some(&port.to_string()));
        // The hub writes the log; the worker would write one under its working directory.
        if self.has("--no-log-file") {
            pass("--no-log-file", None);
        }
        if self.has("--log-level") {
            pass("--log-level", Some(model.log_level.as_str()));
        }
        if self.has("--served-model-name") {
            pass("--served-model-name", Some(&model.name));
        }
        if self.is_resident(model) {
            pass("--jit", None);
        }
        let mut warnings = Vec::new();
        for option in &model.options {
            let flag = option.flag();
            if self.has(&flag) {
                pass(&flag, option.value.as_deref());
            } else {
                warnings.push(format!(
                    "model `{}`: `{}` is ignored, the installed worker has no `{flag}`",
                    model.name, option.key
                ));
            }
        }
        argv.extend(model.extra_args.iter().cloned());
        CommandLine { argv, warnings }
    }
}

/// The dialects of all programs in use. A program is asked again when its file changes.
#[derive(Debug, Default)]
pub struct Dialects {
    known: Mutex<HashMap<Program, Arc<OnceCell<Arc<Dialect>>>>>,
}

/// A worker program as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<String>,
    size: u64,
    modified: Option<SystemTime>,
}

impl Program {
    /// The one that serves `model`.
    ///
    /// # Errors
    /// When it is not found.
    pub(crate) fn of_model(model: &ModelConfig) -> Result<Self, command::CommandError> {
        let path = command::find(&model.worker_command, &model.env)?;
        let args = model.worker_command.get(1..).unwrap_or_default();
        let metadata = std::fs::metadata(&path).ok();
        Ok(Self {
            path,
            args: args.to_vec(),
            size: metadata.as_ref().map_or(0, std::fs::Metadata::len),
            modified: metadata.and_then(|metadata| metadata.modified().ok()),
        })
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A key that is unique to this program.
    pub(crate) fn key(&self) -> String {
        let modified = self
            .modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let nanoseconds = modified.map_or(0, |since| since.as_nanos());
        format!(
            "{} {:?} {} {nanoseconds}",
            self.path.display(),
            self.args,
            self.size
        )
    }
}

impl Dialects {
    /// The dialect of the program that serves `model`.
    ///
    /// # Errors
    /// When it is not found, cannot be run, or its help is not that of a worker; nothing is cached then.
    pub async fn of_model(&self, model: &ModelConfig) -> Result<Arc<Dialect>, String> {
        let program = Program::of_model(model).map_err(|error| error.to_string())?;
        let cell = Arc::clone(self.known.lock().entry(program.clone()).or_default());
        cell.get_or_try_init(|| ask(&program.path, &program.args, &model.env))
            .await
            .cloned()
    }
}

async fn ask(
    path: &Path,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Arc<Dialect>, String> {
    let mut asking = Command::new(path);
    asking
        .args(args)
        .args(["launch", "--help"])
        // Wide, so that no option's name is broken over two lines.
        .env("COLUMNS", "200")
        .envs(env)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let shown = path.display();
    let output = match tokio::time::timeout(HELP_TIMEOUT, asking.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let why = command::not_run(&error);
            return Err(format!("`{shown} launch --help` could not be run: {why}"));
        }
        Err(_) => {
            let limit = HELP_TIMEOUT.as_secs();
            return Err(format!(
                "`{shown} launch --help` gave no answer within {limit} s"
            ));
        }
    };
    let help = String::from_utf8_lossy(&output.stdout);
    match Dialect::from_help(&help) {
        Ok(dialect) => Ok(Arc::new(dialect)),
        Err(_) if !output.status.success() => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            Err(format!(
                "`{shown} launch --help` failed ({}): {last}",
                output.status
            ))
        }
        Err(reason) => Err(format!("`{shown}`: {reason}")),
    }
}

/// The lists of words behind flags, in brackets with bars between them.
fn choices(help: &str) -> BTreeMap<String, BTreeSet<String>> {
    let flags = help.split("--").skip(1);
    flags
        .filter_map(|rest| {
            let (flag, rest) = rest.split_once(char::is_whitespace)?;
            let (words, _) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
            let words = words.split('|').map(|word| word.trim().to_owned());
            Some((format!("--{flag}"), words.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JIT: &str = "Options:\n  --model-path TEXT  [required]\n  --port INTEGER\n  --jit / --no-jit  Load\n  \
                       --no-log-file\n  --log-level [DEBUG|INFO]\n  --max-concurrency INTEGER\n  --help";
    const CURRENT: &str = "  --model-path TEXT\n  --port INTEGER\n  --served-model-name TEXT\n  --no-log-file\n  --debug";

    fn model(jit_enabled: bool) -> ModelConfig {
        let yaml = format!(
            "worker_command: [python, -m, app]\nmodels:\n- name: alpha\n  model_path: org/alpha\n  \
             model_type: embeddings\n  jit_enabled: {jit_enabled}\n  max_concurrency: 4\n  debug: true\n  \
             extra_args: [--new, x]"
        );
        crate::config::from_yaml(&yaml).models.remove(0)
    }

    #[test]
    fn only_what_the_worker_lists_is_passed() {
        let line = Dialect::from_help(JIT)
            .unwrap()
            .command_line(&model(true), 47850);
        assert_eq!(
            line.argv.join(" "),
            "python -m app launch --model-path org/alpha --model-type embeddings --host 127.0.0.1 --port 47850 \
             --no-log-file --log-level INFO --jit --max-concurrency 4 --new x"
        );
        assert_eq!(
            line.warnings,
            ["model `alpha`: `debug` is ignored, the installed worker has no `--debug`"]
        );
        let line = Dialect::from_help(CURRENT)
            .unwrap()
            .command_line(&model(true), 47850);
        assert_eq!(
            line.argv.join(" "),
            "python -m app launch --model-path org/alpha --model-type embeddings --host 127.0.0.1 --port 47850 \
             --no-log-file --served-model-name alpha --debug --new x"
        );
        assert!(
            line.warnings[0].contains("`max_concurrency`"),
            "{:?}",
            line.warnings
        );
    }

    #[test]
    fn options_in_colour_are_understood() {
        let coloured = JIT
            .replace("--", "\u{1b}[1;36m-\u{1b}[0m\u{1b}[1;36m-")
            .replace("  Load", "\u{1b}[0m\u{1b}]8;;http://x\u{7}  Load");
        assert_eq!(Dialect::from_help(&coloured), Dialect::from_help(JIT));
    }

    #[test]
    fn what_a_worker_answers_to_follows_from_its_flags() {
        let model = model(true);
        assert_eq!(
            Dialect::from_help(JIT).unwrap().accepts(&model),
            Accepts::Any
        );
        assert_eq!(
            Dialect::from_help(CURRENT).unwrap().accepts(&model),
            Accepts::Only("alpha".into())
        );
        let bare = Dialect::from_help("--model-path --port").unwrap();
        assert_eq!(bare.accepts(&model), Accepts::Only("org/alpha".into()));
    }

    #[test]
    fn only_a_jit_model_on_a_jit_worker_is_resident() {
        let (jit, current) = (
            Dialect::from_help(JIT).unwrap(),
            Dialect::from_help(CURRENT).unwrap(),
        );
        let plain = model(false);
        assert!(jit.is_resident(&model(true)));
        assert!(!jit.is_resident(&plain) && !current.is_resident(&model(true)));
    }

    #[test]
    fn words_that_the_help_does_not_list_are_not_taken() {
        let jit = Dialect::from_help(JIT).unwrap();
        assert!(jit.takes("--log-level", "INFO") && !jit.takes("--log-level", "LOUD"));
        assert!(jit.takes("--model-path", "any") && !jit.takes("--reasoning-parser", "qwen3"));
        let wide = "--model-path --port --tool-call-parser [hermes|\n    qwen3]\n --reasoning-parser X [default: x]";
        let wide = Dialect::from_help(wide).unwrap();
        assert!(wide.takes("--tool-call-parser", "qwen3"));
        assert!(wide.takes("--reasoning-parser", "any"));
    }

    #[test]
    fn another_program_is_recognised() {
        assert!(Dialect::from_help("usage: ls [--all]").is_err());
    }

    #[tokio::test]
    async fn a_program_is_asked_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (program, asked) = (folder.path().join("worker"), folder.path().join("asked"));
        let write = |flags: &str| {
            let script = format!(
                "#!/bin/sh\necho x >> '{}'\necho '{flags}'\n",
                asked.display()
            );
            std::fs::write(&program, script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&program, mode).unwrap();
        };
        let model = ModelConfig {
            worker_command: vec![program.display().to_string()],
            ..model(true)
        };
        let dialects = Dialects::default();
        write("--model-path --port");
        assert!(!dialects.of_model(&model).await.unwrap().has("--jit"));
        dialects.of_model(&model).await.unwrap();
        assert_eq!(std::fs::read_to_string(&asked).unwrap().lines().count(), 1);
        write("--model-path --port --jit");
        assert!(dialects.of_model(&model).await.unwrap().has("--jit"));
        write("no worker at all, and longer than before");
        let error = dialects.of_model(&model).await.unwrap_err();
        assert!(error.contains("is it mlx-openai-server?"), "{error}");
    }

    /// The error about a program of that text.
    async fn told(script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        std::fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let error = ask(&program, &[], &BTreeMap::new()).await.unwrap_err();
        error.replace(&folder.path().display().to_string(), "FOLDER")
    }

    #[tokio::test]
    async fn a_program_that_does_not_tell_its_options_is_told_with_the_cause() {
        let mut told_of = vec![
            told("#!/nosuch/python\n").await,
            told("#!/bin/sh\necho broken >&2\nexit 3\n").await,
            told("#!/bin/sh\necho '--all'\n").await,
        ];
        // From here on the clock runs to its next timer.
        tokio::time::pause();
        told_of.push(told("#!/bin/sh\nexec sleep 600\n").await);
        insta::assert_snapshot!(told_of.join("\n"), @"
        `FOLDER/worker launch --help` could not be run: its interpreter is missing; install the program anew
        `FOLDER/worker launch --help` failed (exit status: 3): broken
        `FOLDER/worker`: its `launch --help` lists no `--model-path` and `--port`: is it mlx-openai-server?
        `FOLDER/worker launch --help` gave no answer within 60 s
        ");
    }
}
