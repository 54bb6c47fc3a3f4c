//! `model` in a query string, for requests without a body such as `GET /v1/queue/stats?model=`.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};

/// The first `model` in a query string; `None` also when it is not text.
pub(crate) fn model(query: &str) -> Option<String> {
    decode(&query[place(query)?]).map(Cow::into_owned)
}

/// The query with its first `model` set to `name`.
pub(crate) fn with_model(query: &str, name: &str) -> String {
    let name = encode(name);
    match place(query) {
        Some(value) => format!("{}{name}{}", &query[..value.start], &query[value.end..]),
        None => query.to_owned(),
    }
}

/// `name` as the value of a field.
pub(crate) fn encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// Where the value of the first `model` stands.
fn place(query: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for pair in query.split('&') {
        if let Some((key, value)) = pair.split_once('=')
            && decode(key).as_deref() == Some("model")
        {
            let end = start + pair.len();
            return Some(end - value.len()..end);
        }
        start += pair.len() + 1;
    }
    None
}

pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_model_decoded() {
        assert_eq!(model("model=alpha").as_deref(), Some("alpha"));
        assert_eq!(model("x=1&model=a%2Fb+c&model=d").as_deref(), Some("a/b c"));
        assert_eq!(model("%6Dodel=a").as_deref(), Some("a"));
        assert_eq!(model("xmodel=a&model"), None);
        assert_eq!(model("model=%ff"), None);
    }

    #[test]
    fn replaces_only_the_value() {
        assert_eq!(
            with_model("x=1&model=a%2Fb&y=2", "b_c"),
            "x=1&model=b%5Fc&y=2"
        );
        assert_eq!(with_model("x=1", "b"), "x=1");
    }
}
