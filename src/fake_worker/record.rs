//! The record that tests read: one JSON line per event of the worker's life and per request.
//!
//! Lines of several processes may share a file: each is one appending write.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Bodies up to this many bytes are recorded whole.
const WHOLE_BODY: usize = 16 * 1024;

/// The file to write to; without one nothing is recorded.
pub(super) struct Record {
    file: Option<File>,
    model: String,
}

impl Record {
    /// Opens the file for appending.
    pub(super) fn open(path: Option<&Path>, model: &str) -> std::io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self {
            file: path.map(open).transpose()?,
            model: model.to_owned(),
        })
    }

    /// Writes one line: `event`, time, process, model, and `fields`.
    pub(super) fn event(&self, event: &str, fields: &Value) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let mut line = json!({
            "event": event,
            "at": now(),
            "pid": std::process::id(),
            "model": self.model,
        });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
            line.extend(fields.clone());
        }
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }

    /// Writes one line about a request whose body has arrived.
    pub(super) fn request(&self, head: &http::request::Parts, body: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let headers: serde_json::Map<_, _> = head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), Value::from(value))
            })
            .collect();
        let text = (body.len() <= WHOLE_BODY).then(|| String::from_utf8_lossy(body));
        self.event(
            "request",
            &json!({
                "method": head.method.as_str(),
                "path": head.uri.path(),
                "query": head.uri.query(),
                "headers": headers,
                "body_length": body.len(),
                "body_hash": hash(body),
                "body": text,
            }),
        );
    }
}

/// A fingerprint that a test can compute too: the standard library's `DefaultHasher`.
fn hash(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("{:016x}", hasher.finish())
}

/// Unix seconds.
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
