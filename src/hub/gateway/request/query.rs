//! `model` in a query string, for requests without a body such as `GET /v1/queue/stats?model=`.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};

use crate::api::ApiError;
use crate::hub::gateway::refusals;

/// The `model` in a query string; `None` also when it is not text.
///
/// # Errors
/// When there are more.
pub(crate) fn model(query: &str) -> Result<Option<String>, ApiError> {
    let mut places = places(query, "model");
    let Some(place) = places.next() else {
        return Ok(None);
    };
    if places.next().is_some() {
        return Err(refusals::model_twice_in_query());
    }
    Ok(decode(&query[place]).map(Cow::into_owned))
}

/// The query with its `model` set to `name`.
pub(crate) fn with_model(query: &str, name: &str) -> String {
    let name = encode(name);
    match places(query, "model").next() {
        Some(value) => format!("{}{name}{}", &query[..value.start], &query[value.end..]),
        None if query.is_empty() => format!("model={name}"),
        None => format!("{query}&model={name}"),
    }
}

/// `name` as the value of a field.
pub(crate) fn encode(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// The first value of a field.
pub(crate) fn value(query: &str, name: &str) -> Option<String> {
    let place = places(query, name).next()?;
    decode(&query[place]).map(Cow::into_owned)
}

/// The ranges of the values of a field.
fn places<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut start = 0;
    query.split('&').filter_map(move |pair| {
        let end = start + pair.len();
        start = end + 1;
        let (key, value) = pair.split_once('=')?;
        (decode(key)? == name).then(|| end - value.len()..end)
    })
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
    fn reads_the_model_decoded() {
        for (query, named) in [
            ("model=alpha", Some("alpha")),
            ("x=1&model=a%2Fb+c&y", Some("a/b c")),
            ("%6Dodel=a", Some("a")),
            ("xmodel=a&model", None),
            ("model=%ff", None),
        ] {
            assert_eq!(model(query).unwrap().as_deref(), named, "{query}");
        }
    }

    #[test]
    fn one_that_is_named_twice_is_refused() {
        for query in [
            "model=a&model=b",
            "model=a&model=a",
            "x=1&mode%6c=&model=%ff",
        ] {
            let error = model(query).unwrap_err();
            assert_eq!(error.status, 400, "{query}");
            assert!(error.message.contains("more than one `model`"), "{error}");
        }
    }

    #[test]
    fn replaces_only_the_value_or_adds_one() {
        assert_eq!(
            with_model("x=1&model=a%2Fb&y=2", "b_c"),
            "x=1&model=b%5Fc&y=2"
        );
        assert_eq!(with_model("model=&x=1", "b"), "model=b&x=1");
        assert_eq!(with_model("x=1", "b"), "x=1&model=b");
        assert_eq!(with_model("", "b"), "model=b");
    }
}
