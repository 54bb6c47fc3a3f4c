use axum::http::Request;

use super::*;

const ORIGINS: [&str; 2] = ["https://Panel.Example/", "http://app.local:3000"];
const HOSTS: [&str; 2] = ["hub.example", "box.example:8000"];

fn check(request: axum::http::request::Builder) -> Result<Option<HeaderValue>, ApiError> {
    let (origins, hosts) = (ORIGINS.map(str::to_owned), HOSTS.map(str::to_owned));
    let rules = Rules {
        allowed_origins: &origins,
        allowed_hosts: &hosts,
        machine: "Mac-Studio.lan",
    };
    rules.check(&request.body(()).unwrap().into_parts().0)
}

fn post(origin: &str, host: &str) -> Result<Option<HeaderValue>, ApiError> {
    let request = Request::post("/hub/reload");
    check(request.header(HOST, host).header(ORIGIN, origin))
}

fn get_from(host: &str) -> Result<Option<HeaderValue>, ApiError> {
    check(Request::get("/hub/status").header(HOST, host))
}

#[test]
fn the_own_origin_is_the_address_the_browser_used() {
    for (origin, host) in [
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://mac-studio.lan", "Mac-Studio.lan"),
        ("http://studio.local", "studio.local:80"),
    ] {
        assert_eq!(post(origin, host), Ok(None), "{origin} at {host}");
    }
}

#[test]
fn another_origin_may_not_change_state() {
    for origin in [
        "null",
        "",
        "https://localhost:8000",
        "http://localhost",
        "http://localhost:8001",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "https://evil.example",
        "file://",
        "http://panel.example",
    ] {
        let error = post(origin, "localhost:8000").unwrap_err();
        assert_eq!(error.status, 403, "{origin}");
        assert_eq!(error.kind, "permission_error");
        assert!(error.message.contains("allowed_origins"), "{error}");
    }
}

#[test]
fn every_method_that_changes_state_is_guarded_and_reading_is_not() {
    let status = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, "localhost:8000");
        check(request.header(ORIGIN, "https://evil.example")).map_err(|error| error.status)
    };
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(status(method.clone(), "/hub"), Err(403));
        assert_eq!(status(method.clone(), "/hub/models/alpha/start"), Err(403));
        assert_eq!(status(method.clone(), "/upstream/alpha/reset"), Err(403));
        assert_eq!(status(method.clone(), "/v1/chat/completions"), Ok(None));
        assert_eq!(status(method, "/hubris"), Ok(None));
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(status(method, "/hub/status"), Ok(None));
    }
}

#[test]
fn a_websocket_is_guarded_everywhere() {
    for path in ["/v1/realtime", "/upstream/alpha/ws", "/other"] {
        let open = |origin: &str| {
            let request = Request::get(path).header(HOST, "localhost:8000");
            let request = request.header(UPGRADE, "websocket");
            check(request.header(ORIGIN, origin)).map_err(|error| error.status)
        };
        assert_eq!(open("https://evil.example"), Err(403), "{path}");
        assert_eq!(open("http://localhost:8000"), Ok(None), "{path}");
        assert!(open("http://app.local:3000").is_ok(), "{path}");
    }
}

#[test]
fn a_request_without_an_origin_is_no_web_page() {
    assert_eq!(
        check(Request::post("/hub/reload").header(HOST, "localhost:8000")),
        Ok(None)
    );
}

#[test]
fn a_listed_origin_may_change_state_and_is_told_so_by_cors() {
    for origin in ["https://panel.example", "https://panel.example:443"] {
        let answer = post(origin, "localhost:8000").unwrap();
        assert_eq!(answer.unwrap(), origin);
    }
}

#[test]
fn cors_goes_to_listed_origins_on_hub_and_v1_only() {
    let cors = |path: &str, origin: &str| {
        let request = Request::get(path).header(HOST, "localhost:8000");
        check(request.header(ORIGIN, origin)).unwrap().is_some()
    };
    for path in ["/hub", "/hub/status", "/v1/models"] {
        assert!(cors(path, "http://app.local:3000"), "{path}");
        assert!(!cors(path, "http://app.local:3001"), "{path}");
        assert!(!cors(path, "http://localhost:8000"), "{path}");
        assert!(!cors(path, "null"), "{path}");
    }
    assert!(!cors("/health", "http://app.local:3000"));
}

#[test]
fn the_hub_answers_to_addresses_and_its_own_names() {
    for host in [
        "127.0.0.1:8000",
        "192.168.1.20",
        "[::1]:8000",
        "localhost",
        "LOCALHOST:8000",
        "localhost.:8000",
        "studio.local:8000",
        "a.b.local",
        "mac-studio.lan:8000",
        "MAC-STUDIO",
        "hub.example",
        "hub.example:8443",
        "box.example",
    ] {
        assert_eq!(get_from(host), Ok(None), "{host}");
    }
}

#[test]
fn a_name_that_was_rebound_to_the_hub_is_misdirected() {
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "notlocal",
        ".local",
        "evil.local.example",
        "www.hub.example",
        "",
        "localhost:port",
        "user@localhost",
    ] {
        let error = get_from(host).unwrap_err();
        assert_eq!(error.status, 421, "{host}");
        assert_eq!(error.kind, "invalid_request_error");
        assert!(error.message.contains("allowed_hosts"), "{error}");
    }
}

#[test]
fn a_rebound_name_is_refused_before_its_origin_is_compared() {
    let error = post("http://evil.example", "evil.example").unwrap_err();
    assert_eq!(error.status, 421);
}

#[test]
fn the_openai_api_answers_to_any_name() {
    let request = Request::post("/v1/chat/completions").header(HOST, "evil.example");
    assert_eq!(check(request), Ok(None));
}

#[test]
fn only_http_1_0_may_leave_the_host_out() {
    assert_eq!(
        check(Request::get("/hub").version(Version::HTTP_10)),
        Ok(None)
    );
    assert_eq!(check(Request::get("/hub")).unwrap_err().status, 421);
    let strange = Request::get("/hub").version(Version::HTTP_10);
    let strange = strange.header(HOST, "evil.example");
    assert_eq!(check(strange).unwrap_err().status, 421);
}

#[test]
fn a_target_in_absolute_form_outranks_the_host_header() {
    let request = Request::get("http://evil.example/hub").header(HOST, "localhost");
    assert_eq!(check(request).unwrap_err().status, 421);
}

#[test]
fn two_host_headers_are_none() {
    let request = Request::get("/hub").header(HOST, "localhost");
    let request = request.header(HOST, "localhost");
    assert_eq!(check(request).unwrap_err().status, 421);
}
