//! Tokens are counted as the `tokenizers` package of the real worker counts them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::models::{real_worker, tiny_model};
use crate::support::home::Home;

const TEXTS: [&str; 8] = [
    "",
    "Hello world, how are you today?",
    "fn main() {\n    println!(\"{}\", 1 << 20);\n}\n\n\n",
    "Grüße aus Köln, здравствуй, 你好世界, こんにちは 🦀👩‍👩‍👧",
    "<|im_start|>user\nspecial<|im_end|>",
    "  leading, trailing and\ttabs \u{a0}\u{200b} ",
    r#"{"type":"object","properties":{"file_path":{"type":"string"}},"required":["file_path"]}"#,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Tokens that a chat template adds to a message.
const TEMPLATE: u64 = 4;

#[test]
fn tokens_are_counted_as_by_the_worker() {
    let Some(worker) = real_worker() else { return };
    let home = Home::with_real_worker(worker);
    let path = home.model_path("tiny");
    tiny_model(home.real_worker(), path.as_ref(), "0");
    home.configure(&format!("models: [{{name: tiny, model_path: {path}}}]\n"));
    home.start();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/count_tokens.py");
    let mut python = Command::new(home.real_worker().join("bin/python"))
        .arg(script)
        .arg(format!("{path}/tokenizer.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let texts = serde_json::to_vec(&TEXTS).unwrap();
    python.stdin.take().unwrap().write_all(&texts).unwrap();
    let counted = python.wait_with_output().unwrap();
    let counted = String::from_utf8(counted.stdout).unwrap();
    let counted: Vec<u64> = counted.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(counted.len(), TEXTS.len());
    assert!(counted[1] > 5, "{counted:?}");

    for (text, counted) in TEXTS.iter().zip(counted) {
        let body = json!({"model": "tiny", "messages": [{"role": "user", "content": text}]});
        let answer = home.http.post("/v1/messages/count_tokens", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["input_tokens"], counted + TEMPLATE, "{text}");
    }
    home.assert_states("tiny", "inactive", "unloaded");
}
