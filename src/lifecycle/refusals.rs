//! What requests are told when a queue is too long, or their wait in it.
//!
//! For those parked before a model and for those whose load the policy puts off.

use std::time::Duration;

use http::StatusCode;

use super::parking::QueueLimits;
use crate::api_error::ApiError;

/// The longest and shortest `Retry-After`, in seconds.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 1..=60;

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

fn busy(message: String, after: Duration) -> ApiError {
    let seconds = after.as_secs_f64().ceil() as u64;
    let (low, high) = RETRY_AFTER.into_inner();
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(seconds.clamp(low, high))
}
