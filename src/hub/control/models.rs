//! Verbs on one model: `POST /hub/models/{name}/…`; and `GET /hub/models/{name}/plan`.

use std::pin::Pin;

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::extract::{Caller, ModelName, empty_name};
use super::hub::Hub;
use crate::api::{ApiError, Verb};

type Answer = Pin<Box<dyn Future<Output = Result<Json<Value>, ApiError>> + Send>>;

/// The handler of `verb`. It answers at the final state.
///
/// A client that hangs up drops the handler's future, and that undoes nothing: the verb is a
/// message to the supervisor, and only the wait for its answer is dropped.
pub(super) fn handler<H: Hub>(
    verb: Verb,
) -> impl Fn(State<H>, ModelName, Caller) -> Answer + Clone {
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

/// Answers with the consequences of loading it. Nothing changes.
pub(super) async fn plan<H: Hub>(
    State(hub): State<H>,
    ModelName(name): ModelName,
) -> Result<impl IntoResponse, ApiError> {
    let plan = hub.plan(&name).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(plan)))
}

pub(super) async fn without_name() -> ApiError {
    empty_name()
}
