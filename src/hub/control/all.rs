//! Verbs on all models at once, which keep the hub: `POST /hub/models/unload-all`, `/hub/models/stop-all`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures_util::future::join_all;
use serde::Deserialize;

use super::error::bad_query;
use super::extract::Caller;
use super::hub::Hub;
use crate::api::{AllReport, ApiError, ModelStatus, Outcome, Verb};

/// `?now=true` also unloads models with requests in flight, once those have ended.
#[derive(Debug, Deserialize)]
pub(super) struct UnloadQuery {
    #[serde(default)]
    now: bool,
}

pub(super) async fn unload<H: Hub>(
    State(hub): State<H>,
    query: Result<Query<UnloadQuery>, QueryRejection>,
    Caller(by): Caller,
) -> Result<Json<AllReport>, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    let loaded = hub.status().models.into_iter().filter(|model| {
        let facts = &model.metadata.facts;
        facts.memory_state.holds_memory()
    });
    let is_busy = |model: &ModelStatus| model.metadata.activity.active_requests > 0;
    let (busy, idle): (Vec<_>, Vec<_>) = loaded.partition(|model| !query.now && is_busy(model));
    let mut report = each(&hub, Verb::Unload, idle, by).await;
    report.busy = busy.into_iter().map(|model| model.id).collect();
    Ok(Json(report))
}

pub(super) async fn stop<H: Hub>(State(hub): State<H>, Caller(by): Caller) -> Json<AllReport> {
    let started = (hub.status().models.into_iter())
        .filter(|model| model.metadata.facts.is_started())
        .collect();
    Json(each(&hub, Verb::Stop, started, by).await)
}

async fn each<H: Hub>(
    hub: &H,
    verb: Verb,
    models: Vec<ModelStatus>,
    by: &'static str,
) -> AllReport {
    let names = models.into_iter().map(|model| model.id);
    let runs = names.map(|name| async move {
        let outcome = hub.run(verb, &name, by).await;
        (name, outcome)
    });
    let mut report = AllReport::default();
    for (name, outcome) in join_all(runs).await {
        match outcome {
            Ok(Outcome::Done) => report.done.push(name),
            // It went there by itself meanwhile.
            Ok(Outcome::Already) => {}
            Err(error) => {
                report.failed.insert(name, error.message);
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TableHub, ask_of};
    use crate::api::{Activity, MemoryState, ModelFacts, ProcessState};
    use serde_json::json;

    /// `alpha` and `full` are loaded, `full` refuses; `busy` has a request in flight, `beta` no memory.
    fn hub() -> TableHub {
        let hub = TableHub::default();
        for (name, memory_state, active_requests) in [
            ("alpha", MemoryState::Loaded, 0),
            ("busy", MemoryState::Loaded, 1),
            ("full", MemoryState::Loaded, 0),
            ("beta", MemoryState::Unloaded, 0),
        ] {
            let facts = ModelFacts {
                name: name.to_owned(),
                process_state: ProcessState::Running,
                memory_state,
                ..ModelFacts::default()
            };
            let activity = Activity {
                active_requests,
                ..Activity::default()
            };
            hub.models.lock().push((facts, activity));
        }
        hub
    }

    #[tokio::test]
    async fn unloading_all_spares_models_with_requests_unless_told_not_to() {
        let answer = ask_of(hub(), "POST", "/hub/models/unload-all", "").await;
        let refused = json!({"full": "no room"});
        assert_eq!(
            answer.json(),
            json!({"done": ["alpha"], "busy": ["busy"], "failed": refused})
        );
        assert_eq!(answer.calls, ["unload alpha", "unload full"]);

        let answer = ask_of(hub(), "POST", "/hub/models/unload-all?now=true", "").await;
        assert_eq!(answer.calls, ["unload alpha", "unload busy", "unload full"]);
        assert_eq!(answer.json()["busy"], json!([]));

        let answer = ask_of(hub(), "POST", "/hub/models/unload-all?now=perhaps", "").await;
        assert_eq!(answer.error().0, 400);
        assert!(answer.calls.is_empty());
    }

    #[tokio::test]
    async fn stopping_all_stops_what_is_started_and_keeps_the_hub() {
        let page = r#"{"reason":"dashboard"}"#;
        let hub = hub();
        hub.models.lock()[0].0.process_state = ProcessState::Stopped;
        let answer = ask_of(hub, "POST", "/hub/models/stop-all", page).await;
        let stops = ["busy", "full", "beta"].map(|name| format!("stop {name} by status page"));
        assert_eq!(answer.calls, stops);
    }
}
