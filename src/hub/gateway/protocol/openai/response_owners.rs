//! The model that made each response: `GET /v1/responses/{id}` names no model, and only the one that made
//! it knows it.
//!
//! Ids are read off the answers that pass, and the least recently used are forgotten. They do not
//! outlive the hub, nor do responses outlive their worker.

use std::sync::Arc;

use indexmap::IndexMap;
use memchr::memmem;
use parking_lot::Mutex;

/// Number of remembered responses.
const REMEMBERED: usize = 4096;

/// An id stands at the beginning of an answer: in its first field, or in its first event.
const LOOKED_AT: usize = 1024;

/// Longest id of a response.
const MAX_ID: usize = 128;

/// The models of responses by their ids, the least recently used first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseOwners(Arc<Mutex<IndexMap<Box<str>, Arc<str>>>>);

impl ResponseOwners {
    /// The model that made that response.
    pub(crate) fn by(&self, id: &str) -> Option<Arc<str>> {
        let mut models = self.0.lock();
        let (id, model) = models.shift_remove_entry(id)?;
        models.insert(id, Arc::clone(&model));
        Some(model)
    }

    /// Remembers the id that an answer of `model` begins with, if it is that of a response.
    pub(crate) fn note(&self, beginning: &[u8], model: &Arc<str>) {
        let Some(id) = id_in(&beginning[..beginning.len().min(LOOKED_AT)]) else {
            return;
        };
        let mut models = self.0.lock();
        models.shift_remove(id);
        if models.len() >= REMEMBERED {
            models.shift_remove_index(0);
        }
        models.insert(id.into(), Arc::clone(model));
    }
}

/// The first `"id": "resp…"`.
fn id_in(text: &[u8]) -> Option<&str> {
    memmem::find_iter(text, b"\"id\"").find_map(|at| {
        let value = text[at + b"\"id\"".len()..].trim_ascii_start();
        let value = value.strip_prefix(b":")?.trim_ascii_start();
        let value = value.strip_prefix(b"\"")?;
        let id = &value[..memchr::memchr(b'"', value)?];
        let id = std::str::from_utf8(id).ok()?;
        (id.starts_with("resp") && id.len() <= MAX_ID).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_response_is_read_plain_and_streamed() {
        for (text, id) in [
            (r#"{"id":"resp_1","object":"response"}"#, Some("resp_1")),
            (
                r#"{"output":[{"id" : "msg_2"}], "id" : "resp_2"}"#,
                Some("resp_2"),
            ),
            (
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_3\",",
                Some("resp_3"),
            ),
            (r#"{"id":"chatcmpl_4"}"#, None),
            (r#"{"id":"resp_5"#, None),
            ("", None),
        ] {
            assert_eq!(id_in(text.as_bytes()), id, "{text}");
        }
    }

    #[test]
    fn the_least_recently_used_is_forgotten_first() {
        let (made, model) = (ResponseOwners::default(), Arc::from("alpha"));
        let note = |number: usize| {
            made.note(format!(r#"{{"id":"resp_{number}"}}"#).as_bytes(), &model);
        };
        (0..REMEMBERED).for_each(note);
        assert_eq!(made.by("resp_0").as_deref(), Some("alpha"));
        note(REMEMBERED);
        assert!(made.by("resp_0").is_some());
        assert!(made.by("resp_1").is_none());
        assert_eq!(made.0.lock().len(), REMEMBERED);
    }
}
