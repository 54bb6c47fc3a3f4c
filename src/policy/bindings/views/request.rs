//! `req`: one request to `/v1`, and its `headers`.
//!
//! The request itself stays on the [`Stage`]; what Lua holds is a [`Handle`]. A
//! field that needs a body that has not arrived interrupts the call.

use std::borrow::Cow;

use http::{HeaderMap, header};
use mlua::{IntoLua as _, Lua, Table, Value};
use serde_json::Value as Json;

use super::super::stage::{self, Stage};
use super::handle::Handle;
use super::{Getter, Light, Text, View, integer, json, seconds, string};
use crate::policy::RequestView;

/// The request of one call.
pub(in crate::policy) struct RequestHandle {
    pub(super) call: u64,
}

impl View for RequestHandle {
    const NAME: &'static str = "request";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("id", |lua, stage, _| {
            stage.request(|request| string(lua, request.view.id.as_bytes()))
        }),
        ("stream", |_, stage, _| {
            let stream = |body: &Json| body.get("stream").and_then(Json::as_bool);
            stage.request(|request| {
                let body = parsed(request, stage)?;
                Ok(Value::Boolean(body.and_then(stream).unwrap_or(false)))
            })
        }),
        ("body", |lua, stage, _| {
            stage.request(|request| body(lua, request, stage))
        }),
        ("headers", |_, _, this| {
            Ok(Handle::of_headers(this.call).value())
        }),
        ("client", |lua, stage, _| {
            stage.request(|request| string(lua, request.view.client.ip().to_string()))
        }),
        ("via", |lua, stage, _| {
            stage.request(|request| match request.view.via {
                Some(proxy) => string(lua, proxy.ip().to_string()),
                None => Ok(Value::Nil),
            })
        }),
        ("size_bytes", |_, stage, _| {
            stage.request(|request| match content_length(&request.view) {
                Some(bytes) => Ok(integer(bytes)),
                None => Err(stage.limits.need_body()),
            })
        }),
        ("prompt_chars", |_, stage, _| {
            stage.request(|request| match request.prompt_chars {
                Some(chars) => Ok(integer(chars)),
                None => Ok(integer(parsed(request, stage)?.map_or(0, prompt_chars))),
            })
        }),
        ("vars", |lua, stage, _| {
            stage.request(|request| {
                if request.vars.is_none() {
                    request.vars = Some(vars(lua, &request.view)?);
                }
                Ok(request.vars.clone().map_or(Value::Nil, Value::Table))
            })
        }),
        ("keep_alive", |_, stage, _| {
            stage.request(|request| Ok(seconds(request.view.keep_alive)))
        }),
        ("waited_seconds", |_, stage, _| {
            stage.request(|request| Ok(Value::Number(request.view.parked.waited_seconds)))
        }),
    ];
}

impl Light for RequestHandle {
    type Shown = RequestView;
    const TEXTS: &'static [(&'static str, Text<Self>)] = &[
        ("method", |view| Some(view.parts.method.as_str())),
        ("path", |view| Some(view.parts.uri.path())),
        ("model", |view| view.model.as_deref()),
        ("protocol", |view| Some(view.protocol)),
        ("key", |view| view.key().map(|key| &*key.name)),
    ];
}

/// The name of `req.headers` in error messages.
pub(super) const HEADERS: &str = "request.headers";

/// A header of the request on stage, or nil.
pub(super) fn header(lua: &Lua, stage: &Stage, name: &str) -> mlua::Result<Value> {
    stage.request(|request| {
        let value = header_value(&request.view.parts.headers, name);
        value.map_or(Ok(Value::Nil), |value| string(lua, value))
    })
}

/// All headers of the request on stage.
pub(super) fn headers(lua: &Lua, stage: &Stage) -> mlua::Result<Table> {
    stage.request(|request| {
        let headers = &request.view.parts.headers;
        let values = headers.keys().map(|name| {
            let value = header_value(headers, name.as_str()).unwrap_or_default();
            Ok((name.as_str(), lua.create_string(&value)?))
        });
        lua.create_table_from(values.collect::<mlua::Result<Vec<_>>>()?)
    })
}

/// The value of a header, whatever the case of `name`; repeated ones joined as HTTP allows.
fn header_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let mut joined = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = joined.to_mut();
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
    }
    Some(joined)
}

fn content_length(view: &RequestView) -> Option<usize> {
    if let Some(body) = &view.body {
        return Some(body.len());
    }
    let length = view.parts.headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// The body, parsed once. `None` when it is no JSON object.
fn parsed<'a>(
    request: &'a mut stage::StagedRequest,
    stage: &Stage,
) -> mlua::Result<Option<&'a Json>> {
    if request.json.is_none() {
        request.json = Some(parse(&request.view, stage)?);
    }
    Ok(request.json.as_ref().and_then(Option::as_ref))
}

fn parse(view: &RequestView, stage: &Stage) -> mlua::Result<Option<Json>> {
    // An upload is not collected because a policy asks whether it streams.
    if !may_be_json(&view.parts.headers) {
        return Ok(None);
    }
    match &view.body {
        Some(bytes) => {
            // Parsers of bytes skip the byte order mark with which some editors begin a text.
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            Ok(serde_json::from_slice(bytes).ok().filter(Json::is_object))
        }
        None => Err(stage.limits.need_body()),
    }
}

/// True if the content type is JSON or missing.
fn may_be_json(headers: &HeaderMap) -> bool {
    match headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    {
        None => true,
        Some(Ok(value)) => value.to_ascii_lowercase().contains("json"),
        Some(Err(_)) => false,
    }
}

/// The body as a table, made once per request, or nil.
fn body(lua: &Lua, request: &mut stage::StagedRequest, stage: &Stage) -> mlua::Result<Value> {
    if let Some(body) = &request.body {
        return Ok(body.clone());
    }
    let body = match parsed(request, stage)? {
        Some(body) => json(lua, body)?,
        None => Value::Nil,
    };
    request.body = Some(body.clone());
    Ok(body)
}

/// `req.vars` as the last call left them.
fn vars(lua: &Lua, view: &RequestView) -> mlua::Result<Table> {
    match view.parked.vars.as_ref().into_lua(lua)? {
        Value::Table(vars) => Ok(vars),
        _ => lua.create_table(),
    }
}

/// Characters of the text for the model, without images and the like.
pub(crate) fn prompt_chars(body: &Json) -> usize {
    ["instructions", "messages", "prompt", "input"]
        .iter()
        .filter_map(|key| body.get(key))
        .map(text_chars)
        .sum()
}

fn text_chars(value: &Json) -> usize {
    match value {
        Json::String(text) => text.chars().count(),
        Json::Array(values) => values.iter().map(text_chars).sum(),
        Json::Object(fields) => ["content", "text"]
            .iter()
            .filter_map(|key| fields.get(*key))
            .map(text_chars)
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::prompt_chars;

    #[test]
    fn prompt_chars_counts_text_of_every_form_and_nothing_else() {
        for (body, chars) in [
            (json!({"prompt": "höchst"}), 6),
            (json!({"prompt": ["ab", "c"]}), 3),
            (json!({"input": "abcd", "instructions": "e"}), 5),
            (
                json!({"messages": [{"role": "user", "content": "hello"}]}),
                5,
            ),
            (
                json!({"messages": [{"role": "user", "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image_url", "image_url": {"url": "data:…"}},
                ]}]}),
                2,
            ),
            (json!({"model": "alpha"}), 0),
        ] {
            assert_eq!(prompt_chars(&body), chars, "{body}");
        }
    }
}
