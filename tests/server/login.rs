//! The login of the status page: a key is shown once, and its cookie counts for the hub's own pages.

use std::path::{Path, PathBuf};

use memchr::memmem;
use mlx_openai_server_hub::config::KeyDigest;
use serde_json::{Value, json};

use crate::alpha;
use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};

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

/// Files below a folder that have that text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| memmem::find(&bytes, text.as_bytes()).is_some())
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_session_goes_on_in_the_hub_that_takes_over_and_ends_there() {
    let hub = Hub::start(&yaml());
    let [cookie, left] = [(); 2].map(|()| cookie(&log_in(&hub, CONTROL)));
    let fetch = |cookie: &str, method: &str, path: &str| {
        let headers = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
        send(&hub, method, path, &headers, "")
    };
    assert_eq!(fetch(&left, "POST", "/hub/logout").status, 204);
    for _ in 0..2 {
        let before = fetch(&cookie, "GET", "/hub/status").json()["pid"].clone();
        let restarted = fetch(&cookie, "POST", "/hub/restart");
        assert_eq!(restarted.status, 200, "{}", restarted.text());
        let status = fetch(&cookie, "GET", "/hub/status");
        assert_eq!(status.status, 200, "{}", status.text());
        assert_ne!(status.json()["pid"], before);
        assert_eq!(fetch(&left, "GET", "/hub/status").status, 401);
    }
    let (_, id) = cookie.split_once('=').unwrap();
    assert_eq!(files_with(hub.folder(), id), Vec::<PathBuf>::new());
    assert_eq!(files_with(hub.folder(), CONTROL), Vec::<PathBuf>::new());

    assert_eq!(fetch(&cookie, "POST", "/hub/logout").status, 204);
    assert_eq!(fetch(&cookie, "GET", "/hub/status").status, 401);
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

#[test]
fn a_page_that_is_left_open_learns_nothing_more_without_its_key() {
    let other = "another-key-that-may-control";
    let changed = yaml().replace(
        &KeyDigest::of(CONTROL.as_bytes()).to_hex(),
        &KeyDigest::of(other.as_bytes()).to_hex(),
    );
    for is_logged_out in [true, false] {
        let hub = Hub::start(&yaml());
        let cookie = cookie(&log_in(&hub, CONTROL));
        let fetch = [
            ("cookie", cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        let open = ["/hub/events", "/hub/logs?follow=1"]
            .map(|path| hub.http.send("GET", path, &fetch, b"").unwrap());
        assert!(open.iter().all(|reply| reply.status == 200));
        let key = match is_logged_out {
            true => {
                assert_eq!(send(&hub, "POST", "/hub/logout", &fetch, "").status, 204);
                CONTROL
            }
            false => {
                hub.configure(&changed);
                hub.signal(nix::sys::signal::Signal::SIGHUP);
                other
            }
        };
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        wait_until("the other key", SOON, || {
            send(&hub, "GET", "/hub/status", &headers, "").status == 200
        });
        // The default model is started with the hub. Its stop changes something in whatever state it is.
        let changes = send(&hub, "POST", "/hub/models/alpha/stop", &headers, "");
        assert_eq!(changes.status, 200, "{}", changes.text());
        for reply in open {
            // It ends, and without the hub.
            let (told, ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || told.send(reply.whole()));
            ended.recv_timeout(SOON).unwrap().unwrap();
        }
        assert_eq!(hub.http.get("/health").status, 200);
    }
}
