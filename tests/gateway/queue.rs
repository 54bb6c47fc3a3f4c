//! Requests that a policy told to wait: in which order they go, and what ends their wait.

use serde_json::{Value, json};

use crate::support::http::chat;
use crate::support::{Hub, SOON, stub, wait_until};
use crate::{CHAT, ENDLESS, begin_stream};

/// `policy.at_once` requests of a model at a time; the header `x-client` tells clients apart.
const AT_ONCE: &str = r#"return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    local limit = model and model.settings.at_once
    local is_new = req.waited_seconds == 0
    if limit and (model.active + model.waiting >= limit or is_new and model.parked > 0) then
      return hub.wait{ seconds = 600, client = req.headers["x-client"] }
    end
  end,
}"#;

/// One model, `alpha`, that answers one request at a time, with more keys for its entry.
fn one_at_a_time(keys: &str) -> String {
    format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true, {keys}\n   \
            policy: {{at_once: 1}}}}\n",
        stub(&ENDLESS)
    )
}

fn hub(keys: &str) -> Hub {
    Hub::start_with(&one_at_a_time(keys), &[("at_once.lua", AT_ONCE)])
}

/// A short chat of that client; its prompt says who it is.
fn ask_as(hub: &Hub, client: &str, prompt: &str) -> u16 {
    let mut body = chat("alpha", prompt, false);
    body["max_tokens"] = json!(2);
    let headers = [("content-type", "application/json"), ("x-client", client)];
    let body = body.to_string();
    let reply = hub.http.send("POST", CHAT, &headers, body.as_bytes());
    reply.and_then(|reply| reply.whole()).unwrap().status
}

fn parked(hub: &Hub) -> u64 {
    hub.model("alpha")["parked_requests"].as_u64().unwrap()
}

fn wait_for_parked(hub: &Hub, count: u64) {
    wait_until(&format!("{count} requests parked"), SOON, || {
        parked(hub) == count
    });
}

/// The prompts in the order in which they came to the worker.
fn arrived(hub: &Hub) -> Vec<String> {
    let requests = hub.record.requests(CHAT);
    let prompt = |request: &Value| {
        let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    requests.iter().map(prompt).collect()
}

#[test]
fn forty_requests_of_one_client_do_not_starve_another() {
    let hub = hub("");
    let stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for i in 0..40 {
            let hub = &hub;
            clients.push(scope.spawn(move || ask_as(hub, "many", &format!("many {i}"))));
        }
        wait_for_parked(&hub, 40);
        clients.push(scope.spawn(|| ask_as(&hub, "one", "one")));
        wait_for_parked(&hub, 41);
        drop(stream);
        while !clients.iter().all(|client| client.is_finished()) {
            let active = hub.model("alpha")["active_requests"].as_u64().unwrap();
            assert!(active <= 1, "{active} at once");
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    // First what was there before, then the clients in turn.
    let order = arrived(&hub);
    assert_eq!(order.len(), 42);
    assert_eq!(order[2], "one", "{order:?}");
    assert_eq!(parked(&hub), 0);
}
