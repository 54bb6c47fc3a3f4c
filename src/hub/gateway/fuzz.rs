//! The promises that hold for the scans of request bodies of any bytes, cut in any way by the network: `fuzz/`
//! looks for counterexamples, the tests below replay its corpus.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

pub use super::protocol::fuzz::{
    messages_request, ollama_request, responses_request, worker_stream,
};
pub use super::request::coding::fuzz::coded_body;
use super::request::scan::json::MARK;
use super::request::scan::{FoundModel, ScanStep, Scanner, is_form};

#[cfg(test)]
use crate::corpus;

/// Panics when the scan of a JSON body of these bytes depends on how it is cut, or reads another
/// model than a JSON parser.
pub fn json_body(bytes: &[u8]) {
    let step = scan_cut_anyhow(Some("application/json"), bytes);
    if let ScanStep::Found(FoundModel { value, range, .. }) = &step {
        let written: String = serde_json::from_slice(&bytes[range.clone()]).expect("a string");
        assert_eq!(*value, written);
    }
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let Ok(Parsed(models)) = serde_json::from_slice(bytes) else {
        return;
    };
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

/// The answer to the whole body, which is also that to its single bytes and to its parts.
fn scan_cut_anyhow(content_type: Option<&str>, body: &[u8]) -> ScanStep {
    let whole = scan(content_type, &[body]);
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(scan(content_type, &bytes), whole, "byte by byte");
    // Any number that changes with the body will do.
    let sum = body.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    let (one, two) = body.split_at(sum % (body.len() + 1));
    assert_eq!(scan(content_type, &[one, two]), whole, "{}", one.len());
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

/// Every `model` of a JSON object, as a parser reads it.
struct Parsed(Vec<Value>);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Models).map(Self)
    }
}

struct Models;

impl<'de> Visitor<'de> for Models {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
        let mut models = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "model" {
                models.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(models)
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
