//! The command line: one verb, one file.
//!
//! `main` calls [`run()`]. `serve` and `demo` are the daemon; `init` and `check` need none. Every other
//! verb is a client: it finds the daemon ([`find`]), asks its HTTP API ([`client`]) and prints the
//! answer ([`render`]). Nothing here starts, stops or counts models itself, or knows how the
//! daemon does.
//!
//! stdout is the answer, stderr is errors. Exit status 0: done, 1: it failed, 2: wrong usage.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clients::shell_words;
use crate::config::{self, Config};
use crate::fake_worker;
use crate::tokenizer;
use hub_yaml::HubYaml;
use render::Out;

mod add;
mod aliases;
mod background;
mod chat;
mod check;
mod chosen;
mod client;
mod completions;
mod config_verbs;
mod convert;
mod demo;
mod doctor;
mod editing;
mod engine;
mod entry;
mod find;
mod fleet;
mod hub_yaml;
mod init;
mod key;
mod launch;
mod logs;
mod model_verbs;
mod models;
mod notes;
mod open;
mod own_key;
mod pieces;
mod policy;
mod printable;
mod progress;
mod pull;
mod question;
mod reload;
mod remove;
mod render;
mod restart;
mod room;
mod run;
mod serve;
mod service;
mod share;
mod start;
mod status;
mod stop;
mod suggestion;
mod table;
mod top;
mod unknown;
mod watch;

/// The hint for a command that needs a daemon.
const NOT_RUNNING: &str = "Hub daemon is not running. Start it with 'mlx-openai-server-hub start'.";

/// Runs many MLX models behind one OpenAI-compatible port.
///
/// The hub starts one mlx-openai-server process per model of hub.yaml, loads and unloads models as
/// requests and policies ask for it, and serves them all under http://HOST:PORT/v1. Without a command
/// it does what `start` does.
#[derive(Debug, Parser)]
#[command(name = "mlx-openai-server-hub", version, max_term_width = 100, after_long_help = AFTER_HELP)]
struct Cli {
    /// The configuration to use; `~` and relative paths are fine
    ///
    /// Without it, the environment's MLX_HUB_CONFIG_PATH, then ~/mlx-openai-server-hub/hub.yaml.
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Examples:
  mlx-openai-server-hub init               write a hub.yaml to begin with
  mlx-openai-server-hub check              what hub.yaml would start
  mlx-openai-server-hub start              start the hub in the background
  mlx-openai-server-hub status             what runs, and what is in memory
  mlx-openai-server-hub logs qwen -f       follow the log of a model
  mlx-openai-server-hub run qwen 'Why?'    ask a model, and print its answer
  mlx-openai-server-hub launch claude      Claude Code on a model of the hub
  mlx-openai-server-hub load-model qwen    load a model now rather than at its first request
  mlx-openai-server-hub stop               stop every model and the hub

Files:
  ~/mlx-openai-server-hub/hub.yaml         the configuration
  ~/mlx-openai-server-hub/*.lua            your policies, beside hub.yaml
  ~/mlx-openai-server-hub/logs/app.log     the hub's own log (log_path in hub.yaml)
  ~/mlx-openai-server-hub/logs/NAME.log    the log of a model

Exit status:
  0  done
  1  it failed; the reason is on stderr, or in an [err] line
  2  wrong usage";

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Check(check::Check),
    Models(models::Models),
    Pull(pull::Pull),
    Add(add::Add),
    Remove(remove::Remove),
    Start(start::Start),
    Serve(serve::Serve),
    Status(status::ShowStatus),
    Reload(reload::Reload),
    Restart(restart::Restart),
    Service(service::ServiceVerbs),
    Stop(stop::Stop),
    StartModel(model_verbs::StartModel),
    StopModel(model_verbs::StopModel),
    LoadModel(model_verbs::LoadModel),
    UnloadModel(model_verbs::UnloadModel),
    Watch(watch::Watch),
    Top(top::Top),
    Open(open::Open),
    Logs(logs::Logs),
    Run(run::Run),
    Launch(launch::Launch),
    Key(key::Key),
    Fleet(fleet::Fleet),
    Policy(policy::Policy),
    Engine(engine::Engine),
    Config(config_verbs::ConfigVerbs),
    Doctor(doctor::Doctor),
    Demo(demo::Demo),
    Completions(completions::Completions),
    #[command(hide = true)]
    Share(share::Share),
    /// Print the version
    Version,
    /// Counts tokens for a hub: a line of texts on stdin, a number on stdout
    #[command(hide = true, name = tokenizer::COMMAND)]
    CountTokens {
        tokenizer: PathBuf,
    },
    /// A simulated worker, for the demo and for tests
    #[command(hide = true, disable_help_flag = true)]
    StubWorker {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Parses the arguments of the process and runs the command.
pub fn run() -> ExitCode {
    match completions::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return wrong_usage(&error),
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // `--help` and `--version` come this way too, with exit status 0.
        Err(error) => return wrong_usage(&suggestion::harmless(error)),
    };
    dispatch(cli).unwrap_or_else(|error| {
        Out::stderr().sentence(format_args!("Error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn wrong_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let path = config::locate(cli.config.as_deref());
    let out = &mut Out::stdout();
    let load = || Config::load(&path);
    let hub_yaml = || HubYaml::read(&path);
    match cli
        .command
        .unwrap_or(Command::Start(start::Start::default()))
    {
        Command::Init(verb) => wait_for(verb.run(&path, out)),
        Command::Check(verb) => wait_for(verb.run(&load()?, out)),
        Command::Models(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Pull(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Add(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Remove(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Start(verb) => wait_for(verb.run(&load()?, out)),
        Command::Serve(verb) => verb.run(&path),
        Command::Status(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Reload(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Restart(verb) => wait_for(verb.run(&load()?, out)),
        Command::Service(verb) => verb.run(cli.config.as_deref(), out),
        Command::Stop(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::StartModel(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::StopModel(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::LoadModel(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::UnloadModel(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Watch(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Top(verb) => wait_for(verb.run(&hub_yaml())),
        Command::Open(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Logs(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Run(verb) => wait_for(Box::pin(verb.run(&hub_yaml(), out))),
        Command::Launch(verb) => verb.run(&path, out),
        Command::Key(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Fleet(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Policy(verb) => verb.run(&path, out),
        Command::Engine(verb) => verb.run(&path, out),
        Command::Config(verb) => verb.run(&path, out),
        Command::Doctor(verb) => wait_for(verb.run(&hub_yaml(), out)),
        Command::Demo(verb) => verb.run(out),
        Command::Completions(verb) => verb.run(out),
        Command::Share(verb) => verb.run(out),
        Command::Version => {
            out.line(concat!(
                env!("CARGO_PKG_NAME"),
                " ",
                env!("CARGO_PKG_VERSION")
            ));
            Ok(ExitCode::SUCCESS)
        }
        Command::CountTokens { tokenizer } => Ok(tokenizer::serve(&tokenizer)),
        Command::StubWorker { args } => Ok(fake_worker::main(args.into_iter())),
    }
}

/// A command line for the hub.yaml at `path`.
fn hub_command(path: &Path, words: &[&str]) -> String {
    let path_text = path.display().to_string();
    let begin = match path == config::locate(None) {
        true => vec!["mlx-openai-server-hub"],
        false => vec!["mlx-openai-server-hub", "--config", &path_text],
    };
    shell_words(&[&begin, words].concat())
}

/// Runs a client's work on this thread: a verb has one connection, and a small runtime starts in well under a
/// millisecond.
fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
