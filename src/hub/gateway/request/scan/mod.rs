//! The scanners of request bodies: [`Peek`] for JSON, [`Multipart`] and [`Urlencoded`].

use std::ops::Range;

pub(crate) mod json;
mod multipart;
mod urlencoded;

use json::{MARK, Peek};
use multipart::Multipart;
use urlencoded::Urlencoded;

use super::query;

/// The syntax of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    Multipart,
    Urlencoded,
}

/// The model that a body names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundModel {
    /// The name, escapes resolved.
    pub(crate) value: String,
    /// Its range, counted from the start of the body; in JSON with its quotes.
    pub(crate) range: Range<usize>,
    pub(crate) syntax: Syntax,
}

/// The result of a scan so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScanStep {
    /// Nothing yet.
    More,
    /// The model.
    Found(FoundModel),
    /// The body names none.
    Absent,
    /// There is a `model` that is not a string.
    NotAString,
    /// There is more than one.
    Twice,
    /// The body does not match its content type.
    Malformed,
}

/// The scanner for a content type.
#[derive(Debug)]
pub(crate) enum Scanner {
    Json(Peek),
    Form(Box<Multipart>),
    Urlencoded(Urlencoded),
    /// A form if its content type is right: curl sends it with any `-d`. Holds the number of leading blanks.
    Undecided(usize),
}

/// The content type of a form without files.
const URLENCODED: &str = "application/x-www-form-urlencoded";

impl Scanner {
    /// Chooses a form scanner by content type; everything else counts as JSON, as clients often omit the
    /// header.
    pub(crate) fn for_content_type(content_type: Option<&str>) -> Result<Self, ScanStep> {
        // Most requests have this type.
        let Some(content_type) = content_type.filter(|kind| *kind != "application/json") else {
            return Ok(Self::Json(Peek::new()));
        };
        if is(content_type, URLENCODED) {
            return Ok(Self::Undecided(0));
        }
        if !is_form(content_type) {
            return Ok(Self::Json(Peek::new()));
        }
        Multipart::new(content_type)
            .map(|form| Self::Form(Box::new(form)))
            .ok_or(ScanStep::Malformed)
    }

    /// Reads the next chunk. After [`ScanStep::Found`] it may be given the chunks that follow, to tell
    /// whether there is another; after any other answer but [`ScanStep::More`] the scan is over.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> ScanStep {
        self.read(chunk, false)
    }

    /// Reads the last chunk, and may skip the parts that cannot matter.
    pub(crate) fn feed_last(&mut self, chunk: &[u8]) -> ScanStep {
        self.read(chunk, true)
    }

    fn read(&mut self, mut chunk: &[u8], is_last: bool) -> ScanStep {
        if let Self::Undecided(blanks) = self {
            let first = chunk.iter().position(|byte| !byte.is_ascii_whitespace());
            let first = first.unwrap_or(chunk.len());
            *blanks += first;
            chunk = &chunk[first..];
            match chunk.first() {
                None => return ScanStep::More,
                Some(first) if begins_json(*first) => *self = Self::Json(Peek::after(*blanks)),
                Some(_) => *self = Self::Urlencoded(Urlencoded::after(*blanks)),
            }
        }
        match self {
            Self::Json(peek) if is_last => peek.feed_last(chunk),
            Self::Json(peek) => peek.feed(chunk),
            Self::Form(form) => form.feed(chunk),
            Self::Urlencoded(form) => form.feed(chunk),
            Self::Undecided(_) => ScanStep::More,
        }
    }

    /// Ends a scan that has found no model.
    pub(crate) fn end(&mut self) -> ScanStep {
        match self {
            Self::Urlencoded(form) => form.end(),
            Self::Undecided(_) => ScanStep::Absent,
            Self::Json(_) | Self::Form(_) => ScanStep::Malformed,
        }
    }
}

/// True if a content type is `multipart/form-data`.
pub(crate) fn is_form(content_type: &str) -> bool {
    is(content_type, "multipart/form-data")
}

/// The place and the text with which a form of that content type, whose `body` names no model, names this
/// one; `None` for a body that is none: JSON, or nothing.
pub(crate) fn field_of_form(
    content_type: Option<&str>,
    body: &[u8],
    model: &str,
) -> Option<(usize, String)> {
    let content_type = content_type?;
    if is_form(content_type) {
        return multipart::field(content_type, body, model);
    }
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    let is_urlencoded = is(content_type, URLENCODED) && !begins_json(*first);
    is_urlencoded.then(|| (0, format!("model={}&", query::encode(model))))
}

/// The names of the parts of a whole form of that content type; `None` for what is none.
pub(crate) fn names_of_form(content_type: &str, body: &[u8]) -> Option<Vec<String>> {
    is_form(content_type)
        .then(|| multipart::names(content_type, body))
        .flatten()
}

/// True if a body whose first byte that is no blank is this one is JSON, whatever its content type.
fn begins_json(first: u8) -> bool {
    matches!(first, b'{' | b'[' | b'"') || first == MARK[0]
}

fn is(content_type: &str, kind: &str) -> bool {
    let first = content_type.split(';').next();
    first.is_some_and(|first| first.trim().eq_ignore_ascii_case(kind))
}

/// `bytes` cut at `cuts`, for tests.
#[cfg(test)]
pub(crate) fn chunks_at<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut start = 0;
    at.into_iter()
        .map(|end| &bytes[std::mem::replace(&mut start, end)..end])
        .collect()
}
