//! The options that the installed worker program understands.
//!
//! A dialect is read off the program's help, once per program, never off a version number. With it the engine
//! turns a model entry into a command line: only what the user set and the worker lists is passed, and a set
//! option that is not listed becomes a warning.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::command;
use crate::config::ModelConfig;
use crate::engine::{Cli, DEFAULT, Engine, KeyType};
use crate::upstream::Accepts;

/// A Python program on a cold disk takes seconds for its `--help`.
const HELP_TIMEOUT: Duration = Duration::from_secs(60);

/// The options that one installed program lists.
#[derive(Debug, Clone, Default)]
pub struct Dialect {
    cli: Arc<Cli>,
}

/// The command that starts one model's worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments, behind the launcher and its own.
    pub argv: Vec<String>,
    /// The place of the program there: 0 without a launcher.
    pub program_at: usize,
    /// The files that it finds in its folder: names and texts.
    pub files: Vec<(String, String)>,
    /// The other machines on which it has processes, as `ssh` knows them.
    pub hosts: Vec<String>,
    /// Where these compute together, each with a port that is closed.
    pub addresses: Vec<String>,
    /// Variables besides those of hub.yaml, which win.
    pub env: Vec<(String, String)>,
    /// Options of the model's entry that the worker lacks.
    pub warnings: Vec<String>,
    /// True if this model's worker stays up without the weights and loads on demand.
    pub is_resident: bool,
    /// The `model` values that the worker answers to.
    pub accepts: Accepts,
}

impl Dialect {
    /// True if the worker has the flag and takes that word for it.
    pub fn takes(&self, flag: &str, word: &str) -> bool {
        self.cli.takes(flag, word)
    }

    /// The command line that serves `model` on `port`.
    ///
    /// # Errors
    /// When the engine's file fails: one line that begins with `FILE:LINE:`.
    pub fn command_line(&self, model: &ModelConfig, port: u16) -> Result<CommandLine, String> {
        let plan = model.engine.plan(&model.for_engine(port), &self.cli)?;
        let program_at = plan.launcher.len();
        let mut argv = plan.launcher;
        argv.extend(model.worker_command.iter().cloned());
        argv.extend(plan.argv);
        argv.extend(model.extra_args.iter().cloned());
        let warnings = plan.warnings.into_iter();
        Ok(CommandLine {
            argv,
            program_at,
            files: plan.files,
            hosts: plan.hosts,
            addresses: plan.addresses,
            env: plan.env,
            warnings: warnings
                .map(|warning| format!("model `{}`: {warning}", model.name))
                .collect(),
            is_resident: plan.resident,
            accepts: match plan.name {
                Some(name) => Accepts::Only(name.into()),
                None => Accepts::Any,
            },
        })
    }
}

impl CommandLine {
    /// The file to run, and its arguments. A launcher is looked for beside the program first, and gets the program's
    /// path: other machines, on which it starts the program too, may have another PATH.
    ///
    /// # Errors
    /// When one of the two is not found.
    pub fn resolved(
        &self,
        model: &ModelConfig,
    ) -> Result<(PathBuf, Vec<String>), command::CommandError> {
        let program = command::of_model(model)?;
        let mut arguments = self.argv[1..].to_vec();
        if self.program_at == 0 {
            return Ok((program, arguments));
        }
        let launcher = command::launcher(&self.argv[0], &program, model)?;
        arguments[self.program_at - 1] = program.display().to_string();
        Ok((launcher, arguments))
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
    /// The engine that runs it, and the command line in the model's entry if it has one: two of them are two
    /// programs, also with the same interpreter.
    engine: String,
    size: u64,
    modified: Option<SystemTime>,
}

impl Program {
    /// The one that serves `model`.
    ///
    /// # Errors
    /// When it is not found.
    pub(crate) fn of_model(model: &ModelConfig) -> Result<Self, command::CommandError> {
        let path = command::of_model(model)?;
        let mut engine = model.engine.name.clone();
        for key in &model.engine.keys {
            let option = model.options.iter().find(|option| option.key == key.name);
            let value = option.and_then(|option| option.value.as_deref());
            if key.kind == KeyType::Command {
                engine.extend(value.map(|command| format!(" {command}")));
            }
        }
        let args = model.worker_command.get(1..).unwrap_or_default();
        let metadata = std::fs::metadata(&path).ok();
        Ok(Self {
            path,
            args: args.to_vec(),
            engine,
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
        let of_engine = match &*self.engine {
            DEFAULT => String::new(),
            engine => format!(" {engine}"),
        };
        format!(
            "{} {:?} {} {nanoseconds}{of_engine}",
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
        cell.get_or_try_init(|| ask(&program.path, &program.args, &model.env, &model.engine))
            .await
            .cloned()
    }
}

/// Asks a program for its options, if its engine says how.
async fn ask(
    path: &Path,
    args: &[String],
    env: &BTreeMap<String, String>,
    engine: &Engine,
) -> Result<Arc<Dialect>, String> {
    let Some(help) = &engine.help else {
        return Ok(Arc::default());
    };
    let mut asking = Command::new(path);
    asking
        .args(args)
        .args(help)
        // Wide, so that no option's name is broken over two lines.
        .env("COLUMNS", "200")
        .envs(env)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let help = help.join(" ");
    let shown = format!("`{} {help}`", path.display());
    let output = match tokio::time::timeout(HELP_TIMEOUT, asking.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let why = command::not_run(&error);
            return Err(format!("{shown} could not be run: {why}"));
        }
        Err(_) => {
            let limit = HELP_TIMEOUT.as_secs();
            return Err(format!("{shown} gave no answer within {limit} s"));
        }
    };
    let cli = Cli::from_help(&String::from_utf8_lossy(&output.stdout));
    match must_list(engine, &cli) {
        Ok(()) => Ok(Arc::new(Dialect { cli: Arc::new(cli) })),
        Err(_) if !output.status.success() => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            Err(format!("{shown} failed ({}): {last}", output.status))
        }
        Err(reason) => Err(format!("`{}`: its `{help}` {reason}", path.display())),
    }
}

/// Tells by its options whether a program is the engine's.
fn must_list(engine: &Engine, cli: &Cli) -> Result<(), String> {
    if engine.lists.iter().all(|flag| cli.has(flag)) {
        return Ok(());
    }
    let flags: Vec<_> = engine
        .lists
        .iter()
        .map(|flag| format!("`{flag}`"))
        .collect();
    let program = engine.program.first().map_or("", String::as_str);
    Err(format!(
        "lists no {}: is it {program}?",
        flags.join(" and ")
    ))
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

    fn line(help: &str, model: &ModelConfig) -> CommandLine {
        let cli = Arc::new(Cli::from_help(help));
        Dialect { cli }.command_line(model, 47850).unwrap()
    }

    #[test]
    fn only_what_the_worker_lists_is_passed() {
        let of_jit = line(JIT, &model(true));
        assert_eq!(
            of_jit.argv.join(" "),
            "python -m app launch --model-path org/alpha --model-type embeddings --host 127.0.0.1 --port 47850 \
             --no-log-file --log-level INFO --jit --max-concurrency 4 --new x"
        );
        assert_eq!(
            of_jit.warnings,
            ["model `alpha`: `debug` is ignored, the installed mlx-openai-server has no `--debug`"]
        );
        let of_current = line(CURRENT, &model(true));
        assert_eq!(
            of_current.argv.join(" "),
            "python -m app launch --model-path org/alpha --model-type embeddings --host 127.0.0.1 --port 47850 \
             --no-log-file --served-model-name alpha --debug --new x"
        );
        let warnings = of_current.warnings;
        assert!(warnings[0].contains("`max_concurrency`"), "{warnings:?}");
    }

    #[test]
    fn what_a_worker_answers_to_follows_from_its_flags() {
        let model = model(true);
        assert_eq!(line(JIT, &model).accepts, Accepts::Any);
        assert_eq!(line(CURRENT, &model).accepts, Accepts::Only("alpha".into()));
        let bare = line("--model-path --port", &model);
        assert_eq!(bare.accepts, Accepts::Only("org/alpha".into()));
    }

    #[test]
    fn only_a_jit_model_on_a_jit_worker_is_resident() {
        let is_resident = |help, jit| line(help, &model(jit)).is_resident;
        assert!(is_resident(JIT, true));
        assert!(!is_resident(JIT, false) && !is_resident(CURRENT, true));
    }

    #[test]
    fn another_program_is_recognised() {
        let engine = model(true).engine;
        assert!(must_list(&engine, &Cli::from_help("usage: ls [--all]")).is_err());
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
        assert!(!dialects.of_model(&model).await.unwrap().cli.has("--jit"));
        dialects.of_model(&model).await.unwrap();
        assert_eq!(std::fs::read_to_string(&asked).unwrap().lines().count(), 1);
        write("--model-path --port --jit");
        assert!(dialects.of_model(&model).await.unwrap().cli.has("--jit"));
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
        let error = ask(&program, &[], &BTreeMap::new(), &model(true).engine)
            .await
            .unwrap_err();
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
