//! Section 10: web pages and strangers.

use serde_json::json;

use crate::Home;

fn status(home: &Home, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    home.http.send(method, path, headers, b"").unwrap().status
}

const MODELS: &str = "allowed_origins: ['https://friend.example']\n\
                      allowed_hosts: [hub.example]\n\
                      models: [{name: a, model_path: org/a, default: true}]\n";

#[test]
fn a_page_of_another_origin_may_not_change_state() {
    let home = Home::started(MODELS);
    home.wait_for_state("a", "running", "loaded");
    let port = home.port;
    let own = format!("http://127.0.0.1:{port}");
    let other_port = format!("http://127.0.0.1:{}", port + 1);
    let other_scheme = format!("https://127.0.0.1:{port}");
    for origin in [
        "http://evil.example",
        "null",
        &other_port,
        &other_scheme,
        "nonsense",
    ] {
        for path in [
            "/hub/models/a/stop",
            "/hub/models/a/vram/unload",
            "/hub/reload",
            "/hub/shutdown",
            "/hub/runtime/shutdown",
            "/hub/nosuch",
        ] {
            for method in ["POST", "PUT", "DELETE"] {
                let answer = status(&home, method, path, &[("origin", origin)]);
                assert_eq!(answer, 403, "{method} {path} from {origin}");
            }
        }
        assert_eq!(
            status(&home, "GET", "/hub/status", &[("origin", origin)]),
            200
        );
    }
    assert_eq!(home.states("a"), ("running".into(), "loaded".into()));
    for origin in [own.as_str(), "https://friend.example"] {
        assert_eq!(
            status(&home, "POST", "/hub/reload", &[("origin", origin)]),
            200,
            "{origin}"
        );
    }
    let localhost = format!("localhost:{port}");
    let as_reached = format!("http://{localhost}");
    let headers = [
        ("host", localhost.as_str()),
        ("origin", as_reached.as_str()),
    ];
    assert_eq!(
        status(&home, "POST", "/hub/reload", &headers),
        200,
        "as the browser reached it"
    );
    assert_eq!(
        status(&home, "POST", "/hub/reload", &[]),
        200,
        "programs send no Origin"
    );
}

#[test]
fn cors_headers_go_to_allowed_origins_only() {
    let home = Home::started(MODELS);
    let allowed = |method: &str, path: &str, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
        ];
        let reply = home.http.send(method, path, &headers, b"").unwrap();
        reply
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    for path in ["/v1/models", "/upstream/a/health", "/hub/status"] {
        for method in ["GET", "OPTIONS"] {
            let friend = "https://friend.example";
            assert_eq!(allowed(method, path, friend).as_deref(), Some(friend));
            for stranger in ["http://evil.example", "null"] {
                assert_eq!(allowed(method, path, stranger), None, "{method} {path}");
            }
        }
    }
}

#[test]
fn hub_answers_to_its_own_names_only() {
    let home = Home::started(MODELS);
    let machine = gethostname::gethostname().into_string().unwrap();
    let port = home.port;
    for host in [
        "127.0.0.1",
        "192.168.1.7:8000",
        "[::1]",
        "[fe80::1]:8000",
        "localhost",
        "LocalHost:1",
        "studio.local",
        "studio.local:8000",
        "hub.example",
        &machine,
    ] {
        assert_eq!(
            status(&home, "GET", "/hub/status", &[("host", host)]),
            200,
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "local",
    ] {
        for path in ["/hub", "/hub/status", "/hub/models/a/stop"] {
            let method = if path.ends_with("stop") {
                "POST"
            } else {
                "GET"
            };
            let host = format!("{host}:{port}");
            assert_eq!(
                status(&home, method, path, &[("host", &host)]),
                421,
                "{host}"
            );
        }
    }
}

#[test]
fn the_rules_follow_a_reload() {
    let home = Home::started(MODELS);
    let stranger = [("origin", "http://stranger.example")];
    assert_eq!(status(&home, "POST", "/hub/reload", &stranger), 403);
    home.configure(&MODELS.replace("https://friend.example", "http://stranger.example"));
    home.reload();
    assert_eq!(status(&home, "POST", "/hub/reload", &stranger), 200);
    let friend = [("origin", "https://friend.example")];
    assert_eq!(status(&home, "POST", "/hub/reload", &friend), 403);
}

/// What reaches a worker, and in which ways a page may ask for it without a preflight.
fn page_requests() -> Vec<(&'static str, &'static str, &'static str, String)> {
    let chat = json!({"model": "a", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let form = "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\na\r\n--x--\r\n";
    let kinds = [
        ("", &chat),
        ("text/plain;charset=UTF-8", &chat),
        ("application/json", &chat),
        ("multipart/form-data; boundary=x", &form.to_owned()),
        ("application/x-www-form-urlencoded", &"model=a".to_owned()),
    ];
    let mut requests = Vec::new();
    for (kind, body) in kinds {
        for path in [
            "/v1/chat/completions",
            "/v1/audio/transcriptions",
            "/v1/other",
            "/upstream/a/v1/chat/completions",
        ] {
            requests.push(("POST", path, kind, body.clone()));
        }
    }
    for path in [
        "/v1/models",
        "/v1/queue/stats?model=a",
        "/v1/other?model=a",
        "/upstream/a/health",
        "/upstream/a",
    ] {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            requests.push((method, path, "", String::new()));
        }
    }
    requests
}

#[test]
fn a_strangers_page_reaches_no_worker_whatever_it_sends() {
    let home = Home::started(&MODELS.replace("default: true", "default: true, jit_enabled: true"));
    home.wait_for_state("a", "running", "unloaded");
    let port = home.port;
    let rebound = format!("evil.example:{port}");
    let rebound_origin = format!("http://{rebound}");
    let strangers: [(&[(&str, &str)], u16); 8] = [
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "http://192.168.1.20:3000")], 403),
        (
            &[
                ("origin", "https://friend.example"),
                ("origin", "http://evil.example"),
            ],
            403,
        ),
        (&[("sec-fetch-site", "cross-site")], 403),
        (
            &[
                ("host", rebound.as_str()),
                ("origin", rebound_origin.as_str()),
                ("sec-fetch-site", "same-origin"),
            ],
            421,
        ),
        (
            &[("host", rebound.as_str()), ("user-agent", "Mozilla/5.0")],
            421,
        ),
        (
            &[("host", rebound.as_str()), ("referer", "http://x.example/")],
            421,
        ),
    ];
    for (method, path, kind, body) in page_requests() {
        for (headers, status) in &strangers {
            let mut headers = headers.to_vec();
            if !kind.is_empty() {
                headers.push(("content-type", kind));
            }
            let answer = home.http.send(method, path, &headers, body.as_bytes());
            let answer = answer.unwrap();
            let case = format!("{method} {path} {kind} {headers:?}");
            assert_eq!(answer.status, *status, "{case}");
            for name in [
                "access-control-allow-origin",
                "access-control-allow-methods",
            ] {
                assert_eq!(answer.header(name), None, "{case}");
            }
        }
    }
    for path in ["/v1/realtime?model=a", "/upstream/a/ws"] {
        let headers = [
            ("origin", "http://evil.example"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(status(&home, "GET", path, &headers), 403, "{path}");
    }
    assert_eq!(home.states("a"), ("running".into(), "unloaded".into()));
}

#[test]
fn pages_of_this_machine_and_applications_use_the_models_and_do_not_control_the_hub() {
    let home = Home::started(MODELS);
    home.wait_for_state("a", "running", "loaded");
    let chat = json!({"model": "a", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    for origin in [
        "http://localhost:3000",
        "https://localhost",
        "http://127.0.0.1:5173",
        "http://[::1]:8080",
        "app://obsidian.md",
        "tauri://localhost",
        "vscode-webview://1a2b3c",
        "vscode-file://vscode-app",
    ] {
        let headers = [("origin", origin), ("content-type", "application/json")];
        let path = "/v1/chat/completions";
        let answer = home.http.send("POST", path, &headers, chat.as_bytes());
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{origin}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some(origin));
        let preflight = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
        ];
        let answer = home.http.send("OPTIONS", path, &preflight, b"").unwrap();
        assert_eq!(answer.status, 204, "{origin}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some(origin));
        let control = [("origin", origin)];
        assert_eq!(status(&home, "POST", "/hub/reload", &control), 403);
    }
}

#[test]
fn programs_may_use_any_name_outside_of_hub() {
    let home = Home::started(MODELS);
    home.wait_for_state("a", "running", "loaded");
    let chat = json!({"model": "a", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    for (name, value) in [
        ("user-agent", "OpenAI/Python 2.54.0"),
        ("user-agent", "curl/8.7.1"),
        ("accept", "*/*"),
    ] {
        let headers = [("host", "hub-behind-a-proxy"), (name, value)];
        let path = "/v1/chat/completions";
        let answer = home.http.send("POST", path, &headers, chat.as_bytes());
        assert_eq!(answer.unwrap().status, 200, "{name}: {value}");
        assert_eq!(status(&home, "GET", "/hub/status", &headers), 421);
    }
}

#[test]
fn a_request_has_one_host() {
    let home = Home::started(MODELS);
    for path in ["/v1/models", "/hub/status", "/health"] {
        let headers = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(status(&home, "GET", path, &headers), 400, "{path}");
    }
}
