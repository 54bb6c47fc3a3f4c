//! The changes to a request's body: the model's name where the worker insists on its own, and the
//! fields that a policy sets or removes. Everything else goes on byte for byte.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http::request;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};

use super::intake::Intake;
use super::scan::is_form;
use super::{content_type, openai, query};
use crate::api_error::ApiError;
use crate::policy::Route;
use crate::worker::upstream::Accepts;

/// Where the client wrote the model.
#[derive(Debug)]
pub(super) enum Place {
    Query,
    Body(Range<usize>),
}

/// The name to write in place of `written`, if the worker would not accept that.
pub(super) fn replacement<'a>(accepts: &'a Accepts, written: &str) -> Option<&'a str> {
    match accepts {
        Accepts::Only(name) if &**name != written => Some(name),
        Accepts::Only(_) | Accepts::Any => None,
    }
}

/// The body's fields with a policy's changes.
///
/// # Errors
/// 500 when the body is not a JSON object: the policy asked for the impossible.
pub(super) fn edit(body: &[u8], route: &Route) -> Result<Map<String, Value>, ApiError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| openai::fields_without_json(&error.to_string()))?;
    for (key, value) in &route.set {
        fields.insert(key.clone(), value.clone());
    }
    for key in &route.unset {
        fields.shift_remove(key);
    }
    Ok(fields)
}

/// Puts `name` where the client wrote a model.
pub(super) fn rename(parts: &mut request::Parts, intake: &mut Intake, place: &Place, name: &str) {
    match place {
        Place::Query => rename_in_query(parts, name),
        Place::Body(range) => {
            let text = if content_type(parts).is_some_and(is_form) {
                name.to_owned()
            } else {
                Value::from(name).to_string()
            };
            let grown = |length: u64| length + text.len() as u64 - range.len() as u64;
            if let Some(length) = content_length(parts) {
                set_content_length(parts, grown(length));
            }
            intake.splice(range, Bytes::from(text));
        }
    }
}

/// Puts `fields` in the place of the whole body.
pub(super) fn replace(parts: &mut request::Parts, intake: &mut Intake, fields: Map<String, Value>) {
    let body = Bytes::from(Value::Object(fields).to_string());
    set_content_length(parts, body.len() as u64);
    intake.replace(body);
}

fn rename_in_query(parts: &mut request::Parts, name: &str) {
    let Some(old) = parts.uri.query() else {
        return;
    };
    let path = format!("{}?{}", parts.uri.path(), query::with_model(old, name));
    // Only the value changed, to percent-encoded ASCII; a URI it stays.
    if let Ok(path) = path.parse::<PathAndQuery>() {
        parts.uri = path.into();
    }
}

fn content_length(parts: &request::Parts) -> Option<u64> {
    parts
        .headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn set_content_length(parts: &mut request::Parts, length: u64) {
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
}
