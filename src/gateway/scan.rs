//! What the two scanners of request bodies, [`Peek`] for JSON and [`Multipart`], have in common.

use std::ops::Range;

use super::multipart::Multipart;
use super::peek::Peek;

/// The model that a body names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As the client means it, escapes resolved.
    pub(super) value: String,
    /// Where it is written, counted from the start of the body; in JSON with its quotes.
    pub(super) range: Range<usize>,
}

/// What a chunk brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    More,
    /// The model.
    Found(Found),
    /// The body names none.
    Absent,
    /// There is a `model` that is not a string.
    NotAString,
    /// The body is not what its content type says.
    Malformed,
}

/// The scanner for a content type.
#[derive(Debug)]
pub(super) enum Scanner {
    Json(Peek),
    Form(Box<Multipart>),
}

impl Scanner {
    /// Multipart forms by their content type; everything else is taken for JSON, as clients often
    /// forget to say so.
    pub(super) fn for_content_type(content_type: Option<&str>) -> Result<Self, Step> {
        let Some(content_type) = content_type.filter(|value| is_form(value)) else {
            return Ok(Self::Json(Peek::new()));
        };
        Multipart::new(content_type)
            .map(|form| Self::Form(Box::new(form)))
            .ok_or(Step::Malformed)
    }

    /// Reads the next chunk. After any answer but [`Step::More`] the scan is over.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Step {
        match self {
            Self::Json(peek) => peek.feed(chunk),
            Self::Form(form) => form.feed(chunk),
        }
    }
}

/// Whether a content type is `multipart/form-data`.
pub(super) fn is_form(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("multipart/form-data"))
}

/// `bytes` cut at `cuts`, for tests.
#[cfg(test)]
pub(super) fn chunks_at<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut start = 0;
    at.into_iter()
        .map(|end| &bytes[std::mem::replace(&mut start, end)..end])
        .collect()
}
