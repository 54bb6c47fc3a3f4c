//! The changes to a request's body: the model's name if the worker accepts only its own, and the
//! fields that a policy sets or removes. Everything else passes unchanged.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http::request;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};

use super::intake::Intake;
use super::query;
use super::scan::json::MARK;
use super::scan::{Syntax, field_of_form};
use crate::api::ApiError;
use crate::hub::gateway::protocol::openai::routes::own_route;
use crate::hub::gateway::refusals;
use crate::hub::gateway::{content_length, content_type};
use crate::policy::Route;
use crate::upstream::Accepts;

/// The place in which the client wrote the model.
#[derive(Debug)]
pub(crate) enum ModelSite {
    Query,
    Body(Range<usize>, Syntax),
    /// None that the worker sees: before its own route, or in an earlier answer.
    Path,
    /// None at all. Of such a request the whole body has arrived when its model is written.
    Nowhere,
}

/// The name to write in place of `written`, if the worker would not accept that.
pub(crate) fn replacement<'a>(accepts: &'a Accepts, written: &str) -> Option<&'a str> {
    match accepts {
        Accepts::Only(name) if &**name != written => Some(name),
        Accepts::Only(_) | Accepts::Any => None,
    }
}

/// The body's fields with a policy's changes.
///
/// # Errors
/// 500 when the body is not a JSON object: the policy asked for the impossible.
pub(crate) fn edit(body: &[u8], route: &Route) -> Result<Map<String, Value>, ApiError> {
    let body = body.strip_prefix(MARK).unwrap_or(body);
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| refusals::fields_without_json())?;
    route.change(&mut fields);
    Ok(fields)
}

/// Writes `name` in the place of the client's model.
pub(crate) fn rename(
    parts: &mut request::Parts,
    intake: &mut Intake,
    place: &ModelSite,
    name: &str,
) {
    match place {
        ModelSite::Query => rename_in_query(parts, name),
        ModelSite::Path => {}
        ModelSite::Nowhere => {
            let body = intake.whole().unwrap_or_default();
            match field_of_form(content_type(parts), &body, name) {
                Some((at, text)) => splice(parts, intake, &(at..at), text),
                None => rename_in_query(parts, name),
            }
        }
        ModelSite::Body(range, syntax) => {
            let text = match syntax {
                Syntax::Json => Value::from(name).to_string(),
                Syntax::Multipart => name.to_owned(),
                Syntax::Urlencoded => query::encode(name).to_string(),
            };
            splice(parts, intake, range, text);
        }
    }
}

fn splice(parts: &mut request::Parts, intake: &mut Intake, range: &Range<usize>, text: String) {
    let grown = |length: u64| length + text.len() as u64 - range.len() as u64;
    if let Some(length) = content_length(parts) {
        set_content_length(parts, grown(length));
    }
    intake.splice(range, Bytes::from(text));
}

/// The body of those fields.
pub(crate) fn written(fields: Map<String, Value>) -> Bytes {
    Bytes::from(Value::Object(fields).to_string())
}

/// Replaces the whole body.
pub(crate) fn replace(parts: &mut request::Parts, intake: &mut Intake, body: Bytes) {
    set_content_length(parts, body.len() as u64);
    intake.replace(body);
}

/// Strips `/upstream/{name}` from a path.
pub(crate) fn to_own_route(parts: &mut request::Parts) {
    if !parts.uri.path().starts_with("/upstream/") {
        return;
    }
    let mut own = own_route(parts.uri.path()).to_owned();
    if let Some(query) = parts.uri.query() {
        own.push('?');
        own.push_str(query);
    }
    // The end of a path is a valid path.
    if let Ok(path) = own.parse::<PathAndQuery>() {
        parts.uri = path.into();
    }
}

fn rename_in_query(parts: &mut request::Parts, name: &str) {
    let old = parts.uri.query().unwrap_or_default();
    let path = format!("{}?{}", parts.uri.path(), query::with_model(old, name));
    // What changed is percent-encoded ASCII, so it stays a URI.
    if let Ok(path) = path.parse::<PathAndQuery>() {
        parts.uri = path.into();
    }
}

fn set_content_length(parts: &mut request::Parts, length: u64) {
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::CONTENT_TYPE;
    use serde_json::json;

    use super::*;

    fn route(set: Value, unset: &[&str]) -> Route {
        Route {
            set: set.as_object().cloned().unwrap_or_default(),
            unset: unset.iter().map(|&key| key.to_owned()).collect(),
            ..Route::default()
        }
    }

    #[test]
    fn a_policys_fields_are_set_and_removed_and_the_others_keep_their_order() {
        let body = br#"{"z":1,"model":"a","user":"u","a":[1.5]}"#;
        let fields = edit(body, &route(json!({"z": 2, "seed": 7}), &["user", "none"])).unwrap();
        let text = Value::Object(fields).to_string();
        assert_eq!(text, r#"{"z":2,"model":"a","a":[1.5],"seed":7}"#);
    }

    #[test]
    fn fields_of_a_body_without_fields_are_the_policys_error() {
        for body in [b"".as_slice(), b"[]", b"--B\r\n"] {
            let error = edit(body, &route(json!({"z": 2}), &[])).unwrap_err();
            assert_eq!((error.status, &*error.kind), (500, "server_error"));
        }
    }

    #[test]
    fn only_a_worker_that_insists_gets_another_name() {
        let only = Accepts::Only("alpha".into());
        assert_eq!(replacement(&only, "org/alpha"), Some("alpha"));
        assert_eq!(replacement(&only, "alpha"), None);
        assert_eq!(replacement(&Accepts::Any, "org/alpha"), None);
    }

    #[tokio::test]
    async fn a_request_that_names_no_model_gets_one_in_its_form_or_else_in_its_query() {
        let form = "multipart/form-data; boundary=B";
        let plain = "application/x-www-form-urlencoded";
        for (kind, sent, body, query) in [
            (plain, "a=1", "model=a%2Fb&a=1", Some("x=1")),
            (plain, "", "", Some("x=1&model=a%2Fb")),
            (
                form,
                "--B\r\n\r\n1\r\n--B--",
                "--B\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\na/b\r\n--B\r\n\r\n1\r\n--B--",
                Some("x=1"),
            ),
        ] {
            let request = Request::post("/v1/x?x=1")
                .header(CONTENT_TYPE, kind)
                .header(CONTENT_LENGTH, sent.len());
            let mut parts = request.body(()).unwrap().into_parts().0;
            let mut intake = Intake::of_chunks(&[sent.as_bytes()]);
            rename(&mut parts, &mut intake, &ModelSite::Nowhere, "a/b");
            let length = body.len().to_string();
            assert_eq!(parts.headers[CONTENT_LENGTH], *length, "{kind}");
            assert_eq!(parts.uri.query(), query, "{kind}");
            assert_eq!(intake.collect().await.unwrap(), body, "{kind}");
        }
    }

    #[test]
    fn a_replaced_body_has_its_own_length() {
        let request = Request::post("/v1/x").header(CONTENT_LENGTH, 9).body(());
        let mut parts = request.unwrap().into_parts().0;
        let mut intake = Intake::of_chunks(&[b"whatever!"]);
        let fields = json!({"model": "a"}).as_object().cloned().unwrap();
        replace(&mut parts, &mut intake, written(fields));
        assert_eq!(parts.headers[CONTENT_LENGTH], "13");
        assert_eq!(intake.whole().unwrap(), r#"{"model":"a"}"#);
    }
}
