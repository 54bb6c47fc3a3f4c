//! A route of another protocol, for workers that lack it.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode, Uri, request};
use serde_json::Value;

use super::chat::{Stream, Tokens, Translate};
use super::ollama::{Form, Origin, Purpose};
use super::{EVENTS, anthropic, chat, ollama, openai, responses};
use crate::api::{ApiError, unix_now};
use crate::core::refusals::model_required;
use crate::hub::gateway::answer::account::is_no_route;
use crate::hub::gateway::answer::body::Body;
use crate::hub::gateway::naming::named;
use crate::hub::gateway::refusals;
use crate::hub::gateway::request::intake::Intake;
use crate::hub::gateway::request::rewrite::ModelSite;
use crate::hub::gateway::request::scan::json::MARK;
use crate::hub::gateway::request::scan::{FoundModel, ScanStep, Scanner};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

/// The routes that doors lead to, and [`openai::COMPLETIONS`].
const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

/// A route that is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Door {
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// Ollama's `POST /api/chat` and `POST /api/generate`.
    Ollama(Form),
    /// Ollama's `POST /api/embed`.
    OllamaEmbed,
    /// Ollama's `POST /api/embeddings`, for one text.
    OllamaEmbeddings,
}

/// A request that has come in through a door, and what its client sent: a worker that has the route itself
/// gets it as it is.
#[derive(Debug)]
pub(in super::super) struct Translating {
    pub(in super::super) answering: Answering,
    /// The route that its worker is asked for instead.
    pub(in super::super) asked: &'static str,
    uri: Uri,
    body: Bytes,
    /// The header that was removed: an answer in a content coding could not be read.
    coding: Option<HeaderValue>,
    /// The header that was replaced.
    kind: Option<HeaderValue>,
}

/// The form of the answer, with the parts of the request that it needs.
#[derive(Debug)]
pub(in super::super) enum Answering {
    Message,
    Response(Box<responses::Echoed>),
    Ollama(Form, Origin),
    /// Of Ollama's `POST /api/generate` with a prompt that is no chat.
    Completion(Origin),
    /// A request of Ollama's that only loads its model, or only wishes it away; true for a stream.
    Moved(Form, bool),
    Embeddings(Origin),
    Embedding,
}

impl Door {
    /// The chat completion for a request, and how its answer is written.
    fn translate(
        self,
        body: &Value,
        kept: &responses::Kept,
    ) -> Result<(Vec<u8>, Answering), ApiError> {
        Ok(match self {
            Self::Messages => (anthropic::to_chat(body)?, Answering::Message),
            Self::Responses => {
                let body = responses::resolved(body, kept)?;
                let conversation = responses::Conversation::of(&body, kept)?;
                let chat = responses::to_chat(&body, &conversation.items_before())?;
                let echoed = Box::new(responses::Echoed::of(&body, conversation));
                (chat, Answering::Response(echoed))
            }
            Self::Ollama(form) => {
                let (chat, asked) = match form {
                    Form::Chat => ollama::chat(body)?,
                    Form::Generate => ollama::generate(body)?,
                };
                let answering = match asked {
                    Purpose::Answer => Answering::Ollama(form, Origin::now()),
                    Purpose::Completion => Answering::Completion(Origin::now()),
                    Purpose::Only { stream } => Answering::Moved(form, stream),
                };
                (chat, answering)
            }
            Self::OllamaEmbed => (
                ollama::embed(body, "input")?,
                Answering::Embeddings(Origin::now()),
            ),
            Self::OllamaEmbeddings => (ollama::embed(body, "prompt")?, Answering::Embedding),
        })
    }
}

impl Answering {
    /// The route that a worker is asked for instead.
    fn asked(&self) -> &'static str {
        match self {
            Self::Message | Self::Response(_) | Self::Ollama(..) | Self::Moved(..) => CHAT,
            Self::Completion(_) => openai::COMPLETIONS,
            Self::Embeddings(_) | Self::Embedding => EMBEDDINGS,
        }
    }

    /// Notes that the model is there for the request: only from now on the worker's time runs.
    pub(in super::super) fn is_loaded(&mut self) {
        match self {
            Self::Ollama(_, origin) | Self::Completion(origin) | Self::Embeddings(origin) => {
                origin.is_loaded();
            }
            Self::Message | Self::Response(_) | Self::Moved(..) | Self::Embedding => {}
        }
    }

    pub(super) fn stream_type(&self) -> &'static str {
        match self {
            Self::Message | Self::Response(_) => EVENTS,
            Self::Ollama(..)
            | Self::Completion(_)
            | Self::Moved(..)
            | Self::Embeddings(_)
            | Self::Embedding => ollama::OLLAMA.stream_type,
        }
    }

    /// Writes a worker's stream for a client that calls its model `written`.
    pub(super) fn stream(self, written: String) -> Box<dyn Translate> {
        match self {
            Self::Message => Box::new(Stream::new(anthropic::Events::new(written))),
            Self::Response(echoed) => {
                let events = responses::Events::new(written, *echoed, now());
                Box::new(Stream::new(events))
            }
            Self::Ollama(form, origin) => {
                Box::new(Stream::new(ollama::Lines::new(form, written, origin)))
            }
            Self::Completion(origin) => Self::Ollama(Form::Generate, origin).stream(written),
            Self::Moved(form, _) => {
                let lines = ollama::Lines::new(form, written, Origin::now());
                Box::new(Stream::new(lines))
            }
            // Embeddings do not stream: what a worker says so is no answer.
            Self::Embeddings(origin) => {
                let lines = ollama::Lines::new(Form::Generate, written, origin);
                Box::new(Stream::new(lines))
            }
            Self::Embedding => {
                let lines = ollama::Lines::new(Form::Generate, written, Origin::now());
                Box::new(Stream::new(lines))
            }
        }
    }

    /// The whole answer of the worker of `model`, as the client is to get it who calls that `written`.
    ///
    /// # Errors
    /// The worker's refusal; 502 when its answer is invalid.
    pub(in super::super) fn whole(
        self,
        status: StatusCode,
        body: &[u8],
        model: &str,
        written: &str,
    ) -> Result<Response<Body>, ApiError> {
        if status == StatusCode::NOT_FOUND && is_no_route(body) {
            return Err(refusals::lacks_for_door(model, self.asked(), None));
        }
        if !status.is_success() {
            let body = serde_json::from_slice(body)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body)));
            return Err(chat::workers_error(
                chat::of_translated(status),
                &body,
                model,
            ));
        }
        let answer = || chat::of_worker(body);
        let json = match self {
            Self::Message => anthropic::message(&answer()?, written),
            Self::Response(echoed) => responses::response(&answer()?, written, *echoed, now()),
            Self::Ollama(form, origin) => ollama::whole(&answer()?, form, written, origin),
            Self::Completion(origin) => ollama::whole(&answer()?, Form::Generate, written, origin),
            Self::Moved(form, stream) => {
                return Ok(ollama::only_moved(form, written, stream, "load"));
            }
            Self::Embeddings(origin) => ollama::embeddings(body, written, origin)?,
            Self::Embedding => ollama::embedding(body)?,
        };
        Ok(openai::json(&json))
    }
}

/// Whole Unix seconds.
fn now() -> u64 {
    unix_now() as u64
}

/// A request to count the tokens of one that would come in through `door`: the model that it names, and what is
/// counted.
///
/// # Errors
/// 400 when the request is not what it has to be.
pub(in super::super) fn to_count(
    door: Door,
    body: &[u8],
    kept: &responses::Kept,
) -> Result<(String, Tokens), ApiError> {
    let (chat, _) = door.translate(&read(body)?, kept)?;
    let chat: Value = serde_json::from_slice(&chat).unwrap_or_default();
    let model = chat["model"].as_str().unwrap_or_default();
    Ok((model.to_owned(), Tokens::of(&chat)))
}

/// The answer to it.
pub(in super::super) fn counted(door: Door, tokens: usize) -> Response<Body> {
    let mut counted = serde_json::json!({"input_tokens": tokens});
    if matches!(door, Door::Responses) {
        counted["object"] = "response.input_tokens".into();
    }
    openai::json(&counted)
}

/// The JSON of a body.
///
/// # Errors
/// 400 when it is none.
pub(in super::super) fn read(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body.strip_prefix(MARK).unwrap_or(body))
        .map_err(|error| refusals::malformed(&format!("it is not valid JSON: {error}")))
}

/// The chat completion for a request, before it takes its place.
pub(in super::super) struct AsChat {
    body: Bytes,
    chat: Bytes,
    answering: Answering,
    found: FoundModel,
    keep_alive: Option<f64>,
}

impl AsChat {
    /// That of a request whose `body` has all arrived. It costs about 7 ms a megabyte (release build).
    ///
    /// # Errors
    /// 400 when the body is not what it has to be.
    pub(in super::super) fn of(
        door: Door,
        body: Bytes,
        kept: &responses::Kept,
    ) -> Result<Self, ApiError> {
        let json = read(&body)?;
        let (chat, answering) = door.translate(&json, kept)?;
        let keep_alive = match door {
            Door::Messages | Door::Responses => None,
            Door::Ollama(_) | Door::OllamaEmbed | Door::OllamaEmbeddings => {
                ollama::keep_alive(&json)?
            }
        };
        let chat = Bytes::from(chat);
        let found = match Scanner::for_content_type(None).map(|mut scanner| scanner.feed(&chat)) {
            // Every adapter writes one, if only an empty one.
            Ok(ScanStep::Found(found)) => found,
            _ => return Err(model_required()),
        };
        Ok(Self {
            body,
            chat,
            answering,
            found,
            keep_alive,
        })
    }

    /// What policies see of a request that its worker gets as it is: the chat completion, or the `body` itself where
    /// only the worker can tell what it means, as of one that continues a response which it keeps.
    pub(in super::super) fn seen(door: Door, body: Bytes, kept: &responses::Kept) -> Bytes {
        Self::of(door, body.clone(), kept).map_or(body, |as_chat| as_chat.chat)
    }

    /// Seconds that the client wishes the model to stay in memory; negative for ever.
    pub(in super::super) fn keep_alive(&self) -> Option<f64> {
        self.keep_alive
    }
}

impl Translating {
    /// Puts a chat completion in the place of its request. Says which model it names, if it names one, and
    /// where.
    pub(in super::super) fn of(
        as_chat: AsChat,
        parts: &mut request::Parts,
        intake: &mut Intake,
    ) -> (Self, Option<String>, ModelSite) {
        let AsChat {
            body,
            chat,
            answering,
            found,
            keep_alive: _,
        } = as_chat;
        let length = HeaderValue::from(chat.len());
        parts.headers.insert(CONTENT_LENGTH, length);
        // curl calls a body without a type a form, and so do many examples of Ollama's API.
        let json = HeaderValue::from_static("application/json");
        let kind = parts.headers.insert(CONTENT_TYPE, json);
        let asked = answering.asked();
        let translating = Self {
            answering,
            asked,
            uri: std::mem::replace(&mut parts.uri, Uri::from_static(asked)),
            coding: parts.headers.remove(ACCEPT_ENCODING),
            kind,
            body,
        };
        intake.replace(chat);
        let site = ModelSite::Body(found.range, found.syntax);
        (translating, named(found.value), site)
    }

    /// The answer to a request that only wishes its model away; `None` for all others.
    pub(in super::super) fn only_unloads(
        &self,
        model: &str,
        keep_alive: Option<f64>,
    ) -> Option<Response<Body>> {
        match self.answering {
            Answering::Moved(form, stream) if keep_alive == Some(0.0) => {
                Some(ollama::only_moved(form, model, stream, "unload"))
            }
            _ => None,
        }
    }

    /// The path that the client asked for.
    pub(in super::super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The client's body.
    pub(in super::super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The model that a client's body names, if it names one, and the place in which it does; `None` for a body
    /// that is not what it seems.
    pub(in super::super) fn model_of(body: &[u8]) -> Option<(Option<String>, ModelSite)> {
        let mut scanner = Scanner::for_content_type(None);
        match scanner.as_mut().map(|scanner| scanner.feed(body)) {
            Ok(ScanStep::Found(found)) => {
                let site = ModelSite::Body(found.range, found.syntax);
                Some((named(found.value), site))
            }
            Ok(ScanStep::Absent | ScanStep::NotAString) => Some((None, ModelSite::Nowhere)),
            _ => None,
        }
    }

    /// Puts back what the client sent.
    pub(in super::super) fn undo(self, parts: &mut request::Parts, intake: &mut Intake) {
        let length = HeaderValue::from(self.body.len());
        parts.headers.insert(CONTENT_LENGTH, length);
        if let Some(coding) = self.coding {
            parts.headers.insert(ACCEPT_ENCODING, coding);
        }
        match self.kind {
            Some(kind) => parts.headers.insert(CONTENT_TYPE, kind),
            None => parts.headers.remove(CONTENT_TYPE),
        };
        parts.uri = self.uri;
        intake.replace(self.body);
    }
}
