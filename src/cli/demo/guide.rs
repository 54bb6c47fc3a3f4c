//! Prints the demo's texts: an introduction, a first chat, commands to try, and then the changes of the
//! models.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::chat::{AnswerPiece, Chat};
use super::super::client::{Client, Probe};
use super::super::progress;
use super::super::render::{Out, dashboard_url, duration};
use super::folder::{Folder, POLICY, POLICY_NAME};
use crate::api::{MemoryState, ModelStatus};
use crate::clients::shell_words;

const HOST: &str = "127.0.0.1";
const FIRST_MODEL: &str = "parrot";
const FIRST_PROMPT: &str = "What does a hub do all day?";

/// Interval of the checks that wait for the hub.
const UP_YET: Duration = Duration::from_millis(20);
/// Interval at which the guide reads the models' states.
const POLL_EVERY: Duration = Duration::from_millis(250);

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Introduces the demo, and shows the policy.
pub(super) fn introduce(folder: &Folder, out: &mut Out) {
    let heading = "A hub on three simulated models. Ctrl+C ends it and leaves nothing behind.";
    out.line(format_args!("{BOLD}{heading}{BOLD:#}"));
    out.line(format_args!("Its folder: {}", folder.path().display()));
    if folder.is_evading {
        let port = folder.port;
        out.warn(format_args!("Port 8000 is taken, so the demo uses {port}."));
    }
    out.line(format_args!(
        "\n{POLICY_NAME}, the policy beside hub.yaml that frees memory:\n"
    ));
    for line in POLICY.lines() {
        out.line(format_args!("  {DIM}{line}{DIM:#}"));
    }
    out.line("");
}

/// Accompanies the hub of that folder until `over`.
pub(super) fn run(folder: &Folder, over: &CancellationToken) {
    let out = &mut Out::stdout();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let tour = async {
        if let Some(Err(error)) = over.run_until_cancelled(Box::pin(tour(folder, out))).await {
            out.err(format_args!("{error:#}"));
        }
    };
    match runtime {
        Ok(runtime) => runtime.block_on(tour),
        Err(error) => Out::stdout().err(error),
    }
}

async fn tour(folder: &Folder, out: &mut Out) -> anyhow::Result<()> {
    let port = folder.port;
    let begin = Instant::now();
    let client = Client::new(HOST, port, &folder.config());
    progress::show("starting the hub", async {
        while client.probe().await != Probe::Hub {
            sleep(UP_YET).await;
        }
    })
    .await;
    let taken = begin.elapsed().as_millis();
    out.ok(format_args!("The hub is up after {taken} ms."));
    first_chat(&client, out).await?;
    suggest(port, &folder.config(), out);
    narrate(&client, out).await
}

/// Shows the hub's main job: a request for a loading model waits for it and is answered.
async fn first_chat(client: &Client, out: &mut Out) -> anyhow::Result<()> {
    let begin = Instant::now();
    out.info(format_args!(
        "Asking {FIRST_MODEL}, which is loading: {FIRST_PROMPT}"
    ));
    let messages = [json!({"role": "user", "content": FIRST_PROMPT})];
    let ask = Chat::ask(client, FIRST_MODEL, &messages);
    let mut chat = progress::show(&format!("loading {FIRST_MODEL}"), ask).await?;
    let waited = begin.elapsed().as_secs_f64();
    out.ok(format_args!("{FIRST_MODEL} answers after {waited:.1} s:\n"));
    let mut stdout = anstream::stdout();
    let _ = write!(stdout, "  {CYAN}");
    while let Some(said) = chat.next().await? {
        if let AnswerPiece::Text(text) = said {
            let _ = write!(stdout, "{text}");
            let _ = stdout.flush();
        }
    }
    let _ = writeln!(stdout, "{CYAN:#}\n");
    Ok(())
}

fn suggest(port: u16, config: &Path, out: &mut Out) {
    let page = dashboard_url(HOST, port);
    out.line(format_args!("{BOLD}The page:{BOLD:#} {page}\n"));
    out.line(format_args!("{BOLD}In another terminal:{BOLD:#}\n"));
    let curl = format!(
        r#"curl -N http://{HOST}:{port}/v1/chat/completions -H 'Content-Type: application/json' \
  -d '{{"model": "night-owl", "stream": true, "messages": [{{"role": "user", "content": "Good evening"}}]}}'"#
    );
    code(&curl, out);
    let config = config.display().to_string();
    out.line("");
    for verb in ["status", "policy explain"] {
        let words = ["mlx-openai-server-hub", "--config", &config];
        code(&format!("{} {verb}", shell_words(&words)), out);
    }
    out.line(format_args!(
        "\n{BOLD}Or in Python{BOLD:#} (pip install openai):\n"
    ));
    let python = format!(
        r#"from openai import OpenAI

client = OpenAI(base_url="http://{HOST}:{port}/v1", api_key="none")
messages = [{{"role": "user", "content": "Good evening"}}]
for chunk in client.chat.completions.create(model="night-owl", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)"#
    );
    code(&python, out);
    out.line("");
    out.sentence(
        "The first request loads night-owl. While it is in memory its group is full: the same \
         for early-bird is refused with 429. After 20 seconds without a request the policy \
         unloads it. AUTO-UNLOAD does not show that: it is `auto_unload_minutes` of hub.yaml.",
    );
    out.line("");
    out.info("What the models do from here on (Ctrl+C ends the demo):");
}

fn code(text: &str, out: &mut Out) {
    for line in text.lines() {
        out.line(format_args!("  {DIM}{line}{DIM:#}"));
    }
}

/// Prints one line per change of a model's memory, as long as the hub runs.
async fn narrate(client: &Client, out: &mut Out) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut known = client.status().await?.models;
    loop {
        sleep(POLL_EVERY).await;
        // The hub ends before its guide: an error here is the end.
        let Ok(status) = client.status().await else {
            return Ok(());
        };
        for (old, new) in known.iter().zip(&status.models) {
            if old.metadata.facts.memory_state != new.metadata.facts.memory_state {
                tell(new, begin.elapsed(), out);
            }
        }
        known = status.models;
    }
}

fn tell(model: &ModelStatus, after: Duration, out: &mut Out) {
    let (name, state) = (&model.id, model.metadata.facts.memory_state);
    let line = format!("{name} is {} ({})", state.as_str(), duration(after));
    match (state, &model.metadata.facts.memory_last_error) {
        (MemoryState::Failed, Some(error)) => out.err(format_args!("{line}: {error}")),
        (MemoryState::Loaded, _) => out.ok(line),
        _ => out.info(line),
    }
}
