//! Converts a node to the type that its key wants.
//!
//! [`super::raw`] calls it. Numbers and booleans may be quoted and may have YAML 1.1's spelling, because
//! PyYAML read them so and Create-hub converted the remaining strings.

use super::Settings;
use super::yaml::{Map, Node, Typed};

/// YAML 1.1's booleans, and the lone letters that its specification lists.
pub(super) fn as_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// An integer, also quoted, with underscores or as a float without a fraction.
pub(super) fn as_int(node: &Node) -> Option<i128> {
    match node {
        Node::Typed(Typed::Int(value), _) => Some(*value),
        Node::Typed(Typed::Float(value), _) if value.fract() == 0.0 => Some(*value as i128),
        Node::Text(text) => {
            let text = text.trim().replace('_', "");
            let (negative, digits) = match text.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, text.strip_prefix('+').unwrap_or(&text)),
            };
            if digits.starts_with(['+', '-']) {
                return None;
            }
            let value = match digits.get(..2) {
                Some("0x") => i128::from_str_radix(&digits[2..], 16),
                Some("0b") => i128::from_str_radix(&digits[2..], 2),
                _ => digits.parse(),
            }
            .ok()?;
            Some(if negative { -value } else { value })
        }
        _ => None,
    }
}

/// A finite number as text.
pub(super) fn as_number(node: &Node) -> Option<String> {
    match node {
        Node::Typed(Typed::Int(value), _) => Some(value.to_string()),
        Node::Typed(Typed::Float(value), _) => value.is_finite().then(|| value.to_string()),
        Node::Text(text) => {
            let text = text.trim();
            text.parse::<f64>()
                .is_ok_and(f64::is_finite)
                .then(|| text.to_owned())
        }
        _ => None,
    }
}

/// A mapping as JSON.
pub(super) fn as_json(map: &Map) -> Settings {
    map.entries
        .iter()
        .map(|(key, node)| (key.clone(), node_as_json(node)))
        .collect()
}

/// A value as JSON, which has no infinities: they become null, as in every JSON writer of serde.
pub(super) fn node_as_json(node: &Node) -> serde_json::Value {
    match node {
        Node::Null => serde_json::Value::Null,
        Node::Typed(Typed::Bool(value), _) => (*value).into(),
        Node::Typed(Typed::Int(value), _) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => (*value as f64).into(),
        },
        Node::Typed(Typed::Float(value), _) => (*value).into(),
        Node::Text(text) => text.clone().into(),
        Node::List(items) => items.iter().map(node_as_json).collect(),
        Node::Map(map) => as_json(map).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    fn float(value: f64) -> Node {
        Node::Typed(Typed::Float(value), value.to_string())
    }

    fn int(value: i128) -> Node {
        Node::Typed(Typed::Int(value), value.to_string())
    }

    fn yes() -> Node {
        Node::Typed(Typed::Bool(true), "yes".to_owned())
    }

    #[test]
    fn integers_are_read_as_pyyaml_and_int_did() {
        for (written, value) in [
            ("8000", 8000),
            (" +8_000 ", 8000),
            ("-5", -5),
            ("0x1F", 31),
            ("0b101", 5),
        ] {
            assert_eq!(as_int(&text(written)), Some(value), "{written}");
        }
        assert_eq!(as_int(&float(60.0)), Some(60));
        for wrong in ["", "-", "+-5", "1.5", "8000x", "0x", "0xé", "é", "_"] {
            assert_eq!(as_int(&text(wrong)), None, "{wrong}");
        }
        for wrong in [
            yes(),
            Node::Null,
            float(1.5),
            float(f64::NAN),
            float(f64::INFINITY),
        ] {
            assert_eq!(as_int(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn booleans_have_all_spellings_of_yaml_1_1() {
        for yes in ["true", "True", "YES", "on", "y"] {
            assert_eq!(as_bool(yes), Some(true), "{yes}");
        }
        for no in ["false", "FALSE", "No", "off", "n"] {
            assert_eq!(as_bool(no), Some(false), "{no}");
        }
        assert_eq!(as_bool("1"), None);
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(as_number(&text(" 0.70 ")).as_deref(), Some("0.70"));
        assert_eq!(as_number(&int(-1)).as_deref(), Some("-1"));
        for wrong in [text("inf"), text("nan"), float(f64::NAN), yes()] {
            assert_eq!(as_number(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn settings_keep_the_largest_integers() {
        let entries = [("big".to_owned(), int(u64::MAX.into()))].into();
        let settings = as_json(&Map {
            entries,
            repeated: Vec::new(),
        });
        assert_eq!(settings["big"], serde_json::json!(u64::MAX));
    }
}
