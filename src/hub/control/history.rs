//! `GET /hub/history`: the last hour in figures.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;

use super::hub::Hub;

pub(super) async fn history<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.history()))
}
