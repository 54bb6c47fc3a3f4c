//! `keep_alive`: a number of seconds, or a duration as Go writes it (`5m`, `1h30m`, `-1s`). Negative is for ever.

use serde_json::Value;

use super::super::fields::Field;
use crate::api::ApiError;

/// The units of Go's durations, in seconds; a longer name stands before one that it begins with.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Policies need not tell one negative number from another.
const FOR_EVER: f64 = -1.0;

/// The client's wish in seconds, negative for ever; `None` if it has none.
///
/// # Errors
/// 400 when it is in no form that Ollama knows.
pub(in super::super) fn keep_alive(body: &Value) -> Result<Option<f64>, ApiError> {
    let body = Field::root(body);
    let Some(field) = body.get("keep_alive") else {
        return Ok(None);
    };
    let seconds = match field.value() {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.parse().ok().or_else(|| duration(text)),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite());
    let wrong = || field.is_no("a number of seconds, or a duration such as `5m` or `-1`");
    let seconds = seconds.ok_or_else(wrong)?;
    Ok(Some(if seconds < 0.0 { FOR_EVER } else { seconds }))
}

/// The seconds of a duration.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0.0;
    loop {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, each) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        // `m` is how `ms` begins as well.
        let (unit, each) = match rest.starts_with("ms") {
            true => ("ms", 1e-3),
            false => (*unit, *each),
        };
        seconds += number * each;
        rest = &rest[unit.len()..];
        if rest.is_empty() {
            return Some(sign * seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wish_is_read_in_every_form() {
        for (value, seconds) in [
            (json!(null), None),
            (json!(""), None),
            (json!(0), Some(0.0)),
            (json!("0"), Some(0.0)),
            (json!(300), Some(300.0)),
            (json!(1.5), Some(1.5)),
            (json!("300"), Some(300.0)),
            (json!("5m"), Some(300.0)),
            (json!("1h30m"), Some(5400.0)),
            (json!("1.5h"), Some(5400.0)),
            (json!("250ms"), Some(0.25)),
            (json!("3600s"), Some(3600.0)),
            (json!("+2m5s"), Some(125.0)),
            (json!(-1), Some(-1.0)),
            (json!("-1"), Some(-1.0)),
            (json!("-1s"), Some(-1.0)),
            (json!("-5m"), Some(-1.0)),
        ] {
            let read = keep_alive(&json!({ "keep_alive": value })).unwrap();
            assert_eq!(read, seconds, "{value}");
        }
        assert_eq!(keep_alive(&json!({})).unwrap(), None);
    }

    #[test]
    fn any_other_is_refused_by_name() {
        for value in [
            json!(true),
            json!([5]),
            json!("five"),
            json!("5 m"),
            json!("5x"),
            json!("m"),
            json!("."),
            json!("nan"),
            json!("1e999"),
        ] {
            let error = keep_alive(&json!({ "keep_alive": value })).unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some("keep_alive"))
            );
            assert!(error.message.contains("`5m`"), "{}", error.message);
        }
    }
}
