//! `/hub/policies`: the policies, their decisions, and the recording.

use std::path::PathBuf;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::error::bad_query;
use super::extract::IgnoredBody;
use super::hub::Hub;
use crate::api::{ApiError, RecordingReport, WantedDecisions};

pub(super) async fn report<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.policies()))
}

/// The filter of decisions: one model, a span of time (Unix seconds), a number of the newest.
#[derive(Debug, Deserialize)]
pub(super) struct DecisionsQuery {
    model: Option<String>,
    since: Option<f64>,
    until: Option<f64>,
    limit: Option<usize>,
}

pub(super) async fn decisions<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    let wanted = WantedDecisions {
        model: query.model,
        since: query.since,
        until: query.until,
        limit: query.limit,
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(hub.decisions(&wanted))))
}

pub(super) async fn recording<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.recording()))
}

/// The file: an absolute path that ends in `.jsonl`; without it, a new file among the logs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordingFile {
    file: Option<PathBuf>,
}

/// The body may be empty; otherwise it must be valid.
pub(super) async fn start_recording<H: Hub>(
    State(hub): State<H>,
    body: Bytes,
) -> Result<Json<RecordingReport>, ApiError> {
    let wanted = match body.is_empty() {
        true => RecordingFile::default(),
        false => serde_json::from_slice(&body).map_err(|error| {
            let message = format!("The body must be empty or `{{\"file\": PATH}}`: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, message)
        })?,
    };
    hub.start_recording(wanted.file).map(Json)
}

pub(super) async fn stop_recording<H: Hub>(
    State(hub): State<H>,
    _: IgnoredBody,
) -> Json<RecordingReport> {
    // It waits for the disk.
    let ended = tokio::task::spawn_blocking({
        let hub = hub.clone();
        move || hub.stop_recording()
    });
    Json(ended.await.unwrap_or_else(|_| hub.recording()))
}
