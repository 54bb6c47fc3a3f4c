//! Characters that look like YAML's own and mean nothing to it: spaces and quotation marks of web pages
//! and word processors.
//!
//! `Config::load` looks for them in a text that has been read, and in one that could not be: there one of
//! them is the likely cause, and the parser's own error points elsewhere. Quotes and comments may hold any.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A character that stands in place of YAML's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookalike {
    /// Byte offset.
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Finds the first in valid YAML: there it is part of a plain scalar.
pub(super) fn in_values(text: &str) -> Option<Lookalike> {
    suspects(text)?;
    let scalars = scalars(text);
    let mut plain = scalars.iter().filter(|scalar| scalar.is_plain);
    plain.find_map(|scalar| {
        let mut found = text[scalar.range.clone()].char_indices();
        found.find_map(|(offset, c)| {
            (is_space(c) || offset == 0 && is_quote(c))
                .then(|| Lookalike::at(scalar.range.start + offset, c))
        })
    })
}

/// Finds the first in invalid YAML, up to the end of the line at which the parser gave up.
pub(super) fn before_error(text: &str, error: usize) -> Option<Lookalike> {
    suspects(text)?;
    let end = text
        .get(error..)?
        .find('\n')
        .map_or(text.len(), |n| error + n);
    let mut quoted: Vec<_> = scalars(text)
        .into_iter()
        .filter(|scalar| !scalar.is_plain)
        .map(|scalar| scalar.range)
        .collect();
    quoted.retain(|range| range.end <= error);
    text[..end]
        .char_indices()
        .filter(|(offset, _)| !quoted.iter().any(|range| range.contains(offset)))
        .find(|(offset, c)| {
            let line = text[..*offset].rsplit('\n').next().unwrap_or_default();
            !is_comment(line) && (is_space(*c) || is_quote(*c) && is_begin(line))
        })
        .map(|(offset, c)| Lookalike::at(offset, c))
}

impl Lookalike {
    fn at(offset: usize, c: char) -> Self {
        let code = u32::from(c);
        let (message, hint) = if is_space(c) {
            let name = match c {
                '\u{a0}' | '\u{202f}' => "a non-breaking space",
                '\u{200b}' | '\u{feff}' => "an invisible space",
                _ => "a space of another width",
            };
            (
                format!("{name} (U+{code:04X}) stands here, which is no space to YAML"),
                "write a plain space in its place; web pages and chats put such ones in",
            )
        } else {
            (
                format!("`{c}` (U+{code:04X}) stands here, which is no quotation mark to YAML"),
                "write `\"` or `'` in its place, at both ends",
            )
        };
        Self {
            range: offset..offset + c.len_utf8(),
            message,
            hint,
        }
    }
}

/// Spaces that Unicode has besides YAML's, and marks of no width.
fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

fn is_quote(c: char) -> bool {
    matches!(c, '\u{2018}'..='\u{201f}' | '«' | '»' | '‹' | '›')
}

/// `None` if the text holds none, the usual case.
fn suspects(text: &str) -> Option<()> {
    text.contains(|c| is_space(c) || is_quote(c)).then_some(())
}

/// True if the rest of the line is a comment.
fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#') || line.contains(" #")
}

/// True if a value may begin after that on the line.
fn is_begin(line: &str) -> bool {
    let line = line.trim_end_matches(|c: char| c.is_whitespace() || is_space(c));
    line.is_empty()
        || line.ends_with([':', '-', '[', '{'])
        || line.ends_with(',') && line.contains(['[', '{'])
}

struct Scalar {
    range: Range<usize>,
    is_plain: bool,
}

/// All scalars of the text, or those before the first error.
fn scalars(text: &str) -> Vec<Scalar> {
    let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
    let at = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
    // As in `diagnose`: the parser refuses some tabs that are legal.
    let text = text.replace('\t', " ");
    Parser::new_from_str(&text)
        .map_while(Result::ok)
        .filter_map(|(event, span)| {
            let Event::Scalar(_, style, ..) = event else {
                return None;
            };
            Some(Scalar {
                range: at(span.start.index())..at(span.end.index()),
                is_plain: style == ScalarStyle::Plain,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_in_quotes_in_comments_and_within_a_word_are_fine() {
        for text in [
            "a: \"x\u{a0}“y”\"",
            "a: 'x\u{a0}y' # a\u{a0}comment “too”",
            "# “\u{a0}”\na: b",
            "a: |\n  “x”\u{a0}y\n",
            "a: don’t, “they” said",
            "a: 5»6",
        ] {
            assert_eq!(in_values(text), None, "{text}");
            assert_eq!(
                before_error(&format!("{text}\n]"), text.len() + 1),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn each_is_found_where_it_stands() {
        for (text, offset) in [
            ("a: “x”", 3),
            ("a: ‘x’", 3),
            ("a: «x»", 3),
            ("- „x“", 2),
            ("a: [b, “x”]", 7),
            ("a:\n\u{a0}\u{a0}b: c", 3),
            ("a: b\u{a0}c", 4),
            ("“a”: b", 0),
            ("a: b\u{3000}", 4),
        ] {
            let found = in_values(text).or_else(|| before_error(text, text.len()));
            assert_eq!(found.unwrap().range.start, offset, "{text}");
        }
    }
}
