//! Asks hubs and gateways as clients do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::member::NAMES;
use crate::support::SOON;

pub(crate) fn client() -> ureq::Agent {
    patient_client(SOON)
}

/// One that waits so long for a whole answer.
pub(crate) fn patient_client(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience));
    config.build().new_agent()
}

pub(crate) fn with_key<B>(
    request: ureq::RequestBuilder<B>,
    key: Option<&str>,
) -> ureq::RequestBuilder<B> {
    match key {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    }
}

/// The body of a chat; no two are alike, so that no cache has a say.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    let messages = [message("")];
    json!({"model": model, "stream": stream, "messages": messages}).to_string()
}

/// The same that says this too.
pub(crate) fn chat_that_says(model: &str, text: &str) -> String {
    json!({"model": model, "messages": [message(text)]}).to_string()
}

fn message(text: &str) -> Value {
    json!({"role": "user", "content": format!("{:x} {text}", fastrand::u64(..))})
}

/// Asks a model, and gives the status and the name of the hub that has answered, or else the answer.
pub(crate) fn ask(base: &str, model: &str) -> (u16, String) {
    ask_by(&client(), base, model, None)
}

pub(crate) fn ask_by(
    client: &ureq::Agent,
    base: &str,
    model: &str,
    key: Option<&str>,
) -> (u16, String) {
    send(client, base, &chat(model, false), key)
}

/// The same with that body.
pub(crate) fn send(
    client: &ureq::Agent,
    base: &str,
    body: &str,
    key: Option<&str>,
) -> (u16, String) {
    let request = client.post(format!("{base}/v1/chat/completions"));
    let answer = with_key(request, key)
        .content_type("application/json")
        .send(body);
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (0, error.to_string()),
    };
    let status = answer.status().as_u16();
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    let tokens = json["usage"]["completion_tokens"].as_u64();
    let name = tokens.map(|tokens| NAMES[usize::try_from(tokens % 10).unwrap()].to_owned());
    (status, name.unwrap_or(body))
}
