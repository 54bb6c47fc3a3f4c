//! `GET /hub/requests`: the requests that ended last.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::error::bad_query;
use super::hub::Hub;
use crate::api::{ApiError, RequestsReport};

#[derive(Debug, Deserialize)]
pub(super) struct RequestsQuery {
    /// Those with a higher number.
    #[serde(default)]
    after: u64,
    model: Option<String>,
}

pub(super) async fn requests<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<RequestsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    let mut requests = hub.ended_after(query.after);
    if let Some(model) = query.model {
        requests.retain(|request| request.model.as_ref() == Some(&model));
    }
    let report = Json(RequestsReport { requests });
    Ok(([(CACHE_CONTROL, "no-store")], report))
}
