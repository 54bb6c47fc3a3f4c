//! The edits of `api_keys`, which may not be empty: the first entry brings the list, the last one takes it along.

use std::ops::Range;

use super::{
    Edit, EditError, NewEntry, Node, Place, Value, add_to, checked, dash, end_of_item, end_of_line,
    entries_of, find, position, removal, removed, removing, root, start_of_line, without_line_end,
};
use crate::config::keys::KEY;

/// Adds entries at the end of `api_keys`. A text without it gets it.
///
/// # Errors
/// When the file is not valid YAML or cannot be edited safely.
pub fn add_keys(text: &str, entries: &[NewEntry]) -> Result<Edit, EditError> {
    let mut after = text.to_owned();
    let mut at = None;
    for entry in entries {
        let edit = add_to(&after, KEY, entry)?;
        at.get_or_insert(edit.range.start);
        after = edit.apply(&after);
    }
    let at = at.unwrap_or_default();
    let added = at..at + (after.len() - text.len());
    let edit = Edit {
        range: at..at,
        text: after.get(added).unwrap_or_default().to_owned(),
    };
    match edit.apply(text) == after {
        true => Ok(edit),
        false => Err(EditError::Unsafe("the entries do not stand together")),
    }
}

/// Removes the entry of that name, and `api_keys` with the last one.
///
/// # Errors
/// As [`add_keys`]; when there is no such entry.
pub fn remove_key(text: &str, name: &str) -> Result<Edit, EditError> {
    let mut meant = root(text)?;
    let unknown = || EditError::Unknown(name.to_owned());
    let keys = entries_of(&mut meant, KEY).ok_or_else(unknown)?;
    let index = position(keys, name).ok_or_else(unknown)?;
    keys.remove(index);
    if !keys.is_empty() {
        return removed(text, removing(text, KEY, index)?, &meant);
    }
    if let Node::Map(map) = &mut meant {
        map.entries.shift_remove(KEY);
    }
    let place = find(text, KEY).ok_or(EditError::Unsafe("it is merged from elsewhere"))?;
    checked(text, removal(lines_of(text, &place)?), &meant)
}

/// The lines of the list with its key.
fn lines_of(text: &str, place: &Place) -> Result<Range<usize>, EditError> {
    let begin = place.key.start;
    if start_of_line(text, begin) != begin {
        return Err(EditError::Unsafe("it does not begin its line"));
    }
    let end = match &place.value {
        Value::Block(items) => {
            let last = items.len() - 1;
            let dash = dash(text, items, last).ok_or(EditError::Unsafe("its dashes"))?;
            end_of_item(text, &items[last], dash - start_of_line(text, dash))
        }
        Value::Flow { items, .. } => {
            let last = items.last().map_or(begin, |item| item.end);
            let bracket = text[last..].find(']').map(|bracket| last + bracket);
            end_of_line(text, bracket.ok_or(EditError::Unsafe("its brackets"))?)
        }
        Value::Null(_) | Value::Other => return Err(EditError::Unsafe("it is no list")),
    };
    let rest = &text[end..];
    let line_end = ["\r\n", "\n"]
        .into_iter()
        .find(|end| rest.starts_with(*end));
    Ok(match line_end {
        Some(line_end) => begin..end + line_end.len(),
        None => without_line_end(text, begin)..end,
    })
}

#[cfg(test)]
mod tests {
    use super::super::EntryValue;
    use super::*;

    fn key(name: &str) -> NewEntry {
        NewEntry(vec![
            ("name", EntryValue::Text(name.to_owned())),
            ("sha256", EntryValue::Text("0e1".to_owned())),
            ("may", EntryValue::Literal("[use, control]".to_owned())),
        ])
    }

    #[test]
    fn keys_are_added_together_and_each_removal_takes_its_lines_back() {
        for text in [
            "models:\n  - name: a\n    model_path: b\n",
            "models: [{name: a, model_path: b}]",
            "# mine\r\nmodels:\r\n  - name: a\r\n# the end\r\n",
            "models: []\n...\n",
            "\u{feff}port: 1\n",
            "api_keys:\n  - name: old\n    env: A\n\nmodels: []\n",
            "api_keys: [{name: old, env: A}]\nport: 1\n",
            "api_keys:\n- {name: old, env: A}  # the first\n",
            "",
        ] {
            let edit = add_keys(text, &[key("one"), key("two")]).unwrap();
            assert!(edit.range.is_empty(), "{text}");
            let both = edit.apply(text);
            let left = remove_key(&both, "one").unwrap().apply(&both);
            assert_eq!(
                remove_key(&left, "two").unwrap().apply(&left),
                text,
                "{both}"
            );
            let left = remove_key(&both, "two").unwrap().apply(&both);
            assert_eq!(
                remove_key(&left, "one").unwrap().apply(&left),
                text,
                "{both}"
            );
        }
        insta::assert_snapshot!(add_keys("port: 1\n", &[key("one"), key("two")]).unwrap().text, @r#"
        api_keys:
          - name: one
            sha256: "0e1"
            may: [use, control]
          - name: two
            sha256: "0e1"
            may: [use, control]
        "#);
    }

    #[test]
    fn the_last_key_takes_the_list_along_and_nothing_else() {
        for (text, after) in [
            (
                "port: 1\napi_keys:\n  - name: a\n    # of a\n\nmodels: []\n",
                "port: 1\n\nmodels: []\n",
            ),
            ("port: 1\napi_keys:   # who\n  - name: a", "port: 1"),
            (
                "api_keys: [\n  {name: a},\n]  # all\nport: 1\n",
                "port: 1\n",
            ),
        ] {
            assert_eq!(remove_key(text, "a").unwrap().apply(text), after);
        }
        for text in [
            "{api_keys: [{name: a}], port: 1}\n",
            "all: &all [{name: a}]\napi_keys: *all\n",
            "base: &base {api_keys: [{name: a}]}\n<<: *base\n",
        ] {
            assert!(
                matches!(remove_key(text, "a"), Err(EditError::Unsafe(_))),
                "{text}"
            );
        }
        let unknown = remove_key("api_keys: [{name: a}]\n", "b");
        assert_eq!(unknown, Err(EditError::Unknown("b".to_owned())));
    }
}
