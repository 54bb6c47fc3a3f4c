//! Whom a request comes from when a proxy stands before the hub.

use serde_json::json;

use crate::support::http::Reply;
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha};

/// Tells the client what the policies see.
const TELL: &str = r#"return {
  on_request = function(req, hub)
    return hub.reject{ status = 418, message = req.client .. " via " .. tostring(req.via) }
  end,
}
"#;

fn seen(hub: &Hub, headers: &[(&str, &str)]) -> String {
    let body = json!({"model": "alpha", "messages": []}).to_string();
    let headers = [&[("content-type", "application/json")], headers].concat();
    let reply = hub.http.send("POST", CHAT, &headers, body.as_bytes());
    let answer = reply.and_then(Reply::whole).unwrap();
    assert_eq!(answer.status, 418, "{}", answer.text());
    answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Waits until a request of that client is the last that has ended.
fn wait_until_noted(hub: &Hub, client: &str) {
    wait_until(&format!("a request of {client}"), SOON, || {
        let answer = hub.http.get("/hub/requests").json();
        let last = answer["requests"].as_array().unwrap().last();
        last.is_some_and(|last| last["client"] == client)
    });
}

#[test]
fn a_trusted_proxy_is_believed_about_its_client_and_nobody_else() {
    let hub = Hub::start_with(&alpha(&[]), &[("tell.lua", TELL)]);
    let forwarded = [("x-forwarded-for", "6.6.6.6, 10.0.0.7")];
    let real = [("x-real-ip", "10.0.0.8")];
    assert_eq!(seen(&hub, &forwarded), "127.0.0.1 via nil");
    wait_until_noted(&hub, "127.0.0.1");

    let trusting = format!("trusted_proxies: [127.0.0.0/8]\n{}", alpha(&[]));
    hub.configure(&trusting);
    assert_eq!(hub.http.post("/hub/reload", &json!({})).status, 200);
    assert_eq!(seen(&hub, &forwarded), "10.0.0.7 via 127.0.0.1");
    wait_until_noted(&hub, "10.0.0.7");
    assert_eq!(seen(&hub, &real), "127.0.0.1 via nil");
    assert_eq!(seen(&hub, &[]), "127.0.0.1 via nil");

    hub.configure(&format!("client_address_header: X-Real-IP\n{trusting}"));
    assert_eq!(hub.http.post("/hub/reload", &json!({})).status, 200);
    assert_eq!(seen(&hub, &forwarded), "127.0.0.1 via nil");
    assert_eq!(seen(&hub, &real), "10.0.0.8 via 127.0.0.1");
}
