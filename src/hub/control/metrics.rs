//! `GET /metrics`: the status, the meters of the models and the policies in Prometheus' text format, to monitor
//! many hubs.

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use http::StatusCode;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts, TEXT_FORMAT, TextEncoder};

use super::hub::Hub;
use crate::api::{ApiError, ModelMetadata, PoliciesReport, PolicyFacts, Status};

/// The type of a metric.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// Name, type, help text and value; without a value a model has no line.
type Metric = (
    &'static str,
    Kind,
    &'static str,
    fn(&ModelMetadata) -> Option<f64>,
);

const OF_MODELS: [Metric; 13] = [
    (
        "started",
        Kind::Gauge,
        "Whether the model takes requests.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.process_state.as_str() == "running",
            )))
        },
    ),
    (
        "loaded",
        Kind::Gauge,
        "Whether the model is in memory.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.memory_state.as_str() == "loaded",
            )))
        },
    ),
    (
        "loading",
        Kind::Gauge,
        "Whether the model is on its way into memory.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.memory_state.as_str() == "loading",
            )))
        },
    ),
    (
        "failed",
        Kind::Gauge,
        "Whether its last load failed, or its process ended unasked.",
        |model| {
            Some(f64::from(u8::from(
                model.facts.memory_state.as_str() == "failed",
            )))
        },
    ),
    (
        "active_requests",
        Kind::Gauge,
        "Requests in flight.",
        |model| Some(model.activity.active_requests as f64),
    ),
    (
        "waiting_requests",
        Kind::Gauge,
        "Requests that wait for the model to load.",
        |model| Some(model.activity.waiting_requests as f64),
    ),
    (
        "parked_requests",
        Kind::Gauge,
        "Requests that a policy told to wait.",
        |model| Some(model.activity.parked_requests as f64),
    ),
    (
        "memory_bytes",
        Kind::Gauge,
        "Bytes its process group holds.",
        |model| model.activity.memory_bytes.map(|bytes| bytes as f64),
    ),
    (
        "requests_total",
        Kind::Counter,
        "Requests sent to the worker that have ended.",
        |model| Some(model.activity.usage.requests as f64),
    ),
    (
        "prompt_tokens_total",
        Kind::Counter,
        "Tokens of requests, as far as the worker said.",
        |model| Some(model.activity.usage.prompt_tokens as f64),
    ),
    (
        "completion_tokens_total",
        Kind::Counter,
        "Tokens of answers, as far as the worker said.",
        |model| Some(model.activity.usage.completion_tokens as f64),
    ),
    (
        "tokens_per_second",
        Kind::Gauge,
        "Of the last answer that told its tokens.",
        |model| model.activity.usage.last_tokens_per_second,
    ),
    (
        "last_load_timestamp_seconds",
        Kind::Gauge,
        "When the model was last loaded.",
        |model| model.facts.last_load_at,
    ),
];

type PolicyMetric = (
    &'static str,
    Kind,
    &'static str,
    fn(&PolicyFacts) -> Option<f64>,
);

const OF_POLICIES: [PolicyMetric; 3] = [
    (
        "calls_total",
        Kind::Counter,
        "Calls of its hooks since it was loaded.",
        |policy| Some(policy.calls as f64),
    ),
    (
        "failures_total",
        Kind::Counter,
        "Failures since it was loaded.",
        |policy| Some(policy.failures as f64),
    ),
    (
        "switched_off",
        Kind::Gauge,
        "Whether it is not asked any more, after too many failures.",
        |policy| Some(f64::from(u8::from(policy.switched_off))),
    ),
];

pub(super) async fn metrics<H: Hub>(State(hub): State<H>) -> Result<impl IntoResponse, ApiError> {
    let text = render(&hub.status(), &hub.policies(), hub.meters()).map_err(|error| {
        let message =
            format!("The metrics cannot be written: {error}. This is a fault of the hub.");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    let headers = [(CONTENT_TYPE, TEXT_FORMAT), (CACHE_CONTROL, "no-store")];
    Ok((headers, text))
}

fn render(
    status: &Status,
    policies: &PoliciesReport,
    meters: Vec<MetricFamily>,
) -> prometheus::Result<String> {
    let mut families = vec![
        of_hub(
            "degraded",
            "Whether hub.yaml on disk is not valid.",
            f64::from(u8::from(status.status == "degraded")),
        )?,
        of_hub(
            "warnings",
            "What the status warns of.",
            status.warnings.len() as f64,
        )?,
    ];
    let memory = status.memory;
    for (name, help, bytes) in [
        ("memory_total_bytes", "Memory of the machine.", memory.total),
        (
            "memory_available_bytes",
            "Memory that programs could take without others being swapped out.",
            memory.available,
        ),
    ] {
        if let Some(bytes) = bytes {
            families.push(of_hub(name, help, bytes as f64)?);
        }
    }
    for (name, kind, help, value) in OF_MODELS {
        let models = status.models.iter();
        let values = models.filter_map(|model| Some((&*model.id, value(&model.metadata)?)));
        let metrics = kind.metrics(&format!("model_{name}"), help, "model", values)?;
        join(&mut families, metrics);
    }
    for (name, kind, help, value) in OF_POLICIES {
        let policies = policies.policies.iter();
        let values = policies.filter_map(|policy| Some((&*policy.name, value(policy)?)));
        let metrics = kind.metrics(&format!("policy_{name}"), help, "policy", values)?;
        join(&mut families, metrics);
    }
    join(&mut families, meters);
    TextEncoder::new().encode_to_string(&families)
}

impl Kind {
    /// A metric of that name for each value, with its label.
    fn metrics<'a>(
        self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) -> prometheus::Result<Vec<MetricFamily>> {
        let mut families = Vec::new();
        for (of, value) in values {
            let opts = Opts::new(format!("mlx_hub_{name}"), help).const_label(label, of);
            families.extend(match self {
                Self::Gauge => {
                    let gauge = Gauge::with_opts(opts)?;
                    gauge.set(value);
                    gauge.collect()
                }
                Self::Counter => {
                    let counter = Counter::with_opts(opts)?;
                    counter.inc_by(value);
                    counter.collect()
                }
            });
        }
        Ok(families)
    }
}

fn of_hub(name: &str, help: &str, value: f64) -> prometheus::Result<MetricFamily> {
    let gauge = Gauge::new(format!("mlx_hub_{name}"), help)?;
    gauge.set(value);
    Ok(gauge.collect().remove(0))
}

/// Adds metrics: those of one name become one family, as the text form wants it.
fn join(families: &mut Vec<MetricFamily>, metrics: Vec<MetricFamily>) {
    for mut family in metrics {
        let mut known = families.iter_mut();
        match known.find(|other| other.name() == family.name()) {
            Some(same) => same.mut_metric().append(family.mut_metric()),
            // A family without a metric cannot be written.
            None if family.get_metric().is_empty() => {}
            None => families.push(family),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::{Histogram, HistogramOpts};

    use super::super::tests::policy;
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
        let policy = PolicyFacts {
            calls: 3,
            failures: 1,
            ..policy()
        };
        let policies = PoliciesReport {
            policies: vec![policy],
            ..PoliciesReport::default()
        };
        let bucket = HistogramOpts::new("mlx_hub_request_duration_seconds", "Time.");
        let meters = ["alpha", "beta"].map(|model| {
            let opts = bucket
                .clone()
                .const_label("model", model)
                .buckets(vec![1.0]);
            let histogram = Histogram::with_opts(opts).unwrap();
            histogram.observe(0.5);
            histogram.collect()
        });
        insta::assert_snapshot!(render(&status, &policies, meters.concat()).unwrap());
    }
}
