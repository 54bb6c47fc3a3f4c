use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::openapi::description;
use super::*;
use crate::api::{
    AllReport, EndedRequest, RecordingReport, RequestInFlight, Verb, VerbPlan, WantedDecisions,
};

mod table_hub;

pub(super) use table_hub::{TableHub, policy};

pub(super) struct Answer {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) calls: Vec<String>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The status and the message of an error; checks its envelope.
    #[track_caller]
    pub(super) fn error(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json["error"]["code"], self.status.as_u16().to_string());
        assert_eq!(self.headers[CONTENT_TYPE], "application/json");
        let message = json["error"]["message"].as_str().unwrap();
        (self.status.as_u16(), message.to_owned())
    }
}

pub(super) async fn ask_of(
    hub: TableHub,
    method: &str,
    path: &str,
    body: impl Into<Body>,
) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(body.into()).unwrap();
    let response = router(hub.clone(), Live::default())
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let calls = hub.calls.lock().clone();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
        calls,
    }
}

async fn ask(method: &str, path: &str) -> Answer {
    ask_of(TableHub::default(), method, path, "").await
}

#[tokio::test]
async fn health_says_that_this_is_a_hub() {
    let answer = ask("GET", "/health").await;
    assert_eq!(
        answer.text,
        r#"{"status":"ok","model_id":null,"model_status":"controller"}"#
    );
}

#[tokio::test]
async fn each_verb_says_what_it_did() {
    for (path, action, done) in [
        ("start", "start", "started"),
        ("stop", "stop", "stopped"),
        ("load", "load", "loaded"),
        ("unload", "unload", "unloaded"),
        ("vram/load", "load", "loaded"),
        ("vram/unload", "unload", "unloaded"),
    ] {
        let answer = ask("POST", &format!("/hub/models/alpha/{path}")).await;
        assert_eq!(answer.calls, [format!("{action} alpha")]);
        let message = format!("Model 'alpha' {done}");
        assert_eq!(
            answer.json(),
            json!({"status": "ok", "action": action, "model": "alpha", "message": message})
        );
        let answer = ask("POST", &format!("/hub/models/beta/{path}")).await;
        let message = format!("Model 'beta' is already {done}");
        assert_eq!(answer.json()["message"], message);
    }
}

#[tokio::test]
async fn a_refusal_is_passed_on_as_it_is() {
    let answer = ask("POST", "/hub/models/full/load").await;
    assert_eq!(answer.error(), (429, "no room".to_owned()));
    assert_eq!(answer.headers[RETRY_AFTER], "7");
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    let answer = ask("POST", "/hub/models/nosuch/start").await;
    assert_eq!(answer.error().0, 404);
}

#[tokio::test]
async fn a_name_is_decoded_and_trimmed() {
    for (raw, name) in [
        ("%20alpha%20", "alpha"),
        ("%61lpha", "alpha"),
        ("mlx-community%2Falpha", "mlx-community/alpha"),
        ("a%25b", "a%b"),
    ] {
        let answer = ask("POST", &format!("/hub/models/{raw}/start")).await;
        assert_eq!(answer.calls, [format!("start {name}")]);
    }
}

#[tokio::test]
async fn an_empty_name_is_refused_before_the_lifecycle_hears_of_it() {
    for (action, _) in model_verbs() {
        for name in ["", "%20%20", "%09"] {
            let answer = ask("POST", &format!("/hub/models/{name}/{action}")).await;
            let expected = (400, "Model name cannot be empty".to_owned());
            assert_eq!(answer.error(), expected, "{name}/{action}");
            assert!(answer.calls.is_empty());
        }
    }
}

#[tokio::test]
async fn a_name_that_is_no_utf_8_is_a_bad_request() {
    assert_eq!(ask("POST", "/hub/models/%ff/start").await.error().0, 400);
}

#[tokio::test]
async fn a_body_is_accepted_and_ignored() {
    let hub = TableHub::default;
    for body in [r#"{"reason":"dashboard"}"#, "no json", "\u{0}"] {
        let answer = ask_of(hub(), "POST", "/hub/models/alpha/start", body).await;
        assert_eq!(answer.status, 200, "{body}");
    }
    let huge = "x".repeat(extract::BODY_LIMIT + 1);
    let answer = ask_of(hub(), "POST", "/hub/models/alpha/start", huge).await;
    assert_eq!(answer.error().0, 413);
    assert!(answer.calls.is_empty());
}

#[tokio::test]
async fn who_wants_a_verb_is_told_from_its_request() {
    let hub = TableHub::default;
    let page = r#"{"reason":"dashboard"}"#;
    let answer = ask_of(hub(), "POST", "/hub/models/alpha/stop", page).await;
    assert_eq!(answer.calls, ["stop alpha by status page"]);
    let hub = hub();
    let request = Request::post("/hub/models/alpha/stop")
        .header("user-agent", "mlx-openai-server-hub/1.2.3")
        .body(Body::empty())
        .unwrap();
    router(hub.clone(), Live::default())
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(*hub.calls.lock(), ["stop alpha by command"]);
}

#[tokio::test]
async fn decisions_are_asked_for_by_model_time_and_number() {
    let path = "/hub/policies/decisions";
    let answer = ask(
        "GET",
        &format!("{path}?model=a%20b&since=1.5&until=2&limit=3"),
    )
    .await;
    assert_eq!(answer.json()["decisions"][0]["times"], 0);
    let wanted = WantedDecisions {
        model: Some("a b".to_owned()),
        since: Some(1.5),
        until: Some(2.0),
        limit: Some(3),
    };
    assert_eq!(answer.calls, [format!("decisions {wanted:?}")]);
    assert_eq!(ask("GET", path).await.status, 200);
    assert_eq!(
        ask("GET", &format!("{path}?limit=many")).await.error().0,
        400
    );
}

#[tokio::test]
async fn a_recording_goes_to_the_file_that_the_body_names_or_to_the_logs() {
    let hub = TableHub::default;
    let path = "/hub/policies/recording/start";
    let answer = ask_of(hub(), "POST", path, r#"{"file":"/tmp/a.jsonl"}"#).await;
    assert_eq!(answer.calls, [r#"record Some("/tmp/a.jsonl")"#]);
    let answer = ask_of(hub(), "POST", path, "").await;
    assert_eq!(answer.calls, ["record None"]);
}

#[tokio::test]
async fn what_is_not_understood_does_nothing_and_is_told() {
    let recording = "/hub/policies/recording/start";
    let mut told = Vec::new();
    for (method, path, body) in [
        ("POST", recording, "no json"),
        ("POST", recording, r#"{"fiel":"/tmp/a.jsonl"}"#),
        ("GET", "/hub/policies/decisions?limit=few", ""),
        ("POST", "/hub/reload?start=perhaps", ""),
        ("POST", "/hub/shutdown?keep_models=perhaps", ""),
    ] {
        let answer = ask_of(TableHub::default(), method, path, body).await;
        assert!(answer.calls.is_empty(), "{path}");
        let (status, message) = answer.error();
        told.push(format!("{method} {path} {body}\n{status} {message}"));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    POST /hub/policies/recording/start no json
    400 The body must be empty or `{"file": PATH}`: expected ident at line 1 column 2
    POST /hub/policies/recording/start {"fiel":"/tmp/a.jsonl"}
    400 The body must be empty or `{"file": PATH}`: unknown field `fiel`, expected `file` at line 1 column 7
    GET /hub/policies/decisions?limit=few 
    400 Failed to deserialize query string: limit: invalid digit found in string
    POST /hub/reload?start=perhaps 
    400 Failed to deserialize query string: start: provided string was not `true` or `false`
    POST /hub/shutdown?keep_models=perhaps 
    400 Failed to deserialize query string: keep_models: provided string was not `true` or `false`
    "#);
}

#[tokio::test]
async fn reload_reports_and_starts_unless_told_not_to() {
    for path in ["/hub/reload", "/hub/runtime/reload"] {
        let answer = ask("POST", path).await;
        assert_eq!(answer.calls, ["reload true"]);
        assert_eq!(
            answer.text,
            r#"{"started":["alpha"],"stopped":[],"unchanged":[]}"#
        );
    }
    let answer = ask("POST", "/hub/reload?start=false").await;
    assert_eq!(answer.calls, ["reload false"]);
    let answer = ask("POST", "/hub/reload?start=perhaps").await;
    assert_eq!(answer.error().0, 400);
    assert!(answer.calls.is_empty());
}

#[tokio::test]
async fn shutdown_answers_and_asks_for_it() {
    for path in ["/hub/shutdown", "/hub/runtime/shutdown"] {
        let answer = ask("POST", path).await;
        assert_eq!(answer.calls, ["shutdown Stop"]);
        assert_eq!(
            answer.text,
            r#"{"status":"ok","action":"stop","message":"Shutdown requested","details":{}}"#
        );
    }
}

#[tokio::test]
async fn a_shutdown_may_leave_the_models_to_the_next_hub() {
    let answer = ask("POST", "/hub/shutdown?keep_models=true").await;
    assert_eq!(answer.calls, ["shutdown Keep"]);
    let answer = ask("POST", "/hub/shutdown?keep_models=perhaps").await;
    assert_eq!(answer.error().0, 400);
    assert!(answer.calls.is_empty());
}

#[tokio::test]
async fn the_dashboard_answers_with_and_without_a_slash() {
    for path in ["/hub", "/hub/"] {
        let answer = ask("GET", path).await;
        assert_eq!(answer.headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(answer.headers.contains_key(CONTENT_SECURITY_POLICY));
        assert!(answer.text.contains("MLX Hub Status"));
    }
    for (name, content_type) in [
        ("hub.css", "text/css; charset=utf-8"),
        ("hub.js", "text/javascript; charset=utf-8"),
        ("login.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = ask("GET", &format!("/hub/assets/{name}")).await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.headers[CONTENT_TYPE], content_type);
    }
    assert_eq!(ask("GET", "/hub/assets/nosuch").await.error().0, 404);
}

#[tokio::test]
async fn a_disabled_dashboard_leaves_the_api() {
    let hub = TableHub {
        page_disabled: true,
        ..TableHub::default()
    };
    for path in ["/hub", "/hub/", "/hub/assets/hub.js"] {
        let (status, message) = ask_of(hub.clone(), "GET", path, "").await.error();
        assert_eq!(status, 404, "{path}");
        let text = "The status page is disabled; `enable_status_page: true` in hub.yaml enables it";
        assert_eq!(message, text);
    }
    assert_eq!(ask_of(hub, "GET", "/hub/status", "").await.status, 200);
}

#[tokio::test]
async fn what_does_not_exist_is_a_404_in_the_envelope() {
    for (method, path) in [
        ("GET", "/nosuch"),
        ("POST", "/hub/models/alpha"),
        ("POST", "/hub/models/alpha/restart"),
        ("POST", concat!("/hub/", "service/reload")),
        ("GET", "/docs"),
    ] {
        assert_eq!(ask(method, path).await.error().0, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn the_wrong_method_is_a_405_that_names_the_right_one() {
    for (method, path, allowed) in [
        ("GET", "/hub/models/alpha/start", "POST"),
        ("GET", "/hub/reload", "POST"),
        ("POST", "/hub/status", "GET,HEAD"),
        ("DELETE", "/hub", "GET,HEAD"),
    ] {
        let answer = ask(method, path).await;
        assert_eq!(answer.error().0, 405, "{method} {path}");
        assert_eq!(answer.headers[ALLOW], allowed, "{method} {path}");
        assert!(answer.calls.is_empty());
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let answer = ask("GET", "/openapi.json").await;
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    assert_eq!(&answer.json(), description());
    assert_eq!(answer.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_description_has_exactly_the_routes_of_the_router() {
    let mut described = BTreeSet::new();
    for (path, operations) in description()["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routed = routes::<TableHub>(Live::default()).into_iter();
    let routed = routed.map(|(method, path, _)| (method.to_string(), path));
    // The server's door answers these.
    let login = ["/hub/login", "/hub/logout"].map(|path| ("POST".to_owned(), path.to_owned()));
    assert_eq!(described, routed.chain(login).collect());
}

#[test]
fn the_description_has_every_verb_where_one_is_named() {
    let description = description();
    let verb = &description["paths"]["/hub/models/{name}/plan"]["get"]["parameters"][1]["schema"];
    let action = &description["components"]["schemas"]["VerbAnswer"]["properties"]["action"];
    for words in [verb, action] {
        assert_eq!(words["enum"], json!(Verb::ALL.map(Verb::as_str)));
    }
}

#[test]
fn the_description_has_exactly_the_keys_of_the_answers() {
    let description = description();
    let properties = |schema: &str| -> BTreeSet<String> {
        let schema = &description["components"]["schemas"][schema];
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let status = serde_json::to_value(TableHub::default().status()).unwrap();
    assert_eq!(properties("Status"), keys(&status));
    assert_eq!(properties("Counts"), keys(&status["counts"]));
    assert_eq!(properties("SystemMemory"), keys(&status["memory"]));
    assert_eq!(properties("Group"), keys(&status["groups"][0]));
    assert_eq!(properties("Model"), keys(&status["models"][0]));
    assert_eq!(
        properties("ModelMetadata"),
        keys(&status["models"][0]["metadata"])
    );
    assert_eq!(
        properties("UsageTotals"),
        keys(&status["models"][0]["metadata"]["usage"])
    );
    let policies = serde_json::to_value(TableHub::default().policies()).unwrap();
    assert_eq!(properties("PoliciesReport"), keys(&policies));
    assert_eq!(properties("Policy"), keys(&policies["policies"][0]));
    let decisions = TableHub::default().decisions(&WantedDecisions::default());
    let decisions = serde_json::to_value(decisions).unwrap();
    assert_eq!(properties("DecisionsReport"), keys(&decisions));
    let recording = serde_json::to_value(RecordingReport::default()).unwrap();
    assert_eq!(properties("RecordingReport"), keys(&recording));
    assert_eq!(properties("Decision"), keys(&decisions["decisions"][0]));
    let all = serde_json::to_value(AllReport::default()).unwrap();
    assert_eq!(properties("AllReport"), keys(&all));
    let request = serde_json::to_value(EndedRequest::default()).unwrap();
    assert_eq!(properties("EndedRequest"), keys(&request));
    let history = serde_json::to_value(TableHub::default().history()).unwrap();
    assert_eq!(properties("HistoryReport"), keys(&history));
    let model = &history["models"]["alpha"];
    assert_eq!(properties("ModelHistory"), keys(model));
    assert_eq!(properties("LoadTime"), keys(&model["loads"][0]));
    let plan = serde_json::to_value(VerbPlan::default()).unwrap();
    assert_eq!(properties("VerbPlan"), keys(&plan));
    let request = serde_json::to_value(RequestInFlight::default()).unwrap();
    assert_eq!(properties("RequestInFlight"), keys(&request));
    let fleet = serde_json::to_value(TableHub::default().fleet()).unwrap();
    assert_eq!(properties("FleetReport"), keys(&fleet));
    let entry = &description["components"]["schemas"]["FleetReport"]["properties"]["entries"];
    let entry = entry["items"]["properties"].as_object().unwrap();
    assert_eq!(
        entry.keys().cloned().collect::<BTreeSet<_>>(),
        keys(&fleet["entries"][0])
    );
}

#[tokio::test]
async fn no_browser_takes_an_answer_for_something_else() {
    for path in ["/hub/status", "/hub", "/health", "/nosuch"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(TableHub::default(), Live::default())
            .oneshot(request)
            .await
            .unwrap();
        let header = &response.headers()["x-content-type-options"];
        assert_eq!(header, "nosniff", "{path}");
    }
}

#[tokio::test]
async fn a_gateway_is_told_whether_it_may_send_requests_and_when_to_ask_again() {
    let hub = TableHub::default();
    let paths = ["/health/ready", "/fleet/alpha/health"];
    for path in paths {
        let answer = ask_of(hub.clone(), "GET", path, "").await;
        assert_eq!(answer.json()["status"], "ready", "{path}");
    }
    let answer = ask_of(hub.clone(), "POST", "/hub/fleet/drain", "").await;
    assert_eq!(answer.json()["drained"], true);
    for path in paths {
        let answer = ask_of(hub.clone(), "GET", path, "").await;
        assert_eq!(answer.error().0, 503, "{path}");
        assert_eq!(answer.headers[RETRY_AFTER], "10");
    }
    let answer = ask_of(hub.clone(), "POST", "/hub/fleet/undrain", "").await;
    assert_eq!(answer.json()["drained"], false);
    for path in ["health", "v1/models", "v1/loads"] {
        let path = format!("/fleet/nosuch/{path}");
        assert_eq!(ask_of(hub.clone(), "GET", &path, "").await.error().0, 404);
    }
    let models = ask("GET", "/fleet/alpha/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "alpha");
    assert_eq!(models["data"].as_array().unwrap().len(), 1);
}
