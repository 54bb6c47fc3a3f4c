//! Lua policies of a user, in the folder of hub.yaml, deciding over a real daemon.

use serde_json::{Value, json};

use crate::support::http::{Reply, chat};
use crate::support::{Hub, SOON, stub, wait_for, wait_until};
use crate::{CHAT, assert_error};

/// Two models in a group that holds one, and one on its own.
fn models() -> String {
    format!(
        "worker_command: {}\n\
         groups:\n- {{name: small, max_loaded: 1}}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, group: small, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, group: small, jit_enabled: true, default: true}}\n\
         - {{name: gamma, model_path: org/gamma, jit_enabled: true, default: true}}\n",
        stub(&[])
    )
}

fn hub(files: &[(&str, &str)]) -> Hub {
    Hub::start_with(&models(), files)
}

/// The last chat that arrived at a worker: which model's, its headers, its body.
fn arrived(hub: &Hub) -> (String, Value, String) {
    let request = hub.record.requests(CHAT).pop().unwrap();
    let body = request["body"].as_str().unwrap().to_owned();
    (
        request["model"].as_str().unwrap().to_owned(),
        request["headers"].clone(),
        body,
    )
}

#[test]
fn a_route_changes_model_fields_and_headers_and_nothing_else() {
    let hub = hub(&[(
        "route.lua",
        r#"return { on_request = function(req)
             if req.model == "cheap" then
               return hub.route{ model = "gamma", set = { temperature = 0.5, stop = { "a", "b" } },
                 unset = { "user" }, headers = { ["X-Routed-By"] = "route.lua" } }
             end
           end }"#,
    )]);
    let sent = r#"{"z":[1.50,null],"model":"cheap","user":"u","messages":[{"role":"user","content":"hé"}],"temperature":1}"#;
    let reply = hub.http.send(
        "POST",
        CHAT,
        &[("content-type", "application/json")],
        sent.as_bytes(),
    );
    let answer = reply.and_then(Reply::whole).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (model, headers, body) = arrived(&hub);
    assert_eq!(model, "gamma");
    assert_eq!(headers["x-routed-by"], "route.lua");
    assert_eq!(headers["content-length"], body.len().to_string());
    let fields: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        fields,
        json!({"z": [1.5, null], "model": "gamma", "temperature": 0.5, "stop": ["a", "b"],
               "messages": [{"role": "user", "content": "hé"}]})
    );
    // Only what the policy did not see goes on as before.
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(arrived(&hub).2, chat("alpha", "hello", false).to_string());
    assert!(arrived(&hub).1.get("x-routed-by").is_none());
}

#[test]
fn a_route_to_another_model_alone_changes_only_the_name() {
    let hub = hub(&[(
        "route.lua",
        "return { on_request = function(req) return hub.route{ model = 'gamma' } end }",
    )]);
    let body = |model: &str| format!("{{ \"messages\": [],\t\"model\": \"{model}\" }}");
    let reply = hub
        .http
        .send("POST", CHAT, &[], body("org/alpha").as_bytes());
    assert_eq!(reply.unwrap().status, 200);
    let (model, _, arrived) = arrived(&hub);
    assert_eq!((model, arrived), ("gamma".to_owned(), body("gamma")));
}

#[test]
fn a_worker_is_called_its_own_name_whatever_a_policy_writes_into_the_body() {
    for change in ["set = { model = 'nosuch' }", "unset = { 'model' }"] {
        let policy =
            format!("return {{ on_request = function() return hub.route{{ {change} }} end }}");
        let hub = hub(&[("route.lua", &policy)]);
        let answer = hub.http.chat("gamma", "hello");
        assert_eq!(answer.status, 200, "{change}: {}", answer.text());
        let fields: Value = serde_json::from_str(&arrived(&hub).2).unwrap();
        assert_eq!(fields["model"], "gamma", "{change}");
    }
}

#[test]
fn a_route_to_a_model_that_is_none_is_a_500() {
    let hub = hub(&[(
        "route.lua",
        "return { on_request = function(req) return hub.route{ model = 'nosuch' } end }",
    )]);
    let answer = hub.http.chat("alpha", "hello");
    assert_error(&answer, 500, "server_error", "500", &["policy", "`nosuch`"]);
}

#[test]
fn a_refusal_has_the_policys_words() {
    let hub = hub(&[(
        "reject.lua",
        r#"return { on_request = function(req)
             if req.headers["x-team"] ~= "red" then
               return hub.reject{ status = 429, message = "Only for red: " .. req.path, type = "quota",
                 code = "not_red", param = "x-team", retry_after = 7 }
             end
           end }"#,
    )]);
    let answer = hub.http.chat("alpha", "hello");
    assert_error(
        &answer,
        429,
        "quota",
        "not_red",
        &["Only for red: /v1/chat/completions"],
    );
    assert_eq!(answer.json()["error"]["param"], "x-team");
    assert_eq!(answer.header("retry-after"), Some("7"));
    let body = chat("alpha", "hello", false).to_string();
    let reply = hub
        .http
        .send("POST", CHAT, &[("x-team", "red")], body.as_bytes());
    assert_eq!(reply.unwrap().status, 200);
}

#[test]
fn a_policy_that_reads_the_body_sees_it_whole_and_the_worker_gets_it_as_it_was() {
    let hub = hub(&[(
        "long.lua",
        r#"return { on_request = function(req)
             if req.prompt_chars > 200000 then return hub.route{ model = "gamma" } end
             if req.stream then return hub.reject{ status = 403, message = "no streams" } end
             if req.body.seed == 7 then return hub.reject{ status = 400, message = "seven" } end
           end }"#,
    )]);
    // More than one read of the hub: the body is not there when the policy is first asked.
    let long = chat("alpha", &"long ".repeat(100_000), false);
    assert_eq!(hub.http.post(CHAT, &long).status, 200);
    let request = hub.record.requests(CHAT).pop().unwrap();
    assert_eq!(request["model"], "gamma");
    let expected = long
        .to_string()
        .replace("\"model\":\"alpha\"", "\"model\":\"gamma\"");
    assert_eq!(
        request["body_hash"],
        crate::support::record::hash(expected.as_bytes())
    );
    assert_eq!(
        hub.http.post(CHAT, &chat("alpha", "short", true)).status,
        403
    );
    let mut seven = chat("alpha", "short", false);
    seven["seed"] = json!(7);
    assert_eq!(hub.http.post(CHAT, &seven).status, 400);
    assert_eq!(hub.http.chat("alpha", "short").status, 200);
    assert_eq!(arrived(&hub).0, "alpha");
}

#[test]
fn a_policy_evicts_to_make_room() {
    let hub = hub(&[(
        "evict.lua",
        r#"return { on_load = function(load, hub)
             if load.group and load.group.free <= 0 then return hub.evict(load.group.loaded) end
           end }"#,
    )]);
    for name in ["alpha", "beta", "alpha"] {
        assert_eq!(hub.http.chat(name, "hello").status, 200);
        assert_eq!(hub.status()["groups"][0]["loaded"], json!([name]));
    }
    let evicted = hub.model("beta");
    assert_eq!(evicted["process_state"], "running", "{evicted}");
    assert_eq!(evicted["memory_state"], "unloaded", "{evicted}");
}

#[test]
fn a_policy_unloads_what_is_idle_for_a_second() {
    let hub = hub(&[(
        "idle.lua",
        "return { on_idle = function(model) if model.idle_seconds >= 1 then return hub.unload() end end }",
    )]);
    assert_eq!(hub.http.chat("gamma", "hello").status, 200);
    let model = hub.wait_for_state("gamma", "running", "unloaded");
    let idle =
        model["last_unload_at"].as_f64().unwrap() - model["last_request_at"].as_f64().unwrap();
    assert!(idle >= 1.0, "{idle}");
    assert_eq!(hub.http.chat("gamma", "hello").status, 200);
    assert_eq!(hub.record.count("start", "gamma"), 2);
}

#[test]
fn a_policy_that_fails_is_named_with_its_line_and_the_next_decides() {
    let hub = hub(&[
        (
            "10_broken.lua",
            "return {\n  on_request = function(req)\n    return req.nosuch.field\n  end\n}\n",
        ),
        (
            "20_loop.lua",
            "return { on_request = function(req)\n  while true do end\nend }",
        ),
        (
            "30_works.lua",
            "return { on_request = function(req) return hub.reject{ status = 418, message = 'tea' } end }",
        ),
    ]);
    let answer = hub.http.chat("alpha", "hello");
    assert_eq!(answer.status, 418, "{}", answer.text());
    for place in ["10_broken.lua:3", "20_loop.lua:2"] {
        wait_for(place, SOON, || {
            let warnings = hub.status()["warnings"].clone();
            let found = warnings
                .as_array()?
                .iter()
                .any(|line| line.as_str().is_some_and(|line| line.contains(place)));
            found.then_some(())
        });
    }
    // A failing policy is no fault of hub.yaml.
    assert_eq!(hub.status()["status"], "ok");
}

#[test]
fn a_policy_that_does_not_load_leaves_the_others_in_charge() {
    let hub = hub(&[("broken.lua", "return {\n  on_request = function(\n}\n")]);
    wait_until("the warning", SOON, || {
        hub.status()["warnings"].to_string().contains("broken.lua:")
    });
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(
        hub.http.chat("beta", "hello").status,
        429,
        "the default policy decides"
    );
}

#[test]
fn what_a_client_wrote_makes_no_line_of_its_own_in_the_log() {
    let policy = "return { on_request = function(req, hub)
      hub.log.info(req.model)
      print(req.model)
      error(req.model)
    end }";
    let hub = hub(&[("a.lua", policy)]);
    let model = "x\r\n2026-03-02T08:00:00Z ERROR forged";
    assert_eq!(hub.http.chat(model, "hello").status, 404);
    let log = wait_for("the log", SOON, || {
        let log = std::fs::read_to_string(hub.logs().join("app.log")).ok()?;
        (log.matches("forged").count() >= 3).then_some(log)
    });
    for line in log.lines().filter(|line| line.contains("forged")) {
        assert!(
            line.contains("x\\r\\n2026") || line.contains("x\\r 2026"),
            "{line}"
        );
    }
    assert!(!log.contains('\r'), "{log}");
}
