//! `/` and `/favicon.ico`, for people and programs that do not know the hub yet, and for those that look for Ollama.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::hub::Hub;

/// The text by which clients of Ollama's API know their server.
const OLLAMA: &str = "Ollama is running";

/// Redirects a browser to the status page, lists the routes for clients that accept JSON by name, and tells all others
/// that Ollama's API is here. `HEAD` answers 200: clients probe with it for a server.
pub(super) async fn root<H: Hub>(
    State(hub): State<H>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let accepts = |kind: &str| {
        let mut accepted = headers.get_all(ACCEPT).iter();
        accepted.any(|accepted| accepted.to_str().is_ok_and(|text| text.contains(kind)))
    };
    let vary = [(VARY, "Accept")];
    if accepts("text/html") {
        if method == Method::GET && hub.page_enabled() {
            return (vary, Redirect::temporary("/hub")).into_response();
        }
    } else if !accepts("application/json") {
        return (vary, OLLAMA).into_response();
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

/// There is no icon; an empty answer spares browsers an error.
pub(super) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}
