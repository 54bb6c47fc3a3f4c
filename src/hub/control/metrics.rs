//! `GET /metrics`: the status in Prometheus' text format, to monitor many hubs.
//!
//! Each request formats the same snapshot that the status shows; nothing is counted for it. So it needs no
//! library: there is nothing to register, and no histogram.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use super::hub::Hub;
use crate::api::{ModelMetadata, ModelStatus, Status};

/// The format's content type: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name, type, help text and value; without a value a model has no line.
type Metric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ModelMetadata) -> Option<f64>,
);

const OF_MODELS: [Metric; 11] = [
    (
        "started",
        "gauge",
        "Whether the model takes requests.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.process_state.as_str() == "running",
            )))
        },
    ),
    (
        "loaded",
        "gauge",
        "Whether the model is in memory.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.memory_state.as_str() == "loaded",
            )))
        },
    ),
    ("active_requests", "gauge", "Requests in flight.", |model| {
        Some(model.activity.active_requests as f64)
    }),
    (
        "waiting_requests",
        "gauge",
        "Requests that wait for the model to load.",
        |model| Some(model.activity.waiting_requests as f64),
    ),
    (
        "parked_requests",
        "gauge",
        "Requests that a policy told to wait.",
        |model| Some(model.activity.parked_requests as f64),
    ),
    (
        "memory_bytes",
        "gauge",
        "Bytes its process group holds.",
        |model| model.activity.memory_bytes.map(|bytes| bytes as f64),
    ),
    (
        "requests_total",
        "counter",
        "Requests sent to the worker that have ended.",
        |model| Some(model.activity.usage.requests as f64),
    ),
    (
        "prompt_tokens_total",
        "counter",
        "Tokens of requests, as far as the worker said.",
        |model| Some(model.activity.usage.prompt_tokens as f64),
    ),
    (
        "completion_tokens_total",
        "counter",
        "Tokens of answers, as far as the worker said.",
        |model| Some(model.activity.usage.completion_tokens as f64),
    ),
    (
        "tokens_per_second",
        "gauge",
        "Of the last answer that told its tokens.",
        |model| model.activity.usage.last_tokens_per_second,
    ),
    (
        "last_load_timestamp_seconds",
        "gauge",
        "When the model was last loaded.",
        |model| model.facts.last_load_at,
    ),
];

pub(super) async fn metrics<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")];
    (headers, render(&hub.status()))
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    let degraded = u8::from(status.status == "degraded");
    header(
        &mut text,
        "degraded",
        "gauge",
        "Whether hub.yaml on disk is not valid.",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "mlx_hub_degraded {degraded}");
    header(&mut text, "warnings", "gauge", "What the status warns of.");
    let _ = writeln!(text, "mlx_hub_warnings {}", status.warnings.len());
    for (name, kind, help, value) in OF_MODELS {
        header(&mut text, &format!("model_{name}"), kind, help);
        for ModelStatus { id, metadata, .. } in &status.models {
            if let Some(value) = value(metadata) {
                // A model's name has only letters, digits, hyphens, underscores and dots, so it needs no escape.
                let _ = writeln!(text, "mlx_hub_model_{name}{{model=\"{id}\"}} {value}");
            }
        }
    }
    text
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP mlx_hub_{name} {help}");
    let _ = writeln!(text, "# TYPE mlx_hub_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{Activity, HubFacts, MemoryState, ModelFacts, ProcessState, UsageTotals};

    #[test]
    fn the_status_is_shown_in_prometheus_form() {
        let alpha = ModelFacts {
            name: "alpha".to_owned(),
            process_state: ProcessState::Running,
            memory_state: MemoryState::Loaded,
            last_load_at: Some(1_764_000_000.5),
            ..ModelFacts::default()
        };
        let usage = UsageTotals {
            requests: 3,
            prompt_tokens: 40,
            completion_tokens: 50,
            last_tokens_per_second: Some(12.5),
        };
        let busy = Activity {
            active_requests: 2,
            memory_bytes: Some(5_000_000_000),
            usage,
            ..Activity::default()
        };
        let beta = ModelFacts {
            name: "beta".to_owned(),
            ..ModelFacts::default()
        };
        let models = [
            (Arc::new(alpha), busy),
            (Arc::new(beta), Activity::default()),
        ];
        let status = Status::build(&HubFacts::default(), &models, 1);
        insta::assert_snapshot!(render(&status));
    }
}
