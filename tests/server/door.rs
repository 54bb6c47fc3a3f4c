//! Who is let in: web pages of other origins, and strange host names.

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha, assert_error};

const LISTED: &str = "https://app.example";
const FOREIGN: &str = "https://evil.example";

fn hub() -> Hub {
    let yaml = alpha(&[]);
    Hub::start(&format!(
        "allowed_origins: ['{LISTED}']\nallowed_hosts: [hub.example]\n{yaml}"
    ))
}

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let reply = hub.http.send(method, path, headers, b"");
    reply.and_then(Reply::whole).unwrap()
}

#[test]
fn cors_headers_go_to_listed_origins_only() {
    let hub = hub();
    for path in [
        "/v1/models",
        "/v1/nosuch",
        "/upstream/nosuch/x",
        "/hub/status",
    ] {
        let listed = send(&hub, "GET", path, &[("origin", LISTED)]);
        assert_eq!(
            listed.header("access-control-allow-origin"),
            Some(LISTED),
            "{path}"
        );
        assert!(
            listed
                .header("vary")
                .unwrap()
                .to_lowercase()
                .contains("origin")
        );
        for origin in [
            FOREIGN,
            "null",
            "https://app.example.evil.example",
            "http://app.example",
        ] {
            let answer = send(&hub, "GET", path, &[("origin", origin)]);
            assert_no_cors(&answer, path);
        }
    }
    let outside = send(&hub, "GET", "/health", &[("origin", LISTED)]);
    assert_no_cors(&outside, "/health");
}

#[track_caller]
fn assert_no_cors(answer: &Answer, path: &str) {
    for (name, value) in &answer.headers {
        assert!(
            !name.starts_with("access-control"),
            "{path} {name}: {value}"
        );
    }
}

#[test]
fn a_preflight_of_a_listed_origin_is_granted_and_any_other_not() {
    let hub = hub();
    for path in [CHAT, "/hub/reload"] {
        let preflight = |origin: &str| {
            let headers = [
                ("origin", origin),
                ("access-control-request-method", "POST"),
                (
                    "access-control-request-headers",
                    "authorization, content-type",
                ),
            ];
            send(&hub, "OPTIONS", path, &headers)
        };
        let granted = preflight(LISTED);
        assert_eq!(granted.status, 204, "{path}");
        for (name, value) in [
            ("access-control-allow-origin", LISTED),
            ("access-control-allow-methods", "POST"),
            (
                "access-control-allow-headers",
                "authorization, content-type",
            ),
        ] {
            assert_eq!(granted.header(name), Some(value), "{path} {name}");
        }
        assert_no_cors(&preflight(FOREIGN), path);
    }
}

#[test]
fn a_foreign_page_changes_nothing_and_reaches_no_worker() {
    let hub = hub();
    hub.wait_for_state("alpha", "running", "unloaded");
    let body = crate::support::http::chat("alpha", "hello", false).to_string();
    for origin in [FOREIGN, "null", "https://127.0.0.2:1", "file://"] {
        let headers = [("origin", origin)];
        for method in ["POST", "PUT", "DELETE"] {
            for path in ["/hub/shutdown", "/hub/models/alpha/load", "/hub/nosuch"] {
                let answer = send(&hub, method, path, &headers);
                let words = [origin, "allowed_origins"];
                assert_error(&answer, 403, "permission_error", "403", &words);
            }
        }
        // Without CORS it sees nothing of it.
        let status = send(&hub, "GET", "/hub/status", &headers);
        assert_eq!(status.status, 200);
        assert_no_cors(&status, origin);
        for (method, path) in [
            ("POST", CHAT),
            ("GET", "/v1/models"),
            ("GET", "/v1/queue/stats?model=alpha"),
            ("GET", "/upstream/alpha/health"),
            ("OPTIONS", CHAT),
        ] {
            let answer = hub.http.send(method, path, &headers, body.as_bytes());
            let answer = answer.and_then(Reply::whole).unwrap();
            assert_eq!(answer.status, 403, "{method} {path} {origin}");
            assert_no_cors(&answer, path);
        }
    }
    for path in ["/v1/queue/stats?model=alpha", "/upstream/alpha/health"] {
        let image = send(&hub, "GET", path, &[("sec-fetch-site", "cross-site")]);
        assert_eq!(image.status, 403, "{path}");
    }
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
}

#[test]
fn a_page_of_this_machine_uses_the_models_and_what_its_worker_allows_stays_behind() {
    let hub = hub();
    for origin in ["http://localhost:3000", "app://obsidian.md", LISTED] {
        let body = crate::support::http::chat("alpha", "hello", false).to_string();
        let headers = [("origin", origin)];
        let answer = hub.http.send("POST", CHAT, &headers, body.as_bytes());
        let answer = answer.and_then(Reply::whole).unwrap();
        assert_eq!(answer.status, 200, "{origin}");
        let cors: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("access-control"))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let expected = [
            format!("access-control-allow-origin: {origin}"),
            "access-control-expose-headers: *".to_owned(),
        ];
        assert_eq!(cors, expected);
    }
}

#[test]
fn the_hubs_own_page_and_listed_ones_may_control_it() {
    let hub = hub();
    let port = hub.http.port;
    for host in ["127.0.0.1", "localhost"] {
        let (origin, host) = (format!("http://{host}:{port}"), format!("{host}:{port}"));
        let headers = [("origin", origin.as_str()), ("host", host.as_str())];
        assert_eq!(
            send(&hub, "POST", "/hub/reload", &headers).status,
            200,
            "{host}"
        );
    }
    let listed = send(&hub, "POST", "/hub/reload", &[("origin", LISTED)]);
    assert_eq!(listed.status, 200);
    assert_eq!(listed.header("access-control-allow-origin"), Some(LISTED));
}

#[test]
fn a_strange_host_name_is_a_421_under_hub_and_for_browsers() {
    let hub = hub();
    for host in [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "local",
        "",
    ] {
        for (method, path) in [
            ("GET", "/hub"),
            ("GET", "/hub/status"),
            ("POST", "/hub/reload"),
        ] {
            let answer = send(&hub, method, path, &[("host", host)]);
            let words = [host, "allowed_hosts"];
            assert_error(&answer, 421, "invalid_request_error", "421", &words);
        }
        for path in ["/v1/models", "/health"] {
            let program = send(&hub, "GET", path, &[("host", host)]);
            assert_eq!(program.status, 200, "{host} {path}");
            let browser = [("host", host), ("accept-language", "en")];
            assert_eq!(send(&hub, "GET", path, &browser).status, 421, "{host}");
        }
    }
    let machine = String::from_utf8(
        std::process::Command::new("hostname")
            .output()
            .unwrap()
            .stdout,
    );
    let machine = machine.unwrap();
    for host in [
        "localhost",
        "10.1.2.3:1",
        "[::1]:8000",
        "mac.local",
        "HUB.example",
        machine.trim(),
    ] {
        assert_eq!(
            send(&hub, "GET", "/hub/status", &[("host", host)]).status,
            200,
            "{host}"
        );
    }
}

#[test]
fn a_reload_changes_the_lists() {
    let hub = hub();
    hub.configure(&format!("allowed_origins: ['{FOREIGN}']\n{}", alpha(&[])));
    assert_eq!(send(&hub, "POST", "/hub/reload", &[]).status, 200);
    wait_until("the new list", SOON, || {
        send(&hub, "POST", "/hub/reload", &[("origin", FOREIGN)]).status == 200
    });
    assert_eq!(
        send(&hub, "POST", "/hub/reload", &[("origin", LISTED)]).status,
        403
    );
    assert_eq!(
        send(&hub, "GET", "/hub", &[("host", "hub.example")]).status,
        421
    );
}
