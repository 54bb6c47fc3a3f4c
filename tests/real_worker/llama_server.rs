//! The life of models of the engine `llama_server`, with the real `llama-server` of llama.cpp on the CPU.
//!
//! It is under target/llama-server, where tests/support/llama-server.sh puts it.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::mlx_lm::{configure_group, ends, fails_with_its_log, is_loaded, lives_as_any_other};
use crate::models::{LOAD, text};
use crate::rounds::ENDLESS;
use crate::support::home::Home;
use crate::support::http::Http;
use crate::support::{SOON, processes, wait_for};

/// The folder of the program, or `None` where there is none; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/llama-server");
    if folder.join("bin/llama-server").exists() {
        return Some(folder);
    }
    println!("not run: llama_server: it is not in {}", folder.display());
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "no llama-server"
    );
    None
}

/// A home with the program on PATH and the files of the models `plain` and `jit`.
fn home() -> Option<Home> {
    let home = Home::with_real_worker(folder()?);
    std::fs::create_dir(home.path().join("models")).unwrap();
    for (name, seed) in [("plain", "0"), ("jit", "1")] {
        tiny_gguf(home.model_path(name).as_ref(), &["--seed", seed]);
    }
    Some(home)
}

fn tiny_gguf(file: &Path, options: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/make_tiny_gguf.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(file)
        .args(options)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

#[test]
fn a_model_of_llama_server_lives_as_any_other() {
    let Some(home) = home() else { return };
    configure_group(&home, "llama_server", "threads: 1");
    lives_as_any_other(&home, what_it_serves);
}

/// A request that is answered with 200.
#[track_caller]
fn asked(home: &Home, path: &str, body: &Value) -> Value {
    let answer = home.http.post(path, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// A request that is refused, by the name of the engine.
#[track_caller]
fn refused(home: &Home, path: &str, status: u16, body: &Value) {
    let answer = home.http.post(path, body);
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert!(
        answer.text().contains("engine `llama_server`"),
        "{path}: {}",
        answer.text()
    );
}

/// What it speaks is passed on, other chats are translated, and the rest is refused before anything is loaded.
fn what_it_serves(home: &Home) {
    let prompt = json!({"model": "plain", "prompt": "hello", "max_tokens": 4, "temperature": 0});
    let said = asked(home, "/v1/completions", &prompt);
    assert_eq!(said["model"], "plain", "{said}");
    assert_eq!(said["usage"]["completion_tokens"], 4, "{said}");
    let message = json!({"model": "plain", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
    let said = asked(home, "/v1/messages", &message);
    assert_eq!(said["type"], "message", "{said}");
    assert_eq!(said["usage"]["output_tokens"], 4, "{said}");
    // The program's own Responses remember nothing.
    let question = json!({"model": "plain", "max_output_tokens": 4, "input": "hello"});
    let first = asked(home, "/v1/responses", &question);
    let next = json!({"model": "plain", "max_output_tokens": 4, "input": "and?", "previous_response_id": first["id"]});
    let next = asked(home, "/v1/responses", &next);
    assert_eq!(next["previous_response_id"], first["id"], "{next}");
    let tokens = |response: &Value| response["usage"]["input_tokens"].as_u64();
    assert!(tokens(&next) > tokens(&first), "{first} {next}");
    let input = json!({"model": "jit", "input": "a", "query": "a", "documents": ["b"]});
    refused(home, "/v1/embeddings", 404, &input);
    refused(home, "/v1/rerank", 404, &input);
    refused(home, "/api/embed", 400, &input);
    refused(home, "/v1/audio/speech", 404, &input);
}

#[test]
fn a_file_that_llama_server_cannot_load_is_a_failure_with_its_log() {
    let Some(home) = home() else { return };
    configure_group(&home, "llama_server", "threads: 1");
    std::fs::write(home.model_path("jit"), "no model").unwrap();
    fails_with_its_log(&home, "failed to load model");
    assert_eq!(home.model("jit")["exit_code"], 1);
    ends(&home);
}

/// Told to end, the program says nothing more to its clients, and mostly waits until they have gone, or for a second
/// signal.
#[test]
fn a_stream_of_llama_server_is_cut_after_its_time() {
    let Some(home) = home() else { return };
    let path = home.model_path("plain");
    let entry = format!("- {{name: plain, model_path: {path}, default: true}}");
    home.configure(&format!(
        "engine: llama_server\ndrain_timeout: 1\nstop_timeout: 8\nmodels:\n{entry}\n"
    ));
    home.said(&["start"]);
    is_loaded(&home, "plain");
    let pid = home.pid_of("plain");
    let mut events = home.stream("plain", ENDLESS).events();
    events.next().unwrap().unwrap();
    home.done("plain", "unload");
    assert_eq!(processes::members(pid), [0; 0]);
    let ended = events.last().unwrap();
    assert!(
        ended.is_err() || ended.unwrap() != "[DONE]",
        "not cut short"
    );
    ends(&home);
}

#[test]
fn llama_server_makes_embeddings_and_ranks_documents() {
    let Some(home) = home() else { return };
    let entry = |name: &str, more: &str| {
        let path = home.model_path("plain");
        format!(
            "- {{name: {name}, model_path: {path}, model_type: embeddings, jit_enabled: true, default: true, {more}}}\n"
        )
    };
    home.configure(&format!(
        "engine: llama_server\nmodels:\n{}{}",
        entry("vectors", "pooling: mean"),
        entry("ranks", "reranking: true")
    ));
    home.said(&["start"]);
    let input =
        json!({"model": "vectors", "input": ["a", "another"], "query": "a", "documents": ["b"]});
    refused(&home, "/v1/chat/completions", 404, &input);
    refused(&home, "/v1/rerank", 404, &input);
    home.wait_for_state("vectors", "running", "unloaded");
    let made = asked(&home, "/v1/embeddings", &input);
    assert_eq!(made["model"], "vectors", "{made}");
    assert_eq!(made["data"].as_array().unwrap().len(), 2, "{made}");
    assert_eq!(
        made["data"][1]["embedding"].as_array().unwrap().len(),
        64,
        "{made}"
    );
    let embedded = asked(&home, "/api/embed", &input);
    assert_eq!(
        embedded["embeddings"].as_array().unwrap().len(),
        2,
        "{embedded}"
    );

    let question =
        json!({"model": "ranks", "query": "a", "documents": ["an animal", "b"], "input": "a"});
    refused(&home, "/v1/embeddings", 404, &question);
    let ranked = asked(&home, "/v1/rerank", &question);
    assert_eq!(ranked["results"].as_array().unwrap().len(), 2, "{ranked}");
    ends(&home);
}

/// All keys of an entry but those of further files, and what `/props` has for them.
const KEYS: &str = "context_length: 2048, parallel: 2, threads: 1, batch_size: 256, ubatch_size: 64, n_gpu_layers: 0, \
                    flash_attn: on, cache_type_k: q8_0, cache_type_v: q4_0, jinja: true, seed: 7, temp: 0.5, top_k: 11, \
                    top_p: 0.75, min_p: 0.25, presence_penalty: 0.125, repeat_penalty: 1.5, predict: 9, \
                    reasoning_format: none, chat_template_kwargs: {word: given}";

#[test]
fn the_keys_of_an_entry_reach_llama_server() {
    let Some(home) = home() else { return };
    let template = home.path().join("template.jinja");
    std::fs::write(&template, "{{ word }}{{ messages[0]['content'] }}").unwrap();
    let (path, template) = (home.model_path("plain"), template.to_str().unwrap());
    home.configure(&format!(
        "engine: llama_server\nmodels:\n- {{name: plain, model_path: {path}, default: true, log_level: DEBUG, {KEYS}, \
         chat_template_file: {template}}}\n"
    ));
    home.said(&["start"]);
    is_loaded(&home, "plain");
    assert_eq!(home.warnings(), "");
    let answer = home.http.get("/upstream/plain/props");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let props = answer.json();
    let settings = &props["default_generation_settings"];
    for (name, expected) in [
        ("seed", json!(7)),
        ("temperature", json!(0.5)),
        ("top_k", json!(11)),
        ("top_p", json!(0.75)),
        ("min_p", json!(0.25)),
        ("presence_penalty", json!(0.125)),
        ("repeat_penalty", json!(1.5)),
        ("reasoning_format", json!("none")),
    ] {
        assert_eq!(settings["params"][name], expected, "{name}: {props}");
    }
    assert_eq!(props["total_slots"], 2, "{props}");
    assert_eq!(props["model_alias"], "plain", "{props}");
    assert_eq!(
        settings["n_ctx"], 2048,
        "the whole context for each: {props}"
    );
    assert!(
        props["chat_template"]
            .as_str()
            .unwrap()
            .starts_with("{{ word }}"),
        "{props}"
    );
    let log = std::fs::read_to_string(home.logs().join("plain.log")).unwrap();
    assert!(log.contains("n_threads = 1"), "{log}");

    let chat = json!({"model": "plain", "messages": [{"role": "user", "content": "12345"}]});
    let said = asked(&home, "/v1/chat/completions", &chat);
    assert_eq!(said["usage"]["completion_tokens"], 9, "`predict`: {said}");
    assert_eq!(said["usage"]["prompt_tokens"], "given12345".len(), "{said}");
    // More than half of the context.
    let long =
        json!({"model": "plain", "messages": [{"role": "user", "content": "1".repeat(1500)}]});
    asked(&home, "/v1/chat/completions", &long);
    let again = asked(&home, "/v1/chat/completions", &chat);
    assert_eq!(again["choices"], said["choices"], "`seed`");
    home.said(&["stop"]);
}

#[test]
fn every_key_is_an_option_of_llama_server() {
    let Some(home) = home() else { return };
    let path = home.model_path("plain");
    home.configure(&format!(
        "engine: llama_server\nmodels:\n\
         - {{name: all, model_path: {path}, {KEYS}, mmproj: {path}, lora: [{path}], model_draft: {path}, \
         chat_template: chatml, chat_template_file: {path}}}\n\
         - {{name: vectors, model_path: {path}, model_type: embeddings, pooling: last, reranking: true}}\n"
    ));
    let checked = home.said(&["check", "--verbose"]);
    assert!(!checked.contains("is ignored"), "{checked}");
    let engine = include_str!("../../scripts/engines/llama_server.lua");
    let keys = engine
        .lines()
        .filter_map(|line| line.strip_prefix("  { \"")?.split('"').next());
    assert!(keys.clone().count() > 20);
    for key in keys {
        let flag = match key {
            "context_length" => "--ctx-size".to_owned(),
            key => format!("--{}", key.replace('_', "-")),
        };
        assert!(checked.contains(&flag), "{flag}: {checked}");
    }
}

#[test]
fn llama_server_listens_before_it_has_loaded_its_model() {
    let Some(home) = home() else { return };
    // Its load takes a quarter of a second.
    let file = home.path().join("deep");
    tiny_gguf(&file, &["--layers", "30"]);
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut program = Command::new(folder().unwrap().join("bin/llama-server"))
        .arg("--model")
        .arg(file)
        .args(["--port", &port.to_string(), "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let health = || Http { port }.try_get("/health").ok();
    let first = wait_for("an answer", SOON, health);
    assert_eq!(first.status, 503, "{}", first.text());
    assert_eq!(first.json()["error"]["message"], "Loading model");
    let last = wait_for("the model", LOAD, || {
        health().filter(|answer| answer.status != 503)
    });
    assert_eq!((last.status, last.json()), (200, json!({"status": "ok"})));
    processes::send(program.id(), Signal::SIGTERM);
    let ended = program.wait().unwrap();
    assert_eq!((ended.code(), ended.signal()), (Some(0), None));
}
