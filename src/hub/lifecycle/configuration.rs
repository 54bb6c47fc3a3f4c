//! The editor of hub.yaml on the status page: reads the file, checks a text that may take its place, and saves it.
//!
//! The control API decides who may do that. A text that is not valid is never saved, and one that is saved is put in
//! force by a reload.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use similar::{ChangeTag, DiffOp, TextDiff};

use super::Lifecycle;
use crate::api::{
    ApiError, ConfigCheck, ConfigFinding, ConfigSaved, ConfigText, DiffKind, DiffLine,
};
use crate::config::schema::schema_of;
use crate::config::{Config, stored};
use crate::core::refusals;
use crate::core::reload::{changed_launches, keep_fixed};
use crate::worker::command;

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// Time for a difference; then it may be longer than need be.
const DIFF_LIMIT: Duration = Duration::from_millis(500);

impl Lifecycle {
    /// True if the status page may change hub.yaml.
    pub fn edits_config(&self) -> bool {
        self.config().edit_config
    }

    /// The JSON schema of hub.yaml, with the keys of the engines beside it.
    ///
    /// # Errors
    /// 500 when it cannot be made.
    pub async fn config_schema(&self) -> Result<serde_json::Value, ApiError> {
        let config = self.config();
        blocking(move || Ok(schema_of(&config.path))).await
    }

    /// hub.yaml as it is on the disk.
    ///
    /// # Errors
    /// 404 when it is not there, 500 when it cannot be read, 400 when it is no text.
    pub async fn config_text(&self) -> Result<ConfigText, ApiError> {
        let config = self.config();
        blocking(move || {
            let bytes = read(&config)?;
            let path = config.path.display().to_string();
            let version = stored::version(&bytes);
            let text = String::from_utf8(bytes).map_err(|_| {
                let message = format!("`{path}` is not UTF-8; save it so with another editor.");
                ApiError::new(StatusCode::BAD_REQUEST, message)
            })?;
            Ok(ConfigText {
                path,
                text,
                version,
            })
        })
        .await
    }

    /// The judgement of a text that may become hub.yaml. Changes nothing.
    ///
    /// # Errors
    /// As [`Lifecycle::config_text`], but for a file that is not there.
    pub async fn check_config(&self, text: String) -> Result<ConfigCheck, ApiError> {
        let (config, hub) = (self.config(), self.clone());
        blocking(move || {
            let before =
                stored::read(&config.path).map_err(|error| cannot_read(&config, &error))?;
            let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
            let mut check = ConfigCheck {
                difference: difference(&before, &text),
                ..ConfigCheck::default()
            };
            match Config::parse_for_editor(&config.path, &text) {
                Ok((new, warnings)) => {
                    check.warnings = warnings;
                    hub.judge(new, &config, &mut check);
                }
                Err(error) => check.findings = error.findings,
            }
            check.valid = check.findings.is_empty();
            Ok(check)
        })
        .await
    }

    /// Says what a configuration would change, and what a reload would refuse it for.
    fn judge(&self, mut new: Config, old: &Config, check: &mut ConfigCheck) {
        if let Err(error) = command::check(&new.models) {
            check.findings.push(without_place(error.to_string()));
        }
        let mut others = new.missing_paths();
        others.extend(keep_fixed(&mut new, old));
        check.warnings.extend(others.into_iter().map(without_place));
        let changed = changed_launches(&new, old);
        let table = self.registry.table.load();
        let restarted = table
            .models
            .iter()
            .filter(|model| changed.contains(&*model.name) && model.facts.load().is_started());
        check.restarts = restarted.map(|model| model.name.to_string()).collect();
    }

    /// Saves a text as hub.yaml, in the place of the one with the mark `version`, and reads it. The old text is kept
    /// beside it.
    ///
    /// # Errors
    /// 409 when the file is another one by now, 400 when the text is not valid or the worker's program is missing,
    /// 500 when it cannot be written: nothing has changed then. 400 also when it is saved and the reload refuses
    /// it.
    pub async fn save_config(&self, text: String, version: &str) -> Result<ConfigSaved, ApiError> {
        let _turn = self.saving.lock().await;
        let check = self.check_config(text.clone()).await?;
        if let Some(finding) = check.findings.first() {
            return Err(not_valid(finding, check.findings.len()));
        }
        let (config, wanted, new_version) = (
            self.config(),
            version.to_owned(),
            stored::version(text.as_bytes()),
        );
        let backup = blocking(move || {
            let before =
                stored::read(&config.path).map_err(|error| cannot_read(&config, &error))?;
            let before = before.filter(|before| stored::version(before) == wanted);
            let before = before.ok_or_else(|| changed(&config))?;
            stored::replace_and_keep(&config.path, &before, &text).map_err(|error| match error {
                stored::StoreError::Changed { .. } => changed(&config),
                error => cannot_write(&error),
            })
        })
        .await?;
        let backup = backup.display().to_string();
        tracing::info!(backup, "hub.yaml was changed on the status page");
        let reload = self.reload(true).await.map_err(|error| {
            let message = format!(
                "hub.yaml is saved, but the hub goes on with the old one: {} The old text is in `{backup}`.",
                error.message
            );
            ApiError::new(error.status_code(), message)
        })?;
        Ok(ConfigSaved {
            version: new_version,
            backup,
            started: reload.started,
            stopped: reload.stopped,
            unchanged: reload.unchanged,
            policies: reload.policies,
        })
    }
}

/// A finding that is about no place of the text.
fn without_place(message: String) -> ConfigFinding {
    ConfigFinding {
        message,
        ..ConfigFinding::default()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(refusals::reading_failed()))
}

fn read(config: &Arc<Config>) -> Result<Vec<u8>, ApiError> {
    let bytes = stored::read(&config.path).map_err(|error| cannot_read(config, &error))?;
    bytes.ok_or_else(|| {
        let message = format!("`{}` is not there any more.", config.path.display());
        ApiError::new(StatusCode::NOT_FOUND, message)
    })
}

fn cannot_read(config: &Config, error: &std::io::Error) -> ApiError {
    let message = format!("`{}` cannot be read: {error}", config.path.display());
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn cannot_write(error: &stored::StoreError) -> ApiError {
    let why = std::error::Error::source(error).map_or_else(String::new, |why| format!(": {why}"));
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("Nothing was saved: {error}{why}"),
    )
}

fn changed(config: &Config) -> ApiError {
    let message = format!(
        "`{}` has changed on the disk since it was read, and was left as it is. Read it again, and make the \
         change there.",
        config.path.display()
    );
    ApiError::new(StatusCode::CONFLICT, message)
}

fn not_valid(first: &ConfigFinding, count: usize) -> ApiError {
    let place = match (first.line, first.column) {
        (Some(line), Some(column)) => format!("{line}:{column}: "),
        _ => String::new(),
    };
    let hint = first
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    let more = match count {
        1 => String::new(),
        count => format!("\n{} more of `POST /hub/config/check`", count - 1),
    };
    let message = format!("hub.yaml:{place}{}{hint}{more}", first.message);
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// The lines in which two texts differ, with some around them.
fn difference(before: &str, after: &str) -> Vec<DiffLine> {
    let diff = TextDiff::configure()
        .timeout(DIFF_LIMIT)
        .diff_lines(before, after);
    let line = |op: &DiffOp| {
        let changes: Vec<_> = diff.iter_changes(op).collect();
        changes.into_iter().map(|change| DiffLine {
            kind: match change.tag() {
                ChangeTag::Equal => DiffKind::Same,
                ChangeTag::Insert => DiffKind::Added,
                ChangeTag::Delete => DiffKind::Removed,
            },
            before: change.old_index().map(|index| index + 1),
            after: change.new_index().map(|index| index + 1),
            text: change.value().trim_end_matches(['\r', '\n']).to_owned(),
        })
    };
    let groups = diff.grouped_ops(AROUND);
    groups.iter().flatten().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_changed_lines_with_three_around_them() {
        let before: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let after = before.replace("\n8\n", "\neight\n").replace("20\n", "20");
        let shown = difference(&before, &after).into_iter().map(|line| {
            let mark = match line.kind {
                DiffKind::Same => ' ',
                DiffKind::Added => '+',
                DiffKind::Removed => '-',
            };
            let number = |number: Option<usize>| number.map_or(String::new(), |at| at.to_string());
            format!(
                "{:>3}{:>3} {mark}{}",
                number(line.before),
                number(line.after),
                line.text
            )
        });
        let shown: Vec<_> = shown.collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
          5  5  5
          6  6  6
          7  7  7
          8    -8
             8 +eight
          9  9  9
         10 10  10
         11 11  11
         17 17  17
         18 18  18
         19 19  19
         20    -20
            20 +20
        ");
        assert_eq!(difference(&before, &before), []);
    }
}
