//! `GET /v1/models` and `GET /v1/models/{id}` for clients that send `anthropic-version`: Anthropic's objects and
//! its pages.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{ApiError, shown};
use crate::hub::gateway::catalogue::CatalogueEntry;
use crate::hub::gateway::request::query;

/// Lines of a page, if the client does not say.
const LIMIT: usize = 20;

/// The most lines of a page that a client may ask for.
const MAX_LIMIT: usize = 1000;

/// The page that a query asks for: `limit` lines from the first, or those after `after_id` or before `before_id`.
///
/// # Errors
/// 400 for a `limit` that is none, and for an id that is not in the list.
pub(in crate::hub::gateway) fn page(
    entries: &[CatalogueEntry],
    query: Option<&str>,
) -> Result<Value, ApiError> {
    let query = query.unwrap_or_default();
    let limit = match query::value(query, "limit") {
        None => LIMIT,
        Some(written) => limit(&written)?,
    };
    let place = |name: &str| {
        let id = query::value(query, name);
        id.map(|id| place_of(entries, name, &id)).transpose()
    };
    let (after, before) = (place("after_id")?, place("before_id")?);
    let start = after.map_or(0, |after| after + 1);
    let (page, has_more) = match before {
        Some(before) => {
            let from = before.saturating_sub(limit).max(start);
            (entries.get(from..before), from > start)
        }
        None => {
            let end = entries.len().min(start.saturating_add(limit));
            (entries.get(start..end), end < entries.len())
        }
    };
    let page = page.unwrap_or_default();
    Ok(json!({
        "data": page.iter().map(one).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": page.first().map(|entry| &entry.id),
        "last_id": page.last().map(|entry| &entry.id),
    }))
}

/// One model.
pub(in crate::hub::gateway) fn one(entry: &CatalogueEntry) -> Value {
    let created = i64::try_from(entry.created).unwrap_or_default();
    let created = Timestamp::from_second(created).unwrap_or_default();
    json!({
        "type": "model",
        "id": entry.id,
        "display_name": entry.description.as_ref().unwrap_or(&entry.id),
        "created_at": created.to_string(),
        "lifecycle": "active",
        "max_input_tokens": entry.context_length(),
    })
}

fn limit(written: &str) -> Result<usize, ApiError> {
    let limit = written.parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| {
            let written = shown(written);
            wrong(format!(
                "`limit` is `{written}`, it must be a number from 1 to {MAX_LIMIT}"
            ))
        })
}

fn place_of(entries: &[CatalogueEntry], name: &str, id: &str) -> Result<usize, ApiError> {
    let place = entries.iter().position(|entry| entry.id == id);
    place.ok_or_else(|| {
        wrong(format!(
            "`{name}` is `{}`, which is no model of this list",
            shown(id)
        ))
    })
}

fn wrong(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> String {
        let entries = ["a", "b", "c", "d", "e"].map(|name| CatalogueEntry::of_name(name, ""));
        match page(&entries, Some(query)) {
            Ok(page) => {
                let ids = page["data"].as_array().unwrap().iter();
                let ids: String = ids.map(|model| model["id"].as_str().unwrap()).collect();
                let text = |field: &str| page[field].as_str().unwrap_or("-").to_owned();
                let more = if page["has_more"] == true { "+" } else { "" };
                format!("{ids}{more} {}{}", text("first_id"), text("last_id"))
            }
            Err(error) => format!("{} {}", error.status, error.message),
        }
    }

    #[test]
    fn pages_go_on_in_both_directions() {
        for (query, page) in [
            ("", "abcde ae"),
            ("beta=true&limit=2", "ab+ ab"),
            ("limit=2&after_id=b", "cd+ cd"),
            ("limit=2&after_id=c", "de de"),
            ("after_id=e", " --"),
            ("limit=2&before_id=d", "bc+ bc"),
            ("limit=2&before_id=b", "a aa"),
            ("limit=1000&before_id=a", " --"),
            ("limit=1&after_id=a&before_id=d", "c+ cc"),
            ("after_id=d&before_id=b", " --"),
            (
                "limit=0",
                "400 `limit` is `0`, it must be a number from 1 to 1000",
            ),
            (
                "limit=many",
                "400 `limit` is `many`, it must be a number from 1 to 1000",
            ),
            (
                "after_id=%7a",
                "400 `after_id` is `z`, which is no model of this list",
            ),
        ] {
            assert_eq!(of(query), page, "{query}");
        }
        assert_eq!(page(&[], None).unwrap()["first_id"], Value::Null);
    }

    #[test]
    fn a_model_has_the_fields_of_anthropics() {
        let expected = json!({
            "type": "model", "id": "auto", "display_name": "the smallest that fits",
            "created_at": "1970-01-01T00:00:07Z", "lifecycle": "active", "max_input_tokens": null,
        });
        assert_eq!(
            one(&CatalogueEntry::of_name("auto", "the smallest that fits")),
            expected
        );
    }
}
