//! `launch`: becomes a client that is led to the hub.
//!
//! The settings are those of [`clients`]. They go into the environment and the arguments of the
//! client, and into a temporary file where it reads only files; no file of the user's is read or written. The
//! client takes this process over, so that terminal, signals and exit status are its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::client;
use super::hub_yaml::HubYaml;
use super::render::Out;
use super::status::inactive;
use super::{start, table, wait_for};
use crate::api::Status;
use crate::api::nearest;
use crate::clients::{self, Client, Kind, Place, Program, Run, Snippet, Target};
use crate::worker::command::on_path;

mod choice;
pub(super) mod proxies;
mod temporary;

use temporary::Temporary;

/// Run a client on the hub's models: Claude Code, Codex, opencode and others
///
/// Starts the hub if there is none, as `start` does, and becomes the client, with the hub's address and
/// the model in its environment. Files of the client's settings are neither read nor written by it.
/// Without CLIENT it lists the clients and where they are installed. The model is the one of --model,
/// else the one in memory that was used last, else the first with `default: true`.
///
/// Examples:
///   mlx-openai-server-hub launch
///   mlx-openai-server-hub launch claude
///   mlx-openai-server-hub launch codex --model qwen3-coder-30b -- exec "fix the failing test"
///   mlx-openai-server-hub launch opencode --print
///
/// Exit status: that of the client; 1 when it is not installed, there is no such model, or no hub can
/// be started.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Launch {
    /// The client
    #[arg(value_name = "CLIENT")]
    client: Option<String>,
    /// The model, by its name in hub.yaml or one that a policy answers for
    #[arg(long, value_name = "NAME", requires = "client")]
    model: Option<String>,
    /// Print the client's settings instead, to be copied; starts nothing
    #[arg(long, requires = "client")]
    print: bool,
    /// Arguments of the client
    #[arg(last = true, value_name = "ARGS", requires = "client")]
    arguments: Vec<OsString>,
}

/// Printed where a client needs a key.
const KEY: &str = "KEY";

/// The hub and the model that the client is led to.
struct Led {
    /// The hub's address without a path.
    url: String,
    host: String,
    model: String,
    /// In tokens.
    context: Option<u32>,
    /// Of a hub that has keys.
    key: Option<String>,
}

impl Led {
    fn target(&self) -> Target<'_> {
        Target {
            url: &self.url,
            model: &self.model,
            context: self.context,
            key: self.key.as_deref(),
        }
    }
}

impl Launch {
    pub(super) fn run(self, path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let Some(name) = &self.client else {
            list(out);
            return Ok(ExitCode::SUCCESS);
        };
        let client = named(name)?;
        let hub_yaml = HubYaml::read(path);
        if self.print {
            let led = wait_for(self.what_there_is(&hub_yaml))?;
            print(client, &led, out);
            return Ok(ExitCode::SUCCESS);
        }
        let Kind::Program(program) = &client.kind else {
            anyhow::bail!(
                "`{name}` is a library, which is not launched\n\
                 hint: `launch {name} --print` shows the code"
            );
        };
        let executable = installed(client, program)?;
        let led = wait_for(self.running(&hub_yaml))?;
        let run = program.run(&led.target());
        Err(self.become_client(&executable, program, run, &led.host))
    }

    /// The hub and the model as they are; without a hub, as they will be.
    async fn what_there_is(&self, hub_yaml: &HubYaml) -> anyhow::Result<Led> {
        match hub_yaml.hub().await? {
            Ok(hub) => {
                let status = hub.client.status().await?;
                let model = choice::model(&status, self.model.as_deref(), &hub.client).await?;
                Ok(led(hub_yaml, &status, model))
            }
            Err(config) => {
                let status = inactive(config);
                let model = choice::of_models(&status, self.model.as_deref())?;
                Ok(led(hub_yaml, &status, model))
            }
        }
    }

    /// A running hub, and a model of it that takes requests.
    async fn running(&self, hub_yaml: &HubYaml) -> anyhow::Result<Led> {
        let status = start::hub_of(hub_yaml).await?;
        let hub = client::Client::new(&status.host, status.port, &hub_yaml.path);
        let model = choice::model(&status, self.model.as_deref(), &hub).await?;
        choice::takes_requests(&status, &model)?;
        let led = led(hub_yaml, &status, model);
        let key = match led.key {
            Some(_) => hub.key_for_programs().await?,
            None => None,
        };
        Ok(Led { key, ..led })
    }

    /// Runs the client in the place of this process; returns only when that fails.
    fn become_client(
        self,
        executable: &Path,
        program: &Program,
        run: Run,
        host: &str,
    ) -> anyhow::Error {
        let mut command = Command::new(executable);
        // As a shell calls it.
        command.arg0(program.command);
        for variable in program.misleading {
            command.env_remove(variable);
        }
        command
            .envs(proxies::exceptions(host))
            .envs(run.environment);
        let held = match run
            .temporary
            .map(|file| (file.place, Temporary::write(&file)))
        {
            None => None,
            Some((_, Err(error))) => return error,
            Some((place, Ok(temporary))) => {
                match place {
                    Place::Folder(variable) => command.env(variable, temporary.folder()),
                    Place::Argument(argument) => command.arg(argument).arg(temporary.file()),
                };
                Some(temporary)
            }
        };
        command.args(run.first);
        if self.arguments.is_empty() {
            command.args(run.alone);
        } else {
            command.args(self.arguments);
        }
        let error = command.exec();
        drop(held);
        anyhow::anyhow!("cannot run `{}`: {error}", executable.display())
    }
}

/// A browser's name for the hub would be `localhost`, which some clients look up as an address that the hub
/// may not have.
fn led(hub_yaml: &HubYaml, status: &Status, model: String) -> Led {
    let config = hub_yaml.config().ok();
    let configured = config.and_then(|config| config.model(&model));
    let hub = client::Client::new(&status.host, status.port, &hub_yaml.path);
    let has_keys = config.is_some_and(|config| !config.api_keys.is_empty());
    Led {
        url: format!("http://{}", hub.address()),
        host: hub.host().to_owned(),
        context: configured.map(|model| model.context_length),
        key: has_keys.then(|| KEY.to_owned()),
        model,
    }
}

fn named(name: &str) -> anyhow::Result<&'static Client> {
    if let Some(client) = clients::all().find(|client| client.name == name) {
        return Ok(client);
    }
    let hint = match nearest(name, clients::all().map(|client| client.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`launch` lists them".to_owned(),
    };
    anyhow::bail!("no client `{name}` is known\nhint: {hint}")
}

fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn installed(client: &Client, program: &Program) -> anyhow::Result<PathBuf> {
    on_path(program.command, &search_path()).ok_or_else(|| {
        anyhow::anyhow!(
            "{} is not installed: there is no `{}` on PATH\nhint: install it with `{}`",
            client.title,
            program.command,
            program.install
        )
    })
}

fn list(out: &mut Out) {
    let search_path = search_path();
    let row = |(client, program): (&Client, &Program)| {
        let found = on_path(program.command, OsStr::new(&search_path));
        [
            client.name.to_owned(),
            client.title.to_owned(),
            match found {
                Some(path) => path.display().to_string(),
                None => format!("no: {}", program.install),
            },
        ]
    };
    let rows: Vec<_> = clients::programs().map(row).collect();
    out.line("Clients:");
    table::print(out, ["NAME", "CLIENT", "INSTALLED"], &rows, &[], &[1]);
    let libraries = clients::all().filter(|client| matches!(client.kind, Kind::Library { .. }));
    let names: Vec<_> = libraries.map(|client| client.name).collect();
    out.line(format_args!(
        "Libraries, for `launch NAME --print`: {}",
        names.join(", ")
    ));
}

/// The settings on stdout; where they belong, on stderr.
fn print(client: &Client, led: &Led, out: &mut Out) {
    let note = &mut Out::stderr();
    if let Kind::Program(program) = &client.kind {
        let is_set = |variable: &&&str| std::env::var_os(variable).is_some();
        let misleading: Vec<&str> = program.misleading.iter().filter(is_set).copied().collect();
        if !misleading.is_empty() {
            out.line(format_args!("unset {}", misleading.join(" ")));
        }
    }
    if led.key.is_some() {
        note.info("KEY stands for a key of the hub: `key add NAME` makes one");
    }
    let snippets = client.snippets(&led.target());
    let is_alone = snippets.len() == 1;
    for (at, Snippet { file, text, .. }) in snippets.into_iter().enumerate() {
        if at > 0 {
            out.line("");
        }
        match file {
            Some(file) => note.info(format_args!("for {file}:")),
            None if !is_alone => note.info("for the shell:"),
            None => {}
        }
        out.text(&text);
    }
}
