//! The kind of an answer's body, by its headers.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// The kind of an answer's body.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AnswerKind {
    /// An event stream.
    pub(crate) events: bool,
    /// JSON, or events of it, and not compressed: its model and its usage can be read as it passes.
    pub(crate) is_legible: bool,
}

impl AnswerKind {
    /// The kind of the body with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is = |begin: &[u8]| kind.is_some_and(|kind| kind.starts_with(begin));
        let events = is(b"text/event-stream");
        Self {
            events,
            is_legible: (events || is(b"application/json"))
                && !headers.contains_key(CONTENT_ENCODING),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_and_its_events_are_legible_and_not_when_compressed() {
        for (kind, encoding, events, is_legible) in [
            ("application/json; charset=utf-8", None, false, true),
            ("text/event-stream", None, true, true),
            ("audio/wav", None, false, false),
            ("application/json", Some("gzip"), false, false),
            ("text/event-stream", Some("br"), true, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(encoding) = encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            let found = AnswerKind::of(&headers);
            assert_eq!(
                (found.events, found.is_legible),
                (events, is_legible),
                "{kind}"
            );
        }
    }
}
