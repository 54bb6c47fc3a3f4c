//! A step of an [`Act`]: one command for a service manager, and what its failure means.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::Act;
use crate::cli::completions::PROGRAM;
use crate::clients::shell_words;

/// Number of further attempts at a step, and the pause before each.
pub(super) const AGAIN: (u32, Duration) = (20, Duration::from_millis(500));
/// Exit status of `launchctl bootout` for a job that takes its time to end: macOS's EINPROGRESS.
pub(super) const IN_PROGRESS: i32 = 36;

/// One command for a service manager.
pub(super) struct Step {
    pub(super) words: Vec<String>,
    pub(super) rule: Rule,
}

/// The meaning of a command's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It must succeed.
    Must,
    /// It must succeed in the end: what was told before may still be under way.
    MustInTime,
    /// It may fail if nothing runs then.
    Ends,
    /// If it succeeds, no other is needed.
    Suffices,
}

impl Step {
    pub(super) fn new(program: &str, words: &[&str]) -> Self {
        let words = std::iter::once(&program).chain(words);
        Self {
            words: words.map(|word| (*word).to_owned()).collect(),
            rule: Rule::Must,
        }
    }

    pub(super) fn that(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    pub(super) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        command
    }

    pub(super) async fn output(&self) -> anyhow::Result<Output> {
        let output = self.command().output().await;
        output.with_context(|| format!("cannot run `{}`", self.words[0]))
    }

    /// Runs it, again while it may still succeed.
    pub(super) async fn run(&self) -> anyhow::Result<Output> {
        let mut output = self.output().await?;
        for _ in 0..AGAIN.0 {
            if output.status.success() || self.rule != Rule::MustInTime {
                break;
            }
            tokio::time::sleep(AGAIN.1).await;
            output = self.output().await?;
        }
        Ok(output)
    }
}

/// The hint for whoever may not do that with a service of the machine.
pub(super) fn as_root(act: Act, config_path: &Path) -> String {
    let verb = match act {
        Act::Install => "install",
        Act::Start => "start",
        Act::Stop => "stop",
        Act::Uninstall | Act::Forget => "uninstall",
    };
    let home = std::env::home_dir().unwrap_or_default();
    let home = format!("HOME={}", home.display());
    let path = config_path.display().to_string();
    let words = [
        "sudo", &home, PROGRAM, "--config", &path, "service", verb, "--system",
    ];
    format!(
        "\nhint: it is a service of the machine: `{}`",
        shell_words(&words.map(str::to_owned))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_stop_a_service_of_the_machine_is_told_who_may() {
        let home = std::env::home_dir().unwrap_or_default();
        assert_eq!(
            as_root(Act::Stop, Path::new("/etc/a b.yaml")),
            format!(
                "\nhint: it is a service of the machine: `sudo HOME={} mlx-openai-server-hub --config '/etc/a b.yaml' \
                 service stop --system`",
                home.display()
            )
        );
    }
}
