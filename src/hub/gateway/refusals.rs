//! The exact texts with which the gateway refuses a request or breaks off an answer; the protocol formats them.

use std::fmt::Display;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::LengthLimitError;
use tracing::{debug, warn};

use crate::api::{ApiError, CANCELLED, shown};
use crate::config::Limits;
use crate::hub::gateway::protocol::openai::COMPLETIONS;
use crate::hub::gateway::protocol::responses::FORGOTTEN;
use crate::hub::lifecycle::Lack;
use crate::upstream::{BoxError, UpstreamError};

/// Number of a worker's routes in a text.
const MAX_ROUTES: usize = 20;

/// A model that exists is not in the list of those that take requests.
pub(crate) fn not_listed(model: &str) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND.as_u16(),
        ..ApiError::not_started(model).with_code("model_not_found")
    }
}

/// A policy wants to change fields of a body that has none.
pub(crate) fn fields_without_json() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "A policy changed body fields (`set` or `unset`) of a request whose body is not a JSON object. \
         Correct the policy: such requests can only be given another model or headers.",
    )
}

/// No model that this hub knows of made that response.
pub(crate) fn unknown_response(id: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "The response `{}` was not made through this hub since its start, or was forgotten. {FORGOTTEN} If a \
             worker keeps it, name its model in the query (`?model=`).",
            shown(id)
        ),
    )
}

/// Nothing under `/v1` has that path.
pub(crate) fn unknown_route(method: &Method, path: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "{} {} is not a route of this hub. Routes that only a worker knows need a 'model'.",
            shown(method.as_str()),
            shown(path)
        ),
    )
}

/// A worker, with its program and its engine.
fn worker(
    model: &str,
    Lack {
        program, engine, ..
    }: &Lack,
) -> String {
    let program = program.iter().map(|program| format!("`{program}`"));
    let engine = engine.iter().map(|engine| format!("engine `{engine}`"));
    let which: Vec<_> = program.chain(engine).collect();
    match which.is_empty() {
        true => format!("The worker of model `{model}`"),
        false => format!("The worker of model `{model}` ({})", which.join(", ")),
    }
}

/// The program of the model's worker has no such route.
pub(crate) fn no_such_route(method: &Method, path: &str, model: &str, lack: &Lack) -> ApiError {
    let (method, path) = (shown(method.as_str()), shown(path));
    let worker = worker(model, lack);
    let message = format!("{worker} has no {method} {path}.");
    ApiError::new(StatusCode::NOT_FOUND, message + &serves(lack))
}

const NO_TRANSLATION: &str = "A chat template would change what the prompt means, so the hub does not make a chat of it: send \
     the prompt as a message to /v1/chat/completions.";

/// The program of the model's worker has no plain completions.
pub(crate) fn no_completions(model: &str, lack: &Lack) -> ApiError {
    let worker = worker(model, lack);
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!("{worker} has no /v1/completions. {NO_TRANSLATION}"),
    )
}

/// Nothing is known of the routes of the model's worker, and its model is not in memory.
pub(crate) fn unknown_completions(model: &str, lack: &Lack) -> ApiError {
    let worker = worker(model, lack);
    let (known, program) = match lack.engine {
        None => (
            ", and mlx-openai-server has none",
            "its `worker_command` is a program that has the route",
        ),
        Some(_) => ("", "it has the route"),
    };
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!(
            "{worker} is not known to have /v1/completions{known}. {NO_TRANSLATION} If {program}, load the model \
             first: the hub asks its worker then."
        ),
    )
}

/// The routes that a worker serves, as a sentence.
fn serves(lack: &Lack) -> String {
    let served: Vec<_> = lack.served.iter().map(String::as_str).collect();
    match &served[..served.len().min(MAX_ROUTES)] {
        [] => String::new(),
        served => format!(" It serves {}.", served.join(", ")),
    }
}

/// The model's worker lacks the route that a request of another API is translated for, as it has said itself without a
/// `lack`. Not a 404: the client would take that for an unknown model.
pub(crate) fn lacks_for_door(model: &str, path: &str, lack: Option<&Lack>) -> ApiError {
    let unknown = Lack::default();
    let lack = lack.unwrap_or(&unknown);
    let worker = worker(model, lack);
    if path == COMPLETIONS {
        let message = format!(
            "{worker} is not known to have {path}, which takes a prompt as it is, so `raw` cannot be true. Leave it \
             out: the prompt is sent as a chat then, in the model's template."
        );
        return ApiError::new(StatusCode::BAD_REQUEST, message).with_param("raw");
    }
    let message = format!("{worker} has no {path}, which the request is translated for.");
    let other = match lack.engine {
        None => " Use a model of another type.",
        Some(_) => " Use a model of another type or engine.",
    };
    ApiError::new(StatusCode::BAD_REQUEST, message + &serves(lack) + other)
}

/// A request that would make the model's worker load something else.
pub(crate) fn refused_field(model: &str, engine: &str, field: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!(
            "`{field}` cannot be set by a request: the worker of model `{model}` (engine `{engine}`) would drop what it \
             has loaded and load what `{field}` names. Leave it out; hub.yaml says what the model is loaded with."
        ),
    )
    .with_param(field)
}

/// A body of which it is not known what the model's worker would load for it.
pub(crate) fn unreadable_for_engine(model: &str, engine: &str) -> ApiError {
    malformed(&format!(
        "the worker of model `{model}` (engine `{engine}`) loads what a request names, so the hub must read it, and it \
         is neither a JSON object nor a multipart form"
    ))
}

/// A body below `/upstream` in a content coding, for a worker that loads what a request names.
pub(crate) fn coded_for_engine(model: &str, engine: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "The worker of model `{model}` (engine `{engine}`) loads what a request names, so the hub must read it: \
             below /upstream, send the body without a content coding."
        ),
    )
}

/// A WebSocket to a worker that loads what a message names.
pub(crate) fn no_websocket_for_engine(model: &str, engine: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!(
            "The worker of model `{model}` (engine `{engine}`) loads what a request names, and the hub does not read \
             what passes on a WebSocket: this engine has none."
        ),
    )
}

/// The body does not match its content type.
pub(crate) fn malformed(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!("The request body could not be read: {what}"),
    )
}

const TWICE: &str =
    "more than one `model`. Which of them counts depends on who reads it; write one";

/// A body names its model more than once.
pub(crate) fn model_twice() -> ApiError {
    malformed(&format!("it has {TWICE}")).with_param("model")
}

/// A query names its model more than once.
pub(crate) fn model_twice_in_query() -> ApiError {
    let message = format!("The request's query has {TWICE}");
    ApiError::new(StatusCode::BAD_REQUEST, message).with_param("model")
}

/// The body is in a content coding that the hub does not read.
pub(crate) fn unknown_coding(coding: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "The request body has the content coding `{}`, which the hub does not read. Send it as it is, or \
             in gzip, deflate or zstd.",
            shown(coding)
        ),
    )
}

/// The body is not in the content coding that its head names.
pub(crate) fn not_decoded(coding: &str, cause: &dyn Display) -> ApiError {
    malformed(&format!("it is not in {coding}, as its head says: {cause}"))
}

/// The body is incomplete. The connection's error goes to the log.
fn body_broke_off(cause: &dyn Display) -> ApiError {
    debug!(%cause, "request body broke off");
    malformed("it broke off, or is not framed as its head says")
}

/// The body could not be read further.
pub(crate) fn body_failed(cause: &BoxError, limits: Limits) -> ApiError {
    if let Some(error) = cause.downcast_ref::<ApiError>() {
        return error.clone();
    }
    if cause.is::<LengthLimitError>() {
        return too_large(limits.body);
    }
    body_broke_off(cause)
}

/// The request wants a WebSocket on a connection that hyper cannot release.
pub(crate) fn no_websocket() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "A WebSocket needs a request of HTTP/1.1, and this is one of HTTP/1.0.",
    )
}

/// The body is over the limit.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "The request body is larger than {} MiB (`max_body_mb`).",
            limit >> 20
        ),
    )
}

/// The waiting bodies have reached their memory limit.
pub(crate) fn too_much_held() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The requests that wait for their models fill the memory they may have (`max_held_mb`). Ask \
         again later.",
    )
    .with_retry_after(1)
}

/// The worker has not begun its answer in time.
pub(crate) fn no_answer_in_time(model: &str, limit: Duration) -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        format!(
            "The worker of model `{model}` did not begin its answer within {} s \
             (`first_byte_timeout`).",
            limit.as_secs()
        ),
    )
}

/// Somebody has cancelled the request.
pub(crate) fn cancelled() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The request was cancelled at the hub: on its status page, or by its control API.",
    )
    .with_code(CANCELLED)
}

/// The worker has paused for too long in the middle of its answer.
pub(crate) fn answer_paused(model: &str) -> ApiError {
    worker_failed(
        model,
        "to go on with its answer in time (`idle_stream_timeout`)",
    )
}

/// The client's own limit on the wait for its model has passed; `progress` is that of the load.
pub(crate) fn still_loading(progress: &str) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!(
            "The model is not ready yet ({progress}). Ask again later, or prefer a longer wait."
        ),
    )
    .with_code("model_loading")
}

/// The worker gave no answer.
pub(crate) fn no_answer(model: &str, error: &UpstreamError, limits: Limits) -> ApiError {
    match error {
        UpstreamError::Upload(cause) => body_failed(cause, limits),
        UpstreamError::Silent { .. } => no_answer_in_time(model, limits.first_byte),
        _ => {
            warn!(hub_model = %model, %error, "worker gave no answer");
            worker_failed(model, "before it answered")
        }
    }
}

/// The worker stopped in the middle of its answer.
pub(crate) fn answer_broke_off(model: &str) -> ApiError {
    worker_failed(model, "before its answer was complete")
}

/// The error of the connection varies, and goes to the log.
fn worker_failed(model: &str, when: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        format!(
            "The worker of model `{model}` failed {when}. Try again; if it keeps failing, the model's \
             log says why."
        ),
    )
}
