//! `run`: asks a model of the hub and prints its answer as it comes, once or in a chat.

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::chat::{AnswerPiece, Chat};
use super::client::Client;
use super::hub_yaml::HubYaml;
use super::printable::printable;
use super::render::Out;
use super::{notes, progress, question, start};
use crate::api::{MemoryState, unix_now};
use crate::files;

/// Interval at which the model's state is read while its answer has not begun.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The word that stands for what stdin has.
const STDIN: &str = "-";

/// Ask a model, and print its answer
///
/// The answer comes as the model writes it, alone on stdout. Starts the hub if there is none; a model
/// that is not in memory is loaded, and stderr says how far that is. Without PROMPT the prompt is what
/// stdin has; on a terminal it is a chat, in which Ctrl+C stops an answer and Ctrl+D ends the chat.
/// Control characters in an answer are left out.
///
/// Examples:
///   mlx-openai-server-hub run qwen "Write a haiku about ports"
///   git diff | mlx-openai-server-hub run qwen "Write a commit message for this:" -
///   mlx-openai-server-hub run gemma --image photo.jpg "What is on it?"
///   mlx-openai-server-hub run qwen
///
/// Exit status: 0; 1 when the hub refuses or the answer breaks off, with the hub's reason.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Run {
    /// The model, by its name in hub.yaml or one that a policy answers for
    model: String,
    /// The prompt, in one or several words; `-` stands for what stdin has
    prompt: Vec<String>,
    /// Instructions that come before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// An image to ask about (PNG, JPEG, GIF, WebP, BMP); may be given several times
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
}

impl Run {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        // What is wrong with them is told before a hub is started.
        let images: Vec<Value> = self
            .image
            .iter()
            .map(|path| image(path))
            .collect::<Result<_, _>>()?;
        let prompt = self.prompt()?;
        let status = start::hub_of(hub_yaml).await?;
        let system = self.system.map(|text| message("system", json!(text)));
        let mut talk = Talk {
            client: Client::new(&status.host, status.port, &hub_yaml.path),
            model: self.model,
            messages: system.into_iter().collect(),
            images,
            said: String::new(),
        };
        match prompt {
            Some(prompt) => talk.ask(&prompt, out).await?,
            None => Box::pin(chat(talk, out)).await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The prompt; `None` for a chat.
    fn prompt(&self) -> anyhow::Result<Option<String>> {
        if self.prompt.is_empty() && question::can_ask() {
            return Ok(None);
        }
        let is_stdin = |word: &String| word == STDIN;
        let mut stdin = String::new();
        if self.prompt.is_empty() || self.prompt.iter().any(is_stdin) {
            let mut read = std::io::stdin().lock();
            read.read_to_string(&mut stdin)
                .context("cannot read stdin")?;
        }
        let prompt = match self.prompt.is_empty() {
            true => stdin,
            false => {
                let words = self.prompt.split(is_stdin);
                let parts: Vec<String> = words.map(|words| words.join(" ")).collect();
                parts.join(&format!("\n{stdin}\n"))
            }
        };
        let prompt = prompt.trim();
        if prompt.is_empty() {
            anyhow::bail!("there is no prompt\nhint: give one after the model's name, or on stdin");
        }
        Ok(Some(prompt.to_owned()))
    }
}

fn message(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

/// A file as a part of a message.
fn image(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let bytes = files::read(path).with_context(|| format!("cannot read the image `{shown}`"))?;
    let kind = kind(&bytes).with_context(|| {
        format!("`{shown}` is no PNG, JPEG, GIF, WebP or BMP, which models read")
    })?;
    let data = BASE64_STANDARD.encode(bytes);
    Ok(json!({"type": "image_url", "image_url": {"url": format!("data:{kind};base64,{data}")}}))
}

/// The type of an image, by its first bytes.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        [b'B', b'M', ..] => Some("image/bmp"),
        _ => None,
    }
}

/// The conversation so far.
struct Talk {
    client: Client,
    model: String,
    messages: Vec<Value>,
    /// For the next message.
    images: Vec<Value>,
    /// The current answer, as far as it has come.
    said: String,
}

impl Talk {
    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// The hub's reason; an answer that breaks off.
    async fn ask(&mut self, prompt: &str, out: &mut Out) -> anyhow::Result<()> {
        let mut content = json!(prompt);
        if !self.images.is_empty() {
            let text = json!({"type": "text", "text": prompt});
            content = self.images.drain(..).chain([text]).collect();
        }
        self.messages.push(message("user", content));
        let answered = self.answer(out).await;
        self.end_line(out);
        answered
    }

    async fn answer(&mut self, out: &mut Out) -> anyhow::Result<()> {
        let (mut chat, mut text) = self.begun().await?;
        while let Some(piece) = text.take() {
            self.said += &piece;
            out.text(&printable(&piece));
            if out.is_closed() {
                return Ok(());
            }
            text = next_text(&mut chat, || {}).await?;
        }
        Ok(())
    }

    /// The answer with its first text. Until then stderr shows what the model does.
    async fn begun(&self) -> anyhow::Result<(Chat, Option<String>)> {
        let waits = || format!("waiting for {}", self.model);
        let (doing, thinks) = (RefCell::new(waits()), Cell::new(false));
        let asking = async {
            let mut chat = Chat::ask(&self.client, &self.model, &self.messages).await?;
            let text = next_text(&mut chat, || thinks.set(true)).await?;
            anyhow::Ok((chat, text))
        };
        let watching = async {
            loop {
                *doing.borrow_mut() = self.loading().await.unwrap_or_else(waits);
                sleep(POLL_EVERY).await;
            }
        };
        let either = async {
            tokio::select! {
                begun = asking => begun,
                () = watching => unreachable!("it has no end"),
            }
        };
        let text = || match thinks.get() {
            true => format!("{} thinks", self.model),
            false => doing.borrow().clone(),
        };
        progress::show_changing(Instant::now(), &text, Box::pin(either)).await
    }

    /// The progress of the model's load, if it loads.
    async fn loading(&self) -> Option<String> {
        let status = self.client.status().await.ok()?;
        let model = status.models.iter().find(|model| model.id == self.model)?;
        let is_loading = model.metadata.facts.memory_state == MemoryState::Loading;
        let note = notes::note(&status, model, unix_now()).filter(|_| is_loading)?;
        Some(format!("{}: {note}", self.model))
    }

    /// Ends the line of an answer, and remembers it.
    fn end_line(&mut self, out: &mut Out) {
        let said = std::mem::take(&mut self.said);
        if said.is_empty() {
            return;
        }
        if !said.ends_with('\n') {
            out.line("");
        }
        self.messages.push(message("assistant", json!(said)));
    }

    /// Forgets a prompt that was not answered.
    fn forget_unanswered(&mut self) {
        self.messages.pop_if(|last| last["role"] == "user");
    }
}

/// The next piece of text; `None` at the end. Thoughts before it are told to `thought`.
async fn next_text(chat: &mut Chat, thought: impl Fn()) -> anyhow::Result<Option<String>> {
    loop {
        match chat.next().await? {
            Some(AnswerPiece::Text(text)) => return Ok(Some(text)),
            Some(AnswerPiece::Thought) => thought(),
            None => return Ok(None),
        }
    }
}

/// Asks for prompts and answers them, until the end of the input.
async fn chat(mut talk: Talk, out: &mut Out) -> anyhow::Result<()> {
    let told = &mut Out::stderr();
    let mut interrupt = signal(SignalKind::interrupt())?;
    told.info(format_args!(
        "A chat with {}. Ctrl+C stops an answer, Ctrl+D ends the chat.",
        talk.model
    ));
    while !out.is_closed() {
        let mut asking = tokio::task::spawn_blocking(|| question::line(">>>"));
        let prompt = loop {
            tokio::select! {
                line = &mut asking => break line??,
                // The terminal has dropped what was typed.
                _ = interrupt.recv() => told.text("\n(Ctrl+D ends the chat)\n>>> "),
            }
        };
        let Some(prompt) = prompt else {
            told.line("");
            break;
        };
        if prompt.is_empty() {
            continue;
        }
        tokio::select! {
            answered = talk.ask(&prompt, out) => if let Err(error) = answered {
                told.err(format_args!("{error:#}"));
            },
            _ = interrupt.recv() => {
                told.line("");
                talk.end_line(out);
            }
        }
        talk.forget_unanswered();
    }
    Ok(())
}
