//! Responses of a simulated worker: plain, and as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::http::{Answer, ModelCall, json_answer};
use super::record::now;
use super::{script, story};

/// The item to send.
struct Item {
    id: String,
    created: u64,
    model: String,
    call: Option<script::ToolCall>,
    tokens: Vec<String>,
    input: usize,
}

impl Item {
    fn of(call: &ModelCall) -> Self {
        let body = call.json();
        let prompt = story::prompt(body);
        let tool = script::next_call(body);
        let tokens = match (&tool, script::of_schema(body)) {
            (Some(_), _) => Vec::new(),
            (None, Some(json)) => vec![json],
            (None, None) => story::tokens(call.model(), &prompt, call.worker.knobs.tokens),
        };
        Self {
            id: Uuid::new_v4().simple().to_string(),
            created: now() as u64,
            model: call.model().to_owned(),
            call: tool,
            tokens,
            input: story::count(&prompt),
        }
    }

    fn item(&self, is_complete: bool) -> Value {
        let status = if is_complete {
            "completed"
        } else {
            "in_progress"
        };
        match &self.call {
            Some(call) => json!({
                "id": format!("fc_{}", self.id),
                "type": "function_call",
                "status": status,
                "call_id": format!("call_{}", self.id),
                "name": call.name,
                "arguments": if is_complete { &*call.arguments } else { "" },
            }),
            None => json!({
                "id": format!("msg_{}", self.id),
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": if is_complete { json!([self.part(true)]) } else { json!([]) },
            }),
        }
    }

    fn part(&self, is_complete: bool) -> Value {
        let text = if is_complete {
            self.tokens.concat()
        } else {
            String::new()
        };
        json!({"type": "output_text", "text": text, "annotations": []})
    }

    fn response(&self, is_complete: bool) -> Value {
        let output = self.tokens.len();
        let usage = json!({
            "input_tokens": self.input,
            "output_tokens": output,
            "total_tokens": self.input + output,
        });
        json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": if is_complete { "completed" } else { "in_progress" },
            "output": if is_complete { json!([self.item(true)]) } else { json!([]) },
            "usage": if is_complete { usage } else { Value::Null },
        })
    }

    /// All events, in the documented order.
    fn events(&self) -> Vec<Value> {
        let item = self.item(true);
        let here = json!({"item_id": item["id"], "output_index": 0});
        let in_text = json!({"item_id": item["id"], "output_index": 0, "content_index": 0});
        let mut events = Vec::new();
        let mut add = |kind: &str, at: &Value, fields: Value| {
            let mut event = json!({"type": kind, "sequence_number": events.len()});
            for (key, value) in [at, &fields]
                .into_iter()
                .filter_map(Value::as_object)
                .flatten()
            {
                event[key] = value.clone();
            }
            events.push(event);
        };
        let nowhere = Value::Null;
        add(
            "response.created",
            &nowhere,
            json!({"response": self.response(false)}),
        );
        add(
            "response.in_progress",
            &nowhere,
            json!({"response": self.response(false)}),
        );
        let added = json!({"output_index": 0, "item": self.item(false)});
        add("response.output_item.added", &nowhere, added);
        if let Some(call) = &self.call {
            let kind = "response.function_call_arguments.delta";
            add(kind, &here, json!({"delta": call.arguments}));
            let kind = "response.function_call_arguments.done";
            add(kind, &here, json!({"arguments": call.arguments}));
        } else {
            add(
                "response.content_part.added",
                &in_text,
                json!({"part": self.part(false)}),
            );
            for token in &self.tokens {
                add(
                    "response.output_text.delta",
                    &in_text,
                    json!({"delta": token}),
                );
            }
            let text = self.tokens.concat();
            add("response.output_text.done", &in_text, json!({"text": text}));
            add(
                "response.content_part.done",
                &in_text,
                json!({"part": self.part(true)}),
            );
        }
        let done = json!({"output_index": 0, "item": item});
        add("response.output_item.done", &nowhere, done);
        add(
            "response.completed",
            &nowhere,
            json!({"response": self.response(true)}),
        );
        events
    }
}

/// `POST /v1/responses`.
pub(super) fn answer(call: ModelCall) -> Answer {
    let plan = Item::of(&call);
    if call.json()["stream"] != true {
        return json_answer(StatusCode::OK, &plan.response(true));
    }
    let pause = call.worker.knobs.per_token();
    let events = stream::unfold(
        (plan.events().into_iter(), call),
        move |(mut events, call)| async move {
            let event = events.next()?;
            let is_token = event["type"] == "response.output_text.delta";
            if is_token && pause > Duration::ZERO {
                tokio::time::sleep(pause).await;
            }
            let kind = event["type"].as_str().unwrap_or_default();
            let text = Bytes::from(format!("event: {kind}\ndata: {event}\n\n"));
            Some((Ok::<_, Infallible>(Frame::data(text)), (events, call)))
        },
    );
    let mut answer = Response::new(StreamBody::new(events).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/event-stream; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
