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
}

const ENGINES: [Engine; 3] = [
    Engine {
        name: "llama_server",
        program: "llama-server",
        path: "org/m-GGUF:Q4_K_M",
        asked_for: "m",
        begins: &["--hf-repo", "org/m-GGUF:Q4_K_M", "--alias", "m"],
        exits: [1, 1],
        types: "lm, multimodal, embeddings",
    },
    Engine {
        name: "mlx_vlm",
        program: "mlx_vlm.server",
        path: "org/m",
        asked_for: "org/m",
        begins: &["--model", "org/m"],
        exits: [2, 3],
        types: "multimodal, lm",
    },
    Engine {
        name: "vllm_mlx",
        program: "vllm-mlx",
        path: "org/m",
        asked_for: "m",
        begins: &["serve", "org/m", "--served-model-name", "m"],
        exits: [2, 1],
        types: "lm, multimodal",
    },
];

impl Engine {
    /// A home with the program on PATH and a model `m` that its first request loads; `more` are keys of its entry.
    fn home(&self, path: &str, more: &str) -> Home {
        let (engine, program) = (self.name, self.program);
        let home = Home::with_stub(&format!(
            "models:\n  - name: m\n    model_path: {path}\n    engine: {engine}\n    default: true\n    \
             jit_enabled: true\n{more}"
        ));
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
fn speaks_messages(home: &Home) {
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
        2,
        "not translated"
    );
}

/// A request that no program of the three serves loads nothing.
fn refuses_speech(home: &Home, engine: &Engine) {
    let started = home.record.workers().len();
    let answer = home
        .http
        .post("/v1/audio/speech", &json!({"model": "m", "input": "hello"}));
    assert_eq!(answer.status, 404, "{}", answer.text());
    let named = format!("engine `{}`", engine.name);
    assert!(answer.text().contains(&named), "{}", answer.text());
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
    let home = engine.home(engine.path, "");
    home.start();
    refuses_speech(&home, engine);

    answers(&home);
    let first = pid(&home);
    let start = home.record.events("start").remove(0);
    let line: Vec<&str> = start["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(line[1..].starts_with(engine.begins), "{line:?}");
    streams(&home);
    speaks_messages(&home);
    for request in home.record.events("request") {
        assert_eq!(request["body"]["model"], engine.asked_for, "{request}");
    }

    home.done("m", "unload");
    assert_eq!(processes::members(first), [0; 0]);
    assert_eq!(home.record.count("exit", engine.asked_for), 1, "by SIGTERM");
    refuses_speech(&home, engine);
    answers(&home);
    assert_ne!(pid(&home), first);

    survives_a_crash(&home);
    survives_its_hub(&home);
    let last = pid(&home);
    home.run(&["stop"]).assert_ok();
    assert_eq!(processes::members(last), [0; 0]);
    assert_eq!(home.record.count("exit", engine.asked_for), 2, "by SIGTERM");
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
    for engine in ENGINES {
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
