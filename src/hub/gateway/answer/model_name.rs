//! Replaces the worker's name for its model by the client's.
//!
//! An answer is not parsed. It is searched for the key `"model"`; in the text of a message its quotes
//! are escaped, so a match is a key. Its value is replaced if it is one of the worker's own names. If
//! the worker uses the client's name, the search ends at the first match, and every chunk passes unchanged.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::response;
use memchr::memmem::Finder;

use super::kind::AnswerKind;
use crate::hub::gateway::request::scan::json::{closing_quote, unquote};
use crate::hub::lifecycle::Model;
use crate::upstream::{Accepts, Upstream};

const KEY: &[u8] = b"\"model\"";

static FIND_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

/// Longest value that is replaced.
const MAX_FIELD: usize = 1024;

/// The search through one answer.
#[derive(Debug)]
pub(crate) struct NameRewriter {
    written: String,
    upstream: Arc<Upstream>,
    events: bool,
    /// True if the length has been announced and must stay.
    is_fixed: bool,
    is_over: bool,
    /// The possible beginning of a field, from the end of the last chunk.
    held: Bytes,
    /// For chunks in which something was replaced.
    scratch: BytesMut,
}

/// The text behind a `"model"`.
enum Field<'a> {
    /// A value, by its range with the quotes, and its text.
    Value(std::ops::Range<usize>, Cow<'a, str>),
    /// Not a name.
    Other,
    /// Incomplete: more is needed.
    Unfinished,
}

impl NameRewriter {
    /// The search through the answer with this head, if needed. Removes the length from the head if it is sure
    /// to change.
    pub(crate) fn new(
        written: String,
        upstream: Arc<Upstream>,
        head: &mut response::Parts,
        kind: AnswerKind,
    ) -> Option<Self> {
        if !head.status.is_success() || !kind.is_legible || written.is_empty() {
            return None;
        }
        let differs = matches!(&upstream.accepts, Accepts::Only(name) if **name != *written);
        if differs {
            head.headers.remove(CONTENT_LENGTH);
        }
        Some(Self {
            is_fixed: head.headers.contains_key(CONTENT_LENGTH),
            written,
            upstream,
            events: kind.events,
            is_over: false,
            held: Bytes::new(),
            scratch: BytesMut::new(),
        })
    }

    /// True if the answer may become longer or shorter than the worker's.
    pub(crate) fn may_change_length(&self) -> bool {
        !self.is_fixed
    }

    /// The bytes for the client from the next chunk of the worker of `model`. `is_last`: nothing follows.
    pub(crate) fn feed(&mut self, model: &Model, chunk: Bytes, is_last: bool) -> Bytes {
        if self.is_over && self.held.is_empty() {
            return chunk;
        }
        let chunk = if self.held.is_empty() {
            chunk
        } else {
            let held = std::mem::take(&mut self.held);
            [held, chunk].concat().into()
        };
        let (mut copied, mut at) = (0, 0);
        while !self.is_over
            && let Some(found) = FIND_KEY.find(&chunk[at..])
        {
            let found = at + found;
            at = found + KEY.len();
            match field(&chunk, at) {
                Field::Value(range, name) => {
                    at = range.end;
                    if name == self.written {
                        self.is_over = true;
                    } else if self.is_the_workers(model, &name)
                        && self.write(&chunk, copied, &range)
                    {
                        copied = range.end;
                        // Every event has one, any other answer only one.
                        self.is_over = !self.events;
                    }
                }
                Field::Unfinished if !is_last && chunk.len() - found < MAX_FIELD => {
                    return self.hold(&chunk, copied, found);
                }
                Field::Unfinished | Field::Other => {}
            }
        }
        if !is_last && !self.is_over {
            let begun = begun_key(&chunk[at..]);
            if begun > 0 {
                let end = chunk.len() - begun;
                return self.hold(&chunk, copied, end);
            }
        }
        self.hand_over(&chunk, copied, chunk.len())
    }

    /// The bytes held back when the answer ends unexpectedly.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        Some(std::mem::take(&mut self.held)).filter(|rest| !rest.is_empty())
    }

    fn is_the_workers(&self, model: &Model, name: &str) -> bool {
        let served = match &self.upstream.accepts {
            Accepts::Only(served) => **served == *name,
            Accepts::Any => false,
        };
        served || *name == *model.name || name == model.facts.load().model_path
    }

    /// Writes the client's name in the place of `range`, and what has not been copied before it; says
    /// whether there is room for it.
    fn write(&mut self, chunk: &Bytes, copied: usize, range: &std::ops::Range<usize>) -> bool {
        let name = serde_json::Value::from(self.written.as_str()).to_string();
        let padding = match range.len().checked_sub(name.len()) {
            Some(padding) if self.is_fixed => padding,
            None if self.is_fixed => return false,
            _ => 0,
        };
        self.scratch.extend_from_slice(&chunk[copied..range.start]);
        self.scratch.extend_from_slice(name.as_bytes());
        self.scratch.put_bytes(b' ', padding);
        true
    }

    /// The chunk up to `end`; what follows waits for the next.
    fn hold(&mut self, chunk: &Bytes, copied: usize, end: usize) -> Bytes {
        self.held = Bytes::copy_from_slice(&chunk[end..]);
        self.hand_over(chunk, copied, end)
    }

    fn hand_over(&mut self, chunk: &Bytes, copied: usize, end: usize) -> Bytes {
        if copied == 0 {
            return chunk.slice(..end);
        }
        self.scratch.extend_from_slice(&chunk[copied..end]);
        self.scratch.split().freeze()
    }
}

/// The text behind the key that ends at `at`.
fn field(chunk: &[u8], at: usize) -> Field<'_> {
    let spaces = |at: usize| {
        let is_space = |byte: &&u8| byte.is_ascii_whitespace();
        at + chunk[at..].iter().take_while(is_space).count()
    };
    let colon = spaces(at);
    match chunk.get(colon) {
        None => return Field::Unfinished,
        Some(b':') => {}
        Some(_) => return Field::Other,
    }
    let quote = spaces(colon + 1);
    match chunk.get(quote) {
        None => return Field::Unfinished,
        Some(b'"') => {}
        Some(_) => return Field::Other,
    }
    let Some(end) = closing_quote(chunk, quote + 1, &mut false) else {
        return Field::Unfinished;
    };
    match unquote(&chunk[quote + 1..end]) {
        Some(name) => Field::Value(quote..end + 1, name),
        None => Field::Other,
    }
}

/// Length of the key's beginning at the end of `text`.
fn begun_key(text: &[u8]) -> usize {
    let longest = text.len().min(KEY.len() - 1);
    let mut lengths = (1..=longest).rev();
    lengths
        .find(|&length| text.ends_with(&KEY[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::hub::gateway::request::scan::chunks_at;

    /// The search through an answer of the worker that calls itself `served`, and the answer's head.
    fn rewriter(
        written: &str,
        served: &str,
        events: bool,
        length: Option<usize>,
    ) -> Option<NameRewriter> {
        let mut head = Response::new(()).into_parts().0;
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, length.into());
        }
        let upstream = Upstream::new("127.0.0.1", 1, Accepts::Only(served.into()));
        let kind = AnswerKind {
            events,
            is_legible: true,
        };
        NameRewriter::new(written.to_owned(), Arc::new(upstream), &mut head, kind)
    }

    fn model() -> Model {
        let model = Model::new("alpha");
        let facts = crate::api::ModelFacts {
            model_path: "org/alpha".to_owned(),
            ..Default::default()
        };
        model.facts.store(Arc::new(facts));
        model
    }

    fn through(mut rewriter: NameRewriter, chunks: &[&[u8]]) -> String {
        let (model, mut out) = (model(), Vec::new());
        for chunk in chunks {
            out.extend_from_slice(&rewriter.feed(&model, Bytes::copy_from_slice(chunk), false));
        }
        out.extend(rewriter.rest().unwrap_or_default());
        String::from_utf8(out).unwrap()
    }

    const PLAIN: &str = r#"{"id":"1","choices":[{"message":{"content":"\"model\":\"alpha\""}}],"model" : "alpha","x":{"model":"alpha"}}"#;
    const EVENTS: &str = "data: {\"model\":\"alpha\",\"d\":\"\\\"model\\\":\\\"alpha\\\"\"}\n\n\
        data: {\"model\": \"alpha\",\"tool\":{\"model\":\"other\"}}\n\ndata: [DONE]\n\n";

    #[test]
    fn a_plain_answer_has_the_clients_name_once_and_its_text_as_it_was() {
        let answer = through(
            rewriter("gpt \"4\"", "alpha", false, None).unwrap(),
            &[PLAIN.as_bytes()],
        );
        let expected = PLAIN.replacen(r#""model" : "alpha""#, r#""model" : "gpt \"4\"""#, 1);
        assert_eq!(answer, expected);
    }

    #[test]
    fn the_workers_path_is_a_name_of_it_too() {
        let answer = r#"{"model":"org\/alpha"}"#;
        let rewriter = rewriter("gpt", "alpha", false, None).unwrap();
        assert_eq!(
            through(rewriter, &[answer.as_bytes()]),
            r#"{"model":"gpt"}"#
        );
    }

    #[test]
    fn an_announced_length_stays() {
        let longer = r#"{"model":"org/alpha","x":1}"#;
        let same = rewriter("alpha", "alpha", false, Some(longer.len())).unwrap();
        assert!(!same.may_change_length());
        let answer = through(same, &[longer.as_bytes()]);
        assert_eq!(answer, r#"{"model":"alpha"    ,"x":1}"#);

        let other = rewriter("org/alpha", "org/alpha", false, Some(10)).unwrap();
        let shorter = r#"{"model":"alpha"}"#;
        assert_eq!(through(other, &[shorter.as_bytes()]), shorter, "no room");

        let differs = rewriter("gpt", "alpha", false, Some(10)).unwrap();
        assert!(differs.may_change_length());
    }

    #[test]
    fn an_answer_that_says_what_the_client_said_passes_untouched_from_then_on() {
        let mut rewriter = rewriter("alpha", "alpha", true, None).unwrap();
        let chunk = Bytes::from_static(EVENTS.as_bytes());
        let passed = rewriter.feed(&model(), chunk.clone(), false);
        assert_eq!(passed.as_ptr(), chunk.as_ptr());
        assert!(rewriter.is_over);
        let late = Bytes::from_static(b"\"mod");
        assert_eq!(rewriter.feed(&model(), late.clone(), false), late);
    }

    proptest! {
        #[test]
        fn wherever_an_answer_is_cut_it_comes_out_the_same(cuts in prop::collection::vec(any::<Index>(), 0..9)) {
            let expected = EVENTS
                .replacen(r#"{"model":"alpha""#, r#"{"model":"the client's""#, 1)
                .replacen(r#"{"model": "alpha""#, r#"{"model": "the client's""#, 1);
            let chunks = chunks_at(EVENTS.as_bytes(), &cuts);
            let rewriter = rewriter("the client's", "alpha", true, None).unwrap();
            prop_assert_eq!(through(rewriter, &chunks), expected);
        }
    }
}
