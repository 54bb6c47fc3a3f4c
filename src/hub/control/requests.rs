//! `GET /hub/requests`: the requests in flight and those that ended last; `POST /hub/requests/{id}/cancel` and
//! `GET /hub/requests/{id}/capture`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{bad_path, bad_query};
use super::extract::IgnoredBody;
use super::hub::Hub;
use crate::api::{ApiError, RequestsReport, shown};

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
    let mut in_flight = hub.in_flight();
    if let Some(model) = &query.model {
        in_flight.retain(|request| request.model.as_ref() == Some(model));
        requests.retain(|request| request.model.as_ref() == Some(model));
    }
    let report = RequestsReport {
        in_flight,
        requests,
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(report)))
}

/// Answers when the request is told to end, which it does at once.
pub(super) async fn cancel<H: Hub>(
    State(hub): State<H>,
    id: Result<Path<String>, PathRejection>,
    _: IgnoredBody,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|rejection| bad_path(&rejection))?;
    if hub.cancel(&id) == 0 {
        let message = format!(
            "No request `{}` is in flight: it has ended, or never was",
            shown(&id)
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    }
    Ok(Json(json!({
        "status": "ok",
        "action": "cancel",
        "id": id,
        "message": format!("Request '{id}' cancelled"),
    })))
}

pub(super) async fn captured<H: Hub>(
    State(hub): State<H>,
    id: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path(id) = id.map_err(|rejection| bad_path(&rejection))?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(hub.captured(&id)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{TableHub, ask_of};
    use crate::api::RequestInFlight;

    #[tokio::test]
    async fn a_request_in_flight_is_listed_and_cancelled_by_its_id() {
        let hub = TableHub::default();
        let id = "of/a client";
        hub.in_flight.lock().push(RequestInFlight {
            id: id.to_owned(),
            model: Some("alpha".to_owned()),
            ..RequestInFlight::default()
        });
        let listed = ask_of(hub.clone(), "GET", "/hub/requests?model=alpha", "").await;
        assert_eq!(listed.json()["in_flight"][0]["id"], id);
        let listed = ask_of(hub.clone(), "GET", "/hub/requests?model=beta", "").await;
        assert_eq!(listed.json()["in_flight"], json!([]));

        let path = "/hub/requests/of%2Fa%20client/cancel";
        let answer = ask_of(hub.clone(), "POST", path, "").await;
        let message = "Request 'of/a client' cancelled";
        assert_eq!(
            answer.json(),
            json!({"status": "ok", "action": "cancel", "id": id, "message": message})
        );
        hub.in_flight.lock().clear();
        let answer = ask_of(hub, "POST", path, "").await;
        let message = "No request `of/a client` is in flight: it has ended, or never was";
        assert_eq!(answer.error(), (404, message.to_owned()));
    }
}
