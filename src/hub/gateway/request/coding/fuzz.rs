//! The promise that holds for a body of any bytes in any coding: `fuzz/` looks for counterexamples, the test below
//! replays its corpus.

use http::HeaderValue;

use super::*;

#[cfg(test)]
use crate::corpus;

/// Longest decoded body.
const LIMIT: usize = 64 * 1024;

/// Panics when what is decoded depends on how the body is cut, or is more than the limit. The first line names the
/// codings, the rest is the body.
pub fn coded_body(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (codings, body) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(codings) = HeaderValue::from_bytes(codings) else {
        return;
    };
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, codings)]);
    let whole = decoded(&headers, &[body]);
    let single: Vec<&[u8]> = body.chunks(1).collect();
    // Of a body that is both too long and broken, what comes first is told.
    let told = |result: &Result<Vec<u8>, u16>| match result {
        Err(400 | 413) => Err("bad"),
        Err(_) => Err("of no known coding"),
        Ok(text) => Ok(text.clone()),
    };
    let by_byte = decoded(&headers, &single);
    assert_eq!(told(&by_byte), told(&whole), "byte by byte");
    match whole {
        Ok(text) => assert!(text.len() <= LIMIT),
        Err(status) => assert!([400, 413, 415].contains(&status), "{status}"),
    }
}

/// The decoded body, or the status of the refusal.
fn decoded(headers: &HeaderMap, pieces: &[&[u8]]) -> Result<Vec<u8>, u16> {
    let status = |error: ApiError| error.status;
    let Some(mut decoder) = Decoder::of(headers, LIMIT).map_err(status)? else {
        return Ok(Vec::new());
    };
    let mut text = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(piece) = decoder.next(false).map_err(status)? {
            text.extend_from_slice(&piece);
        }
    }
    while let Some(piece) = decoder.next(true).map_err(status)? {
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

#[cfg(test)]
#[test]
fn the_corpus_of_coded_bodies_keeps_the_promise() {
    corpus::replay("coded_body", coded_body);
}
