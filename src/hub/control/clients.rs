//! `GET /hub/clients`: how each client is led to this hub, and to a model of it.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::error::bad_query;
use super::hub::Hub;
use crate::api::{ApiError, shown};
use crate::hub::dashboard;

#[derive(Debug, Deserialize)]
pub(super) struct ClientsQuery {
    /// The model that they ask; without it, one that chats.
    model: Option<String>,
}

pub(super) async fn clients<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<ClientsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(ClientsQuery { model }) = query.map_err(bad_query)?;
    let status = hub.status();
    let is_known = |name: &String| status.models.iter().any(|model| model.id == *name);
    if let Some(name) = model.as_ref().filter(|name| !is_known(name)) {
        let message = format!("Model `{}` is not in hub.yaml", shown(name));
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).with_param("model"));
    }
    let clients = dashboard::clients(&status, model.as_deref());
    Ok(Json(json!({"clients": clients})))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::{TableHub, ask_of};
    use crate::api::{Activity, ModelFacts};

    #[tokio::test]
    async fn the_settings_of_clients_are_those_of_the_chosen_model() {
        let hub = TableHub::default();
        for name in ["alpha", "beta"] {
            let facts = ModelFacts {
                name: name.to_owned(),
                model_type: "lm".into(),
                ..ModelFacts::default()
            };
            hub.models.lock().push((facts, Activity::default()));
        }
        for (query, model) in [("", "alpha"), ("?model=beta", "beta")] {
            let answer = ask_of(hub.clone(), "GET", &format!("/hub/clients{query}"), "").await;
            let json = answer.json();
            let clients = json["clients"].as_array().unwrap();
            assert!(clients.len() > 5, "{json}");
            let is_for = |client: &Value| client["snippets"].to_string().contains(model);
            assert!(clients.iter().all(is_for), "{json}");
        }
        let answer = ask_of(hub, "GET", "/hub/clients?model=nosuch", "").await;
        assert_eq!(
            answer.error(),
            (404, "Model `nosuch` is not in hub.yaml".to_owned())
        );
    }
}
