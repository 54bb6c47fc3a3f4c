//! Items of an input that only name an item which is kept here: `{"type": "item_reference", "id": "msg_1"}`.
//!
//! Clients that leave the keeping to the server send the answers of earlier turns so.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::Value;

use super::super::fields::Field;
use super::kept::{FORGOTTEN, Kept};
use crate::api::{ApiError, shown};

/// The request with the items that are meant. Those of the conversation that `previous_response_id` continues are
/// part of it already.
///
/// # Errors
/// 404 when an item is not kept here, 400 when a reference has no id.
pub(in super::super) fn resolved<'a>(
    request: &'a Value,
    kept: &Kept,
) -> Result<Cow<'a, Value>, ApiError> {
    let body = Field::root(request);
    let Some(items) = request["input"].as_array() else {
        return Ok(Cow::Borrowed(request));
    };
    if !items.iter().any(is_reference) {
        return Ok(Cow::Borrowed(request));
    }
    let before = body.get("previous_response_id").and_then(|id| id.as_str());
    let before = before.and_then(|id| kept.find(id));
    let before = before.map_or_else(Vec::new, |turn| turn.items());
    let mut meant = Vec::with_capacity(items.len());
    for item in body.must("input")?.items()? {
        if !is_reference(item.value()) {
            meant.push(item.value().clone());
            continue;
        }
        let id = item.must("id")?.string()?;
        if before.iter().any(|item| item["id"] == id) {
            continue;
        }
        meant.push(kept.item(id).ok_or_else(|| no_item(id))?);
    }
    let mut resolved = request.clone();
    resolved["input"] = Value::Array(meant);
    Ok(Cow::Owned(resolved))
}

/// A reference may leave out what it is, as a message may; only that has a role.
fn is_reference(item: &Value) -> bool {
    match item["type"].as_str() {
        Some(kind) => kind == "item_reference",
        None => item["id"].is_string() && item["role"].is_null() && item["content"].is_null(),
    }
}

/// 404: the item is not kept. Status and first words are OpenAI's.
fn no_item(id: &str) -> ApiError {
    let id = shown(id);
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("Item with id '{id}' not found. {FORGOTTEN} Send the item itself."),
    )
    .with_param("input")
}
