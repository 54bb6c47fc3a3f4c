//! What the policies are and did: `/hub/policies`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::error::bad_query;
use super::hub::Hub;
use crate::api_error::ApiError;
use crate::status::WantedDecisions;

pub(super) async fn report<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.policies()))
}

/// Which decisions: of one model, made between two times (Unix seconds), the newest so many.
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
