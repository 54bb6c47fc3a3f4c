//! Names of models and groups: their form and their uniqueness.

use std::collections::HashMap;

use super::problem::{Findings, KeyPath, did_you_mean};
use super::raw::Table;
use super::schema::Shape;

/// The `name` of an entry, trimmed; empty when it is missing or wrong. `position` is
/// `model entry #2`, for want of a name.
pub(super) fn required_name(table: &mut Table<'_, '_>, position: &str) -> String {
    table.expect("name", Shape::Slug);
    let Some(name) = table.required("name", position) else {
        return String::new();
    };
    checked(table, "name", &name).unwrap_or_default()
}

/// The trimmed slug, or a problem at `key`.
pub(super) fn checked(table: &mut Table<'_, '_>, key: &str, written: &str) -> Option<String> {
    let slug = written.trim();
    if is_slug(slug) {
        return Some(slug.to_owned());
    }
    let message = format!(
        "`{key}` must be letters and digits with single hyphens, underscores or dots between them, not `{}`",
        slug.escape_debug()
    );
    let hint = proposal(slug).map(|proposal| format!("`{proposal}` would do"));
    table.refuse(key, &message, hint);
    None
}

/// `[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*`
fn is_slug(text: &str) -> bool {
    text.split(['-', '_', '.'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A name for a model: the words of a text in lower case, with hyphens or dots between them; `None` for a
/// text without words.
pub(crate) fn slug_of(text: &str) -> Option<String> {
    let name = text.to_lowercase();
    match is_slug(&name) {
        true => Some(name),
        false => proposal(&name),
    }
}

/// The same words with hyphens between them, or dots where those stood.
fn proposal(text: &str) -> Option<String> {
    let words = |separator: fn(char) -> bool| {
        let words = text.split(separator).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    };
    [
        words(|c| !c.is_ascii_alphanumeric() && c != '.'),
        words(|c| !c.is_ascii_alphanumeric()),
    ]
    .into_iter()
    .find(|proposal| is_slug(proposal))
}

/// Refuses a name that is the same as that of an earlier entry of `kind` ("model") in `list` once both
/// are `folded`. Empty names were refused already.
pub(super) fn unique<'n>(
    names: impl Iterator<Item = &'n str>,
    kind: &str,
    list: &str,
    folded: fn(&str) -> String,
    findings: &mut Findings,
) {
    let mut earlier: HashMap<String, (usize, &str)> = HashMap::new();
    for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
        let Some((first, other)) = earlier.get(&folded(name)) else {
            earlier.insert(folded(name), (index, name));
            continue;
        };
        let also = if *other == name {
            String::new()
        } else {
            format!(", which differs from `{other}` only in case")
        };
        let position = index + 1;
        let message =
            format!("{kind} entry #{position}: duplicate {kind} name `{name}` detected{also}");
        let hint = format!("{kind} entry #{} has it already; choose another", first + 1);
        let key_path = KeyPath::default().key(list).item(index).key("name");
        findings.value(key_path, message, Some(hint));
    }
}

/// A hint for an undefined name.
pub(super) fn known_words(word: &str, what: &str, words: &[&str]) -> String {
    const MAX_WORDS: usize = 10;
    did_you_mean(word, words.iter().copied()).unwrap_or_else(|| {
        let more = if words.len() > MAX_WORDS { ", …" } else { "" };
        let first = &words[..words.len().min(MAX_WORDS)];
        format!("{what}: {}{more}", first.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_words_with_single_separators() {
        for good in ["a", "Ab-1_c", "12", "qwen3_4b", "gpt-4.1", "3.10"] {
            assert!(is_slug(good), "{good}");
        }
        for bad in [
            "", "-a", "a-", "a--b", "a_-b", ".a", "a.", "a..b", "a.-b", "a b", "é", "a/b", "../a",
        ] {
            assert!(!is_slug(bad), "{bad}");
        }
    }

    #[test]
    fn a_proposal_is_a_slug() {
        assert_eq!(proposal("bad name!").as_deref(), Some("bad-name"));
        assert_eq!(
            proposal("org/qwen3.5 4b").as_deref(),
            Some("org-qwen3.5-4b")
        );
        assert_eq!(proposal("../a").as_deref(), Some("a"));
        assert_eq!(proposal("!!"), None);
    }
}
