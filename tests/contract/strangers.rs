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
    for path in ["/v1/models", "/hub/status"] {
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

#[test]
fn v1_is_for_everybody() {
    let home = Home::started(MODELS);
    home.wait_for_state("a", "running", "loaded");
    let headers = [
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
        ("content-type", "application/json"),
    ];
    let body = json!({"model": "a", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let path = "/v1/chat/completions";
    let reply = home
        .http
        .send("POST", path, &headers, body.as_bytes())
        .unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        None,
        "but a page cannot read it"
    );
}
