//! The refusals of requests and verbs.
//!
//! The queues are those of requests parked before a model and of those whose load the policy puts off.
//! Refusals by a model's state are in [`ApiError`]: policies use the same words.

use std::time::Duration;

use http::StatusCode;

use super::queue::QueueLimits;
use super::unknown::{self, Known};
use crate::api::{ApiError, MemoryState, ModelFacts};
use crate::config::{ApiKey, Config};

/// The longest and shortest `Retry-After`, in seconds.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 1..=60;

/// The request's `model` is missing, null, blank or not a string, and no policy knew where to send it.
pub(crate) fn model_required() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "Model selection is required when the server runs in hub mode. Include the 'model' field \
         (or query parameter) to choose a registered model. Call /v1/models to list available names.",
    )
    .with_param("model")
}

/// No model of this configuration has that name or path. Policies answer for the `declared` names.
pub(crate) fn unknown_model(written: &str, config: &Config, declared: &[String]) -> ApiError {
    let known = config.models.iter().map(|model| Known {
        name: &model.name,
        path: &model.model_path,
    });
    let known: Vec<_> = known.collect();
    let hint = "Call /v1/models to list available names.";
    unknown::unknown_model(written, &known, declared, hint)
}

/// A policy named a model that does not exist.
pub(crate) fn routed_to_unknown(model: &str) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!(
            "A policy routed this request to the model `{model}`, which does not exist in this hub. \
             Correct the policy, or add the model to hub.yaml."
        ),
    )
}

/// The client's key may not use the model.
pub(crate) fn not_for_key(key: &ApiKey, model: &str) -> ApiError {
    let models = key.models.iter().flatten();
    let models: Vec<_> = models.map(|model| format!("`{model}`")).collect();
    let message = format!(
        "The API key `{}` may not use the model `{model}`. It may use {}.",
        key.name,
        models.join(", ")
    );
    ApiError::new(StatusCode::FORBIDDEN, message).with_param("model")
}

/// As many requests wait for the model as may. A place is expected to be free `after` so long.
pub(crate) fn queue_full(model: &str, limits: QueueLimits, after: Duration) -> ApiError {
    let size = limits.size;
    busy(
        format!(
            "The queue of model `{model}` is full: its `queue_size` is {size}. Try again later."
        ),
        after,
    )
}

/// The request has waited as long as it may. The model's `load` takes so long, if there is one ahead.
pub(crate) fn queue_timed_out(
    model: &str,
    limits: QueueLimits,
    load: Option<Duration>,
) -> ApiError {
    let seconds = limits.timeout.as_secs();
    busy(
        format!(
            "Model `{model}` could not be had within its `queue_timeout`, {seconds} s. Try again later."
        ),
        // It waited in vain for that long: soon is too soon.
        load.unwrap_or(limits.timeout),
    )
}

/// Expected time of the model's load, if one is ahead: as long as the last one.
pub(crate) fn load_ahead(facts: &ModelFacts) -> Option<Duration> {
    let is_ahead = facts.memory_state != MemoryState::Loaded;
    let seconds = facts.load_seconds.filter(|_| is_ahead)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The request was let go, and the model was unloaded before it had its lease.
pub(crate) fn left_memory(model: &str) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Model `{model}` has just left memory. Try again."),
    )
}

/// The task that reads hub.yaml has panicked.
pub(crate) fn reading_failed() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Reading hub.yaml failed. The log of the hub says why.",
    )
}

/// The supervisor answered another question than was asked.
pub(crate) fn wrong_reply() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The lifecycle gave the answer to another question. This is a fault of the hub.",
    )
}

fn busy(message: String, after: Duration) -> ApiError {
    let seconds = after.as_secs_f64().ceil() as u64;
    let (low, high) = RETRY_AFTER.into_inner();
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(seconds.clamp(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let limits = QueueLimits {
            size: 100,
            timeout: Duration::from_secs(300),
        };
        let texts = [
            queue_full("alpha", limits, Duration::from_millis(6500)),
            queue_timed_out("alpha", limits, None),
            left_memory("alpha"),
            reading_failed(),
            wrong_reply(),
        ]
        .map(|error| format!("{} {:?} {error}", error.status, error.retry_after));
        insta::assert_snapshot!(texts.join("\n"), @"
        429 Some(7) The queue of model `alpha` is full: its `queue_size` is 100. Try again later.
        429 Some(60) Model `alpha` could not be had within its `queue_timeout`, 300 s. Try again later.
        503 None Model `alpha` has just left memory. Try again.
        500 None Reading hub.yaml failed. The log of the hub says why.
        500 None The lifecycle gave the answer to another question. This is a fault of the hub.
        ");
    }
}
