//! Clients as their makers publish them, against a hub with simulated workers: `openai` for Python and for
//! Node, `anthropic` and `ollama` for both, and agents that edit a file by a tool call. `streams` has them read streams
//! of every kind.
//!
//! tests/run puts them under target/: one Python client is part of the real worker's environment.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

#[path = "../support/chat_streams.rs"]
mod chat_streams;
mod counts;
#[path = "../support/demo.rs"]
mod demo;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use demo::Demo;
use support::{Hub, stub};
use tokio::time::Instant;

/// `quick` and `slow`, of which the second loads for longer than its clients wait in silence, and `chats`, whose
/// worker knows chat completions only.
fn hub() -> Hub {
    hub_that_says(&["--tokens", "7"])
}

/// The same with other answers.
fn hub_that_says(answers: &[&str]) -> Hub {
    let model = |name: &str, knobs: &[&str]| {
        let command = stub(&[answers, knobs].concat());
        format!(
            "- {{name: {name}, model_path: org/{name}, jit_enabled: true, default: true, \
             worker_command: {command}}}\n"
        )
    };
    Hub::start(&format!(
        "loading_notice: 1\npolicies: [alias]\n\
         policy: {{alias: {{names: {{best: quick, 'claude-*haiku*': quick, 'claude-*': chats}}}}}}\n\
         models:\n{}{}{}{}",
        model("quick", &[]),
        model("slow", &["--load-seconds", "3"]),
        model("broken", &["--load-seconds", "2", "--fail-load"]),
        model("chats", &["--dialect", "jit"]),
    ))
}

fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(path)
}

/// Whether a client is there. With CI=true it has to be.
#[expect(clippy::print_stdout, reason = "a test that is not run says so")]
fn is_there(what: &str, path: &Path) -> bool {
    if path.exists() {
        return true;
    }
    println!("not run: {what}: it is not in {}", path.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no {what}");
    false
}

/// Runs a client's script against a hub of its own, which it asks to load `slow`.
fn is_served(program: &Path, arguments: &[&Path], script: &str) {
    let hub = hub();
    runs(&hub, program, arguments, script);
    assert_eq!(hub.record.count("load", "slow"), 1);
}

/// Runs a client's script to its end.
fn runs(hub: &Hub, program: &Path, arguments: &[&Path], script: &str) {
    said_by(hub, program, arguments, script);
}

/// The same, with what it said.
fn said_by(hub: &Hub, program: &Path, arguments: &[&Path], script: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let said = Command::new(program)
        .arg(script)
        .arg(format!("http://127.0.0.1:{}/v1", hub.http.port))
        .args(arguments)
        .output()
        .unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{out}{error}");
    // It went to the end of the script.
    assert!(out.ends_with("all served\n"));
    out
}

#[test]
fn anthropics_and_ollamas_python_clients_and_responses_are_served() {
    let python = target("python-clients/bin/python");
    if is_there("the Python clients of other APIs", &python) {
        is_served(&python, &[], "tests/support/other_clients.py");
    }
}

#[test]
fn a_conversation_of_responses_is_kept_for_pythons_client() {
    let python = target("python-clients/bin/python");
    if is_there("the Python clients of other APIs", &python) {
        runs(&hub(), &python, &[], "tests/support/responses_client.py");
    }
}

/// Launches an agent in a folder of its own, where it is told to write a file by a tool call.
fn edits_a_file(
    agent: &str,
    model: &str,
    arguments: &[&str],
    tool: &str,
    settings: &[(&str, &str)],
) {
    let hub = hub();
    writes_a_file(agent, tool, |programs| {
        let others = std::env::var("PATH").unwrap_or_default();
        let mut command = hub.command(&["launch", agent, "--model", model, "--"]);
        command
            .args(arguments)
            .env("PATH", format!("{}:{others}", programs.display()))
            .envs(settings.iter().copied());
        command
    });
}

/// Runs an agent, by a command for the folder of the agents' programs. Returns what it said, if it is there.
fn writes_a_file(agent: &str, tool: &str, command: impl Fn(&Path) -> Command) -> Option<String> {
    let programs = target("agents/node_modules/.bin");
    if !is_there(agent, &programs.join(agent)) {
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("written.txt");
    let told = home.path().join("told");
    std::fs::write(&told, tool.replace("FILE", file.to_str().unwrap())).unwrap();
    let said = command(&programs)
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(std::fs::File::open(&told).unwrap())
        .output()
        .unwrap();
    let texts = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let texts = texts.concat();
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written.trim(), "hello", "{agent}: {texts}");
    assert!(said.status.success(), "{agent}: {}", said.status);
    Some(texts)
}

/// The policy `alias` knows the names that it asks for by itself.
#[test]
fn claude_code_needs_nothing_but_the_url() {
    let tool = r#"call Write {"file_path": "FILE", "content": "hello"}"#;
    let hub = hub();
    writes_a_file("claude", tool, |programs| {
        with_nothing_but_the_url(programs, hub.http.port, "Write")
    });
}

/// Claude Code, which may use these tools and knows of the hub no more than its port.
fn with_nothing_but_the_url(programs: &Path, port: u16, tools: &str) -> Command {
    let mut command = Command::new(programs.join("claude"));
    command
        .args(["-p", "--permission-mode", "acceptEdits"])
        .args(["--allowedTools", tools])
        .env("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}"))
        .env("ANTHROPIC_AUTH_TOKEN", "none")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    for model in [
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    ] {
        command.env_remove(model);
    }
    command
}

/// One whose provider has `auth` asks for the list of models, and takes what it knows of them from there.
#[test]
fn codex_reads_the_list_of_models() {
    let hub = hub();
    let said = codex_with_a_list(hub.http.port, "best", CODEX_WRITES);
    for complaint in ["failed to refresh available models", "metadata for"] {
        let is_there = said.as_ref().is_some_and(|said| said.contains(complaint));
        assert!(!is_there, "{said:?}");
    }
}

/// The workers of the demo say a story, as long as the prompt makes it.
#[test]
fn codex_is_not_told_its_own_instructions() {
    let hub = hub_that_says(&[]);
    let began = Instant::now();
    if codex_with_a_list(hub.http.port, "best", CODEX_WRITES).is_some() {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}

/// By the Responses API of one worker, and by a translation for another, which is loaded for it.
#[test]
fn codex_calls_tools_on_the_demo() {
    let demo = Demo::start();
    demo.wait_for_line("The page:");
    let port = demo.http().port;
    for model in ["parrot", "night-owl"] {
        let began = Instant::now();
        if codex_with_a_list(port, model, CODEX_WRITES).is_some() {
            assert!(began.elapsed() < Duration::from_secs(60), "{model}");
        }
    }
}

const CODEX_WRITES: &str = r#"call exec_command {"cmd": "echo hello > FILE"}"#;

fn codex_with_a_list(port: u16, model: &str, told: &str) -> Option<String> {
    writes_a_file("codex", told, |programs| {
        let provider = format!(
            "model_providers.hub={{name=\"hub\", base_url=\"http://127.0.0.1:{port}/v1\", wire_api=\"responses\", \
             auth={{command=\"echo\", args=[\"none\"]}}}}"
        );
        let mut command = Command::new(programs.join("codex"));
        command
            .args(["exec", "--skip-git-repo-check"])
            .arg("--dangerously-bypass-approvals-and-sandbox")
            .args([
                "-c",
                &provider,
                "-c",
                "model_provider=\"hub\"",
                "-m",
                model,
                "-",
            ]);
        command
    })
}

#[test]
fn claude_code_edits_a_file() {
    edits_a_file(
        "claude",
        "quick",
        &[
            "-p",
            "--permission-mode",
            "acceptEdits",
            "--allowedTools",
            "Write",
        ],
        r#"call Write {"file_path": "FILE", "content": "hello"}"#,
        &[("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")],
    );
}

#[test]
fn codex_edits_a_file() {
    edits_a_file(
        "codex",
        "chats",
        &[
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "-",
        ],
        CODEX_WRITES,
        &[],
    );
}

#[test]
fn opencode_edits_a_file() {
    edits_a_file(
        "opencode",
        "quick",
        &["run"],
        r#"call write {"filePath": "FILE", "content": "hello"}"#,
        &[
            (
                "OPENCODE_PERMISSION",
                r#"{"edit": "allow", "external_directory": "allow"}"#,
            ),
            ("OPENCODE_DISABLE_AUTOUPDATE", "true"),
        ],
    );
}

#[test]
fn the_python_client_is_served() {
    let python = target("real-worker/bin/python");
    if is_there("the Python client", &python) {
        is_served(&python, &[], "tests/support/openai_client_loading.py");
    }
}

#[test]
fn the_node_client_is_served() {
    let client = target("openai-node");
    if is_there("the Node client", &client) {
        is_served(
            Path::new("node"),
            &[&client],
            "tests/support/openai_client.mjs",
        );
    }
}

#[test]
fn anthropics_and_ollamas_node_clients_are_served() {
    let clients = target("node-clients");
    if is_there("the Node clients of other APIs", &clients) {
        is_served(
            Path::new("node"),
            &[&clients],
            "tests/support/other_clients.mjs",
        );
    }
}
