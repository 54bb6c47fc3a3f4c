//! Verbs on the hub itself: health, status, reload, shutdown.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::bad_query;
use super::extract::IgnoredBody;
use super::hub::Hub;
use crate::api::{ApiError, ReloadReport};
use crate::hub::lifecycle::Models;

/// By `model_status: controller`, `start` tells a hub from another server on its port.
pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "model_id": null, "model_status": "controller"}))
}

pub(super) async fn status<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.status()))
}

/// `?start=false` starts nothing: the command `stop` reloads in this way.
#[derive(Debug, Deserialize)]
pub(super) struct ReloadQuery {
    #[serde(default = "yes")]
    start: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn reload<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
    _: IgnoredBody,
) -> Result<Json<ReloadReport>, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    hub.reload(query.start).await.map(Json)
}

/// Answers when another hub has replaced this one, or has failed to.
pub(super) async fn restart<H: Hub>(
    State(hub): State<H>,
    _: IgnoredBody,
) -> Result<Json<Value>, ApiError> {
    let pid = hub.restart().await?;
    Ok(Json(json!({
        "status": "ok",
        "action": "restart",
        "message": "Another hub has taken over",
        "details": {"pid": pid},
    })))
}

/// `?keep_models=true` leaves the models to the next hub: the command `restart` of 0.1.0 uses it.
#[derive(Debug, Deserialize)]
pub(super) struct ShutdownQuery {
    #[serde(default)]
    keep_models: bool,
}

/// Answers before anything stops: the server drains its connections, this one among them.
pub(super) async fn shutdown<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<ShutdownQuery>, QueryRejection>,
    _: IgnoredBody,
) -> Result<Json<Value>, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    hub.request_shutdown(if query.keep_models {
        Models::Keep
    } else {
        Models::Stop
    });
    Ok(Json(json!({
        "status": "ok",
        "action": "stop",
        "message": "Shutdown requested",
        "details": {},
    })))
}
