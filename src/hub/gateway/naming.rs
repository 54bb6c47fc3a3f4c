//! The model that a request names: read off its body or its query, and written there where there was none.

use http::header::CONTENT_ENCODING;
use http::request::Parts;
use serde_json::{Map, Value};

use super::protocol::openai::routes::Target;
use super::request::intake::{Intake, explain};
use super::request::query;
use super::request::rewrite::{self, ModelSite};
use super::request::scan::{ScanStep, field_of_form, is_form};
use super::translated::{check_length, compute};
use super::{content_type, refusals};
use crate::api::ApiError;
use crate::core::refusals::model_required;
use crate::policy::Route;

/// The model that a request names, in its body or else in its query, if it names one. The body is what it is
/// without its content codings from here on.
///
/// # Errors
/// 400 for a body that cannot be read, or that names more than one model; also for one that is missing where it
/// would be work, and 404 where nothing is known of the route: no policy can send such a request anywhere.
pub(super) async fn named_model(
    parts: &mut Parts,
    intake: &mut Intake,
) -> Result<(Option<String>, ModelSite), ApiError> {
    check_length(intake)?;
    if parts.headers.contains_key(CONTENT_ENCODING) {
        intake.decode(&mut parts.headers)?;
    }
    let kind = content_type(parts);
    let step = intake.read_to_model(kind).await?;
    let step = match step {
        ScanStep::Found(found) if !found.value.trim().is_empty() => {
            let site = ModelSite::Body(found.range, found.syntax);
            return Ok((Some(found.value), site));
        }
        other => other,
    };
    let of_query = model_of_query(parts)?;
    if let Some(model) = of_query.clone().and_then(named) {
        return Ok((Some(model), ModelSite::Query));
    }
    match step {
        ScanStep::Malformed if kind.is_some_and(is_form) => {
            Err(refusals::malformed("it is not a complete multipart form"))
        }
        ScanStep::Malformed => Err(malformed(intake).await),
        ScanStep::Twice => Err(refusals::model_twice()),
        ScanStep::Found(blank) => Ok((None, ModelSite::Body(blank.range, blank.syntax))),
        _ if intake.is_empty() && is_unknown(parts) => {
            Err(refusals::unknown_route(&parts.method, parts.uri.path()))
        }
        _ if intake.is_empty() && !parts.method.is_safe() => Err(model_required()),
        _ => Ok((
            None,
            of_query.map_or(ModelSite::Nowhere, |_| ModelSite::Query),
        )),
    }
}

/// A model's name; a blank one is none.
pub(super) fn named(model: String) -> Option<String> {
    Some(model).filter(|model| !model.trim().is_empty())
}

/// The fields of a JSON body that names no model, into which one can be written; `None` where it goes elsewhere:
/// into a form, or into the query.
///
/// # Errors
/// 400 when the body is not what it seemed.
pub(super) async fn fields_without_model(
    parts: &Parts,
    intake: &mut Intake,
) -> Result<Option<Box<Map<String, Value>>>, ApiError> {
    let body = intake.collect().await?;
    if body.is_empty() || field_of_form(content_type(parts), &body, "").is_some() {
        return Ok(None);
    }
    let edited = compute(body.len(), move || rewrite::edit(&body, &Route::default())).await;
    match edited {
        Ok(fields) => Ok(Some(Box::new(fields))),
        Err(_) => Err(malformed(intake).await),
    }
}

/// 400 for a body that is no JSON object.
async fn malformed(intake: &mut Intake) -> ApiError {
    let read = intake.read_so_far();
    let explained = compute(read.len(), move || explain(&read));
    refusals::malformed(&Box::pin(explained).await)
}

pub(super) fn model_of_query(parts: &Parts) -> Result<Option<String>, ApiError> {
    let query = parts.uri.query();
    query.map_or(Ok(None), query::model)
}

fn is_unknown(parts: &Parts) -> bool {
    Target::of(&parts.method, parts.uri.path()) == Target::Unknown
}
