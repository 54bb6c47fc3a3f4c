//! The keys of a model's entry that its engine brings.
//!
//! `model.rs` calls [`read`]. An option is passed on only when the user set it: the worker's own
//! default is better than ours. Not here: the keys that every model has (`host`, `port`, `model_path`,
//! `model_type`, `log_level`, …) and whether the installed worker has an option.

use std::path::Path;

use super::raw::Table;
use super::scalar::as_number;
use super::schema::Shape;
use super::yaml::Node;
use super::{LaunchOption, hosts, locate};
use crate::engine::{Engine, Key, KeyType};

/// Reads the keys of an engine, in its order.
pub(super) fn read(table: &mut Table<'_, '_>, engine: &Engine, folder: &Path) -> Vec<LaunchOption> {
    let keys = engine.keys.iter();
    keys.filter_map(|key| option(table, key, folder)).collect()
}

fn option(table: &mut Table<'_, '_>, key: &Key, folder: &Path) -> Option<LaunchOption> {
    let name = key.name.as_str();
    let value = match key.kind {
        KeyType::Switch => {
            return table.flag(name)?.then(|| LaunchOption {
                key: name.to_owned(),
                value: None,
            });
        }
        KeyType::Int(low) => table.int(name, low..=u64::MAX)?.to_string(),
        KeyType::Number => table.number(name)?,
        KeyType::Text => table.text(name)?,
        KeyType::Path | KeyType::NewPath => locate::beside(&table.text(name)?, folder)
            .display()
            .to_string(),
        KeyType::PathOrId => locate::path_or_id(&table.text(name)?, folder),
        KeyType::Paths => paths(table, key, folder)?,
        KeyType::Numbers => numbers(table, key)?,
        KeyType::Json => table.json(name)?.to_string(),
        KeyType::Command => command(table, name)?,
        KeyType::Hosts => hosts::list(table, name)?,
        KeyType::Hostfile => hosts::file(table, name, folder)?,
        KeyType::Refused => {
            table.expect(name, Shape::Refused);
            if table.node(name).is_some() {
                let message = format!("`{name}` cannot be set for a model of a hub");
                table.refuse(name, &message, key.hint.clone());
            }
            return None;
        }
    };
    Some(LaunchOption {
        key: name.to_owned(),
        value: Some(value),
    })
}

fn paths(table: &mut Table<'_, '_>, key: &Key, folder: &Path) -> Option<String> {
    let (_, paths) = comma_list(table, key)?;
    let paths: Vec<_> = paths
        .iter()
        .map(|path| locate::path_or_id(path, folder))
        .collect();
    Some(paths.join(","))
}

fn numbers(table: &mut Table<'_, '_>, key: &Key) -> Option<String> {
    for key in spellings(key) {
        table.expect(key, Shape::Numbers);
    }
    let (key, numbers) = comma_list(table, key)?;
    for number in &numbers {
        let node = Node::Text(number.clone());
        if as_number(&node).is_none() {
            let message = format!("`{key}` must be numbers, not {}", node.shown());
            table.refuse(key, &message, None);
        }
    }
    Some(numbers.join(","))
}

/// The spellings of a key.
fn spellings(key: &Key) -> impl Iterator<Item = &str> {
    [key.name.as_str()].into_iter().chain(key.also.as_deref())
}

/// A list, or a text separated by commas, and under which of its spellings; `None` when unset or empty.
fn comma_list<'k>(table: &mut Table<'_, '_>, key: &'k Key) -> Option<(&'k str, Vec<String>)> {
    let mut set = None;
    for spelling in spellings(key) {
        table.expect(spelling, Shape::TextOrList);
        let Some(node) = table.node(spelling) else {
            continue;
        };
        match set {
            None => set = Some((spelling, node)),
            Some((first, _)) => {
                let message =
                    format!("`{spelling}` is another spelling of `{first}`: both are set");
                table.refuse(spelling, &message, Some("keep one of them".to_owned()));
            }
        }
    }
    let (key, node) = set?;
    let items = match node {
        Node::List(items) => table.items(key, items),
        _ => table.text(key)?.split(',').map(str::to_owned).collect(),
    };
    let items: Vec<_> = items
        .iter()
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect();
    (!items.is_empty()).then_some((key, items))
}

/// The words of a command line, as JSON: a list, or a text in which quotes keep blanks together.
fn command(table: &mut Table<'_, '_>, key: &str) -> Option<String> {
    table.expect(key, Shape::TextOrList);
    let words = match table.node(key)? {
        Node::List(items) => table.items(key, items),
        _ => {
            let text = table.text(key)?;
            let Some(words) = words(&text) else {
                let message = format!("`{key}` has a quote that does not end");
                let hint = "close it, or write a list: `[PROGRAM, ARGUMENT, …]`".to_owned();
                table.refuse(key, &message, Some(hint));
                return None;
            };
            words
        }
    };
    if words
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        table.refuse(key, &format!("`{key}` must name a program"), None);
        return None;
    }
    Some(serde_json::Value::from(words).to_string())
}

/// The words of a text, between blanks and within quotes; `None` if a quote does not end.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_at_blanks_outside_of_quotes() {
        let of = |text: &str| words(text).map(|words| words.join("|"));
        assert_eq!(of(" a  -m '{x} y' ").as_deref(), Some("a|-m|{x} y"));
        assert_eq!(of(r#"a "b'c"d """#).as_deref(), Some("a|b'cd|"));
        assert_eq!(of("a 'b"), None);
    }
}
