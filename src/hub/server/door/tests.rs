use std::path::Path;

use http::header::{
    ACCEPT_LANGUAGE, HOST, ORIGIN, REFERER, SEC_WEBSOCKET_KEY, UPGRADE, USER_AGENT,
};
use http::{Method, Request};

use super::*;

type Answer = Result<Option<HeaderValue>, ApiError>;

fn config() -> Arc<Config> {
    let text = "allowed_origins: ['https://Panel.Example/', 'http://app.local:3000', 'chrome-extension://abc']\n\
                allowed_hosts: [Hub.Example, 'box.example:8000']\n\
                models: [{name: a, model_path: org/a}]\n";
    Arc::new(Config::parse(Path::new("/hub.yaml"), text).unwrap())
}

fn check_in(request: http::request::Builder) -> Answer {
    let parts = request.body(()).unwrap().into_parts().0;
    check(&parts, Area::of(parts.uri.path()), config)
}

fn status(answer: Answer) -> Result<bool, u16> {
    let answer = answer.map(|origin| origin.is_some());
    answer.map_err(|error| error.status)
}

/// Let in, with or without CORS; or that status.
fn from(origin: &str, host: &str, method: &Method, path: &str) -> Result<bool, u16> {
    let request = Request::builder().method(method).uri(path);
    status(check_in(request.header(HOST, host).header(ORIGIN, origin)))
}

const WORKERS: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/models",
    "/v1/nosuch",
    "/upstream/a/health",
    "/upstream",
];

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

fn changes(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[test]
fn the_hubs_own_pages_may_do_all_as_they_are_reached() {
    for (origin, host) in [
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://192.168.1.20:8000", "192.168.1.20:8000"),
        ("http://studio.local", "Studio.local"),
        ("http://studio.local", "studio.local:80"),
        ("http://hub.example:8000", "hub.example:8000"),
        (
            "http://host.docker.internal:8000",
            "host.docker.internal:8000",
        ),
        ("http://localhost.:8000", "localhost.:8000"),
    ] {
        for method in METHODS {
            for path in ["/hub/reload", "/v1/models", "/upstream/a/x", "/health"] {
                let answer = from(origin, host, &method, path);
                assert_eq!(answer, Ok(false), "{method} {path} of {origin} at {host}");
            }
        }
    }
}

#[test]
fn listed_pages_may_do_all_and_read_the_answers() {
    for origin in [
        "https://panel.example",
        "https://panel.example:443",
        "http://app.local:3000",
        "chrome-extension://abc",
    ] {
        for method in METHODS {
            for path in ["/hub/reload", "/hub/status", "/v1/models", "/upstream/a/x"] {
                let answer = from(origin, "localhost:8000", &method, path);
                assert_eq!(answer, Ok(true), "{method} {path} of {origin}");
            }
        }
        let answer = from(origin, "localhost:8000", &Method::GET, "/health");
        assert_eq!(answer, Ok(false), "there is nothing to read there");
    }
}

#[test]
fn pages_of_this_machine_and_applications_may_use_the_models_and_not_control_the_hub() {
    for origin in [
        "http://localhost:3000",
        "http://localhost",
        "https://localhost:3000",
        "http://127.0.0.1:8000",
        "http://127.0.0.1:8001",
        "http://[::1]:5173",
        "app://obsidian.md",
        "app://-",
        "tauri://localhost",
        "vscode-webview://1a2b3c",
        "vscode-file://vscode-app",
    ] {
        for method in METHODS {
            for path in WORKERS {
                let answer = from(origin, "localhost:8000", &method, path);
                assert_eq!(answer, Ok(true), "{method} {path} of {origin}");
            }
            let expected = if changes(&method) {
                Err(403)
            } else {
                Ok(false)
            };
            let answer = from(origin, "localhost:8000", &method, "/hub/models/a/load");
            assert_eq!(answer, expected, "{method} of {origin}");
        }
    }
}

#[test]
fn other_pages_may_do_nothing() {
    for origin in [
        "null",
        "",
        "https://evil.example",
        "http://localhost:8000.evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2:8000",
        "http://127.1:8000",
        "http://0x7f.1:8000",
        "http://2130706433:8000",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "http://[::ffff:127.0.0.1]:8000",
        "http://192.168.1.20:3000",
        "http://studio.local",
        "http://sub.localhost:3000",
        "ftp://localhost",
        "ws://localhost:8000",
        "file://",
        "file://localhost",
        "http://panel.example",
        "https://panel.example:8443",
        "https://sub.panel.example",
        "chrome-extension://def",
        "apps://obsidian.md",
        "app:obsidian.md",
        "app://a, http://localhost",
        "http://localhost:8000 http://evil.example",
    ] {
        for method in METHODS {
            for path in WORKERS {
                let answer = from(origin, "localhost:8000", &method, path);
                assert_eq!(answer, Err(403), "{method} {path} of {origin}");
            }
            let expected = if changes(&method) {
                Err(403)
            } else {
                Ok(false)
            };
            for path in ["/hub", "/hub/models/a/start", "/hub/nosuch"] {
                let answer = from(origin, "localhost:8000", &method, path);
                assert_eq!(answer, expected, "{method} {path} of {origin}");
            }
            let answer = from(origin, "localhost:8000", &method, "/health");
            assert_eq!(answer, Ok(false), "{method} of {origin}");
        }
    }
}

#[test]
fn a_proxy_that_adds_tls_has_to_be_listed() {
    let answer = from(
        "https://hub.example",
        "hub.example",
        &Method::POST,
        "/hub/reload",
    );
    assert_eq!(answer, Err(403));
}

#[test]
fn of_two_origins_none_counts() {
    let own = "http://localhost:8000";
    for (one, two) in [(own, own), (own, "https://evil.example"), ("null", own)] {
        let ask = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header(HOST, "localhost:8000");
            status(check_in(request.header(ORIGIN, one).header(ORIGIN, two)))
        };
        assert_eq!(ask(Method::POST, "/hub/reload"), Err(403), "{one} {two}");
        assert_eq!(ask(Method::GET, "/hub/status"), Ok(false), "{one} {two}");
        assert_eq!(ask(Method::GET, "/v1/models"), Err(403), "{one} {two}");
    }
}

#[test]
fn without_an_origin_the_site_counts() {
    let ask = |site: &str, host: &str, method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, host).header("sec-fetch-site", site);
        status(check_in(request))
    };
    for (site, host, hub, workers) in [
        ("cross-site", "localhost:8000", Err(403), Err(403)),
        ("cross-site", "studio.local", Err(403), Err(403)),
        ("something-new", "localhost:8000", Err(403), Err(403)),
        // Another port of this machine.
        ("same-site", "localhost:8000", Err(403), Ok(false)),
        ("same-site", "127.0.0.1:8000", Err(403), Ok(false)),
        ("same-site", "[::1]:8000", Err(403), Ok(false)),
        // Another port of another machine, or another host of its domain.
        ("same-site", "studio.local", Err(403), Err(403)),
        ("same-site", "hub.example", Err(403), Err(403)),
        ("same-site", "192.168.1.20", Err(403), Err(403)),
        ("same-origin", "localhost:8000", Ok(false), Ok(false)),
        ("none", "localhost:8000", Ok(false), Ok(false)),
    ] {
        for method in METHODS {
            let expected = if changes(&method) { hub } else { Ok(false) };
            let answer = ask(site, host, method.clone(), "/hub/shutdown");
            assert_eq!(answer, expected, "{method} {site} {host}");
            for path in WORKERS {
                let answer = ask(site, host, method.clone(), path);
                assert_eq!(answer, workers, "{method} {path} {site} {host}");
            }
            assert_eq!(ask(site, host, method, "/health"), Ok(false));
        }
    }
}

#[test]
fn an_origin_that_may_outranks_the_site() {
    let request = Request::post("/v1/chat/completions").header(HOST, "localhost:8000");
    let request = request.header("sec-fetch-site", "cross-site");
    let answer = check_in(request.header(ORIGIN, "https://panel.example"));
    assert_eq!(status(answer), Ok(true));
}

#[test]
fn a_referer_counts_where_nothing_else_is_said() {
    let ask = |referer: &str, site: Option<&str>, path: &str| {
        let mut request = Request::post(path).header(HOST, "localhost:8000");
        request = request.header(REFERER, referer);
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        status(check_in(request))
    };
    for (referer, expected) in [
        ("https://evil.example/page?x", Err(403)),
        ("nonsense", Err(403)),
        ("http://localhost:3000/", Err(403)),
        ("http://localhost:8000/hub", Ok(false)),
        ("https://panel.example/x", Ok(false)),
    ] {
        assert_eq!(ask(referer, None, "/hub/reload"), expected, "{referer}");
        assert_eq!(ask(referer, None, "/v1/models"), Ok(false), "a program");
    }
    let said = ask("https://evil.example/", Some("same-origin"), "/hub/reload");
    assert_eq!(said, Ok(false));
}

#[test]
fn a_browser_that_says_nothing_over_plain_http_loads_nothing() {
    let ask = |method: &Method, host: &str, path: &str, referer: Option<&str>| {
        let request = Request::builder().method(method).uri(path);
        let mut request = request
            .header(HOST, host)
            .header(USER_AGENT, "Mozilla/5.0 (Macintosh)");
        if let Some(referer) = referer {
            request = request.header(REFERER, referer);
        }
        status(check_in(request))
    };
    let lists = ["/v1/models", "/v1/models/a", "/api/tags", "/api/v0/models"];
    let others = [
        "/upstream/a/health",
        "/v1/queue/stats?model=a",
        "/v1/responses/r",
    ];
    for host in ["192.168.1.20:8000", "studio.local", "[fe80::1]:8000"] {
        let own = format!("http://{host}/hub");
        for (referer, expected) in [
            ("http://evil.example/page", Err(403)),
            ("nonsense", Err(403)),
            (&*own, Ok(false)),
            ("http://localhost:3000/", Ok(false)),
            ("https://panel.example/x", Ok(false)),
        ] {
            for method in [Method::GET, Method::HEAD, Method::POST] {
                for path in lists.into_iter().chain(others) {
                    let answer = ask(&method, host, path, Some(referer));
                    assert_eq!(answer, expected, "{method} {host} {path} {referer}");
                }
            }
        }
        for path in lists {
            assert_eq!(ask(&Method::GET, host, path, None), Ok(false), "{path}");
        }
        for path in others {
            assert_eq!(ask(&Method::GET, host, path, None), Err(403), "{path}");
            assert_eq!(ask(&Method::POST, host, path, None), Ok(false), "an app");
            let program = Request::get(path).header(HOST, host);
            let program = program.header(ACCEPT_LANGUAGE, "*");
            assert_eq!(status(check_in(program)), Ok(false), "{path}");
        }
    }
    for path in others {
        let answer = ask(&Method::GET, "localhost:8000", path, None);
        assert_eq!(answer, Ok(false), "browsers say more there: {path}");
    }
}

#[test]
fn a_websocket_is_a_request_like_any_other() {
    for (origin, expected) in [
        ("https://evil.example", Err(403)),
        ("null", Err(403)),
        ("http://localhost:8000", Ok(false)),
        ("http://localhost:3000", Ok(true)),
        ("http://app.local:3000", Ok(true)),
    ] {
        for path in ["/v1/realtime?model=a", "/upstream/a/ws"] {
            let request = Request::get(path).header(HOST, "localhost:8000");
            let request = request.header(UPGRADE, "websocket");
            let request = request.header(SEC_WEBSOCKET_KEY, "x");
            let answer = status(check_in(request.header(ORIGIN, origin)));
            assert_eq!(answer, expected, "{path} of {origin}");
        }
    }
}

/// A name and whether it is the hub's.
const NAMES: [(&str, bool); 36] = [
    ("127.0.0.1:8000", true),
    ("192.168.1.20", true),
    ("10.1.2.3:1", true),
    ("[::1]:8000", true),
    ("[fe80::1]:8000", true),
    ("localhost", true),
    ("LOCALHOST:8000", true),
    ("localhost.:8000", true),
    ("sub.localhost:8000", true),
    ("studio.local:8000", true),
    ("a.b.LOCAL", true),
    ("host.docker.internal:8000", true),
    ("hub.example", true),
    ("HUB.example:8443", true),
    ("box.example", true),
    ("evil.example", false),
    ("localhost.evil.example", false),
    ("127.0.0.1.evil.example", false),
    ("127.0.0.1.nip.io", false),
    ("localhost.evil.local.example", false),
    ("notlocal", false),
    ("local", false),
    (".local", false),
    ("internal", false),
    ("notlocalhost", false),
    ("www.hub.example", false),
    ("127.1", false),
    ("0x7f.1", false),
    ("2130706433", false),
    ("", false),
    ("localhost:port", false),
    ("user@localhost", false),
    ("localhost@evil.example", false),
    ("[::1", false),
    ("localhost,evil.example", false),
    ("localhost evil.example", false),
];

#[test]
fn the_hub_answers_to_addresses_and_its_own_names_only() {
    for (host, is_own) in NAMES {
        let expected = if is_own { Ok(false) } else { Err(421) };
        for request in [Request::get("/hub/status"), Request::post("/hub/reload")] {
            let answer = check_in(request.header(HOST, host));
            assert_eq!(status(answer), expected, "{host}");
        }
    }
}

#[test]
fn elsewhere_programs_may_use_any_name_and_browsers_not() {
    for (host, is_own) in NAMES {
        for path in [
            "/v1/models",
            "/upstream/a/x",
            "/health",
            "/metrics",
            "/",
            "/nosuch",
        ] {
            let request = || Request::get(path).header(HOST, host);
            assert_eq!(status(check_in(request())), Ok(false), "{host} {path}");
            let program = request().header(USER_AGENT, "OpenAI/Python 2.54.0");
            assert_eq!(status(check_in(program)), Ok(false), "{host} {path}");
            for (name, value) in [
                ("referer", "http://localhost/"),
                ("sec-fetch-mode", "cors"),
                ("sec-fetch-site", "same-origin"),
                ("accept-language", "en"),
            ] {
                let expected = if is_own { Ok(false) } else { Err(421) };
                let answer = status(check_in(request().header(name, value)));
                assert_eq!(answer, expected, "{host} {path} {name}");
            }
            let browser = request().header(USER_AGENT, "Mozilla/5.0");
            let strange = status(check_in(browser)) == Err(421);
            assert_eq!(strange, !is_own, "{host} {path}");
        }
    }
}

#[test]
fn a_rebound_name_is_refused_before_its_origin_is_compared() {
    for path in ["/hub/reload", "/v1/chat/completions", "/health"] {
        let (origin, host) = ("http://evil.example:8000", "evil.example:8000");
        assert_eq!(from(origin, host, &Method::POST, path), Err(421), "{path}");
    }
}

#[test]
fn the_machines_own_name_is_one_of_the_hubs() {
    let machine = gethostname::gethostname().into_string().unwrap();
    let short = machine.split('.').next().unwrap();
    for host in [
        machine.clone(),
        short.to_uppercase(),
        format!("{machine}:8000"),
    ] {
        let answer = check_in(Request::get("/hub").header(HOST, &host));
        assert_eq!(status(answer), Ok(false), "{host}");
    }
}

#[test]
fn two_host_headers_are_no_request() {
    for path in ["/hub", "/v1/models", "/health"] {
        let request = Request::get(path).header(HOST, "localhost");
        let answer = check_in(request.header(HOST, "localhost"));
        assert_eq!(status(answer), Err(400), "{path}");
    }
}

#[test]
fn only_http_1_0_may_leave_the_host_out() {
    let old = || Request::get("/hub").version(Version::HTTP_10);
    assert_eq!(status(check_in(old())), Ok(false));
    assert_eq!(status(check_in(Request::get("/hub"))), Err(421));
    let strange = check_in(old().header(HOST, "evil.example"));
    assert_eq!(status(strange), Err(421));
    assert_eq!(status(check_in(Request::get("/v1/models"))), Ok(false));
    let browser = Request::get("/v1/models").header(ACCEPT_LANGUAGE, "en");
    assert_eq!(status(check_in(browser)), Err(421));
}

#[test]
fn a_target_in_absolute_form_outranks_the_host_header() {
    let request = Request::get("http://evil.example/hub").header(HOST, "localhost");
    assert_eq!(status(check_in(request)), Err(421));
}

/// The hot path: no browser, no control.
#[test]
fn a_program_is_let_in_without_a_look_at_the_configuration() {
    let request = Request::post("/v1/chat/completions").header(HOST, "anything:8000");
    let parts = request.body(()).unwrap().into_parts().0;
    let answer = check(&parts, Area::Workers, || {
        unreachable!("nothing is compared")
    });
    assert_eq!(answer, Ok(None));
}

#[test]
fn every_refusal_says_what_would_let_them() {
    let told = |request: http::request::Builder| {
        let request = match request.headers_ref().unwrap().contains_key(HOST) {
            true => request,
            false => request.header(HOST, "localhost:8000"),
        };
        check_in(request).unwrap_err().message
    };
    let texts = [
        told(Request::post("/hub/reload").header(ORIGIN, "https://evil.example")),
        told(Request::get("/v1/models").header(ORIGIN, "https://evil.example")),
        told(Request::post("/hub/reload").header(ORIGIN, "null")),
        told(Request::get("/upstream/a/x").header("sec-fetch-site", "cross-site")),
        told(Request::post("/hub/reload").header("sec-fetch-site", "same-site")),
        told(Request::post("/hub/reload").header(REFERER, "nonsense")),
        told(
            Request::get("/v1/models")
                .header(ORIGIN, "a")
                .header(ORIGIN, "b"),
        ),
        told(Request::get("/hub").header(HOST, "evil.example")),
        told(Request::get("/hub").header(HOST, "a").header(HOST, "b")),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    Pages of `https://evil.example` may not control this hub; to let them, add it to `allowed_origins` in hub.yaml
    Pages of `https://evil.example` may not use the models of this hub; to let them, add it to `allowed_origins` in hub.yaml
    A page whose origin is `null` may not control this hub; serve it at an address of its own, and add that to `allowed_origins` in hub.yaml
    A page of another site may not use the models of this hub; to let it, add its origin to `allowed_origins` in hub.yaml and let it ask with `fetch`, which names the origin
    A page of another site may not control this hub; to let it, add its origin to `allowed_origins` in hub.yaml and let it ask with `fetch`, which names the origin
    A page that does not say whose it is may not control this hub
    The request has two `Origin` headers. Send one, as browsers do.
    This hub does not answer to the host name `evil.example`; to let it, add it to `allowed_hosts` in hub.yaml
    The request has two `Host` headers. Send one.
    ");
}
