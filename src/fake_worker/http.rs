//! The routes of a simulated worker and what they check before they answer.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::options::Dialect;
use super::server::{Busy, Worker};
use super::{answers, chat, responses, written};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Answer = Response<Body>;

const REQUEST_ID: &str = "x-request-id";

/// A checked `POST`: its model is ours, and loaded.
pub(super) struct ModelCall {
    pub worker: Arc<Worker>,
    pub form: Form,
    pub busy: Busy,
}

/// One part of a form.
pub(super) struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content: Bytes,
}

/// The body of a `POST`.
pub(super) enum Form {
    Json(Value),
    Parts(Vec<Part>),
}

impl ModelCall {
    /// The name to answer under: JIT echoes what it was called.
    pub(super) fn model(&self) -> &str {
        match self.worker.knobs.dialect {
            Dialect::Jit => self.form.model().unwrap_or(self.worker.launch.name()),
            Dialect::V181 => self.worker.launch.name(),
        }
    }

    /// The body as JSON; null when it is a form.
    pub(super) fn json(&self) -> &Value {
        match &self.form {
            Form::Json(value) => value,
            Form::Parts(_) => &Value::Null,
        }
    }
}

impl Form {
    fn model(&self) -> Option<&str> {
        match self {
            Self::Json(value) => value["model"].as_str(),
            Self::Parts(parts) => {
                let part = parts.iter().find(|part| part.name == "model")?;
                std::str::from_utf8(&part.content).ok()
            }
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    worker: Arc<Worker>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let busy = worker.busy();
    let (mut head, body) = request.into_parts();
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let Ok(body) = body.collect().await else {
        worker
            .record
            .event("upload_aborted", &json!({"path": head.uri.path()}));
        return Ok(detail(
            StatusCode::BAD_REQUEST,
            "There was an error parsing the body",
        ));
    };
    let body = body.to_bytes();
    // It is asked in the background, and no request of a client.
    if head.uri.path() == "/openapi.json" {
        worker.record.event("described", &json!({}));
    } else {
        worker.record.request(&head, &body);
    }
    let id = match worker.knobs.dialect {
        Dialect::Jit => head.headers.get(REQUEST_ID).cloned(),
        Dialect::V181 => None,
    };
    let mut answer = match (&head.method, head.uri.path()) {
        (&Method::GET, "/health") => answers::health(&worker),
        (&Method::GET, "/v1/models") => answers::models(&worker),
        (&Method::GET, "/openapi.json") if !worker.knobs.undescribed => answers::openapi(&worker),
        (&Method::GET, "/v1/queue/stats") => match worker.model.ensure_loaded().await {
            Ok(()) => answers::queue_stats(&worker),
            Err(_) => load_failed(),
        },
        (&Method::GET, "/v1/realtime") if head.headers.contains_key(header::UPGRADE) => {
            realtime(&worker, upgrade)
        }
        (&Method::POST, path) if is_post_route(&worker, path) => {
            worker.count_post().await;
            match check(worker, &head.headers, body, busy).await {
                Ok(call) => dispatch(call, path).await,
                Err(refusal) => refusal,
            }
        }
        (_, "/health" | "/v1/models" | "/v1/queue/stats") => {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
        (_, path) if is_post_route(&worker, path) => {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
        _ => detail(StatusCode::NOT_FOUND, "Not Found"),
    };
    if let Some(id) = id {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(answer)
}

/// A WebSocket as far as its bytes go: they come back. The handshake's key is not checked.
fn realtime(worker: &Worker, upgrade: Option<OnUpgrade>) -> Answer {
    let stopping = worker.stopping.clone();
    worker.tasks.spawn(async move {
        let Some(Ok(connection)) = futures_util::future::OptionFuture::from(upgrade).await else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
        tokio::select! {
            _ = tokio::io::copy(&mut read, &mut write) => {}
            () = stopping.cancelled() => {}
        }
    });
    let mut answer = detail(StatusCode::SWITCHING_PROTOCOLS, "");
    *answer.body_mut() = Full::default().boxed_unsync();
    let headers = answer.headers_mut();
    headers.clear();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer
}

/// The routes of both dialects, and then that of the newer one alone.
const POST_ROUTES: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/transcriptions",
    "/v1/responses",
];

/// Those that answer a `POST`.
pub(super) fn post_routes(worker: &Worker) -> impl Iterator<Item = &str> {
    let of_dialect = match worker.knobs.dialect {
        Dialect::V181 => &POST_ROUTES[..],
        Dialect::Jit => &POST_ROUTES[..POST_ROUTES.len() - 1],
    };
    of_dialect
        .iter()
        .copied()
        .chain(worker.knobs.serves.as_deref())
}

fn is_post_route(worker: &Worker, path: &str) -> bool {
    post_routes(worker).any(|route| route == path)
}

async fn dispatch(call: ModelCall, path: &str) -> Answer {
    if call.worker.knobs.fail_requests {
        return detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    }
    if let Some(answer) = &call.worker.knobs.answer {
        let (status, body) = answer.split_once(' ').unwrap_or((answer, ""));
        let mut answer = json_answer(status.parse().unwrap_or_default(), &Value::Null);
        *answer.body_mut() = Full::from(body.to_owned()).boxed_unsync();
        return answer;
    }
    if call.worker.knobs.spin {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        return std::future::pending().await;
    }
    call.worker
        .knobs
        .pass(call.worker.knobs.first_token_seconds)
        .await;
    match path {
        "/v1/chat/completions" if call.json()["stream"] == true => {
            match call.worker.knobs.streams.clone() {
                Some(folder) => written::stream(&folder, call),
                None => chat::stream(call),
            }
        }
        "/v1/chat/completions" => chat::plain(call).await,
        "/v1/responses" => responses::answer(call),
        path if call.worker.knobs.serves.as_deref() == Some(path) => answers::completion(&call),
        "/v1/embeddings" => answers::embeddings(&call),
        "/v1/audio/transcriptions" => answers::transcription(&call),
        _ => answers::image(&call),
    }
}

/// The parts of a form, as far as they can be told apart.
async fn parts(body: Bytes, boundary: String) -> Vec<Part> {
    let body = stream::once(ready(Ok::<_, Infallible>(body)));
    let mut form = multer::Multipart::new(body, boundary);
    let mut parts = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        let (name, filename) = (field.name(), field.file_name());
        let (name, filename) = (
            name.unwrap_or_default().to_owned(),
            filename.map(str::to_owned),
        );
        let Ok(content) = field.bytes().await else {
            break;
        };
        parts.push(Part {
            name,
            filename,
            content,
        });
    }
    parts
}

/// Checks of every `POST`: a body that parses, a model that is ours, a model that loads.
async fn check(
    worker: Arc<Worker>,
    headers: &hyper::HeaderMap,
    body: Bytes,
    busy: Busy,
) -> Result<ModelCall, Answer> {
    let kind = headers.get(header::CONTENT_TYPE);
    let boundary = kind.and_then(|kind| multer::parse_boundary(kind.to_str().ok()?).ok());
    let form = match boundary {
        Some(boundary) => Form::Parts(parts(body, boundary).await),
        None => Form::Json(serde_json::from_slice(&body).map_err(|error| unparsable(&error))?),
    };
    if let Form::Json(value) = &form
        && value
            .get("messages")
            .or(value.get("input"))
            .or(value.get("prompt"))
            .is_none()
    {
        return Err(missing("messages", value));
    }
    let ours = worker.launch.name();
    if worker.knobs.dialect == Dialect::V181
        && let Some(asked) = form.model().filter(|asked| *asked != ours)
    {
        return Err(unknown_model(asked, ours));
    }
    worker
        .model
        .ensure_loaded()
        .await
        .map_err(|_| load_failed())?;
    Ok(ModelCall { worker, form, busy })
}

/// An answer of JSON.
pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()).boxed_unsync());
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn detail(status: StatusCode, text: &str) -> Answer {
    json_answer(status, &json!({ "detail": text }))
}

fn unparsable(error: &serde_json::Error) -> Answer {
    json_answer(
        StatusCode::UNPROCESSABLE_ENTITY,
        &json!({"detail": [{
            "type": "json_invalid",
            "loc": ["body", error.column()],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.to_string()},
        }]}),
    )
}

fn missing(field: &str, input: &Value) -> Answer {
    json_answer(
        StatusCode::UNPROCESSABLE_ENTITY,
        &json!({"detail": [{
            "type": "missing",
            "loc": ["body", field],
            "msg": "Field required",
            "input": input,
        }]}),
    )
}

fn unknown_model(asked: &str, ours: &str) -> Answer {
    json_answer(
        StatusCode::NOT_FOUND,
        &json!({"detail": {"error": {
            "message": format!("Model '{asked}' not found. Available models: {ours}"),
            "type": "model_not_found",
            "code": 404,
        }}}),
    )
}

fn load_failed() -> Answer {
    json_answer(
        StatusCode::INTERNAL_SERVER_ERROR,
        &json!({"error": {
            "message": "Failed to load model handler",
            "type": "server_error",
            "param": null,
            "code": "500",
        }}),
    )
}
