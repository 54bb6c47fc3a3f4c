//! The promises that hold for the scans of request bodies of any bytes, cut in any way by the network, and of
//! queries: `fuzz/` looks for counterexamples, the tests below replay its corpus.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

pub use super::protocol::fuzz::{
    messages_request, ollama_request, responses_request, worker_stream,
};
pub use super::request::coding::fuzz::coded_body;
use super::request::query as of_query;
use super::request::scan::json::MARK;
use super::request::scan::{FoundModel, ScanStep, Scanner, is_form};
use super::request::stream_flag::asks_for_stream;

#[cfg(test)]
use crate::corpus;

/// Panics when the scan of a JSON body of these bytes depends on how it is cut, or reads another
/// model than a JSON parser, or another wish for a stream.
pub fn json_body(bytes: &[u8]) {
    let step = scan_cut_anyhow(Some("application/json"), bytes);
    if let ScanStep::Found(FoundModel { value, range, .. }) = &step {
        let written: String = serde_json::from_slice(&bytes[range.clone()]).expect("a string");
        assert_eq!(*value, written);
    }
    let streams = cut_anyhow(bytes, |chunks| {
        let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk));
        asks_for_stream(&chunks.collect())
    });
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let Ok(Parsed { models, stream }) = serde_json::from_slice(bytes) else {
        return;
    };
    assert_eq!(streams, stream == Some(Value::Bool(true)));
    match (&step, &models[..]) {
        (ScanStep::Found(found), [Value::String(model)]) => assert_eq!(found.value, *model),
        (ScanStep::Absent, []) => {}
        (ScanStep::NotAString, [model, ..]) => assert!(!model.is_string()),
        (ScanStep::Twice, [Value::String(_), _, ..]) => {}
        (step, models) => panic!("{step:?} where a parser finds {models:?}"),
    }
}

/// The same for a form: the first line is its content type, the rest its body.
pub fn form_body(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (content_type, body) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(content_type) = std::str::from_utf8(content_type) else {
        return;
    };
    if !is_form(content_type) {
        return;
    }
    if let ScanStep::Found(FoundModel { value, range, .. }) =
        scan_cut_anyhow(Some(content_type), body)
    {
        assert_eq!(value.as_bytes(), &body[range]);
    }
}

/// Panics when a query does not name the model that was written into it, or lost anything else by that. The first
/// line is the model, the second the name of another field, the rest the query.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let (Some(name), Some(field), Some(query)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let written = of_query::with_model(query, name);
    let Ok(before) = of_query::model(query) else {
        assert!(of_query::model(&written).is_err(), "{written}");
        return;
    };
    assert_eq!(before, of_query::value(query, "model"));
    assert_eq!(
        of_query::model(&written).ok().flatten().as_deref(),
        Some(name),
        "{written}"
    );
    if field != "model" {
        let of = |query: &str| of_query::value(query, field);
        assert_eq!(of(&written), of(query), "{written}");
    }
}

/// The answer to the whole body, which is also that to its single bytes and to its parts.
fn scan_cut_anyhow(content_type: Option<&str>, body: &[u8]) -> ScanStep {
    cut_anyhow(body, |chunks| scan(content_type, chunks))
}

fn cut_anyhow<T: PartialEq + fmt::Debug>(body: &[u8], read: impl Fn(&[&[u8]]) -> T) -> T {
    let whole = read(&[body]);
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(read(&bytes), whole, "byte by byte");
    // Any number that changes with the body will do.
    let sum = body.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    let (one, two) = body.split_at(sum % (body.len() + 1));
    assert_eq!(read(&[one, two]), whole, "{}", one.len());
    whole
}

fn scan(content_type: Option<&str>, chunks: &[&[u8]]) -> ScanStep {
    let mut scanner = match Scanner::for_content_type(content_type) {
        Ok(scanner) => scanner,
        Err(end) => return end,
    };
    scan_chunks(chunks, |chunk| scanner.feed(chunk))
}

/// The result of a scan of these chunks.
pub(super) fn scan_chunks(chunks: &[&[u8]], mut feed: impl FnMut(&[u8]) -> ScanStep) -> ScanStep {
    let mut found = ScanStep::More;
    for chunk in chunks {
        match feed(chunk) {
            ScanStep::More => {}
            ScanStep::Found(model) => found = ScanStep::Found(model),
            end => return end,
        }
    }
    found
}

/// The fields of a JSON object that the hub scans for, as a parser reads them.
#[derive(Default)]
struct Parsed {
    /// Every `model`.
    models: Vec<Value>,
    /// The last `stream`.
    stream: Option<Value>,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut parsed = Parsed::default();
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "model" => parsed.models.push(map.next_value()?),
                "stream" => parsed.stream = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
#[test]
fn the_corpus_of_json_bodies_keeps_every_promise() {
    corpus::replay("json_body", json_body);
}

#[cfg(test)]
#[test]
fn the_corpus_of_forms_keeps_every_promise() {
    corpus::replay("form_body", form_body);
}

#[cfg(test)]
#[test]
fn the_corpus_of_queries_keeps_every_promise() {
    corpus::replay("query", query);
}
