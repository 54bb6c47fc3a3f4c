//! Finds the program of a `worker_command`.
//!
//! `start` looks for it before it spawns anything, so that a missing program is reported in the terminal
//! rather than in a log; each launch looks again. A bare name is looked for on PATH, then in the folder of the
//! hub's own program: a Python environment that has both needs no PATH.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access};

use crate::config::ModelConfig;
use crate::engine::Engine;

/// The reason why there is no program to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The command has no words.
    #[error("`worker_command` is empty\nhint: leave it out, or name the program")]
    Empty,
    /// Neither a folder of PATH nor the hub's own holds this bare name.
    #[error(
        "the worker command `{program}` was not found on PATH, nor beside the hub\n\
         hint: install it{}, or set `worker_command` to where it is",
        .install.as_ref().map_or_else(String::new, |install| format!(" with {}", install.with))
    )]
    NotFound {
        /// The name that was looked for.
        program: String,
        /// How the model's engine says that it is installed.
        install: Option<Install>,
    },
    /// There is a program, but not the one that starts it.
    #[error(
        "`{launcher}`, which starts `{}` on each machine, is neither beside it nor on PATH\nhint: {}set `worker_command` \
         to a program that has it beside it",
        .program.display(),
        .install.as_ref().map_or_else(String::new, |install| format!("install both with {}, or ", install.with))
    )]
    NoLauncher {
        /// Its name.
        launcher: String,
        /// The program that it starts.
        program: PathBuf,
        /// How the model's engine says that both are installed.
        install: Option<Install>,
    },
    /// The path names nothing executable.
    #[error(
        "the worker command `{}` is not an executable file\nhint: correct `worker_command`{}",
        .path.display(),
        .install.as_ref().map_or_else(String::new, |Install { program, with }| {
            format!(", or install {program} with {with}")
        })
    )]
    NotExecutable {
        /// The path as it is configured.
        path: PathBuf,
        /// How the model's engine says that its program is installed.
        install: Option<Install>,
    },
}

/// How the program of an engine is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// The program.
    pub program: String,
    /// The commands that install it, as a sentence has them.
    pub with: String,
}

impl Install {
    fn of(engine: &Engine) -> Option<Self> {
        Some(Self {
            program: engine.program.first()?.clone(),
            with: engine.install_hint()?,
        })
    }
}

/// The reason why a program that [`find`] has found does not run.
pub(super) fn not_run(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "its interpreter is missing; install the program anew".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A model whose worker cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model `{model}`: {error}")]
pub struct MissingWorker {
    model: String,
    error: CommandError,
}

/// Looks for the program of every model, and for what starts it, before anything is spawned.
///
/// # Errors
/// For the first model whose program is not there.
pub fn check(models: &[ModelConfig]) -> Result<(), MissingWorker> {
    for model in models {
        let found = of_model(model).and_then(|program| launcher_of(model, &program));
        found.map_err(|error| MissingWorker {
            model: model.name.clone(),
            error,
        })?;
    }
    Ok(())
}

/// The program of a model, as [`find`] finds it.
///
/// # Errors
/// As [`find`], and told how the program is installed.
pub fn of_model(model: &ModelConfig) -> Result<PathBuf, CommandError> {
    find(&model.worker_command, &model.env).map_err(|error| {
        let install = Install::of(&model.engine);
        match error {
            other @ (CommandError::Empty | CommandError::NoLauncher { .. }) => other,
            CommandError::NotFound { program, .. } => CommandError::NotFound { program, install },
            CommandError::NotExecutable { path, .. } => {
                CommandError::NotExecutable { path, install }
            }
        }
    })
}

/// Looks for the program that starts `program` on several machines, if the model spans some.
fn launcher_of(model: &ModelConfig, program: &Path) -> Result<(), CommandError> {
    if !model.spans_machines() {
        return Ok(());
    }
    // The name does not depend on the program's options, and an engine that fails is told at the launch.
    let plan = model.engine.plan(&model.for_engine(0), &Arc::default());
    match plan.ok().as_ref().and_then(|plan| plan.launcher.first()) {
        Some(name) => launcher(name, program, model).map(|_| ()),
        None => Ok(()),
    }
}

/// The program of that name that starts the program of a model: the one beside it, or else as [`find`] finds it.
///
/// # Errors
/// As [`of_model`].
pub(super) fn launcher(
    name: &str,
    program: &Path,
    model: &ModelConfig,
) -> Result<PathBuf, CommandError> {
    // Installers link programs into a folder of PATH, and not all that belong together.
    let real = program.canonicalize().ok();
    let programs = [Some(program), real.as_deref()].into_iter().flatten();
    let folders = programs.filter_map(|program| Some(program.parent()?.to_owned()));
    if let Some(path) = within(folders, name) {
        return Ok(path);
    }
    find(&[name.to_owned()], &model.env).map_err(|_| CommandError::NoLauncher {
        launcher: name.to_owned(),
        program: program.to_owned(),
        install: Install::of(&model.engine),
    })
}

/// The program that `command` would run with the additional environment `env`: the first word as it is
/// when it has a slash, else the first hit on PATH (that of `env` when it sets one), else the one beside the
/// hub's own program.
///
/// # Errors
/// When there is no such program or it may not be executed.
pub fn find(command: &[String], env: &BTreeMap<String, String>) -> Result<PathBuf, CommandError> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return Err(CommandError::Empty);
    };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return if is_executable(&path) {
            Ok(path)
        } else {
            Err(CommandError::NotExecutable {
                path,
                install: None,
            })
        };
    }
    on_path_of(program, env)
        .or_else(|| within(own_folders(), program))
        .ok_or_else(|| CommandError::NotFound {
            program: program.clone(),
            install: None,
        })
}

/// The program that [`find`] finds beside the hub's own, because PATH has none.
pub(crate) fn beside(command: &[String], env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let program = command.first().filter(|program| !program.contains('/'))?;
    match on_path_of(program, env) {
        Some(_) => None,
        None => within(own_folders(), program),
    }
}

fn on_path_of(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let search_path = env
        .get("PATH")
        .map(OsString::from)
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_default();
    on_path(program, &search_path)
}

/// The first executable file of that bare name in the folders of `search_path`.
pub(crate) fn on_path(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    within(std::env::split_paths(search_path), program)
}

fn within(mut folders: impl Iterator<Item = PathBuf>, program: &str) -> Option<PathBuf> {
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| is_executable(path)))
}

/// The folder of the hub's program as it was called, then the one in which it really is: installers link
/// programs into a folder of PATH.
fn own_folders() -> impl Iterator<Item = PathBuf> {
    let called = std::env::current_exe().ok();
    let real = called.as_ref().and_then(|path| path.canonicalize().ok());
    let programs = called.into_iter().chain(real);
    programs.filter_map(|path| Some(path.parent()?.to_owned()))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn path_of(folder: &Path) -> BTreeMap<String, String> {
        BTreeMap::from([("PATH".to_owned(), folder.display().to_string())])
    }

    #[test]
    fn a_bare_name_is_found_on_the_path_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "worker", 0o755);
        let command = ["worker".to_owned(), "--verbose".to_owned()];
        assert_eq!(find(&command, &path_of(folder.path())), Ok(path));
    }

    #[test]
    fn a_file_that_may_not_be_executed_is_not_the_program() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "worker", 0o644);
        let error = find(&["worker".to_owned()], &path_of(folder.path()));
        assert_eq!(
            error,
            Err(CommandError::NotFound {
                program: "worker".to_owned(),
                install: None,
            })
        );
    }

    #[test]
    fn a_name_with_a_slash_is_not_searched_for() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "worker", 0o755);
        let command = ["./worker".to_owned()];
        assert!(matches!(
            find(&command, &path_of(folder.path())),
            Err(CommandError::NotExecutable { .. })
        ));
    }

    #[test]
    fn a_folder_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let command = [folder.path().display().to_string()];
        assert!(matches!(
            find(&command, &BTreeMap::new()),
            Err(CommandError::NotExecutable { .. })
        ));
    }
}
