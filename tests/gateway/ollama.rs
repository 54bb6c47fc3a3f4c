//! Ollama's and LM Studio's APIs on workers that speak OpenAI's.

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_for, wait_until};
use crate::{CHAT, ENDLESS, active, alpha};

fn chat(prompt: &str) -> Value {
    json!({
        "model": "alpha:latest",
        "messages": [{"role": "user", "content": prompt}],
        "tools": [{"type": "function", "function": {"name": "Write", "parameters": {"type": "object"}}}],
    })
}

fn lines(reply: Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = reply.whole().unwrap().text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    let error = body["error"].as_str().expect("a text");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

/// As curl sends what `-d` gives it, and as Ollama's own documentation has it.
#[test]
fn a_body_that_is_called_a_form_reaches_the_worker_as_json() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let message = json!({"model": "alpha", "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]});
    for (path, body) in [
        ("/api/chat", chat("hello")),
        (
            "/api/generate",
            json!({"model": "alpha", "prompt": "hello"}),
        ),
        ("/v1/messages", message),
        ("/v1/responses", json!({"model": "alpha", "input": "hello"})),
    ] {
        let body = body.to_string();
        let sent = hub.http.send("POST", path, &form, body.as_bytes());
        let answer = sent.unwrap().whole().unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let requests = hub.record.requests(CHAT);
    let kinds: Vec<&str> = (requests.iter())
        .map(|request| request["headers"]["content-type"].as_str().unwrap())
        .collect();
    assert!(kinds.len() >= 3);
    assert!(
        kinds.iter().all(|kind| *kind == "application/json"),
        "{kinds:?}"
    );
}

#[test]
fn chats_and_completions_stream_lines() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let told = lines(hub.http.open("/api/chat", &chat("hello")));
    assert_eq!(told.len(), 4);
    assert!(
        told[..3]
            .iter()
            .all(|line| line["done"] == false && line["message"]["role"] == "assistant")
    );
    let last = &told[3];
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(3))
    );
    let requests = hub.record.requests(CHAT);
    assert!(
        requests[0]["body"]
            .as_str()
            .unwrap()
            .starts_with(r#"{"model":"alpha","#)
    );

    let told = lines(
        hub.http
            .open("/api/chat", &chat("call Write {\"path\": \"a\"}")),
    );
    let call = &told[0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "Write", "arguments": {"path": "a"}}));

    let body = json!({"model": "alpha", "prompt": "hello", "stream": false});
    let said = hub.http.post("/api/generate", &body).json();
    assert!(
        said["response"].as_str().unwrap().contains("hello"),
        "{said}"
    );
    assert_eq!(said["done"], true);
}

#[test]
fn texts_are_embedded() {
    let hub = Hub::start(&alpha(&[]));
    let body = json!({"model": "alpha", "input": ["a", "b"]});
    let said = hub.http.post("/api/embed", &body).json();
    assert_eq!(said["embeddings"].as_array().unwrap().len(), 2, "{said}");
    let said = hub
        .http
        .post("/api/embeddings", &json!({"model": "alpha", "prompt": "a"}))
        .json();
    assert_eq!(said["embedding"].as_array().unwrap().len(), 8, "{said}");
    assert_eq!(hub.record.requests("/v1/embeddings").len(), 2);
}

#[test]
fn the_counters_tell_the_load_apart_from_the_work() {
    const LOAD: f64 = 2.0;
    let hub = Hub::start(&alpha(&["--tokens", "3", "--load-seconds", "2"]));
    let stream = || lines(hub.http.open("/api/chat", &chat("hello"))).pop();
    let whole = || {
        let body = json!({"model": "alpha", "prompt": "hello", "stream": false});
        Some(hub.http.post("/api/generate", &body).json())
    };
    let embedded = || {
        let body = json!({"model": "alpha", "input": "hello"});
        Some(hub.http.post("/api/embed", &body).json())
    };
    for ask in [&stream as &dyn Fn() -> Option<Value>, &whole, &embedded] {
        for is_loaded in [false, true] {
            let told = ask().unwrap();
            let seconds = |key: &str| told[key].as_f64().unwrap_or(0.0) / 1e9;
            let load = seconds("load_duration");
            assert_eq!(load < LOAD / 2.0, is_loaded, "{told}");
            assert!(is_loaded || load > LOAD * 0.75, "{told}");
            assert!(seconds("total_duration") > load, "{told}");
            for of_work in ["prompt_eval_duration", "eval_duration"] {
                assert!(seconds(of_work) < LOAD / 2.0, "{told}");
            }
        }
        hub.act("alpha", "unload");
        hub.wait_for_state("alpha", "running", "unloaded");
    }
}

#[test]
fn a_model_whose_reasoning_is_told_apart_thinks() {
    let thinks = "{name: alpha, reasoning_parser: qwen3,";
    let hub = Hub::start(&alpha(&[]).replace("{name: alpha,", thinks));
    let shown = hub.http.post("/api/show", &json!({"model": "alpha"}));
    assert_eq!(
        shown.json()["capabilities"],
        json!(["completion", "tools", "thinking"])
    );
}

#[test]
fn the_lists_tell_what_there_is_and_what_is_loaded() {
    let hub = Hub::start(&alpha(&[]));
    assert!(hub.http.get("/api/version").json()["version"].is_string());
    let tags = hub.http.get("/api/tags").json();
    assert_eq!(tags["models"][0]["name"], "alpha", "{tags}");
    assert_eq!(hub.http.get("/api/ps").json(), json!({"models": []}));
    let shown = hub
        .http
        .post("/api/show", &json!({"model": "alpha:latest"}))
        .json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert_eq!(shown["model_info"]["mlx.context_length"], 32768);
    let models = hub.http.get("/api/v0/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["state"]),
        (&json!("alpha"), &json!("not-loaded"))
    );
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");

    hub.act("alpha", "load");
    let running = hub.http.get("/api/ps").json();
    assert_eq!(running["models"][0]["context_length"], 32768, "{running}");
    let model = hub.http.get("/api/v0/models/alpha").json();
    assert_eq!(
        (&model["state"], &model["loaded_context_length"]),
        (&json!("loaded"), &json!(32768))
    );
    let body = crate::support::http::chat("alpha", "hello", false);
    let answer = hub.http.post("/api/v0/chat/completions", &body);
    assert_eq!(answer.json()["object"], "chat.completion");
}

/// The only line of an answer about a model's place in memory.
#[track_caller]
fn moved(reply: Reply, reason: &str) -> Value {
    let lines = lines(reply);
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (&line["done"], &line["done_reason"]),
        (&json!(true), &json!(reason))
    );
    line.clone()
}

#[test]
fn a_request_that_says_nothing_loads_its_model_and_with_keep_alive_0_unloads_it() {
    let hub = Hub::start(&alpha(&[]));
    let open = |path: &str, body: &Value| hub.http.open(path, body);
    let unload = json!({"model": "alpha", "keep_alive": 0});
    let line = moved(open("/api/generate", &unload), "unload");
    assert_eq!(
        (&line["model"], &line["response"]),
        (&json!("alpha"), &json!(""))
    );
    assert!(
        hub.record.events("load").is_empty(),
        "loaded to be unloaded"
    );

    moved(
        open("/api/generate", &json!({"model": "alpha:latest"})),
        "load",
    );
    assert_eq!(hub.model("alpha")["memory_state"], "loaded");
    let running = hub.http.get("/api/ps").json();
    assert!(
        running["models"][0]["expires_at"]
            .as_str()
            .unwrap()
            .starts_with("2318"),
        "{running}"
    );
    let body = json!({"model": "alpha", "messages": [], "stream": false, "keep_alive": "0s"});
    let said = hub.http.post("/api/chat", &body).json();
    assert_eq!(
        (&said["done_reason"], &said["message"]["content"]),
        (&json!("unload"), &json!(""))
    );
    hub.wait_for_state("alpha", "running", "unloaded");
    assert!(hub.record.requests(CHAT).is_empty());
    assert_eq!(hub.record.events("load").len(), 1);

    let unknown = hub.http.post(
        "/api/generate",
        &json!({"model": "nosuch", "keep_alive": 0}),
    );
    assert_refused(&unknown, 404, &["`nosuch`"]);
}

#[test]
fn a_wish_is_granted_within_the_models_own_limit() {
    let yaml = alpha(&["--tokens", "3"]);
    let yaml = yaml.replace("{name: alpha,", "{name: alpha, auto_unload_minutes: 1,");
    let hub = Hub::start(&yaml);
    let ask = |keep_alive: Value| {
        let mut body = chat("hello");
        body["stream"] = json!(false);
        body["keep_alive"] = keep_alive;
        assert_eq!(hub.http.post("/api/chat", &body).status, 200);
    };
    let expires_in = || {
        let running = hub.http.get("/api/ps").json();
        let at = running["models"][0]["expires_at"].as_str().unwrap();
        let at: jiff::Timestamp = at.parse().unwrap();
        at.as_second() - jiff::Timestamp::now().as_second()
    };
    // Longer than its own limit, or for ever.
    for wish in [json!("1h"), json!(-1), json!("-1")] {
        ask(wish.clone());
        let seconds = expires_in();
        assert!((40..=60).contains(&seconds), "{wish}: {seconds}");
    }
    ask(json!(20));
    let seconds = expires_in();
    assert!((1..=20).contains(&seconds), "{seconds}");
    // A request without a wish changes nothing about it.
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let seconds = expires_in();
    assert!((1..=20).contains(&seconds), "{seconds}");
    ask(json!("1s"));
    hub.wait_for_state("alpha", "running", "unloaded");
    // It was about that time in memory.
    hub.act("alpha", "load");
    let seconds = expires_in();
    assert!((40..=60).contains(&seconds), "{seconds}");
    let body = json!({"model": "alpha", "keep_alive": "soon"});
    assert_refused(
        &hub.http.post("/api/chat", &body),
        400,
        &["`keep_alive`", "`soon`", "`5m`"],
    );
}

#[test]
fn policies_see_the_wish_of_a_request_and_of_a_model() {
    let policy = r#"return {
      on_request = function(req, hub)
        if req.keep_alive and req.keep_alive < 0 then
          return hub.reject{ status = 403, message = "nobody stays for ever" }
        end
        assert(req.protocol ~= "ollama" or req.keep_alive == 300)
      end,
      on_idle = function(model, hub)
        if model.keep_alive == 300 then return hub.unload() end
      end,
    }"#;
    let hub = Hub::start_with(&alpha(&["--tokens", "3"]), &[("wish.lua", policy)]);
    let ask = |keep_alive: &str| {
        let body =
            json!({"model": "alpha", "prompt": "hello", "keep_alive": keep_alive, "stream": false});
        hub.http.post("/api/generate", &body)
    };
    assert_refused(&ask("-1"), 403, &["nobody stays"]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(ask("5m").status, 200);
    hub.wait_for_state("alpha", "running", "unloaded");
}

#[test]
fn what_is_wrong_is_said_in_ollamas_form() {
    let hub = Hub::start(&alpha(&[]));
    let body = json!({"model": "alpah", "messages": [{"role": "user", "content": "x"}]});
    assert_refused(
        &hub.http.post("/api/chat", &body),
        404,
        &["`alpah`", "`alpha`"],
    );
    let body = json!({"model": "alpha", "messages": 7});
    assert_refused(
        &hub.http.post("/api/chat", &body),
        400,
        &["`messages`", "`7`"],
    );
    assert_refused(
        &hub.http.post("/api/show", &json!({"model": "nosuch"})),
        404,
        &["`nosuch`"],
    );
    for path in ["/api/pull", "/api/create", "/api/push", "/api/copy"] {
        assert_refused(
            &hub.http.post(path, &json!({"model": "x"})),
            501,
            &[path, "hub.yaml"],
        );
    }
    for (method, path) in [("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:0")] {
        let reply = hub.http.send(method, path, &[], b"{}");
        let answer = reply.and_then(Reply::whole).unwrap();
        assert_refused(&answer, 501, &[path, "hub.yaml"]);
    }
    assert_refused(&hub.http.get("/api/chat"), 405, &["POST"]);
    assert_refused(
        &hub.http.get("/api/nosuch?model=alpha"),
        404,
        &["/api/nosuch"],
    );
    let headers = [
        ("origin", "http://evil.example"),
        ("content-type", "text/plain"),
    ];
    let reply = hub.http.send("POST", "/api/chat", &headers, b"{}");
    assert_eq!(reply.and_then(Reply::whole).unwrap().status, 403);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert!(hub.record.events("request").is_empty());
}

/// The requests of Copilot's model picker and chat (`ollamaProvider.ts` of VS Code).
#[test]
fn copilot_finds_its_models_and_chats() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let version = hub.http.get("/api/version").json();
    let version: Vec<u64> = (version["version"].as_str().unwrap().split('.'))
        .map(|part| part.parse().unwrap())
        .collect();
    // It accepts none that is older.
    assert!(version >= vec![0, 6, 4], "{version:?}");
    let tags = hub.http.get("/api/tags").json();
    let model = tags["models"][0]["model"].as_str().unwrap().to_owned();
    let shown = hub.http.post("/api/show", &json!({"model": model})).json();
    let info = &shown["model_info"];
    let architecture = info["general.architecture"].as_str().unwrap();
    assert_eq!(info[format!("{architecture}.context_length")], 32768);
    assert_eq!(info["general.basename"], "alpha");
    assert!(
        shown["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("tools"))
    );
    let mut body = crate::support::http::chat(&model, "hello", true);
    body["tools"] = chat("")["tools"].clone();
    let events: Vec<_> = hub.http.open(CHAT, &body).events().collect();
    assert_eq!(events.last().unwrap().as_deref().unwrap(), "[DONE]");
}

/// Those of Zed (`crates/ollama`), which wants each field of its types.
#[test]
fn zed_finds_its_models_and_calls_tools() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let tags = hub.http.get("/api/tags").json();
    let listed = &tags["models"][0];
    for field in ["name", "modified_at", "digest"] {
        assert!(listed[field].is_string(), "{field}: {listed}");
    }
    assert!(listed["size"].is_u64(), "{listed}");
    for field in ["format", "family", "parameter_size", "quantization_level"] {
        assert!(listed["details"][field].is_string(), "{field}: {listed}");
    }
    let shown = hub
        .http
        .post("/api/show", &json!({"model": "alpha"}))
        .json();
    assert!(shown["capabilities"].is_array());
    let ask = |messages: Value| {
        let body = json!({
            "model": "alpha", "messages": messages, "stream": true, "keep_alive": -1,
            "options": {"num_ctx": 16384, "num_predict": null, "stop": [], "temperature": 1.0, "top_p": null},
            "tools": chat("")["tools"], "think": null,
        });
        lines(hub.http.open("/api/chat", &body))
    };
    let user = json!({"role": "user", "content": "call Write {\"path\": \"a\"}"});
    let told = ask(json!([{"role": "system", "content": "Be brief."}, user]));
    for line in &told {
        let is_whole = line["model"].is_string() && line["created_at"].is_string();
        assert!(is_whole && line["message"]["content"].is_string(), "{line}");
    }
    let call = told[0]["message"]["tool_calls"][0].clone();
    assert_eq!(call["function"]["arguments"], json!({"path": "a"}));
    let told = ask(json!([
        user,
        {"role": "assistant", "content": "", "tool_calls": [call], "thinking": null},
        {"role": "tool", "tool_name": "Write", "content": "written"},
    ]));
    assert_eq!(told.last().unwrap()["done_reason"], "stop");
    let text: String = (told.iter())
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert!(text.contains("written"), "{text}");
}

/// Those of JetBrains' assistants: they look for the server, list and show its models, and chat without a stream.
#[test]
fn jetbrains_looks_for_ollama_lists_and_chats() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let found = hub
        .http
        .send("GET", "/", &[("accept", "*/*")], b"")
        .unwrap();
    assert_eq!(found.whole().unwrap().text(), "Ollama is running");
    let tags = hub.http.get("/api/tags").json();
    let name = tags["models"][0]["name"].clone();
    let shown = hub
        .http
        .post("/api/show", &json!({"name": name, "verbose": false}));
    assert_eq!(shown.status, 200, "{}", shown.text());
    let mut body = chat("hello");
    body["stream"] = json!(false);
    body["format"] = json!({"type": "object"});
    let said = hub.http.post("/api/chat", &body).json();
    assert_eq!(
        (&said["done"], &said["message"]["role"]),
        (&json!(true), &json!("assistant"))
    );
    let vector = hub
        .http
        .post("/api/embeddings", &json!({"model": name, "prompt": "a"}))
        .json();
    assert!(vector["embedding"].is_array(), "{vector}");
}

/// Those of Home Assistant (`homeassistant/components/ollama`, by way of the `ollama` package): `keep_alive` is -1 or
/// seconds with an `s`, and a tool's result has no name.
#[test]
fn home_assistant_chats_and_calls_its_tools() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let json = [
        ("accept", "application/json"),
        ("content-type", "application/json"),
    ];
    let tags = hub.http.send("GET", "/api/tags", &json, b"").unwrap();
    assert_eq!(tags.whole().unwrap().json()["models"][0]["model"], "alpha");
    // A model that it misses is pulled.
    let pulled = hub
        .http
        .post("/api/pull", &json!({"model": "llama3.2", "stream": true}));
    assert_refused(
        &pulled,
        501,
        &["/api/pull", "hub.yaml", "`mlx-openai-server-hub reload`"],
    );
    let ask = |messages: Value, keep_alive: Value| {
        let body = json!({
            "model": "alpha", "messages": messages, "stream": true, "keep_alive": keep_alive,
            "options": {"num_ctx": 8192}, "think": false, "format": null, "tools": chat("")["tools"],
        });
        lines(hub.http.open("/api/chat", &body))
    };
    let turns = json!([
        {"role": "system", "content": "You are a home."},
        {"role": "user", "content": "call Write {\"path\": \"lamp\"}"},
    ]);
    let told = ask(turns.clone(), json!(-1));
    let called = &told[0]["message"]["tool_calls"];
    assert_eq!(called[0]["function"]["name"], "Write");
    let mut turns = turns.as_array().unwrap().clone();
    turns.push(json!({"role": "assistant", "content": "", "tool_calls": called}));
    turns.push(json!({"role": "tool", "content": "{\"data\": \"lit\", \"error\": null}"}));
    let told = ask(json!(turns), json!("300s"));
    assert_eq!(told.last().unwrap()["done"], true);
    let requests = hub.record.requests(CHAT);
    let sent: Value = serde_json::from_str(requests[1]["body"].as_str().unwrap()).unwrap();
    let [call, result] = &sent["messages"].as_array().unwrap()[2..] else {
        panic!("{sent}")
    };
    assert_eq!(call["tool_calls"][0]["id"], result["tool_call_id"]);
}

#[test]
fn a_client_that_waits_for_a_load_gets_lines_that_say_nothing() {
    let yaml = format!(
        "loading_notice: 1\n{}",
        alpha(&["--load-seconds", "3", "--tokens", "3"])
    );
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "unloaded");
    let told = lines(hub.http.open("/api/chat", &chat("hello")));
    assert!(told.len() >= 6, "{told:?}");
    assert!(
        told[..2]
            .iter()
            .all(|line| line["message"]["content"] == "" && line["done"] == false)
    );
    assert_eq!(told.last().unwrap()["eval_count"], 3);
}

#[test]
fn a_client_that_leaves_frees_its_lease() {
    let hub = Hub::start(&alpha(&ENDLESS));
    let reply = hub.http.open("/api/chat", &chat("hello"));
    wait_until("it to arrive", SOON, || active(&hub, "alpha") == 1);
    drop(reply);
    wait_until("its lease to be free", SOON, || active(&hub, "alpha") == 0);
}

#[test]
fn a_raw_prompt_is_completed_as_it_is_where_the_worker_does_that() {
    const COMPLETIONS: &str = "/v1/completions";
    let hub = Hub::start(&alpha(&["--serves", COMPLETIONS]));
    // Of a worker that is not there yet nothing is known, and it is not loaded to find out.
    let prompt = "<|im_start|>user\nhello";
    let mut body = json!({
        "model": "alpha:latest", "prompt": prompt, "raw": true, "stream": false,
        "options": {"num_predict": 9, "stop": ["x"]}, "think": false,
    });
    let refused = hub.http.post("/api/generate", &body);
    assert_refused(&refused, 400, &["`raw`", "`alpha`", COMPLETIONS]);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    hub.act("alpha", "load");
    let answer = wait_for("its routes to be known", SOON, || {
        let answer = hub.http.post("/api/generate", &body);
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(
        (&answer["response"], &answer["done"]),
        (&json!(prompt), &json!(true))
    );
    assert_eq!(
        (&answer["model"], &answer["eval_count"]),
        (&json!("alpha"), &json!(2))
    );
    body["stream"] = json!(true);
    let told = lines(hub.http.open("/api/generate", &body));
    let said: String = (told.iter())
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(
        (said.as_str(), &told.last().unwrap()["done"]),
        (prompt, &json!(true))
    );
    // What is not raw is a chat.
    body["raw"] = json!(false);
    assert_eq!(hub.http.post("/api/generate", &body).status, 200);
    let sent = hub.record.requests(COMPLETIONS);
    let sent: Value = serde_json::from_str(sent[0]["body"].as_str().unwrap()).unwrap();
    let expected = json!({
        "model": "alpha", "max_tokens": 9, "stop": ["x"], "stream": false, "prompt": prompt,
    });
    assert_eq!(sent, expected);
    assert_eq!(hub.record.requests(CHAT).len(), 1);
}
