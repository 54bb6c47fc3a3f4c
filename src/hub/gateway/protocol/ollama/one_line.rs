//! JSON in one line, whatever a client takes for the end of a line: Python's `splitlines`, by which the `ollama` package
//! reads a stream, knows characters that JSON need not escape.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Those characters.
const ENDS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Writes JSON to the end of `out`.
pub(super) fn write(json: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let mut serializer = Serializer::with_formatter(out, OneLine);
    json.serialize(&mut serializer)
        .expect("JSON is written to memory");
}

/// Writes JSON and the end of its line to the end of `out`.
pub(super) fn write_line(json: &impl Serialize, out: &mut Vec<u8>) {
    write(json, out);
    out.push(b'\n');
}

struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for part in fragment.split_inclusive(ENDS) {
            let text = part.trim_end_matches(ENDS);
            writer.write_all(text.as_bytes())?;
            for end in part[text.len()..].chars() {
                write!(writer, "\\u{:04x}", u32::from(end))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_has_no_end_within() {
        let json = json!({"a\u{2028}": "x\u{85}\u{2029}é\u{1c}\ny", "b": ["", "\u{2028}"]});
        let mut out = Vec::new();
        write_line(&json, &mut out);
        let line = String::from_utf8(out).unwrap();
        let line = line.strip_suffix('\n').unwrap();
        assert!(
            !line.contains(ENDS) && !line.contains(char::is_control),
            "{line}"
        );
        assert!(line.contains('é'));
        assert_eq!(serde_json::from_str::<Value>(line).unwrap(), json);
    }
}
