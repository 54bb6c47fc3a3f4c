//! `/v1/responses/{id}` and what is below it, for the responses that the hub keeps.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::super::openai;
use super::kept::{Kept, Turn};
use crate::api::{ApiError, shown};
use crate::hub::gateway::answer::body::Body;
use crate::hub::gateway::refusals;
use crate::hub::gateway::request::query;

/// Items on a page, unless the client says how many.
const PAGE: usize = 20;

/// Most items on a page.
const MAX_PAGE: usize = 100;

/// The answer about the response of that id; `None` if it is not kept here.
pub(in crate::hub::gateway) fn answer(
    kept: &Kept,
    parts: &Parts,
    id: &str,
) -> Option<Result<Response<Body>, ApiError>> {
    let turn = kept.find(id)?;
    let (method, path) = (&parts.method, parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let below = path.split_once(id).map_or("", |(_, below)| below);
    let not_allowed = |allowed| {
        let openai = super::super::Protocol::DEFAULT;
        Some(Ok(openai::allowed_methods(openai, method, path, allowed)))
    };
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    Some(match below.trim_end_matches('/') {
        "" if *method == Method::DELETE => {
            kept.forget(id);
            Ok(openai::json(
                &json!({"id": id, "object": "response", "deleted": true}),
            ))
        }
        "" if is_read => whole(&turn, query),
        "" => return not_allowed("GET, HEAD, DELETE"),
        "/input_items" if is_read => page(&turn.input_items(), query),
        "/input_items" => return not_allowed("GET, HEAD"),
        "/cancel" if *method == Method::POST => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!(
                "The response `{}` is complete: only one that is made in the background can be cancelled. To \
                 stop a stream, close its connection.",
                shown(id)
            ),
        )),
        _ => Err(refusals::unknown_route(method, path)),
    })
}

fn whole(turn: &Turn, query: &str) -> Result<Response<Body>, ApiError> {
    if query::value(query, "stream").is_some_and(|stream| stream != "false") {
        return Err(invalid(
            "stream",
            "is for responses that are made in the background, which this one was not. Leave it out",
        ));
    }
    let response: Value = serde_json::from_slice(turn.response()).unwrap_or_default();
    Ok(openai::json(&response))
}

/// A page of a list.
fn page(items: &[Value], query: &str) -> Result<Response<Body>, ApiError> {
    let limit = match query::value(query, "limit") {
        None => PAGE,
        Some(limit) => match limit.parse() {
            Ok(limit @ 1..=MAX_PAGE) => limit,
            _ => return Err(invalid("limit", "has to be a whole number, 1 to 100")),
        },
    };
    let mut items: Vec<&Value> = items.iter().collect();
    match query::value(query, "order").as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(invalid("order", "has to be `asc` or `desc`")),
    }
    let from = match query::value(query, "after") {
        None => 0,
        Some(after) => {
            let at = items.iter().position(|item| item["id"] == *after);
            at.map(|at| at + 1)
                .ok_or_else(|| invalid("after", "is the id of no item of this response"))?
        }
    };
    let data: Vec<&Value> = items.iter().skip(from).take(limit).copied().collect();
    let id = |item: Option<&&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(openai::json(&json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": items.len() > from + data.len(),
        "data": data,
    })))
}

fn invalid(field: &str, is: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("`{field}` {is}.")).with_param(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Value, String> {
        let items: Vec<Value> = (0..25).map(|id| json!({"id": format!("i{id}")})).collect();
        let body = match page(&items, query)
            .map_err(|error| error.message)?
            .into_body()
        {
            Body::Full(body) => body,
            other => panic!("{other:?}"),
        };
        let body = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(body));
        Ok(serde_json::from_slice(&body.unwrap().unwrap().to_bytes()).unwrap())
    }

    #[test]
    fn a_list_is_read_page_by_page() {
        for (query, first, last, more) in [
            ("", "i24", "i5", true),
            ("after=i5", "i4", "i0", false),
            ("order=asc&limit=2", "i0", "i1", true),
            ("limit=100&order=asc&after=i%31", "i2", "i24", false),
        ] {
            let page = asked(query).unwrap();
            assert_eq!(
                (&page["first_id"], &page["last_id"], &page["has_more"]),
                (&json!(first), &json!(last), &json!(more)),
                "{query}"
            );
        }
        assert_eq!(asked("after=i0").unwrap()["data"], json!([]));
    }

    #[test]
    fn a_wrong_query_is_named() {
        for (query, message) in [
            ("limit=0", "`limit` has to be a whole number, 1 to 100."),
            ("limit=x", "`limit` has to be a whole number, 1 to 100."),
            ("order=up", "`order` has to be `asc` or `desc`."),
            ("after=x", "`after` is the id of no item of this response."),
        ] {
            assert_eq!(asked(query).unwrap_err(), message);
        }
    }
}
