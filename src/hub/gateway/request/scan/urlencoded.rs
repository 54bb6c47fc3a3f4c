//! Finds the `model` field of a URL-encoded form (`application/x-www-form-urlencoded`) while its chunks
//! arrive.

use super::{FoundModel, ScanStep, Syntax};
use crate::hub::gateway::request::query;

/// Longest spelling of `model`, every character as `%XX`.
const MAX_KEY: usize = 15;
/// Longest name of a model, in bytes.
const MAX_VALUE: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldState {
    Key,
    /// In the value of `model`, which begins there.
    Value(usize),
    /// In a field that is not `model`.
    Other,
    /// Behind everything that matters.
    Over,
}

/// The scan of one body.
#[derive(Debug)]
pub(crate) struct Urlencoded {
    state: FieldState,
    /// Length of what has been read.
    read: usize,
    /// The current key or value; of keys no more than can matter.
    held: Vec<u8>,
    has_found: bool,
}

impl Urlencoded {
    /// A scan that starts after `offset` bytes.
    pub(crate) fn after(read: usize) -> Self {
        Self {
            state: FieldState::Key,
            read,
            held: Vec::new(),
            has_found: false,
        }
    }

    /// Reads the next chunk. After [`ScanStep::Found`] it may be given the chunks that follow, to tell
    /// whether there is another; after any other answer but [`ScanStep::More`] the scan is over.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) -> ScanStep {
        let mut found = None;
        while !chunk.is_empty() && self.state != FieldState::Over {
            let step = match self.state {
                FieldState::Key => self.key(chunk),
                FieldState::Value(start) => self.value(chunk, start, &mut found),
                FieldState::Other | FieldState::Over => Ok(self.other(chunk)),
            };
            match step {
                Ok(used) => {
                    self.read += used;
                    chunk = &chunk[used..];
                }
                Err(end) => {
                    self.state = FieldState::Over;
                    if end == ScanStep::Twice || !self.has_found {
                        return end;
                    }
                }
            }
        }
        found.map_or(ScanStep::More, ScanStep::Found)
    }

    /// Ends the scan at the end of the body.
    pub(crate) fn end(&mut self) -> ScanStep {
        match std::mem::replace(&mut self.state, FieldState::Over) {
            FieldState::Value(start) => self.found(start).map_or_else(|end| end, ScanStep::Found),
            _ => ScanStep::Absent,
        }
    }

    fn key(&mut self, chunk: &[u8]) -> Result<usize, ScanStep> {
        let end = memchr::memchr2(b'=', b'&', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = (MAX_KEY + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(&part[..part.len().min(room)]);
        let Some(end) = end else {
            return Ok(chunk.len());
        };
        let is_model = chunk[end] == b'=' && is_model(&self.held);
        if is_model && self.has_found {
            return Err(ScanStep::Twice);
        }
        self.held.clear();
        self.state = match chunk[end] {
            b'&' => FieldState::Key,
            _ if is_model => FieldState::Value(self.read + end + 1),
            _ => FieldState::Other,
        };
        Ok(end + 1)
    }

    fn value(
        &mut self,
        chunk: &[u8],
        start: usize,
        found: &mut Option<FoundModel>,
    ) -> Result<usize, ScanStep> {
        let end = memchr::memchr(b'&', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        if self.held.len() + part.len() > MAX_VALUE {
            return Err(ScanStep::Malformed);
        }
        self.held.extend_from_slice(part);
        let Some(end) = end else {
            return Ok(chunk.len());
        };
        *found = Some(self.found(start)?);
        self.state = FieldState::Key;
        Ok(end + 1)
    }

    fn other(&mut self, chunk: &[u8]) -> usize {
        let Some(end) = memchr::memchr(b'&', chunk) else {
            return chunk.len();
        };
        self.state = FieldState::Key;
        end + 1
    }

    fn found(&mut self, start: usize) -> Result<FoundModel, ScanStep> {
        let held = std::mem::take(&mut self.held);
        let written = std::str::from_utf8(&held).map_err(|_| ScanStep::Malformed)?;
        let value = query::decode(written)
            .ok_or(ScanStep::Malformed)?
            .into_owned();
        self.has_found = true;
        Ok(FoundModel {
            value,
            range: start..start + held.len(),
            syntax: Syntax::Urlencoded,
        })
    }
}

fn is_model(key: &[u8]) -> bool {
    let key = std::str::from_utf8(key).ok().and_then(query::decode);
    key.as_deref() == Some("model")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::gateway::fuzz::scan_chunks;

    fn scan(chunks: &[&[u8]]) -> ScanStep {
        let mut scan = Urlencoded::after(0);
        match scan_chunks(chunks, |chunk| scan.feed(chunk)) {
            ScanStep::More => scan.end(),
            step => step,
        }
    }

    fn scan_cut_anywhere(body: &str) -> ScanStep {
        let whole = scan(&[body.as_bytes()]);
        for cut in 0..=body.len() {
            let (one, two) = body.as_bytes().split_at(cut);
            assert_eq!(scan(&[one, two]), whole, "{body} cut at {cut}");
        }
        whole
    }

    #[test]
    fn the_field_is_found_decoded_wherever_it_stands() {
        for (body, value, written) in [
            ("model=alpha", "alpha", "alpha"),
            (
                "prompt=a%26b+c&model=org%2Falpha&n=1",
                "org/alpha",
                "org%2Falpha",
            ),
            ("xmodel=b&%6dodel=a+b", "a b", "a+b"),
            ("model&model=a", "a", "a"),
            ("&&model=", "", ""),
        ] {
            let ScanStep::Found(found) = scan_cut_anywhere(body) else {
                panic!("{body}");
            };
            assert_eq!((&*found.value, &body[found.range]), (value, written));
        }
    }

    #[test]
    fn says_why_there_is_none() {
        for (body, step) in [
            ("prompt=x", ScanStep::Absent),
            ("model", ScanStep::Absent),
            ("model=%ff", ScanStep::Malformed),
            ("model=a&x=1&model=b", ScanStep::Twice),
            ("model=a&%6Dodel=", ScanStep::Twice),
        ] {
            assert_eq!(scan_cut_anywhere(body), step, "{body}");
        }
        let long = format!("model={}", "x".repeat(MAX_VALUE + 1));
        assert_eq!(scan(&[long.as_bytes()]), ScanStep::Malformed);
    }
}
