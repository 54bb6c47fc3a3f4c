//! The promises that hold for an answer of any bytes, cut in any way by the network: `fuzz/` looks for
//! counterexamples, the test below replays its corpus.

use bytes::BytesMut;
use http::{HeaderMap, response};

use super::framing::Remaining;
use super::head::{self, Head};

#[cfg(test)]
use crate::corpus;

/// Panics if the result of reading an answer depends on the cuts, or is not part of the answer.
pub fn answer(bytes: &[u8]) {
    // The first byte says whether the request was HEAD.
    let Some((first, answer)) = bytes.split_first() else {
        return;
    };
    let for_head = *first == b'H';
    let whole = read(&[answer], for_head);
    let single: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(read(&single, for_head), whole, "byte by byte");
    // Any number that changes with the answer will do.
    let sum = answer.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    let (one, two) = answer.split_at(sum % (answer.len() + 1));
    assert_eq!(read(&[one, two], for_head), whole, "{}", one.len());
    if let Read::Answer { body, left, .. } = &whole {
        assert!(body.len() + left.unwrap_or(0) <= answer.len());
    }
}

/// The result of reading an answer.
#[derive(Debug, PartialEq)]
enum Read {
    /// The head is incomplete.
    Part,
    /// The head is invalid.
    Fault,
    Answer {
        head: String,
        keeps_alive: bool,
        body: Vec<u8>,
        is_over: bool,
        is_broken: bool,
        /// Number of bytes that follow a complete body.
        left: Option<usize>,
    },
}

fn read(pieces: &[&[u8]], for_head: bool) -> Read {
    let (mut unread, mut headers) = (BytesMut::new(), HeaderMap::new());
    let mut answer: Option<(response::Parts, Remaining, bool)> = None;
    let (mut body, mut is_broken, mut interim) = (Vec::new(), false, 0);
    for piece in pieces {
        unread.extend_from_slice(piece);
        if answer.is_none() {
            match head::take(&mut unread, for_head, &mut headers, &mut interim) {
                Err(_) => return Read::Fault,
                Ok(None) => continue,
                Ok(Some(Head {
                    parts,
                    remaining,
                    keeps_alive,
                })) => answer = Some((parts, remaining, keeps_alive)),
            }
        }
        let Some((_, remaining, _)) = &mut answer else {
            continue;
        };
        while !is_broken {
            match remaining.take(&mut unread) {
                Ok(Some(data)) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Ok(None) => break,
                Err(_) => is_broken = true,
            }
        }
    }
    let Some((parts, remaining, keeps_alive)) = answer else {
        return Read::Part;
    };
    let is_over = remaining.is_over();
    Read::Answer {
        head: format!("{} {:?}", parts.status, parts.headers),
        keeps_alive,
        body,
        is_over,
        is_broken,
        left: is_over.then_some(unread.len()),
    }
}

#[cfg(test)]
#[test]
fn the_corpus_of_answers_keeps_every_promise() {
    corpus::replay("answer", answer);
}
