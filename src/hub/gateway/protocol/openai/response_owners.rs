//! The model that made each response: `GET /v1/responses/{id}` names no model, and only the one that made
//! it knows it. Where the hub has keys, only the key that asked for a response may name it.
//!
//! Ids are read off the answers that pass, and the least recently used are forgotten. They outlive the hub only where
//! another one takes over, and responses do not outlive their worker.

use std::sync::Arc;

use indexmap::IndexMap;
use memchr::memmem;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::{ApiKey, KeyDigest};

/// Number of remembered responses.
const REMEMBERED: usize = 4096;

/// An id stands at the beginning of an answer: in its first field, or in its first event.
const LOOKED_AT: usize = 1024;

/// Longest id of a response.
const MAX_ID: usize = 128;

/// The makers of responses by their ids, the least recently used first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseOwners(Arc<Mutex<IndexMap<Box<str>, MadeResponse>>>);

#[derive(Debug)]
struct MadeResponse {
    model: Arc<str>,
    /// The key that asked for it; `None` where no key is needed.
    key: Option<KeyDigest>,
}

/// The makers for the hub that takes over, the least recently used first.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct HandedOwners(Vec<HandedOwner>);

#[derive(Serialize, Deserialize)]
struct HandedOwner {
    id: String,
    model: String,
    /// In hexadecimal digits.
    key: Option<String>,
}

/// The maker of a response, as a client may know it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Model(Arc<str>),
    /// The response is that of another key.
    Hidden,
    Unknown,
}

impl ResponseOwners {
    /// The maker of that response, for a client with that key.
    pub(crate) fn by(&self, id: &str, key: Option<&ApiKey>) -> Maker {
        let mut made = self.0.lock();
        let Some(response) = made.get(id) else {
            return Maker::Unknown;
        };
        if response.key != key.and_then(ApiKey::digest) {
            return Maker::Hidden;
        }
        let model = Arc::clone(&response.model);
        if let Some((id, response)) = made.shift_remove_entry(id) {
            made.insert(id, response);
        }
        Maker::Model(model)
    }

    /// All of them, for the hub that takes over.
    pub(crate) fn handed_on(&self) -> HandedOwners {
        let made = self.0.lock();
        let handed = made.iter().map(|(id, response)| HandedOwner {
            id: id.to_string(),
            model: response.model.to_string(),
            key: response.key.map(KeyDigest::to_hex),
        });
        HandedOwners(handed.collect())
    }

    /// Goes on with those of the hub before.
    pub(crate) fn inherit(&self, handed: HandedOwners) {
        let mut made = self.0.lock();
        for HandedOwner { id, model, key } in handed.0.into_iter().take(REMEMBERED) {
            let key = key.as_deref().map(KeyDigest::from_hex);
            // A key that cannot be read is nobody's.
            if let None | Some(Some(_)) = key {
                let (model, key) = (model.into(), key.flatten());
                made.insert(id.into(), MadeResponse { model, key });
            }
        }
    }

    /// Remembers the id that an answer of `model` to a client with that key begins with, if it is that of a response.
    pub(crate) fn note(&self, beginning: &[u8], model: &Arc<str>, key: Option<&ApiKey>) {
        let Some(id) = id_in(&beginning[..beginning.len().min(LOOKED_AT)]) else {
            return;
        };
        let mut made = self.0.lock();
        made.shift_remove(id);
        if made.len() >= REMEMBERED {
            made.shift_remove_index(0);
        }
        let response = MadeResponse {
            model: Arc::clone(model),
            key: key.and_then(ApiKey::digest),
        };
        made.insert(id.into(), response);
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
            made.note(
                format!(r#"{{"id":"resp_{number}"}}"#).as_bytes(),
                &model,
                None,
            );
        };
        (0..REMEMBERED).for_each(note);
        let alpha = Maker::Model(Arc::clone(&model));
        assert_eq!(made.by("resp_0", None), alpha);
        note(REMEMBERED);
        assert_eq!(made.by("resp_0", None), alpha);
        assert_eq!(made.by("resp_1", None), Maker::Unknown);
        assert_eq!(made.0.lock().len(), REMEMBERED);
    }
}
