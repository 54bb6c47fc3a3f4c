//! The part of a call or an event that a recording keeps: copied where it happens, formatted by the recorder's
//! thread.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use super::super::ruling::{Question, Ruling};
use super::line::{self, CallLine, Line, Row, Said, millis};
use super::{FIELDS, clipped, is_name, said};
use crate::api::SystemMemory;
use crate::core::interface::event::{Details, Event};
use crate::policy::bindings::views::request::prompt_chars;
use crate::policy::{Exit, ModelView, PendingLoad, RequestView, Trouble, World};

/// Headers that are recorded; any other may be a secret.
const HEADERS: [&str; 3] = ["content-type", "user-agent", "content-length"];

/// The world at one moment, with the call or event.
#[derive(Debug)]
pub(super) struct Snapshot {
    time: f64,
    models: Vec<ModelView>,
    memory: SystemMemory,
    what: Happening,
}

#[derive(Debug)]
enum Happening {
    Call(Box<SeenCall>),
    Event(Event),
}

#[derive(Debug)]
struct SeenCall {
    hook: &'static str,
    model: String,
    request: Option<SeenRequest>,
    load: Option<PendingLoad>,
    exit: Option<Exit>,
    trouble: Option<Trouble>,
    said: Said,
}

#[derive(Debug)]
struct SeenRequest {
    method: http::Method,
    path: String,
    client: String,
    via: Option<IpAddr>,
    key: Option<String>,
    protocol: &'static str,
    keep_alive: Option<f64>,
    waited_seconds: f64,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Option<Bytes>,
}

impl Snapshot {
    fn new(world: &dyn World, time: f64, what: Happening) -> Self {
        let names = world.model_names();
        Self {
            time,
            models: names.iter().filter_map(|name| world.model(name)).collect(),
            memory: world.memory(),
            what,
        }
    }

    /// Copies a call of a hook, without a body larger than `room`.
    pub(super) fn call(
        asked: &Question<'_>,
        ruling: &Ruling,
        policy: Option<&str>,
        world: &dyn World,
        room: usize,
    ) -> Self {
        let mut call = SeenCall {
            hook: asked.hook().name(),
            model: asked.model().map(clipped).unwrap_or_default(),
            request: None,
            load: None,
            exit: None,
            trouble: None,
            said: said(asked, ruling, policy, world),
        };
        match asked {
            Question::Request(view) => {
                let headers = HEADERS.iter().filter_map(|name| {
                    let value = view.parts.headers.get(*name)?;
                    Some((*name, value.clone()))
                });
                call.request = Some(SeenRequest {
                    method: view.parts.method.clone(),
                    path: clipped(view.parts.uri.path()),
                    client: view.client.ip().to_string(),
                    via: view.via.map(|proxy| proxy.ip()),
                    key: view.key().map(|key| key.name.clone()),
                    protocol: view.protocol,
                    keep_alive: view.keep_alive,
                    waited_seconds: view.parked.waited_seconds,
                    headers: headers.collect(),
                    body: view.body.clone().filter(|body| body.len() <= room),
                });
            }
            Question::Load(_, load) => call.load = Some(*load),
            Question::Exit(_, exit) => call.exit = Some(*exit),
            Question::Trouble(_, trouble) => call.trouble = Some(*trouble),
            Question::Idle(_) => {}
        }
        Self::new(world, world.clock(), Happening::Call(Box::new(call)))
    }

    /// Copies an event. Texts of clients are clipped, and the id of a request is left out.
    pub(super) fn event(event: &Event, world: &dyn World) -> Self {
        let mut event = event.clone();
        match &mut event.details {
            Details::Request(request) => {
                request.id.clear();
                request.path = clipped(&request.path);
            }
            Details::Model(model) => model.error = model.error.as_deref().map(clipped),
            Details::None {} => {}
        }
        Self::new(world, event.time, Happening::Event(event))
    }

    /// Bytes of the body that it holds.
    pub(super) fn body_len(&self) -> usize {
        let Happening::Call(call) = &self.what else {
            return 0;
        };
        let request = call.request.as_ref();
        let body = request.and_then(|request| request.body.as_ref());
        body.map_or(0, Bytes::len)
    }

    /// True if it is a call.
    pub(super) fn is_call(&self) -> bool {
        matches!(self.what, Happening::Call(_))
    }
}

/// The world according to the lines so far.
#[derive(Default)]
pub(super) struct Before {
    models: BTreeMap<String, Row>,
    memory: Option<SystemMemory>,
}

impl Before {
    pub(super) fn line(&mut self, seen: Snapshot) -> Line {
        let mut models = BTreeMap::new();
        for view in &seen.models {
            let row = Row::of(view, seen.time);
            let name = &view.facts.name;
            if self
                .models
                .get(name)
                .is_none_or(|before| !before.is_about(&row))
            {
                self.models.insert(name.clone(), row.clone());
                models.insert(name.clone(), row);
            }
        }
        let memory = Some(seen.memory)
            .filter(|now| !self.memory.as_ref().is_some_and(|was| about(was, now)));
        if let Some(memory) = &memory {
            self.memory = Some(*memory);
        }
        match seen.what {
            Happening::Call(call) => Line::Call(Box::new(CallLine {
                time: millis(seen.time),
                hook: call.hook.to_owned(),
                model: call.model,
                request: call.request.map(SeenRequest::line),
                load: call.load.map(|load| line::Load {
                    reason: load.reason.as_str().to_owned(),
                    waiting: load.waiting,
                    waited_seconds: millis(load.waited_seconds),
                }),
                exit: call.exit,
                trouble: call.trouble,
                said: call.said,
                models,
                memory,
            })),
            Happening::Event(event) => Line::Event(Box::new(line::Heard {
                event,
                models,
                memory,
            })),
        }
    }
}

/// True if the difference cannot matter to a policy.
fn about(was: &SystemMemory, now: &SystemMemory) -> bool {
    let near = match (was.available, now.available) {
        (Some(was), Some(now)) => was.abs_diff(now) <= was.max(now) / 64,
        (was, now) => was == now,
    };
    near && was.total == now.total && was.spares == now.spares && was.pressure == now.pressure
}

impl SeenRequest {
    fn line(self) -> line::RequestLine {
        let headers = self.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            ((*name).to_owned(), clipped(&value))
        });
        line::RequestLine {
            method: clipped(self.method.as_str()),
            path: self.path,
            client: self.client,
            via: self.via,
            key: self.key,
            protocol: match self.protocol {
                RequestView::OPENAI => String::new(),
                other => other.to_owned(),
            },
            keep_alive: self.keep_alive,
            waited_seconds: millis(self.waited_seconds),
            headers: headers.collect(),
            body: self.body.as_ref().map(body),
        }
    }
}

/// Sizes, numbers and booleans of a body.
fn body(bytes: &Bytes) -> line::RecordedBody {
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let object = json.as_ref().and_then(Value::as_object);
    let scalars = object
        .into_iter()
        .flatten()
        .filter(|(name, value)| is_name(name) && (value.is_number() || value.is_boolean()));
    let fields: Map<String, Value> = scalars
        .take(FIELDS)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    line::RecordedBody {
        size_bytes: bytes.len(),
        prompt_chars: json
            .as_ref()
            .filter(|json| json.is_object())
            .map_or(0, prompt_chars),
        is_json: object.is_some(),
        fields,
    }
}
