//! `logs`: prints the log of the hub or of a model, and follows it.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::hub_yaml::HubYaml;
use super::render::Out;
use super::status::inactive;
use super::unknown::unknown;
use crate::{files, telemetry};

/// Interval at which a followed log is read.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Bytes per read.
const PIECE: u64 = 64 * 1024;

/// Print the log of the hub, or of a model
///
/// Without MODEL it is the hub's own, app.log. It works without a running hub too.
///
/// Examples:
///   mlx-openai-server-hub logs -n 100
///   mlx-openai-server-hub logs qwen -f
///
/// Exit status: 0, also after Ctrl+C; 1 when there is no such model or its log cannot be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Logs {
    /// The model; without it the hub
    model: Option<String>,
    /// Go on with what is added, until Ctrl+C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
}

impl Logs {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let path = self.path(hub_yaml).await?;
        let mut log = Followed::open(&path, self.lines).map_err(|error| {
            anyhow::anyhow!("the log `{}` cannot be read: {error}", path.display())
        })?;
        if log.file.is_none() {
            out.info(format_args!("There is no log yet: {}", path.display()));
        }
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            log.print(out)?;
            if !self.follow || out.is_closed() {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_EVERY) => {}
                _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    /// The log's path.
    async fn path(&self, hub_yaml: &HubYaml) -> anyhow::Result<PathBuf> {
        let hub_address = hub_yaml.hub_address();
        let status = match hub_address.hub().await? {
            Some(hub) => hub.client.status().await?,
            // The hub's own log is found with a broken hub.yaml too: it may name the problem.
            None if self.model.is_none() => return Ok(telemetry::app_log(&hub_address.log_path)),
            None => inactive(hub_yaml.config()?),
        };
        let Some(name) = &self.model else {
            return Ok(telemetry::app_log(hub_address.logs_of(&status)));
        };
        if let Some(hint) = unknown(&status, name) {
            anyhow::bail!("the hub has no model called `{name}`\nhint: {hint}");
        }
        let mut models = status.models.into_iter();
        let path = models
            .find(|model| model.id == *name)
            .and_then(|model| model.metadata.facts.log_path);
        path.map(PathBuf::from).ok_or_else(|| {
            anyhow::anyhow!("model `{name}` has `no_log_file: true`\nhint: remove that from its entry, and start it again")
        })
    }
}

/// A log at a path, followed across rotation and truncation.
struct Followed {
    path: PathBuf,
    file: Option<File>,
    /// Number of bytes read.
    at: u64,
    /// Bytes of an incomplete character.
    rest: Vec<u8>,
}

impl Followed {
    /// Opens it at the last `lines`; the file may not exist yet.
    fn open(path: &Path, lines: usize) -> std::io::Result<Self> {
        let file = match files::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let at = file.as_ref().map(|file| begin_of_last(file, lines));
        Ok(Self {
            path: path.to_owned(),
            at: at.transpose()?.unwrap_or_default(),
            file,
            rest: Vec::new(),
        })
    }

    /// Prints the new lines.
    fn print(&mut self, out: &mut Out) -> std::io::Result<()> {
        self.print_more(out)?;
        let there = self.path.metadata().ok();
        let open = self.file.as_ref().map(File::metadata).transpose()?;
        if there.as_ref().map(node) != open.as_ref().map(node) && there.is_some() {
            // Rotated: the rest of the old file has just been read.
            self.print_more(out)?;
            self.file = files::open(&self.path).ok();
            self.at = 0;
            self.print_more(out)?;
        }
        Ok(())
    }

    fn print_more(&mut self, out: &mut Out) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if file.metadata()?.len() < self.at {
            // Truncated: the whole content is new.
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at))?;
        while !out.is_closed() {
            let read = file.take(PIECE).read_to_end(&mut self.rest)?;
            self.at += read as u64;
            if read == 0 {
                break;
            }
            let whole = whole_characters(&self.rest);
            let text: Vec<u8> = self.rest.drain(..whole).collect();
            out.text(&String::from_utf8_lossy(&text));
        }
        Ok(())
    }
}

fn node(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Number of bytes before an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// Byte offset of the last `lines`.
fn begin_of_last(mut file: &File, lines: usize) -> std::io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut begin, mut found) = (end, 0);
    while begin > 0 && lines > 0 {
        let piece = begin.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(piece))?;
        let mut bytes = Vec::new();
        file.take(begin - piece).read_to_end(&mut bytes)?;
        for (at, _) in bytes
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let after = piece + at as u64 + 1;
            // The newline at the very end closes the last line.
            if after < end {
                found += 1;
            }
            if found == lines {
                return Ok(after);
            }
        }
        begin = piece;
    }
    Ok(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(text: &str, lines: usize) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        let begin = begin_of_last(&File::open(&path).unwrap(), lines).unwrap();
        text[usize::try_from(begin).unwrap()..].to_owned()
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        assert_eq!(last("one\ntwo\nthree\n", 2), "two\nthree\n");
        assert_eq!(last("one\ntwo\nthr", 2), "two\nthr");
        assert_eq!(last("one\n", 5), "one\n");
        assert_eq!(last("one\n", 0), "");
        assert_eq!(last("", 3), "");
        let long = "x".repeat(100_000);
        assert_eq!(last(&format!("a\n{long}\nb\n"), 2), format!("{long}\nb\n"));
    }

    #[test]
    fn a_character_that_is_not_there_whole_waits_for_the_rest() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xff"), 2);
    }
}
