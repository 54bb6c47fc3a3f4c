//! Verbs on one model: `POST /hub/models/{name}/…`; and `GET /hub/models/{name}/plan`.

use std::pin::Pin;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::bad_query;
use super::extract::{Caller, ModelName, empty_name};
use super::hub::Hub;
use crate::api::{ApiError, Verb};

type VerbFuture = Pin<Box<dyn Future<Output = Result<Json<Value>, ApiError>> + Send>>;

/// The handler of `verb`. It answers at the final state.
///
/// A client that hangs up drops the handler's future, and that undoes nothing: the verb is a
/// message to the supervisor, and only the wait for its answer is dropped.
pub(super) fn handler<H: Hub>(
    verb: Verb,
) -> impl Fn(State<H>, ModelName, Caller) -> VerbFuture + Clone {
    move |State(hub), ModelName(name), Caller(by)| {
        Box::pin(async move {
            let outcome = hub.run(verb, &name, by).await?;
            Ok(Json(json!({
                "status": "ok",
                "action": verb.as_str(),
                "model": name,
                "message": verb.message(&name, outcome),
            })))
        })
    }
}

/// `?verb=stop` asks about that verb.
#[derive(Debug, Deserialize)]
pub(super) struct PlanQuery {
    verb: Option<Verb>,
}

/// Answers with the consequences of a verb on it, of `load` if none is named. Nothing changes.
pub(super) async fn plan<H: Hub>(
    State(hub): State<H>,
    ModelName(name): ModelName,
    query: Result<Query<PlanQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    let plan = hub.plan(query.verb.unwrap_or(Verb::Load), &name).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(plan)))
}

pub(super) async fn without_name() -> ApiError {
    empty_name()
}
