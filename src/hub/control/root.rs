//! `/` and `/favicon.ico`: what people and programs ask for that know nothing of the hub yet.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::hub::Hub;

/// Leads a browser to the status page, and tells all others what is where. `HEAD` answers 200: clients look
/// with it whether anybody is there.
pub(super) async fn root<H: Hub>(
    State(hub): State<H>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let wants_page = headers.get_all(ACCEPT).iter().any(|accepted| {
        accepted
            .to_str()
            .is_ok_and(|text| text.contains("text/html"))
    });
    let vary = [(VARY, "Accept")];
    if method == Method::GET && wants_page && hub.page_enabled() {
        return (vary, Redirect::temporary("/hub")).into_response();
    }
    let what = json!({
        "status": "ok",
        "message": "This is mlx-openai-server-hub. The base URL of its OpenAI API ends with /v1.",
        "openai_api": "/v1",
        "models": "/v1/models",
        "status_page": hub.page_enabled().then_some("/hub"),
        "control_api": "/openapi.json",
        "health": "/health",
    });
    (vary, Json(what)).into_response()
}

/// There is none, and a browser that asks is not told of an error.
pub(super) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}
