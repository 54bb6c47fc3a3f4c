//! The login of the status page: a key is shown once, and its cookie counts for the hub's own pages.

use mlx_openai_server_hub::config::KeyDigest;
use serde_json::{Value, json};

use crate::alpha;
use crate::support::Hub;
use crate::support::http::{Answer, Reply};

const CONTROL: &str = "a-key-that-may-control-the-hub";
const USE: &str = "a-key-that-may-use-the-models";

fn yaml() -> String {
    let hash = |key: &str| KeyDigest::of(key.as_bytes()).to_hex();
    format!(
        "api_keys:\n- {{name: owner, sha256: {}, may: [use, control]}}\n- {{name: user, sha256: {}}}\n{}",
        hash(CONTROL),
        hash(USE),
        alpha(&[])
    )
}

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let reply = hub.http.send(method, path, headers, body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

fn log_in(hub: &Hub, key: &str) -> Answer {
    let body = json!({ "key": key }).to_string();
    let headers = [("content-type", "application/json")];
    send(hub, "POST", "/hub/login", &headers, &body)
}

/// What a browser sends back of a `Set-Cookie`.
fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn a_session_opens_the_page_and_what_it_asks_until_it_is_left() {
    let hub = Hub::start(&yaml());
    let opened = log_in(&hub, CONTROL);
    assert_eq!(opened.status, 204, "{}", opened.text());
    let set = opened.header("set-cookie").unwrap();
    for word in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(word), "{set}");
    }
    assert!(!set.contains(CONTROL), "{set}");
    let cookie = cookie(&opened);
    let own = format!("http://127.0.0.1:{}", hub.http.port);
    let fetch = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    for path in [
        "/hub",
        "/hub/status",
        "/hub/requests",
        "/metrics",
        "/v1/models",
    ] {
        assert_eq!(send(&hub, "GET", path, &fetch, "").status, 200, "{path}");
    }
    for path in ["/hub/events", "/hub/logs?follow=1"] {
        let reply = hub.http.send("GET", path, &fetch, b"").unwrap();
        assert_eq!(reply.status, 200, "{path}");
    }
    let by_origin = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    assert_eq!(
        send(&hub, "POST", "/hub/reload", &by_origin, "").status,
        200
    );
    // Without a word about the page that asks, a cookie changes nothing.
    let bare = [("cookie", cookie.as_str())];
    assert_eq!(send(&hub, "GET", "/hub/status", &bare, "").status, 200);
    assert_eq!(send(&hub, "POST", "/hub/reload", &bare, "").status, 401);
    assert_eq!(send(&hub, "GET", "/v1/models", &bare, "").status, 401);

    let left = send(&hub, "POST", "/hub/logout", &by_origin, "");
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(send(&hub, "GET", "/hub/status", &fetch, "").status, 401);
}

#[test]
fn a_cookie_alone_lets_no_other_page_act() {
    let hub = Hub::start(&format!(
        "allowed_origins: ['http://localhost:3000']\n{}",
        yaml()
    ));
    let cookie = cookie(&log_in(&hub, CONTROL));
    for (method, path) in [
        ("POST", "/hub/reload"),
        ("POST", "/hub/shutdown"),
        ("POST", "/hub/models/alpha/load"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
    ] {
        for page in [
            // Even one that is listed has to show a key.
            &[("origin", "http://localhost:3000")][..],
            &[
                ("origin", "http://localhost:3000"),
                ("sec-fetch-site", "same-site"),
            ],
            &[
                ("origin", "http://evil.example"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site")],
            &[("referer", "http://localhost:3000/")],
        ] {
            let mut headers = page.to_vec();
            headers.push(("cookie", &cookie));
            let status = send(&hub, method, path, &headers, "").status;
            assert!(
                [401, 403].contains(&status),
                "{method} {path} {page:?}: {status}"
            );
        }
    }
    assert_eq!(hub.http.get("/health").status, 200);
    assert_eq!(hub.record.count("load", "alpha"), 0);
}

#[test]
fn a_session_ends_with_its_key() {
    let hub = Hub::start(&yaml());
    let cookie = cookie(&log_in(&hub, CONTROL));
    let fetch = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(send(&hub, "GET", "/hub/status", &fetch, "").status, 200);
    let hash = KeyDigest::of(b"another-key-that-may-control").to_hex();
    hub.configure(&format!(
        "api_keys: [{{name: other, sha256: {hash}, may: [use, control]}}]\n{}",
        alpha(&[])
    ));
    assert_eq!(send(&hub, "POST", "/hub/reload", &fetch, "").status, 200);
    assert_eq!(send(&hub, "GET", "/hub/status", &fetch, "").status, 401);
}

#[test]
fn a_wrong_login_is_refused_and_after_five_of_them_any_for_a_while() {
    let hub = Hub::start(&yaml());
    for (kind, body) in [
        ("text/plain", json!({ "key": CONTROL }).to_string()),
        ("application/json", CONTROL.to_owned()),
        (
            "application/json",
            json!({ "key": "x".repeat(5000) }).to_string(),
        ),
    ] {
        let refused = send(&hub, "POST", "/hub/login", &[("content-type", kind)], &body);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(refused.header("set-cookie"), None);
    }
    for (key, status) in [(USE, 403), ("", 401), ("a", 401), ("b", 401), ("c", 401)] {
        let refused = log_in(&hub, key);
        assert_eq!(refused.status, status, "{}", refused.text());
        assert_eq!(refused.header("set-cookie"), None);
    }
    let refused = log_in(&hub, CONTROL);
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Keys in headers are another matter.
    let bearer = format!("Bearer {CONTROL}");
    let status = send(
        &hub,
        "GET",
        "/hub/status",
        &[("authorization", &bearer)],
        "",
    )
    .status;
    assert_eq!(status, 200);
}

#[test]
fn a_browser_without_a_session_sees_the_login_and_a_hub_without_keys_has_none() {
    let hub = Hub::start(&yaml());
    let page = send(
        &hub,
        "GET",
        "/hub",
        &[("accept", "text/html,*/*;q=0.8")],
        "",
    );
    assert_eq!(page.status, 401);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("script-src 'self'")
    );
    assert!(page.text().contains("Log in") && !page.text().contains("alpha"));
    for asset in ["/hub/assets/hub.css", "/hub/assets/login.js"] {
        assert_eq!(hub.http.get(asset).status, 200, "{asset}");
    }
    assert_eq!(hub.http.get("/hub/assets/hub.js").status, 401);
    let json = send(&hub, "GET", "/hub", &[("accept", "application/json")], "");
    assert_eq!(
        (json.status, json.header("content-type")),
        (401, Some("application/json"))
    );

    let without = Hub::start(&format!("enable_status_page: false\n{}", yaml()));
    let refused = send(&without, "GET", "/hub", &[("accept", "text/html")], "");
    assert_eq!(
        (refused.status, refused.header("content-type")),
        (401, Some("application/json"))
    );

    let open = Hub::start(&alpha(&[]));
    for path in ["/hub/login", "/hub/logout"] {
        assert_eq!(open.http.post(path, &Value::Null).status, 404, "{path}");
    }
    assert!(!open.http.get("/hub").text().contains("Log out"));
    assert!(
        open.http
            .get("/hub/status")
            .json()
            .get("has_keys")
            .is_none()
    );
}
