//! The engines whose programs are not run here, over stand-ins for them: loaded, used, lost, adopted and ended as any
//! other.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http::chat;
use crate::support::processes::ENGINE_PROGRAMS;
use crate::support::{SOON, processes, wait_for, wait_until};

/// An engine, and what its program must be seen to do.
struct Engine {
    name: &'static str,
    program: &'static str,
    /// `model_path` of hub.yaml.
    path: &'static str,
    /// What the program is to be asked for.
    asked_for: &'static str,
    /// The command line up to the port.
    begins: &'static [&'static str],
    /// The exit codes of a wrong option and of a model that cannot be loaded.
    exits: [i64; 2],
    /// The types of models that it serves.
    types: &'static str,
    /// Keys of its entries.
    keys: &'static str,
    /// True if it is known what its program serves, and that has Anthropic's messages.
    is_known: bool,
}

const ENGINES: [Engine; 4] = [
    Engine {
        name: "llama_server",
        program: "llama-server",
        path: "org/m-GGUF:Q4_K_M",
        asked_for: "m",
        begins: &["--hf-repo", "org/m-GGUF:Q4_K_M", "--alias", "m"],
        exits: [1, 1],
        types: "lm, multimodal, embeddings",
        keys: "",
        is_known: true,
    },
    Engine {
        name: "mlx_vlm",
        program: "mlx_vlm.server",
        path: "org/m",
        asked_for: "org/m",
        begins: &["--model", "org/m"],
        exits: [2, 3],
        types: "multimodal, lm",
        keys: "",
        is_known: true,
    },
    Engine {
        name: "vllm_mlx",
        program: "vllm-mlx",
        path: "org/m",
        asked_for: "m",
        begins: &["serve", "org/m", "--served-model-name", "m"],
        exits: [2, 1],
        types: "lm, multimodal",
        keys: "",
        is_known: true,
    },
    Engine {
        name: "command",
        program: "llama-server",
        path: "org/m-GGUF",
        asked_for: "m",
        begins: &["-hf", "org/m-GGUF", "--alias", "m"],
        exits: [1, 1],
        types: "all",
        keys: "    command: llama-server -hf {model_path} --alias {name} --host {host} --port {port}\n",
        is_known: false,
    },
];

/// The worker is told to be hung after so long without a sign of life.
const STALL: u64 = 2;

impl Engine {
    /// A home with the program on PATH and a model `m` that its first request loads; `more` are keys of its entry.
    fn home(&self, path: &str, more: &str) -> Home {
        self.home_of(&format!("models:\n{}", self.entry("m", path, more)))
    }

    fn entry(&self, name: &str, path: &str, more: &str) -> String {
        let (engine, keys) = (self.name, self.keys);
        format!(
            "  - name: {name}\n    model_path: {path}\n    engine: {engine}\n    default: true\n    \
             jit_enabled: true\n{keys}{more}"
        )
    }

    fn home_of(&self, yaml: &str) -> Home {
        let program = self.program;
        let home = Home::with_stub(yaml);
        home.write_script(
            program,
            // A load that takes a while: nothing may be asked before its end.
            &format!("STANDIN_LOAD=0.7 exec python3 '{ENGINE_PROGRAMS}' {program} \"$@\""),
        );
        home
    }
}

/// The process id of the model's worker.
fn pid(home: &Home) -> u32 {
    let pid = wait_for("a worker", SOON, || home.model("m")["pid"].as_u64());
    u32::try_from(pid).unwrap()
}

/// A chat that is answered, by the name that the client wrote.
#[track_caller]
fn answers(home: &Home) {
    let answer = home.http.chat("m", "hello");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["model"], "m", "{body}");
    assert_eq!(
        body["choices"][0]["message"]["content"], "word word word ",
        "{body}"
    );
}

/// A stream of chunks under the name that the client wrote, to its end.
fn streams(home: &Home) {
    let events: Vec<String> = home
        .http
        .stream("m", "hello")
        .events()
        .map(Result::unwrap)
        .collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    let mut said = String::new();
    for chunk in chunks {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        assert_eq!(chunk["model"], "m", "{chunk}");
        said += chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
    }
    assert_eq!(said, "word word word ");
}

/// A request in Anthropic's words is the program's own to answer.
fn speaks_messages(home: &Home, is_known: bool) {
    let asked = |stream| json!({"model": "m", "max_tokens": 2, "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    let answer = home.http.post("/v1/messages", &asked(false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (&body["type"], &body["model"]),
        (&json!("message"), &json!("m")),
        "{body}"
    );
    assert_eq!(body["content"][0]["text"], "word word ", "{body}");
    let events = home.http.open("/v1/messages", &asked(true)).events();
    let events: Vec<Value> = events
        .map(|event| serde_json::from_str(&event.unwrap()).unwrap())
        .collect();
    assert_eq!(events[0]["message"]["model"], "m", "{events:?}");
    assert_eq!(events.last().unwrap()["type"], "message_stop", "{events:?}");
    assert_eq!(
        home.record.requests("/v1/messages").len(),
        if is_known { 2 } else { 0 },
        "translated only where it is not known"
    );
}

/// A request that its program does not serve, or is not known to, loads nothing and names the engine.
fn refuses_what_it_lacks(home: &Home, engine: &Engine) {
    let started = home.record.workers().len();
    let rows: &[(&str, u16)] = match engine.is_known {
        true => &[("/v1/audio/speech", 404), ("/api/embed", 400)],
        false => &[("/v1/completions", 400)],
    };
    let named = format!("engine `{}`", engine.name);
    let asked = json!({"model": "m", "input": "hello", "prompt": "hello"});
    for (path, status) in rows {
        let answer = home.http.post(path, &asked);
        let text = answer.text();
        assert_eq!(answer.status, *status, "{path}: {text}");
        assert!(text.contains(&named), "{path}: {text}");
        assert!(!text.contains("mlx-openai-server"), "{path}: {text}");
    }
    assert_eq!(home.record.workers().len(), started);
}

/// A worker that is killed in the middle of a stream, and the next request.
fn survives_a_crash(home: &Home) {
    let first = pid(home);
    let mut body = chat("m", "hello", true);
    body["max_tokens"] = json!(100_000);
    let mut events = home.http.open("/v1/chat/completions", &body).events();
    events.next().unwrap().unwrap();
    processes::send(first, Signal::SIGKILL);
    let rest: Vec<_> = events.filter_map(Result::ok).collect();
    assert!(
        !rest.iter().any(|event| event == "[DONE]"),
        "{:?}",
        rest.last()
    );
    wait_until("another worker to answer", SOON, || {
        home.http.chat("m", "hello").status == 200
    });
    assert_ne!(pid(home), first);
}

/// A stream of so many words, of which the first has come.
fn begun(home: &Home, words: u32) -> impl Iterator<Item = std::io::Result<String>> + use<> {
    let mut body = chat("m", "hello", true);
    body["max_tokens"] = json!(words);
    let mut events = home.http.open("/v1/chat/completions", &body).events();
    events.next().unwrap().unwrap();
    events
}

/// True if a stream comes to its end.
fn ends_well(mut events: impl Iterator<Item = std::io::Result<String>>) -> bool {
    events.any(|event| event.is_ok_and(|event| event == "[DONE]"))
}

/// Words that take about a second.
const A_SECOND: u32 = 50;

/// What it is told to do while it answers waits for the answer, or does without the worker's end.
fn serves_to_the_end(home: &Home) {
    let first = pid(home);
    let events = begun(home, A_SECOND);
    let restarted = home.run(&["restart"]);
    restarted.assert_ok();
    home.note_daemon(&restarted.out);
    assert!(ends_well(events), "under a restart");
    home.wait_for_state("m", "running", "loaded");
    answers(home);
    assert_eq!(pid(home), first, "adopted");

    let events = begun(home, A_SECOND);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ends_well(events));
        home.done("m", "unload");
        assert!(client.join().unwrap(), "drained");
    });
    home.assert_states("m", "running", "unloaded");
    assert_eq!(processes::members(first), [0; 0]);
    answers(home);
}

/// A worker that hangs in the middle of a stream, and the next request.
fn survives_a_hang(home: &Home) {
    let first = pid(home);
    let events = begun(home, 100_000);
    processes::send_to_group(first, Signal::SIGSTOP);
    assert!(!ends_well(events));
    wait_until("the worker that hangs to be ended", SOON, || {
        processes::members(first).is_empty()
    });
    wait_until("another worker to answer", SOON, || {
        home.http.chat("m", "hello").status == 200
    });
    answers(home);
}

/// The other model of the group is loaded in its place, and it in that one's.
fn swaps(home: &Home) {
    let first = pid(home);
    assert_eq!(home.http.chat("n", "hello").status, 200);
    assert_eq!(processes::members(first), [0; 0]);
    assert_eq!(home.states("m").1, "unloaded");
    answers(home);
    assert_eq!(home.states("n").1, "unloaded");
}

/// The hub is killed, and the next one goes on with the worker.
fn survives_its_hub(home: &Home) {
    let worker = pid(home);
    let daemon = home.pid();
    processes::send(daemon, Signal::SIGKILL);
    wait_until("the daemon to be gone", SOON, || {
        !processes::is_alive(daemon)
    });
    home.start();
    home.wait_for_state("m", "running", "loaded");
    answers(home);
    assert_eq!(pid(home), worker, "adopted");
}

fn lives_as_any_other(engine: &Engine) {
    let group = "    group: one\n";
    let home = engine.home_of(&format!(
        "stall_timeout: {STALL}\npolicies: [lru_swap]\ngroups: [{{name: one, max_loaded: 1}}]\nmodels:\n{}{}",
        engine.entry("m", engine.path, group),
        engine.entry("n", "org/n", group)
    ));
    home.start();
    refuses_what_it_lacks(&home, engine);

    answers(&home);
    let first = pid(&home);
    wait_until("its memory to be measured", SOON, || {
        home.model("m")["memory_bytes"].as_u64() > Some(0)
    });
    let start = home.record.events("start").remove(0);
    let line: Vec<&str> = start["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(line[1..].starts_with(engine.begins), "{line:?}");
    streams(&home);
    speaks_messages(&home, engine.is_known);
    for request in home.record.events("request") {
        assert_eq!(request["body"]["model"], engine.asked_for, "{request}");
    }

    home.done("m", "unload");
    assert_eq!(processes::members(first), [0; 0]);
    assert_eq!(home.record.count("exit", engine.asked_for), 1, "by SIGTERM");
    refuses_what_it_lacks(&home, engine);
    answers(&home);
    assert_ne!(pid(&home), first);

    serves_to_the_end(&home);
    survives_a_crash(&home);
    survives_a_hang(&home);
    survives_its_hub(&home);
    swaps(&home);
    let last = pid(&home);
    let exits = home.record.count("exit", engine.asked_for);
    home.run(&["stop"]).assert_ok();
    assert_eq!(processes::members(last), [0; 0]);
    assert_eq!(
        home.record.count("exit", engine.asked_for),
        exits + 1,
        "by SIGTERM"
    );
}

#[test]
fn a_model_of_llama_server_lives_as_any_other() {
    lives_as_any_other(&ENGINES[0]);
}

#[test]
fn a_model_of_mlx_vlm_lives_as_any_other() {
    lives_as_any_other(&ENGINES[1]);
}

#[test]
fn a_model_of_vllm_mlx_lives_as_any_other() {
    lives_as_any_other(&ENGINES[2]);
}

#[test]
fn a_model_of_engine_command_lives_as_any_other() {
    lives_as_any_other(&ENGINES[3]);
}

/// A part of a form.
fn part(name: &str, value: &str) -> String {
    format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

#[test]
fn no_request_makes_a_program_load_something_else() {
    let engine = &ENGINES[1];
    let home = engine.home(engine.path, "");
    home.start();
    let body = |field: &str, value: &str| {
        let mut body = chat("m", "hello", false);
        body[field] = json!(value);
        body
    };
    let messages = json!({"model": "m", "max_tokens": 2, "adapter_path": "org/x", "messages": [{"role": "user", "content": "a"}]});
    let ollama = json!({"model": "m", "adapter_path": "org/x", "stream": false, "messages": [{"role": "user", "content": "a"}]});
    let refused = |status: u16, text: &str| {
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("engine `mlx_vlm`"), "{text}");
    };
    for round in ["before it is loaded", "while it is loaded"] {
        for (path, body) in [
            ("/v1/chat/completions", body("adapter_path", "org/x")),
            (
                "/upstream/m/v1/chat/completions",
                body("adapter_path", "org/x"),
            ),
            ("/v1/messages", messages.clone()),
        ] {
            let answer = home.http.post(path, &body);
            refused(answer.status, &answer.text());
            assert!(
                answer.text().contains("`adapter_path`"),
                "{round} {path}: {}",
                answer.text()
            );
        }
        let form = "multipart/form-data; boundary=B";
        let utf16: Vec<u8> = body("model", "org/x")
            .to_string()
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let with_adapter = part("model", "m") + &part("adapter_path", "org/x") + "--B--\r\n";
        let plain = body("model", "org/x").to_string();
        for (path, kind, sent) in [
            (
                "/upstream/m/v1/audio/transcriptions",
                form,
                with_adapter.as_bytes(),
            ),
            ("/v1/chat/completions?model=m", form, plain.as_bytes()),
            (
                "/v1/chat/completions?model=m",
                "application/x-www-form-urlencoded",
                &utf16,
            ),
            (
                "/upstream/m/v1/chat/completions",
                "application/json",
                &utf16,
            ),
        ] {
            let answer = home
                .http
                .send("POST", path, &[("content-type", kind)], sent);
            let answer = answer.unwrap().whole().unwrap();
            assert_eq!(
                answer.status,
                400,
                "{round} {path} {kind}: {}",
                answer.text()
            );
        }
        if round == "before it is loaded" {
            assert_eq!(home.record.workers(), [0; 0], "nothing was loaded for that");
        }
        // What another API has no such field for is translated without it.
        let answer = home.http.post("/api/chat", &ollama);
        assert!([200, 400].contains(&answer.status), "{}", answer.text());
        // The name of another model is replaced, also below `/upstream`, in JSON and in forms.
        let answer = home
            .http
            .post("/upstream/m/v1/chat/completions", &body("model", "org/x"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answers(&home);
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        let answer = home.http.send("GET", "/v1/realtime?model=m", &upgrade, b"");
        let answer = answer.unwrap().whole().unwrap();
        refused(answer.status, &answer.text());
    }
    for request in home.record.events("request") {
        assert_eq!(request["body"]["model"], engine.asked_for, "{request}");
    }
    assert_eq!(home.record.events("dropped"), Vec::<Value>::new());
    assert_eq!(home.record.workers().len(), 1);
}

#[test]
fn what_llama_server_was_not_started_for_is_refused_before_anything_is_loaded() {
    let engine = &ENGINES[0];
    let ask = |home: &Home, path: &str| {
        home.http.post(
            path,
            &json!({"model": "m", "input": "a", "query": "a", "documents": ["b"]}),
        )
    };
    for (more, served) in [
        ("", ""),
        ("    model_type: embeddings\n", "/v1/embeddings"),
        (
            "    model_type: embeddings\n    reranking: true\n",
            "/v1/rerank",
        ),
    ] {
        let home = engine.home(engine.path, more);
        home.start();
        for path in ["/v1/embeddings", "/v1/rerank"] {
            if path != served {
                let answer = ask(&home, path);
                assert_eq!(answer.status, 404, "{more} {path}: {}", answer.text());
                assert!(
                    answer.text().contains("engine `llama_server`"),
                    "{}",
                    answer.text()
                );
            }
        }
        assert_eq!(home.record.workers(), [0; 0], "{more}");
        if !served.is_empty() {
            // The program has it: its stand-in answers nothing there, but knows the path.
            assert_eq!(ask(&home, served).status, 404, "{served}");
            assert_eq!(home.record.requests(served).len(), 1);
        }
    }
}

#[test]
fn a_load_that_fails_shows_the_log_and_the_exit_code_of_the_program() {
    for engine in ENGINES {
        let rows = [
            (
                engine.path,
                "    extra_args: [--no-such]\n",
                "--no-such",
                engine.exits[0],
            ),
            ("org/broken", "", "org/broken", engine.exits[1]),
        ];
        for (path, more, told, code) in rows {
            let home = engine.home(path, more);
            home.start();
            let answer = home.http.chat("m", "hello");
            assert_eq!(answer.status, 503, "{}: {}", engine.name, answer.text());
            assert!(
                answer.text().contains(told),
                "{}: {}",
                engine.name,
                answer.text()
            );
            assert_eq!(home.model("m")["exit_code"], code, "{}", engine.name);
        }
    }
}

#[test]
fn a_type_that_an_engine_cannot_serve_is_refused_with_the_engines_that_can() {
    for engine in ENGINES.into_iter().filter(|engine| engine.types != "all") {
        let home = engine.home(engine.path, "    model_type: whisper\n");
        let ran = home.run(&["check"]);
        ran.assert_failed();
        let said = ran.out + &ran.err;
        let refused = format!(
            "engine `{}` cannot serve `model_type: whisper`, only {}",
            engine.name, engine.types
        );
        assert!(said.contains(&refused), "{said}");
        let able = "these can: `engine: mlx_openai_server`, `engine: command`";
        assert!(said.contains(able), "{said}");
    }
}
