//! `POST /v1/messages/count_tokens`: by the model's own tokenizer where its file is on the disk, and no model is
//! loaded for it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::processes;
use crate::support::{Hub, SOON, stub, wait_until};

const COUNT: &str = "/v1/messages/count_tokens";

/// A tokenizer to which every word is a token.
fn write_tokenizer(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("tokenizer.json");
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "post_processor": null, "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
    });
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    file
}

/// A hub with models in a folder, in a cache, with a file that is no tokenizer, and without any.
fn hub(models: &Path) -> Hub {
    let model = |name: &str, path: &str, more: &str| {
        let command = stub(&[]);
        format!(
            "- {{name: {name}, model_path: {path}, jit_enabled: true, default: true, \
             worker_command: {command}{more}}}\n"
        )
    };
    let cache = models.join("cache");
    Hub::start(&format!(
        "policies: [alias]\npolicy: {{alias: {{names: {{coder: [folder, none], other: none, 'claude-*': folder}}, default: cached}}}}\nmodels:\n{}{}{}{}",
        model("folder", models.join("folder").to_str().unwrap(), ""),
        model(
            "cached",
            "org/cached",
            &format!(", env: {{HF_HUB_CACHE: {}}}", cache.display())
        ),
        model("broken", models.join("broken").to_str().unwrap(), ""),
        model("none", "org/none", ""),
    ))
}

fn asked(model: &str, text: &str) -> Value {
    json!({
        "model": model,
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}],
    })
}

#[track_caller]
fn counted(hub: &Hub, model: &str, text: &str) -> u64 {
    let answer = hub.http.post(COUNT, &asked(model, text));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["input_tokens"].as_u64().unwrap()
}

/// Tokens that a chat template adds to two messages.
const TEMPLATE: u64 = 2 * 4;

#[test]
fn the_models_own_tokenizer_counts_and_nothing_is_loaded() {
    let models = tempfile::tempdir().unwrap();
    // On macOS it is reached by a link.
    let models = models.path().canonicalize().unwrap();
    write_tokenizer(&models.join("folder"));
    let repository = models.join("cache/models--org--cached");
    write_tokenizer(&repository.join("snapshots/abc"));
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "abc").unwrap();
    std::fs::create_dir(models.join("broken")).unwrap();
    std::fs::write(models.join("broken/tokenizer.json"), "{}").unwrap();

    let hub = hub(&models);
    // An estimate takes a long word for several tokens.
    let text = "antidisestablishmentarianism ".repeat(10);
    for model in ["folder", "cached"] {
        assert_eq!(counted(&hub, model, &text), TEMPLATE + 2 + 10, "{model}");
    }
    let estimate = counted(&hub, "none", &text);
    assert!(estimate > TEMPLATE + 2 + 20, "{estimate}");
    assert_eq!(counted(&hub, "broken", &text), estimate);
    // A name that a policy answers for is counted by the model that usually answers.
    for name in ["coder", "claude-opus-4-8", "unknown"] {
        assert_eq!(counted(&hub, name, &text), TEMPLATE + 2 + 10, "{name}");
    }
    assert_eq!(counted(&hub, "other", &text), estimate);
    // The path of a model is its name too.
    assert_eq!(counted(&hub, "org/cached", "a b c"), TEMPLATE + 2 + 3);
    // The same of a response.
    let asked = json!({"model": "folder", "instructions": "be brief", "input": text});
    let answer = hub.http.post("/v1/responses/input_tokens", &asked);
    let counted = json!({"object": "response.input_tokens", "input_tokens": TEMPLATE + 2 + 10});
    assert_eq!(answer.json(), counted);
    for model in ["folder", "cached", "broken", "none"] {
        assert_eq!(hub.record.count("load", model), 0, "{model}");
        assert_eq!(hub.model(model)["memory_state"], "unloaded", "{model}");
    }
}

#[test]
fn fourteen_counts_at_once_read_the_tokenizer_once_and_its_process_ends_with_the_hub() {
    let models = tempfile::tempdir().unwrap();
    let models = models.path().canonicalize().unwrap();
    let file = write_tokenizer(&models.join("folder"));
    let argument = format!("count-tokens {}", file.display());
    let hub = hub(&models);
    assert!(processes::with_argument(&argument).is_empty());
    std::thread::scope(|scope| {
        for at in 1..=14 {
            let hub = &hub;
            scope.spawn(move || {
                let text = "word ".repeat(at * 1000);
                let words = at as u64 * 1000;
                assert_eq!(counted(hub, "folder", &text), TEMPLATE + 2 + words);
            });
        }
    });
    assert_eq!(processes::with_argument(&argument).len(), 1);
    drop(hub);
    wait_until("the process to end", SOON, || {
        processes::with_argument(&argument).is_empty()
    });
}
