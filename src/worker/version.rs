//! Asks a worker program for its version, which `doctor` shows. Nothing depends on it: what a program can is
//! read from its options.

use std::process::Stdio;
use std::time::Duration;

use anstream::adapter::strip_str;
use tokio::process::Command;

use super::command;
use crate::config::ModelConfig;

/// A Python program on a cold disk takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The version of the program that serves a model; `None` if it tells none.
pub async fn of_model(model: &ModelConfig) -> Option<String> {
    let path = command::of_model(model).ok()?;
    let mut asking = Command::new(path);
    asking
        .args(model.worker_command.get(1..).unwrap_or_default())
        .arg("--version")
        .envs(&model.env)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, asking.output())
        .await
        .ok()?
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| version_in(&said)).flatten()
}

/// The first word that is one: `1.8.1`.
fn version_in(said: &str) -> Option<String> {
    let plain = strip_str(said).to_string();
    let mut words = plain.split_whitespace();
    let is_version = |word: &&str| {
        let word = word.trim_start_matches('v');
        word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.')
    };
    words.find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_says() {
        let said = "\n\u{1b}[1m✨ mlx-openai-server ✨\u{1b}[0m\n━━━\n🚀 Version: 1.8.1\n";
        assert_eq!(version_in(said).as_deref(), Some("1.8.1"));
        assert_eq!(
            version_in("worker, version v2.0rc1").as_deref(),
            Some("v2.0rc1")
        );
        assert_eq!(version_in("no such option 3"), None);
    }
}
