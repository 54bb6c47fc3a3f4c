//! The tables that tests give: what is in them, and what must be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use mlua::{Lua, LuaSerdeExt as _, Table, Value};

use super::super::{Memory, SimulatedWorker, Unread};
use super::values::{BYTES, DURATION, bytes, duration, field};
use crate::api::Pressure;
use crate::config::{Config, Settings};
use crate::policy::{Credential, Fields, FinishedRequest, RequestView};

/// The fields of `test.hub{…}`.
pub(crate) const HUB: &[&str] = &[
    "config", "policies", "files", "policy", "time", "workers", "memory", "start", "may_fail",
];

/// The fields of `hub:reload{…}`: what they are in `test.hub`.
pub(crate) const RELOAD: &[&str] = &["config", "policies", "policy"];

/// The fields of `hub:request(model, {…})`.
pub(crate) const REQUEST: &[&str] = &[
    "client",
    "via",
    "key",
    "headers",
    "body",
    "prompt",
    "stream",
    "path",
    "method",
    "keep_alive",
    "seconds",
];

/// The fields of `hub:set_worker(model, {…})`, and of each entry of `workers`.
pub(crate) const WORKER: &[&str] = &[
    "load_seconds",
    "end_seconds",
    "free_seconds",
    "memory",
    "peak",
    "fails",
    "resident",
    "silent",
    "cpu",
    "moves",
    "expected",
];

/// The fields of `hub:set_memory{…}`, and of `memory`.
pub(crate) const MEMORY: &[&str] = &["total", "other", "spares", "pressure", "unread"];

/// The fields of `request:finish{…}`.
pub(crate) const FINISH: &[&str] = &[
    "status",
    "first_token_seconds",
    "prompt_tokens",
    "completion_tokens",
];

/// A request to `model`, or one that names none, and how long its worker answers, if that is said.
pub(super) fn request(
    lua: &Lua,
    config: &Config,
    model: Option<&str>,
    table: &Table,
) -> mlua::Result<(Box<RequestView>, Option<Duration>)> {
    let fields = Fields::of("hub:request", REQUEST, table)?;
    let body = fields.get::<Table>("body", "a table of body fields")?;
    let body = body.map(|body| settings(lua, &fields, "body", body));
    let mut body = body.transpose()?.unwrap_or_default();
    let prompt = field(&fields, "prompt", PROMPT, prompt)?;
    if let Some(prompt) = prompt.or_else(|| has_no_prompt(&body).then(|| "hi".to_owned())) {
        let messages = serde_json::json!([{"role": "user", "content": prompt}]);
        body.insert("messages".to_owned(), messages);
    }
    if let Some(stream) = fields.get::<bool>("stream", "true or false")? {
        body.insert("stream".to_owned(), stream.into());
    }
    const PATH: &str = "a path like \"/v1/embeddings\"";
    let path = field(&fields, "path", PATH, path)?;
    let path = path.unwrap_or_else(|| Uri::from_static("/v1/chat/completions"));
    if let Some(model) = model {
        body.insert("model".to_owned(), model.into());
    }
    let body = serde_json::Value::Object(body).to_string();
    let mut view = RequestView::imagined(path, body.into());
    view.model = model.map(str::to_owned);
    const ADDRESS: &str = "an address like \"10.0.0.7\"";
    let client = field(&fields, "client", ADDRESS, address)?;
    view.client = client.unwrap_or(view.client);
    view.via = field(&fields, "via", ADDRESS, address)?;
    let key = fields.get::<String>("key", "the name of a key")?;
    view.credential = key.map(|name| credential(config, &name));
    if let Some(headers) = fields.get::<Table>("headers", "a table of texts by name")? {
        view.parts.headers.extend(header_map(&fields, &headers)?);
    }
    const METHOD: &str = "a method like \"POST\"";
    let method = |value: &Value| Method::try_from(&*value.as_string()?.to_string_lossy()).ok();
    if let Some(method) = field(&fields, "method", METHOD, method)? {
        view.parts.method = method;
    }
    view.keep_alive = fields.get::<f64>("keep_alive", "a number of seconds")?;
    let ends_after = field(&fields, "seconds", DURATION, duration)?;
    Ok((Box::new(view), ends_after))
}

/// That of the key of that name in hub.yaml, or of one that may use all models.
fn credential(config: &Config, name: &str) -> Credential {
    let key = config.api_keys.iter().find(|key| key.name == name);
    let of = |key| Credential::of(Arc::clone(key));
    key.map_or_else(|| Credential::named(name), of)
}

fn path(value: &Value) -> Option<Uri> {
    let path = value.as_string()?.to_string_lossy();
    path.parse().ok().filter(|_| path.starts_with("/v1/"))
}

fn address(value: &Value) -> Option<SocketAddr> {
    let ip = value.as_string()?.to_string_lossy().parse().ok()?;
    Some(SocketAddr::new(ip, 50_000))
}

const PROMPT: &str = "a text, or a number of characters";

fn prompt(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string_lossy()),
        other => Some("x".repeat(other.as_usize().filter(|chars| *chars <= 1 << 24)?)),
    }
}

fn has_no_prompt(body: &Settings) -> bool {
    let keys = ["messages", "prompt", "input"];
    keys.iter().all(|key| !body.contains_key(*key))
}

fn header_map(fields: &Fields<'_>, table: &Table) -> mlua::Result<HeaderMap> {
    let wrong = || fields.error("`headers` must be a table of texts by name".to_owned());
    let mut headers = HeaderMap::new();
    for pair in table.pairs::<String, String>() {
        let (name, value) = pair.map_err(|_| wrong())?;
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// A table as the mapping that a `policy:` key or a body is.
pub(super) fn settings(
    lua: &Lua,
    fields: &Fields<'_>,
    name: &str,
    table: Table,
) -> mlua::Result<Settings> {
    let read = lua.from_value::<Settings>(Value::Table(table));
    read.map_err(|error| fields.error(format!("`{name}` must be a table of fields: {error}")))
}

/// Changes a worker. Says what it is known to have held at most, if that is said.
pub(super) fn worker(table: &Table, worker: &mut SimulatedWorker) -> mlua::Result<Option<u64>> {
    let fields = Fields::of("hub:set_worker", WORKER, table)?;
    let time = |name, before| {
        let time = field(&fields, name, DURATION, duration)?;
        Ok::<_, mlua::Error>(time.unwrap_or(before))
    };
    let flag = |name, before| {
        let flag = fields.get(name, "true or false")?;
        Ok::<bool, mlua::Error>(flag.unwrap_or(before))
    };
    let fails = |value: &Value| match value {
        Value::Boolean(false) => Some(None),
        Value::String(reason) => Some(Some(reason.to_string_lossy())),
        _ => None,
    };
    worker.load = time("load_seconds", worker.load)?;
    worker.end = time("end_seconds", worker.end)?;
    worker.free = time("free_seconds", worker.free)?;
    let expected = field(&fields, "expected", DURATION, duration)?;
    worker.expected = expected.or(worker.expected);
    let memory = field(&fields, "memory", BYTES, bytes)?;
    worker.memory_bytes = memory.or(worker.memory_bytes);
    worker.resident = flag("resident", worker.resident)?;
    worker.silent = flag("silent", worker.silent)?;
    worker.moves = flag("moves", worker.moves)?;
    let cpu = field(&fields, "cpu", "a share of a core, 0 or more", share)?;
    worker.cpu = cpu.unwrap_or(worker.cpu);
    if let Some(fails) = field(&fields, "fails", "the reason as a text, or false", fails)? {
        worker.fails = fails;
    }
    field(&fields, "peak", BYTES, bytes)
}

fn share(value: &Value) -> Option<f64> {
    let share = value.as_number().or(value.as_integer().map(|n| n as f64))?;
    (0.0..=1e3).contains(&share).then_some(share)
}

/// Changes the machine's memory.
pub(super) fn memory(table: &Table, memory: &mut Memory) -> mlua::Result<()> {
    let fields = Fields::of("hub:set_memory", MEMORY, table)?;
    const WORDS: &str = "\"unknown\", \"normal\", \"warning\" or \"critical\"";
    let all = [
        Pressure::Unknown,
        Pressure::Normal,
        Pressure::Warning,
        Pressure::Critical,
    ];
    let word = |value: &Value| {
        let word = value.as_string()?.to_string_lossy();
        all.into_iter().find(|pressure| pressure.as_str() == word)
    };
    let unread = |value: &Value| match value {
        Value::Boolean(false) => Some(Unread::Nothing),
        Value::String(word) if *word == "available" => Some(Unread::Available),
        Value::String(word) if *word == "all" => Some(Unread::All),
        _ => None,
    };
    let unread = field(&fields, "unread", "\"available\", \"all\" or false", unread)?;
    let total = field(&fields, "total", BYTES, bytes)?;
    let other = field(&fields, "other", BYTES, bytes)?;
    let spares = field(&fields, "spares", BYTES, bytes)?;
    let pressure = field(&fields, "pressure", WORDS, word)?;
    memory.total = total.or(memory.total);
    memory.other = other.unwrap_or(memory.other);
    memory.spares = spares.unwrap_or(memory.spares);
    memory.unread = unread.unwrap_or(memory.unread);
    memory.pressure = pressure.unwrap_or(memory.pressure);
    Ok(())
}

/// The end of a request.
pub(super) fn finish(table: Option<Table>) -> mlua::Result<FinishedRequest> {
    let Some(table) = table else {
        return Ok(FinishedRequest::default());
    };
    let fields = Fields::of("request:finish", FINISH, &table)?;
    Ok(FinishedRequest {
        status: fields.get("status", "a status like 200")?,
        first_token_seconds: fields.get("first_token_seconds", "a number of seconds")?,
        prompt_tokens: fields.get("prompt_tokens", "a number of tokens")?,
        completion_tokens: fields.get("completion_tokens", "a number of tokens")?,
        ..FinishedRequest::default()
    })
}
