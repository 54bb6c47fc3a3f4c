//! `completions`: the script with which a shell completes the program's commands.
//!
//! The script asks the program itself at each Tab: it runs it with [`VARIABLE`] set and with the words of
//! the line after `--`, and [`answer`] prints what could follow. So the names of models are those of the
//! hub.yaml of the moment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{ArgValueCandidates, CompleteEnv, CompletionCandidate};

use super::hub_yaml::HubYaml;
use super::render::Out;
use super::{Cli, wait_for};
use crate::clients;
use crate::config;
use crate::engine::Engines;
use crate::policy::bundled_policies;

/// The program as shells find it.
pub(super) const PROGRAM: &str = env!("CARGO_PKG_NAME");
/// Set by the scripts to the name of their shell.
const VARIABLE: &str = "MLX_HUB_COMPLETE";
/// Longest wait for a hub whose hub.yaml is broken: somebody waits at the prompt.
const LIMIT: Duration = Duration::from_millis(500);
/// Names of the arguments that take models.
const MODELS: [&str; 2] = ["MODEL", "MODEL_NAMES"];

/// Print the script that completes commands and names of models in a shell
///
/// The script goes where the shell looks at its start:
///   bash  source <(mlx-openai-server-hub completions bash)       in ~/.bashrc
///   zsh   source <(mlx-openai-server-hub completions zsh)        in ~/.zshrc, after compinit
///   fish  mlx-openai-server-hub completions fish | source        in ~/.config/fish/config.fish
///
/// Packages bring it along for all three.
///
/// Exit status: 0.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// A shell that can be told how to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<ExitCode> {
        out.text(&script(self.shell)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// The script of a shell.
pub(super) fn script(shell: Shell) -> anyhow::Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    // By its name, so that the script outlives a new version at another place.
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    let mut script = String::from_utf8(script)?;
    if shell == Shell::Zsh {
        // From a folder of `fpath`, zsh runs the file at the first Tab, and that is to complete already.
        let function = PROGRAM.replace('-', "_");
        script += &format!(
            "if [[ $funcstack[1] == _{PROGRAM} ]]; then\n    _clap_dynamic_completer_{function} \"$@\"\nfi\n"
        );
    }
    Ok(script)
}

/// Answers a script, if one asks; true if it did.
///
/// # Errors
/// When the answer cannot be written, or the shell is unknown.
pub(super) fn answer() -> clap::error::Result<bool> {
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin(PROGRAM)
        .completer(PROGRAM)
        .try_complete(std::env::args_os(), folder.as_deref())
}

/// The program's commands, whose arguments know what they may be.
fn command() -> Command {
    with_candidates(Cli::command())
}

fn with_candidates(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| match candidates(&name, &arg) {
            Some(candidates) => arg.add(candidates),
            None => arg,
        })
        .mut_subcommands(with_candidates)
}

/// Completes an argument of a command whose values only this machine knows.
fn candidates(command: &str, arg: &Arg) -> Option<ArgValueCandidates> {
    let names = arg.get_value_names().unwrap_or_default();
    if names.iter().any(|name| MODELS.contains(&name.as_str())) {
        return Some(ArgValueCandidates::new(models));
    }
    match (command, arg.get_id().as_str()) {
        ("remove", "name") | ("launch", "model") => Some(ArgValueCandidates::new(models)),
        ("launch", "client") => Some(ArgValueCandidates::new(clients)),
        ("show", "engine") => Some(ArgValueCandidates::new(engines)),
        ("show", "name") => Some(ArgValueCandidates::new(policies)),
        _ => None,
    }
}

/// The models of hub.yaml; those of its hub while it is broken.
fn models() -> Vec<CompletionCandidate> {
    let path = config::locate(said_config(std::env::args_os()).as_deref());
    let hub_yaml = HubYaml::read(&path);
    match hub_yaml.config() {
        Ok(config) => {
            let models = config.models.iter();
            models
                .map(|model| candidate(&model.name, &model.model_path))
                .collect()
        }
        Err(_) => of_hub(&path).unwrap_or_default(),
    }
}

fn of_hub(path: &Path) -> anyhow::Result<Vec<CompletionCandidate>> {
    let mut found = Vec::new();
    wait_for(async {
        let asked = async {
            let hub = HubYaml::read(path).hub_address().hub().await?;
            match hub {
                Some(hub) => Ok(Some(hub.client.status().await?)),
                None => anyhow::Ok(None),
            }
        };
        if let Some(status) = tokio::time::timeout(LIMIT, asked).await?? {
            let models = status.models.iter();
            found
                .extend(models.map(|model| candidate(&model.id, &model.metadata.facts.model_path)));
        }
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(found)
}

fn candidate(name: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(StyledStr::from(help.to_owned())))
}

fn clients() -> Vec<CompletionCandidate> {
    clients::programs()
        .map(|(client, _)| candidate(client.name, client.title))
        .collect()
}

fn engines() -> Vec<CompletionCandidate> {
    let path = config::locate(said_config(std::env::args_os()).as_deref());
    let names = Engines::beside(&path).names();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn policies() -> Vec<CompletionCandidate> {
    bundled_policies()
        .map(|(name, _)| CompletionCandidate::new(name))
        .collect()
}

/// The file after `--config` among the words of a line.
fn said_config(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = words.skip_while(|word| word != "--").skip(1);
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        let value = word
            .to_str()
            .and_then(|word| word.strip_prefix("--config="));
        if let Some(path) = value {
            return Some(path.into());
        }
    }
    None
}

/// Writes the scripts below `folder`, where the packages of shells look for them below /usr/share.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    for (shell, place) in [
        (
            Shell::Bash,
            format!("bash-completion/completions/{PROGRAM}"),
        ),
        (Shell::Zsh, format!("zsh/site-functions/_{PROGRAM}")),
        (
            Shell::Fish,
            format!("fish/vendor_completions.d/{PROGRAM}.fish"),
        ),
    ] {
        let file = folder.join(place);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, script(shell)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands below `command` whose arguments have candidates, with those arguments.
    fn completed(command: &Command, path: &str, found: &mut Vec<String>) {
        for arg in command.get_arguments() {
            if arg.get::<ArgValueCandidates>().is_some() {
                found.push(format!("{path} {}", arg.get_id()));
            }
        }
        for below in command.get_subcommands() {
            completed(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn every_argument_that_takes_a_model_is_completed() {
        let mut found = Vec::new();
        completed(&command(), "", &mut found);
        for wanted in [
            "start models",
            "status models",
            "logs model",
            "run model",
            "start-model names",
            "stop-model names",
            "load-model names",
            "unload-model names",
            "policy explain model",
            "policy show name",
            "remove name",
            "launch client",
            "launch model",
        ] {
            let is_found = found.iter().any(|found| found.trim() == wanted);
            assert!(is_found, "{wanted} is not in {found:?}");
        }
    }

    #[test]
    fn the_line_says_which_hub_yaml_it_is_about() {
        let said = |line: &str| said_config(line.split(' ').map(OsString::from));
        assert_eq!(
            said("hub -- hub --config a.yaml load "),
            Some("a.yaml".into())
        );
        assert_eq!(
            said("hub -- hub load --config=b.yaml "),
            Some("b.yaml".into())
        );
        assert_eq!(said("hub --config no.yaml -- hub load "), None);
    }
}
