//! What the pages show of a terminal happens: their `console` blocks are run, in the order of the pages,
//! with the hub.yaml of the README and simulated workers.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Page, code, pages};
use crate::support::BINARY;
use crate::support::home::{Home, ran};
use crate::support::model_folder;

/// Whose home the pages show.
const ADA: &str = "/Users/ada";

/// A command as a page shows it, and what it answers.
struct Shown {
    page: String,
    command: String,
    answer: Vec<String>,
}

fn shown(page: &Page) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in page.blocks() {
        if block.language != "console" {
            continue;
        }
        for line in block.text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                all.push(Shown {
                    page: page.path.clone(),
                    command: command.to_owned(),
                    answer: Vec::new(),
                });
            } else if let Some(last) = all.last_mut().filter(|_| !line.is_empty()) {
                last.answer.push(line.to_owned());
            }
        }
    }
    all
}

/// A line without what differs from run to run: numbers are `N`, a gap or a rule of any width is one sign.
fn steady(line: &str) -> String {
    let mut kept = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let next_is_digit = letters.peek().is_some_and(char::is_ascii_digit);
        if letter.is_ascii_digit() || letter == '.' && kept.ends_with('N') && next_is_digit {
            if !kept.ends_with('N') {
                kept.push('N');
            }
        } else if !(" -".contains(letter) && kept.ends_with(letter)) {
            kept.push(letter);
        }
    }
    kept
}

/// Whether an answer is as shown, where `…` stands for anything.
fn is_as_shown(answer: &str, shown: &str) -> bool {
    let (answer, shown) = (steady(answer), steady(shown));
    let mut parts = shown.split('…');
    let Some(mut rest) = answer.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (i, part) in parts.iter().enumerate() {
        let is_last = i + 1 == parts.len();
        let found = if is_last {
            rest.len()
                .checked_sub(part.len())
                .filter(|_| rest.ends_with(part))
        } else {
            rest.find(part)
        };
        match found {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// The first hub.yaml of the README without its address, which is the test's own.
fn hub_yaml() -> String {
    let text = &code("yaml")[0];
    let kept = text.lines().filter(|line| !line.starts_with("host:"));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The models that the pages show on a disk.
fn write_models(home: &Path) {
    let qwen = serde_json::json!({
        "model_type": "qwen3", "max_position_embeddings": 262_144, "quantization": {"bits": 4},
    });
    let id = "mlx-community/Qwen3-4B-Instruct-2507-4bit";
    model_folder::write_cached(home, id, &qwen, 2_300_000_000);
    let bge = serde_json::json!({
        "model_type": "xlm-roberta", "max_position_embeddings": 8194, "torch_dtype": "float16",
    });
    let folder = home.join(".lmstudio/models/mlx-community/bge-m3");
    model_folder::write(&folder, &bge, 1_100_000_000);
}

#[test]
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn every_console_block_happens() {
    let home = Home::started(&hub_yaml());
    write_models(home.path());
    symlink(BINARY, home.bin().join("mlx-openai-server-hub")).unwrap();
    home.wait_for_state("qwen3-4b", "running", "loaded");
    home.wait_for_state("qwen3-coder-30b", "running", "unloaded");
    let shown: Vec<Shown> = pages().iter().flat_map(shown).collect();
    assert!(shown.len() >= 6, "only {} commands", shown.len());
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    for Shown {
        page,
        command,
        answer,
    } in shown
    {
        if command.starts_with("curl ") && !has_curl {
            println!("not run: {command}: curl is not installed");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no curl");
            continue;
        }
        let here = command.replace("localhost:8000", &format!("127.0.0.1:{}", home.port));
        let mut shell = Command::new("sh");
        let like = home.command([]);
        let environment = like
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        shell.args(["-c", &here]).env_clear().envs(environment);
        let answered = ran(shell.current_dir(home.path()));
        let out = answered
            .out
            .replace(&home.path().display().to_string(), ADA);
        let lines: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
        let is_same = lines.len() == answer.len()
            && lines
                .iter()
                .zip(&answer)
                .all(|(line, shown)| is_as_shown(line, shown));
        assert!(
            is_same,
            "{page}: $ {command}\nshown:\n{}\nin truth:\n{out}{}",
            answer.join("\n"),
            answered.err
        );
    }
    home.run(&["stop"]).assert_ok();
}

#[test]
fn only_numbers_widths_and_what_is_left_out_may_differ() {
    assert!(is_as_shown("a (pid=4346) |  yes", "a (pid=1) | yes"));
    assert!(is_as_shown("loaded in 0.03 s", "loaded in 8.4 s"));
    assert!(is_as_shown(
        "{\"id\":\"x_95f\",\"model\":\"a\"}",
        "{\"id\":\"x_…\",\"model\":\"a\"…"
    ));
    assert!(!is_as_shown("loaded", "loaded in 8.4 s"));
    assert!(!is_as_shown("a | no", "a | yes"));
    assert!(!is_as_shown("{\"id\":\"x\"}", "…\"model\"…"));
    assert!(!is_as_shown("one and more", "one"));
}
