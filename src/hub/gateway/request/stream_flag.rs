//! Finds out whether a request asks for a stream, from the received part of its body.
//!
//! Only a long wait for a model reads it, so that the scan for `model` need not pay for it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::scan::json::MARK;

/// True if a JSON object whose beginning is in `chunks` has `"stream": true` at its top level.
pub(crate) fn asks_for_stream(chunks: &VecDeque<Bytes>) -> bool {
    let (mut stream, mut chunks) = (false, Chunks(chunks.clone()));
    chunks.skip_mark();
    let mut json = serde_json::Deserializer::from_reader(chunks);
    // An error means that the body is incomplete or not JSON: the fields seen so far count.
    let _ = json.deserialize_map(Fields(&mut stream));
    stream
}

/// The chunks one after the other; a clone of them copies nothing.
struct Chunks(VecDeque<Bytes>);

impl Chunks {
    fn skip_mark(&mut self) {
        let first = self.0.iter().flatten().take(MARK.len());
        if !first.eq(MARK) {
            return;
        }
        let mut left = MARK.len();
        for chunk in &mut self.0 {
            let size = chunk.len().min(left);
            chunk.advance(size);
            left -= size;
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(chunk) = self.0.front_mut() {
            let size = chunk.len().min(buffer.len());
            if size > 0 {
                chunk.copy_to_slice(&mut buffer[..size]);
                return Ok(size);
            }
            self.0.pop_front();
        }
        Ok(0)
    }
}

struct Fields<'a>(&'a mut bool);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "stream" {
                // The worker refuses any other type.
                *self.0 = map.next_value::<serde_json::Value>()? == true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_found_wherever_chunks_end_and_before_the_end_of_the_body() {
        for (body, stream) in [
            (r#"{"stream":true,"model":"a"}"#, true),
            (
                r#"{"model":"a","messages":["\"stream\":true"],"stream" : true , "x":[1"#,
                true,
            ),
            (r#"{"model":"a","messages":["\"stream\":true"]}"#, false),
            (r#"{"nested":{"stream":true}}"#, false),
            ("\u{feff}{\"stream\":true}", true),
            (r#"{"stream":false}"#, false),
            (r#"{"stream":"true"}"#, false),
            (r#"{"stream":tr"#, false),
            ("--form\r\n", false),
            ("", false),
        ] {
            for cut in 0..=body.len() {
                let (one, two) = body.as_bytes().split_at(cut);
                let chunks = [one, two].map(Bytes::copy_from_slice);
                assert_eq!(asks_for_stream(&chunks.into()), stream, "{body} at {cut}");
            }
        }
    }
}
