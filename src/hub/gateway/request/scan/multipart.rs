//! Finds the `model` field of a `multipart/form-data` body while its chunks arrive.
//!
//! Uploads of audio and images name their model in a field of its own, often after the file. Files
//! are stepped over with a substring search; only the heads of parts, and the value itself, are
//! copied. A delimiter may be cut anywhere by the chunks.

use memchr::memmem::{self, Finder};

use super::{FoundModel, ScanStep, Syntax};

/// Longest head of a part, in bytes; a longer one is malformed.
const MAX_HEAD: usize = 16 * 1024;
/// Longest name of a model, in bytes.
const MAX_VALUE: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartState {
    /// Before the first part, or in the content of one that is not `model`.
    Content,
    /// Between a delimiter and the blank line.
    Head,
    /// In the content of `model`.
    Value,
    /// Behind everything that matters.
    Over,
}

/// The place and the text of a part that makes a form, whose `body` names no model, name this one: before its
/// first part. `None` for a body without parts.
pub(super) fn field(content_type: &str, body: &[u8], model: &str) -> Option<(usize, String)> {
    let boundary = parameter(content_type, "boundary")?;
    let delimiter = format!("--{boundary}");
    let at = match body.starts_with(delimiter.as_bytes()) {
        true => 0,
        false => memmem::find(body, format!("\r\n{delimiter}").as_bytes())? + 2,
    };
    let head = "content-disposition: form-data; name=\"model\"";
    Some((at, format!("{delimiter}\r\n{head}\r\n\r\n{model}\r\n")))
}

/// The names of all parts of a whole form, which begins with its first part; `None` for what is none.
pub(super) fn names(content_type: &str, body: &[u8]) -> Option<Vec<String>> {
    let boundary = parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty())?;
    let first = format!("--{boundary}");
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let delimiter = Finder::new(&format!("\r\n{first}")).into_owned();
    let mut names = Vec::new();
    while !rest.starts_with(b"--") {
        let head = memmem::find(rest, b"\r\n\r\n")?;
        names.extend(names_in(&rest[..head]));
        let content = &rest[head..];
        rest = &content[delimiter.find(content)? + delimiter.needle().len()..];
    }
    Some(names)
}

/// The scan of one body.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    state: PartState,
    /// Length of what has been read.
    read: usize,
    /// In `Content` the last bytes, shorter than a delimiter: one may begin there. Otherwise the head
    /// or value as far as it has been read.
    held: Vec<u8>,
    /// Offset of the value.
    value_start: usize,
    /// The model, until the end of the chunk that it was found in.
    found: Option<FoundModel>,
    has_found: bool,
}

impl Multipart {
    /// `None` when the content type has no boundary.
    pub(crate) fn new(content_type: &str) -> Option<Self> {
        let boundary = parameter(content_type, "boundary").filter(|b| !b.is_empty())?;
        let delimiter = format!("\r\n--{boundary}");
        Some(Self {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            state: PartState::Content,
            read: 0,
            // The first delimiter stands at the very start, without its line break.
            held: b"\r\n".to_vec(),
            value_start: 0,
            found: None,
            has_found: false,
        })
    }

    /// Reads the next chunk. After [`ScanStep::Found`] it may be given the chunks that follow, to tell
    /// whether there is another; after any other answer but [`ScanStep::More`] the scan is over.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) -> ScanStep {
        while !chunk.is_empty() {
            let step = match self.state {
                PartState::Content => Ok(self.content(chunk)),
                PartState::Head => self.head(chunk),
                PartState::Value => self.value(chunk),
                PartState::Over => break,
            };
            match step {
                Ok(used) => {
                    self.read += used;
                    chunk = &chunk[used..];
                }
                Err(end) => {
                    self.state = PartState::Over;
                    if end == ScanStep::Twice || !self.has_found {
                        return end;
                    }
                }
            }
        }
        self.found.take().map_or(ScanStep::More, ScanStep::Found)
    }

    /// Steps behind the next delimiter; returns the number of bytes used.
    fn content(&mut self, chunk: &[u8]) -> usize {
        let length = self.delimiter.needle().len();
        let tail = self.held.len();
        // A delimiter that began in an earlier chunk.
        self.held
            .extend_from_slice(&chunk[..chunk.len().min(length - 1)]);
        let end = match self.delimiter.find(&self.held) {
            Some(start) => Some(start + length - tail),
            None => self.delimiter.find(chunk).map(|start| start + length),
        };
        if let Some(end) = end {
            self.held.clear();
            self.state = PartState::Head;
            return end;
        }
        if chunk.len() >= length {
            self.held.clear();
            self.held
                .extend_from_slice(&chunk[chunk.len() - (length - 1)..]);
        } else {
            let surplus = self.held.len().saturating_sub(length - 1);
            self.held.drain(..surplus);
        }
        chunk.len()
    }

    fn head(&mut self, chunk: &[u8]) -> Result<usize, ScanStep> {
        let before = self.hold(chunk, MAX_HEAD);
        if self.held.starts_with(b"--") {
            return Err(ScanStep::Absent);
        }
        if !matches!(self.held[0], b'\r' | b' ' | b'\t' | b'-') {
            return Err(ScanStep::Malformed);
        }
        let Some(end) = find_from(&memmem::Finder::new(b"\r\n\r\n"), &self.held, before) else {
            return self.all_held(before, MAX_HEAD);
        };
        let is_model = is_model(&self.held[..end]);
        if is_model && self.has_found {
            return Err(ScanStep::Twice);
        }
        self.state = if is_model {
            self.value_start = self.read + end + 4 - before;
            PartState::Value
        } else {
            PartState::Content
        };
        self.held.clear();
        Ok(end + 4 - before)
    }

    fn value(&mut self, chunk: &[u8]) -> Result<usize, ScanStep> {
        let before = self.hold(chunk, MAX_VALUE);
        let Some(end) = find_from(&self.delimiter, &self.held, before) else {
            return self.all_held(before, MAX_VALUE);
        };
        self.held.truncate(end);
        let value =
            String::from_utf8(std::mem::take(&mut self.held)).map_err(|_| ScanStep::Malformed)?;
        let range = self.value_start..self.value_start + end;
        self.found = Some(FoundModel {
            value,
            range,
            syntax: Syntax::Multipart,
        });
        self.has_found = true;
        self.state = PartState::Head;
        Ok(end + self.delimiter.needle().len() - before)
    }

    /// Copies the chunk up to the limit; returns the length held before.
    fn hold(&mut self, chunk: &[u8], limit: usize) -> usize {
        let before = self.held.len();
        let room = limit.saturating_sub(before);
        self.held.extend_from_slice(&chunk[..chunk.len().min(room)]);
        before
    }

    fn all_held(&self, before: usize, limit: usize) -> Result<usize, ScanStep> {
        if self.held.len() >= limit {
            return Err(ScanStep::Malformed);
        }
        Ok(self.held.len() - before)
    }
}

/// The first match that reaches beyond `before`, where an earlier search ended.
fn find_from(finder: &Finder<'_>, held: &[u8], before: usize) -> Option<usize> {
    let from = before.saturating_sub(finder.needle().len() - 1);
    finder.find(&held[from..]).map(|start| from + start)
}

/// True if a part's head says `Content-Disposition: form-data; name="model"`.
fn is_model(head: &[u8]) -> bool {
    names_in(head).iter().any(|name| name == "model")
}

/// The names that a part's head gives it: one, in all forms that clients make.
fn names_in(head: &[u8]) -> Vec<String> {
    let head = String::from_utf8_lossy(head);
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let own = lines.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    own.filter_map(|(_, value)| parameter(value, "name"))
        .collect()
}

/// A parameter of a header value, `; name=token` or `; name="quoted"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let (value, after) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => quoted_string(quoted),
            None => {
                let (token, after) = value.split_once(';').unwrap_or((value, ""));
                (token.trim().to_owned(), after)
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// The text up to the closing quote, backslashes resolved, and what follows the next semicolon.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                let after = &text[at + 1..];
                return (value, after.split_once(';').map_or("", |(_, rest)| rest));
            }
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hub::gateway::fuzz::scan_chunks;
    use crate::hub::gateway::request::scan::chunks_at;

    const TYPE: &str = "multipart/form-data; boundary=XyZ";

    fn scan(chunks: &[&[u8]]) -> ScanStep {
        let mut scan = Multipart::new(TYPE).unwrap();
        scan_chunks(chunks, |chunk| scan.feed(chunk))
    }

    fn part(head: &str, content: &[u8]) -> Vec<u8> {
        let mut part = format!("--XyZ\r\n{head}\r\n\r\n").into_bytes();
        part.extend_from_slice(content);
        part.extend_from_slice(b"\r\n");
        part
    }

    fn form(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut form = parts.concat();
        form.extend_from_slice(b"--XyZ--\r\n");
        form
    }

    fn file(content: &[u8]) -> Vec<u8> {
        part(
            "Content-Disposition: form-data; name=\"file\"; filename=\"model; name=\\\"model\\\"\"\r\n\
             Content-Type: audio/wav",
            content,
        )
    }

    fn model(value: &str) -> Vec<u8> {
        part(
            "Content-Disposition: form-data; name=\"model\"",
            value.as_bytes(),
        )
    }

    #[test]
    fn the_names_of_all_parts_are_told_of_a_whole_form() {
        let head = |name: &str| format!("Content-Disposition: form-data; name={name}");
        let mut body = part(&head("model"), b"a");
        body.extend(part(&head("\"adapter\\_path\""), b""));
        body.extend(part(
            &head("file; filename=\"name\""),
            b"--XyZ\n\r\n--Xy\r\n\r\n",
        ));
        body.extend(part("X-A: b", b"c"));
        let cut = body.clone();
        body.extend_from_slice(b"--XyZ--\r\n");
        let found = names(TYPE, &body).unwrap();
        assert_eq!(found, ["model", "adapter_path", "file"]);
        for (kind, body) in [
            (TYPE, &*cut),
            (TYPE, b"{}"),
            ("multipart/form-data; boundary=", b"--\r\n\r\n--"),
        ] {
            assert_eq!(names(kind, body), None);
        }
    }

    #[test]
    fn finds_model_before_and_after_a_file_however_it_is_cut() {
        for body in [
            form(&[model("alpha"), file(b"RIFF")]),
            form(&[file(b"\r\n--Xy\r\n--X"), file(b""), model("alpha")]),
        ] {
            for cut in 0..=body.len() {
                let (one, two) = body.split_at(cut);
                let ScanStep::Found(found) = scan(&[one, two]) else {
                    panic!("cut at {cut}");
                };
                assert_eq!(found.value, "alpha", "cut at {cut}");
                assert_eq!(&body[found.range], b"alpha");
            }
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            assert!(matches!(scan(&bytes), ScanStep::Found(_)));
        }
    }

    #[test]
    fn a_second_model_is_noticed_however_it_is_cut() {
        for body in [
            form(&[model("alpha"), file(b"RIFF"), model("beta")]),
            form(&[model(""), model("alpha")]),
        ] {
            for cut in 0..=body.len() {
                let (one, two) = body.split_at(cut);
                assert_eq!(scan(&[one, two]), ScanStep::Twice, "cut at {cut}");
            }
        }
    }

    #[test]
    fn header_names_and_parameters_may_be_written_otherwise() {
        let body = form(&[part("content-disposition:form-data;NAME=model ; x=y", b"a")]);
        assert!(matches!(scan(&[&body]), ScanStep::Found(found) if found.value == "a"));
    }

    #[test]
    fn says_why_there_is_none() {
        assert_eq!(scan(&[&form(&[file(b"RIFF")])]), ScanStep::Absent);
        assert_eq!(scan(&[b"--XyZ--\r\n"]), ScanStep::Absent);
        assert_eq!(scan(&[b"{\"model\":\"a\"}"]), ScanStep::More);
        assert_eq!(scan(&[b"--XyZoo"]), ScanStep::Malformed);
        let endless = [b"--XyZ\r\n".as_slice(), &[b'a'; MAX_HEAD]].concat();
        assert_eq!(scan(&[&endless]), ScanStep::Malformed);
        let not_text = form(&[part("Content-Disposition: form-data; name=model", &[0xff])]);
        assert_eq!(scan(&[&not_text]), ScanStep::Malformed);
        assert!(Multipart::new("multipart/form-data").is_none());
    }

    proptest! {
        #[test]
        fn finds_the_field_among_files_however_it_is_cut(
            files in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..200), 0..3),
            value in "[a-zA-Z0-9/é -]{0,20}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            prop_assume!(files.iter().all(|f| memmem::find(f, b"\r\n--XyZ").is_none()));
            let mut parts: Vec<_> = files.iter().map(|content| file(content)).collect();
            parts.push(model(&value));
            let body = form(&parts);
            let ScanStep::Found(found) = scan(&chunks_at(&body, &cuts)) else { panic!() };
            prop_assert_eq!(&found.value, &value);
            prop_assert_eq!(&body[found.range], value.as_bytes());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_cuts_change_nothing(
            mut bytes in prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..120),
            at in any::<prop::sample::Index>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, *b"\r\n--XyZ\r\nContent-Disposition: form-data; name=model\r\n\r\n");
            prop_assert_eq!(scan(&chunks_at(&bytes, &cuts)), scan(&[&bytes]));
        }
    }
}
