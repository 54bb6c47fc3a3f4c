//! Responses that are kept: each is there for the key alone that asked for it.

use serde_json::{Value, json};

use crate::alpha_in;
use crate::keys::{CONTROL, USE, ask, keys};
use crate::support::Hub;

const RESPONSES: &str = "/v1/responses";

/// What the hub says of a response that nobody is known to have made.
const UNKNOWN: &str = "was not made through this hub";

fn asked(hub: &Hub, key: &str, body: &Value) -> Value {
    let answer = ask(hub, key, "POST", RESPONSES, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn another_key_finds_nothing_of_a_response_that_the_hub_keeps() {
    let hub = Hub::start_with(
        &format!("{}{}", keys(), alpha_in("jit", &["--tokens", "3"])),
        &[("key.txt", "a-key\n")],
    );
    let body = json!({"model": "alpha", "input": "a secret"});
    let said = asked(&hub, USE, &body);
    let id = said["id"].as_str().unwrap();
    let path = format!("{RESPONSES}/{id}");
    let on = json!({"model": "alpha", "previous_response_id": id, "input": "go on"});

    let refused = ask(&hub, CONTROL, "POST", RESPONSES, &on);
    let unknown = json!({"model": "alpha", "previous_response_id": "resp_0", "input": "go on"});
    let unknown = ask(&hub, CONTROL, "POST", RESPONSES, &unknown);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.text().replace(id, "resp_0"), unknown.text());
    for (method, below) in [
        ("GET", ""),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ] {
        let refused = ask(
            &hub,
            CONTROL,
            method,
            &format!("{path}{below}"),
            &Value::Null,
        );
        let unknown = format!("{RESPONSES}/resp_0{below}");
        let unknown = ask(&hub, CONTROL, method, &unknown, &Value::Null);
        assert_eq!(refused.status, 404, "{method} {below}: {}", refused.text());
        assert_eq!(refused.text().replace(id, "resp_0"), unknown.text());
    }

    assert_eq!(ask(&hub, USE, "GET", &path, &Value::Null).json(), said);
    asked(&hub, USE, &on);
    assert_eq!(ask(&hub, USE, "DELETE", &path, &Value::Null).status, 200);
}

#[test]
fn another_key_is_not_led_to_the_worker_that_made_a_response() {
    let hub = Hub::start_with(
        &format!("{}{}", keys(), alpha_in("1.8.1", &["--tokens", "3"])),
        &[("key.txt", "a-key\n")],
    );
    let said = asked(&hub, USE, &json!({"model": "alpha", "input": "a secret"}));
    let path = format!("{RESPONSES}/{}", said["id"].as_str().unwrap());
    for query in ["", "?model=alpha"] {
        let refused = ask(
            &hub,
            CONTROL,
            "GET",
            &format!("{path}{query}"),
            &Value::Null,
        );
        assert_eq!(refused.status, 404, "{}", refused.text());
        assert!(refused.text().contains(UNKNOWN), "{}", refused.text());
    }
    // The simulated worker keeps none; that is what it says itself.
    let asked = ask(&hub, USE, "GET", &path, &Value::Null);
    assert!(!asked.text().contains(UNKNOWN), "{}", asked.text());
}
