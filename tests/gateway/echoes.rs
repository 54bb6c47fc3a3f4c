//! The name the client used is the name it gets back.

use serde_json::{Value, json};

use crate::support::Hub;
use crate::support::http::{Reply, chat};
use crate::{CHAT, DIALECTS, alpha_in};

/// Sends `gpt-4` to `alpha`.
const ALIAS: &str = r#"
return {
  on_request = function(req, hub)
    if req.model == "gpt-4" then
      return hub.route({ model = "alpha" })
    end
  end,
}
"#;

#[test]
fn plain_and_streamed_answers_have_the_clients_name() {
    for dialect in DIALECTS {
        let yaml = alpha_in(dialect, &["--tokens", "400"]);
        let hub = Hub::start_with(&yaml, &[("alias.lua", ALIAS)]);
        for model in ["alpha", "org/alpha", "gpt-4"] {
            let plain = hub.http.chat(model, r#"say "model":"alpha""#);
            assert_eq!(plain.status, 200, "{}", plain.text());
            let answer = plain.json();
            assert_eq!(answer["model"], model, "{dialect}");
            let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
            assert!(text.contains(r#""model":"alpha""#), "{text}");
            assert_eq!(answer["usage"]["completion_tokens"], 400);

            let events: Vec<String> = hub
                .http
                .stream(model, r#"say "model":"alpha""#)
                .events()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(events.len() > 400);
            assert_eq!(events.last().unwrap(), "[DONE]");
            for event in &events[..events.len() - 1] {
                let event: Value = serde_json::from_str(event).unwrap();
                assert_eq!(event["model"], model, "{dialect}: {event}");
            }
        }
        assert_eq!(hub.record.requests(CHAT).len(), 6);
    }
}

#[test]
fn so_do_the_answers_of_other_endpoints() {
    let yaml = alpha_in("1.8.1", &["--tokens", "3"]);
    let hub = Hub::start_with(&yaml, &[("alias.lua", ALIAS)]);
    for model in ["alpha", "org/alpha", "gpt-4"] {
        for (path, body) in [
            (
                "/v1/embeddings",
                json!({"model": model, "input": ["a", "b"]}),
            ),
            ("/v1/responses", json!({"model": model, "input": "a"})),
            (
                "/v1/images/generations",
                json!({"model": model, "prompt": "a"}),
            ),
        ] {
            let answer = hub.http.post(path, &body);
            assert_eq!(answer.json()["model"], model, "{path}");
        }
        let form = format!(
            "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--B--\r\n"
        );
        let headers = [("content-type", "multipart/form-data; boundary=B")];
        let answer = hub
            .http
            .send(
                "POST",
                "/v1/audio/transcriptions",
                &headers,
                form.as_bytes(),
            )
            .and_then(Reply::whole)
            .unwrap();
        assert_eq!(answer.json()["model"], model);
    }
}

#[test]
fn an_answer_that_needs_no_change_keeps_its_length() {
    let hub = Hub::start(&alpha_in("1.8.1", &["--tokens", "3"]));
    let reply = hub.http.open(CHAT, &chat("alpha", "hello", false));
    assert!(reply.header("content-length").is_some());
    let reply = hub.http.open(CHAT, &chat("org/alpha", "hello", false));
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.whole().unwrap().json()["model"], "org/alpha");
}
