//! What is known of a request when it is over: in the status, in the answer's head and in the log.

use serde_json::{Value, json};

use crate::support::http::{Reply, chat};
use crate::support::processes::is_alive;
use crate::support::{Hub, SOON, wait_for, wait_until};
use crate::{
    CHAT, DIALECTS, ENDLESS, alpha, alpha_in, ask_as, begin_stream, wait_for_active, wait_for_event,
};

/// A hub whose log has a line per request.
fn telling(dialect: &str, knobs: &[&str]) -> Hub {
    Hub::start(&format!(
        "log_level: DEBUG\nstop_timeout: 1\n{}",
        alpha_in(dialect, knobs)
    ))
}

/// The log's line about the request of that id, once it is there.
fn line(hub: &Hub, id: &str) -> String {
    log_line(hub, &format!(" id=\"{id}\""))
}

/// The log's first line with this text, once it is there.
fn log_line(hub: &Hub, text: &str) -> String {
    wait_for(&format!("a line with {text}"), SOON, || {
        let log = std::fs::read_to_string(hub.logs().join("app.log")).ok()?;
        log.lines()
            .find(|line| line.contains(text))
            .map(str::to_owned)
    })
}

fn send(hub: &Hub, id: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("x-request-id", id)];
    let body = body.to_string();
    hub.http
        .send("POST", CHAT, &headers, body.as_bytes())
        .unwrap()
}

#[test]
fn tokens_of_plain_and_streamed_answers_are_counted() {
    let hub = Hub::start(&alpha(&["--tokens", "6", "--token-ms", "20"]));
    let usage = || hub.model("alpha")["usage"].clone();
    assert_eq!(
        usage(),
        json!({"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "last_tokens_per_second": null})
    );
    let plain = hub.http.chat("alpha", "hello there").json();
    wait_until("the first to be counted", SOON, || usage()["requests"] == 1);
    let first = usage();
    assert_eq!(first["completion_tokens"], 6, "{first}");
    assert_eq!(
        first["prompt_tokens"], plain["usage"]["prompt_tokens"],
        "{first}"
    );
    // Nobody saw when its first token was there.
    assert_eq!(first["last_tokens_per_second"], Value::Null);

    assert!(!hub.http.stream("alpha", "hello there").said().is_empty());
    wait_until("the second to be counted", SOON, || {
        usage()["requests"] == 2
    });
    assert_eq!(usage()["completion_tokens"], 12);
    // Five more tokens took at least 100 ms.
    let rate = usage()["last_tokens_per_second"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 50.0, "{rate}");
    assert_eq!(
        usage()["prompt_tokens"],
        2 * first["prompt_tokens"].as_u64().unwrap()
    );
}

#[test]
fn a_stream_too_short_to_measure_has_no_rate() {
    let hub = Hub::start(&alpha(&["--tokens", "6"]));
    assert!(!hub.http.stream("alpha", "hello").said().is_empty());
    let usage = || hub.model("alpha")["usage"].clone();
    wait_until("it to be counted", SOON, || usage()["requests"] == 1);
    assert_eq!(usage()["completion_tokens"], 6);
    assert_eq!(usage()["last_tokens_per_second"], Value::Null);
}

#[test]
fn an_answer_without_counts_is_a_request_and_no_tokens() {
    // This dialect writes no usage into its streams.
    let hub = telling("jit", &["--tokens", "3"]);
    let stream = send(&hub, "no-counts", &chat("alpha", "hello", true));
    assert!(!stream.said().is_empty());
    let line = line(&hub, "no-counts");
    assert!(!line.contains("completion_tokens"), "{line}");
    assert!(line.contains("first_token_seconds="), "{line}");
    let seconds = line
        .split(' ')
        .filter_map(|word| word.split_once("seconds="));
    let places: Vec<usize> = seconds
        .map(|(_, number)| number.split_once('.').unwrap().1.len())
        .collect();
    assert_eq!(places, [6, 6, 6, 6], "{line}");
    let usage = &hub.model("alpha")["usage"];
    assert_eq!(usage["requests"], 1);
    assert_eq!(usage["completion_tokens"], 0);
    assert_eq!(usage["last_tokens_per_second"], Value::Null);
}

#[test]
fn the_id_of_a_request_is_in_worker_log_and_answer() {
    for dialect in DIALECTS {
        let hub = telling(dialect, &["--tokens", "3"]);
        let answer = send(&hub, "mine-1", &chat("alpha", "hello", false))
            .whole()
            .unwrap();
        assert_eq!(answer.header("x-request-id"), Some("mine-1"));
        let line = line(&hub, "mine-1");
        for part in [
            "method=POST",
            "path=\"/v1/chat/completions\"",
            "hub_model=\"alpha\"",
            "status=200",
            "completion_tokens=3",
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        // Who sends none gets one, and the same arrives at the worker.
        let answer = hub.http.chat("alpha", "hello");
        let ours = answer.header("x-request-id").unwrap();
        let arrived: Vec<Value> = hub
            .record
            .requests(CHAT)
            .iter()
            .map(|request| request["headers"]["x-request-id"].clone())
            .collect();
        assert_eq!(arrived, ["mine-1", ours]);
    }
}

#[test]
fn server_timing_tells_the_parts_of_the_way() {
    let hub = Hub::start(&alpha(&[
        "--load-seconds",
        "0.2",
        "--first-token-seconds",
        "0.1",
    ]));
    let durations = |answer: &crate::support::http::Answer| -> Value {
        let timing = answer.header("server-timing").expect("Server-Timing");
        timing
            .split(", ")
            .map(|part| {
                let (name, ms) = part.split_once(";dur=").unwrap();
                (name.to_owned(), json!(ms.parse::<f64>().unwrap()))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let cold = durations(&hub.http.chat("alpha", "hello"));
    assert!(cold["load"].as_f64().unwrap() >= 200.0, "{cold}");
    assert!(cold["worker"].as_f64().unwrap() >= 100.0, "{cold}");
    assert!(cold["policy"].as_f64().unwrap() > 0.0, "{cold}");
    let warm = durations(&hub.http.chat("alpha", "hello"));
    assert_eq!(warm["load"], Value::Null, "{warm}");
    assert!(warm["worker"].as_f64().unwrap() >= 100.0, "{warm}");
}

#[test]
fn a_client_that_leaves_is_logged_as_499_wherever_its_request_is() {
    let hub = telling("1.8.1", &[&ENDLESS[..], &["--load-seconds", "1"]].concat());
    let leave = |id: &str, stream: bool, when: &dyn Fn()| {
        let client = ask_as(id, &hub, &chat("alpha", "hello", stream));
        when();
        drop(client);
        let line = line(&hub, id);
        assert!(line.contains("status=499"), "{line}");
        assert!(line.contains("hub_model=\"alpha\""), "{line}");
        wait_for_active(&hub, "alpha", 0);
    };
    leave("while-it-loads", false, &|| wait_for_event(&hub, "load", 1));
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.model("alpha")["usage"]["requests"], 0, "none was sent");
    leave("before-its-answer", false, &|| {
        wait_until("the request to arrive", SOON, || {
            hub.record.requests(CHAT).len() == 1
        })
    });
    assert_eq!(hub.model("alpha")["usage"]["requests"], 1);

    let events = begin_stream(&hub);
    drop(events);
    wait_until("the third 499", SOON, || {
        let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap();
        log.matches("status=499").count() == 3
    });
}

/// Writes the fields of every request that has ended into the hub's log.
const TELLTALE: &str = r#"
hub.on("request.finished", function(event, hub)
  local fields = {}
  for key, value in pairs(event) do
    fields[#fields + 1] = key .. "=" .. tostring(value)
  end
  table.sort(fields)
  hub.log.info("told of " .. event.id .. ": " .. table.concat(fields, " ") .. " .")
end)
return {}
"#;

#[test]
fn observers_hear_of_a_request_when_its_answer_has_ended() {
    let yaml = alpha(&["--tokens", "3", "--token-ms", "30", "--load-seconds", "0.1"]);
    let hub = Hub::start_with(&yaml, &[("telltale.lua", TELLTALE)]);
    let told = |id: &str| log_line(&hub, &format!("told of {id}: "));
    assert!(
        !send(&hub, "plain", &chat("org/alpha", "hello", false))
            .whole()
            .unwrap()
            .body
            .is_empty()
    );
    let plain = told("plain");
    for part in [
        "client=127.0.0.1 ",
        "completion_tokens=3 ",
        "model=alpha ",
        "name=request.finished ",
        "path=/v1/chat/completions ",
        "status=200 ",
        "stream=false ",
        "wait_seconds=0.",
        "prompt_tokens=",
    ] {
        assert!(plain.contains(part), "no {part}in {plain}");
    }
    assert!(!plain.contains("first_token_seconds"), "{plain}");
    assert!(!plain.contains("tokens_per_second"), "{plain}");

    assert!(
        !send(&hub, "streamed", &chat("alpha", "hello", true))
            .said()
            .is_empty()
    );
    let streamed = told("streamed");
    for part in [
        "completion_tokens=3 ",
        "first_token_seconds=0.",
        "stream=true ",
        "tokens_per_second=",
    ] {
        assert!(streamed.contains(part), "no {part}in {streamed}");
    }
    assert!(
        !streamed.contains("wait_seconds"),
        "it waited for nothing: {streamed}"
    );
}

#[test]
fn a_refused_request_is_logged_with_its_status() {
    let hub = telling("1.8.1", &[]);
    let answer = send(&hub, "refused", &chat("nosuch", "hello", false))
        .whole()
        .unwrap();
    assert_eq!(answer.status, 404);
    assert!(line(&hub, "refused").contains("status=404"));
}

#[test]
fn the_last_requests_are_listed_without_their_texts() {
    let hub = Hub::start(&alpha(&["--tokens", "6", "--token-ms", "20"]));
    hub.http.get("/v1/models");
    assert!(!hub.http.stream("alpha", "secretword").said().is_empty());
    hub.http.chat("nosuch", "secretword");
    hub.http.post(
        "/api/chat",
        &json!({"model": "nosuch", "messages": [{"role": "user", "content": "secretword"}]}),
    );
    let list = |query: &str| -> Vec<Value> {
        let text = hub.http.get(&format!("/hub/requests{query}")).text();
        assert!(!text.contains("secretword"), "{text}");
        let mut json: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(json["requests"].take()).unwrap()
    };
    wait_until("three to be listed", SOON, || list("").len() == 3);
    let requests = list("");
    let brief: Vec<Value> = (requests.iter())
        .map(|request| {
            let keys = [
                "number", "method", "path", "protocol", "model", "status", "stream",
            ];
            keys.iter().map(|key| request[key].clone()).collect()
        })
        .collect();
    assert_eq!(
        brief,
        [
            json!([1, "POST", CHAT, "openai", "alpha", 200, true]),
            json!([2, "POST", CHAT, "openai", null, 404, false]),
            json!([3, "POST", "/api/chat", "ollama", null, 404, false]),
        ]
    );
    let stream = &requests[0];
    assert_eq!(stream["client"], "127.0.0.1");
    assert_eq!(stream["completion_tokens"], 6);
    let seconds = |key: &str| stream[key].as_f64().unwrap();
    assert!(seconds("seconds") >= 0.1, "{stream}");
    assert!(
        seconds("first_token_seconds") < seconds("seconds"),
        "{stream}"
    );
    assert!(seconds("tokens_per_second") <= 50.0, "{stream}");
    assert_eq!(list("?after=2").len(), 1);
    assert_eq!(list("?model=alpha").len(), 1);
}

/// The pages' stream is one answer that does not end: a hub that another one has replaced must not wait for it.
#[test]
fn an_open_page_hears_of_a_load_at_once_and_keeps_no_hub() {
    let hub = Hub::start_in_background(&alpha(&[]));
    hub.wait_for_state("alpha", "running", "unloaded");
    let page = hub.http.send("GET", "/hub/events", &[], b"").unwrap();
    assert_eq!(page.header("content-type"), Some("text/event-stream"));
    let mut events = page.events().map(Result::unwrap);
    let first = events.next().unwrap();
    assert!(first.contains("\"process_state\":\"running\""), "{first}");

    let begun = tokio::time::Instant::now();
    assert_eq!(hub.act("alpha", "stop").status, 200);
    assert!(events.any(|event| event.contains("\"process_state\":\"stopped\"")));
    assert!(begun.elapsed() < SOON);

    let old = hub.serving_pid();
    assert!(hub.restart().status.success());
    assert_eq!(events.count(), 0);
    wait_until("the replaced hub to end", SOON, || !is_alive(old));
}

#[test]
fn metrics_have_the_distributions_of_requests_and_loads() {
    let hub = Hub::start(&alpha(&["--tokens", "6", "--token-ms", "20"]));
    assert!(!hub.http.stream("alpha", "hello").said().is_empty());
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub.act("alpha", "unload");
    let metrics = || hub.http.get("/metrics").text();
    let has = |line: &str| metrics().lines().any(|other| other == line);
    for line in [
        r#"mlx_hub_requests_total{door="openai",model="alpha",status="200"} 2"#,
        r#"mlx_hub_request_duration_seconds_count{model="alpha"} 2"#,
        r#"mlx_hub_request_duration_seconds_bucket{model="alpha",le="+Inf"} 2"#,
        r#"mlx_hub_time_to_first_token_seconds_count{model="alpha"} 1"#,
        r#"mlx_hub_model_load_duration_seconds_count{model="alpha"} 1"#,
        r#"mlx_hub_evictions_total{model="alpha",policy="",reason="asked"} 1"#,
        r#"mlx_hub_evictions_total{model="alpha",policy="",reason="reload"} 0"#,
        r#"mlx_hub_model_failures_total{model="alpha"} 0"#,
    ] {
        wait_until(line, SOON, || has(line));
    }
    let call = r#"mlx_hub_policy_call_duration_seconds_count{hook="on_request",policy="bundled/create_hub.lua"}"#;
    assert!(metrics().contains(call), "{}", metrics());
    // Each metric is described once, however many models there are.
    let text = metrics();
    let types: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let mut once = types.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), types.len(), "{types:?}");
}
